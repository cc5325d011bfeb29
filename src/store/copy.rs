//! A copy of a history from one store into another, which is empty: rows as text, in an order in which no row refers to a later one. The
//! target commits only a history that it has verified and found equal to the source's.

use super::ChainReport;
use anyhow::{Context, ensure};
use async_trait::async_trait;
use std::collections::BTreeMap;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Rows of one message at most.
pub(super) const BATCH_ROWS: usize = 500;

/// Messages between the source and the target: memory doesn't grow with the history.
const QUEUE_LENGTH: usize = 2;

/// The form of a column's values as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnForm {
    Text,
    /// Decimal.
    Integer,
    /// 0 or 1.
    Flag,
    /// Hex.
    Bytes,
    /// Microseconds since 1970-01-01 UTC, decimal.
    Time,
}

use ColumnForm::{Bytes, Flag, Integer, Text, Time};

/// A table that is copied. Its name and its columns are the same in every store.
#[derive(Debug)]
pub(super) struct CopiedTable {
    pub name: &'static str,
    pub columns: &'static [(&'static str, ColumnForm)],
}

/// Every table that is copied. Instances stay behind: a copied run's owner is dead, so that the first start interrupts it. Claims on
/// cards, and figures, stay behind, too.
pub(super) const TABLES: [CopiedTable; 11] = [
    CopiedTable {
        name: "runs",
        columns: &[
            ("id", Integer),
            ("version", Integer),
            ("state", Text),
            ("opened_at", Time),
            ("changed_at", Time),
            ("deadline", Time),
            ("owner", Text),
            ("delivery_id", Text),
            ("request", Text),
        ],
    },
    CopiedTable {
        name: "events",
        columns: &[("seq", Integer), ("run", Integer), ("bytes", Text), ("hash", Bytes)],
    },
    CopiedTable {
        name: "event_texts",
        columns: &[("seq", Integer), ("name", Text), ("key", Bytes), ("text", Text)],
    },
    CopiedTable {
        name: "resource_locks",
        columns: &[("environment", Text), ("resource", Text), ("run", Integer)],
    },
    CopiedTable {
        name: "suspended_locks",
        columns: &[("run", Integer), ("environment", Text), ("resource", Text)],
    },
    CopiedTable {
        name: "cards",
        columns: &[
            ("id", Integer),
            ("run", Integer),
            ("place", Text),
            ("kind", Text),
            ("message", Text),
            ("shown_version", Integer),
            ("abandoned", Flag),
        ],
    },
    CopiedTable {
        name: "tokens",
        columns: &[("token", Text), ("purpose", Text), ("place", Text), ("created_at", Time)],
    },
    CopiedTable {
        name: "bindings",
        columns: &[("platform", Text), ("workspace", Text), ("conversation", Text), ("environment", Text)],
    },
    CopiedTable { name: "settings", columns: &[("name", Text), ("value", Text)] },
    CopiedTable { name: "rate_limits", columns: &[("name", Text), ("ends_at", Time)] },
    CopiedTable {
        name: "watch_states",
        columns: &[
            ("environment", Text),
            ("name", Text),
            ("newest_look", Time),
            ("previous_look", Time),
            ("content_look", Time),
            ("stored_at", Time),
            ("content", Text),
        ],
    },
];

/// A row's values as text, in the order of its table's columns.
pub(super) type CopiedRow = Vec<Option<String>>;

/// The content of a store, to compare two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistorySummary {
    pub events: i64,
    /// The last hash, in hex.
    pub head: String,
    /// Rows by table.
    pub rows: BTreeMap<&'static str, i64>,
    /// The highest number that a card ever had: no card gets one again.
    pub last_card: i64,
}

impl HistorySummary {
    /// # Errors
    /// The check of the hash chain found an error.
    pub(super) fn new(
        chain: ChainReport,
        rows: BTreeMap<&'static str, i64>,
        last_card: i64,
    ) -> anyhow::Result<HistorySummary> {
        let ChainReport { events, head, first_error } = chain;
        match first_error {
            None => Ok(HistorySummary { events, head, rows, last_card }),
            Some(error) => anyhow::bail!("the audit log was changed or is damaged: {error}"),
        }
    }

    fn total(&self) -> i64 {
        self.rows.values().sum()
    }
}

/// A part of the copy, in this order: the summary, the rows, the end.
#[derive(Debug)]
pub enum CopyMessage {
    /// What the target must have in the end.
    Summary(HistorySummary),
    Rows(CopiedRows),
    /// All rows were sent. Without it the target keeps nothing.
    End,
}

/// Rows of one table.
#[derive(Debug)]
pub struct CopiedRows {
    pub(super) table: &'static CopiedTable,
    pub(super) rows: Vec<CopiedRow>,
}

/// A store as the source or the target of a copy.
#[async_trait]
pub trait History: Send {
    /// Sends the history as it is at one moment, and lets no event be appended until the receiver is closed. Ends without an error when
    /// the receiver is closed early.
    ///
    /// # Errors
    /// The store can't be read, is damaged, or is in use.
    async fn send(self: Box<Self>, messages: Sender<CopyMessage>) -> anyhow::Result<()>;

    /// Writes a history in one transaction. `None`, and nothing is written, if the messages stop before their end.
    ///
    /// # Errors
    /// The store isn't empty, is in use, or can't be written.
    async fn receive(self: Box<Self>, messages: Receiver<CopyMessage>) -> anyhow::Result<Option<Copied>>;
}

/// A copy that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    pub summary: HistorySummary,
    /// The target had this history before.
    pub was_there: bool,
}

/// The state of a copy, in rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyProgress {
    pub copied: i64,
    pub total: i64,
}

/// Copies a history, verifies both sides, and compares them.
///
/// # Errors
/// The obstacle, at the source or at the target, which is as it was.
pub async fn copy(
    source: Box<dyn History>,
    target: Box<dyn History>,
    mut on_progress: impl FnMut(CopyProgress),
) -> anyhow::Result<Copied> {
    let (to_copy, mut from_source) = channel(QUEUE_LENGTH);
    let (to_target, from_copy) = channel(QUEUE_LENGTH);
    let forward = async move {
        let mut progress = CopyProgress { copied: 0, total: 0 };
        while let Some(message) = from_source.recv().await {
            match &message {
                CopyMessage::Summary(summary) => progress.total = summary.total(),
                CopyMessage::Rows(CopiedRows { rows, .. }) => progress.copied += rows.len() as i64,
                CopyMessage::End => {}
            }
            on_progress(progress);
            let is_last = matches!(message, CopyMessage::End);
            if to_target.send(message).await.is_err() {
                break;
            }
            if is_last {
                // The source keeps its locks until the target has committed.
                to_target.closed().await;
                break;
            }
        }
    };
    let (sent, (), received) = tokio::join!(source.send(to_copy), forward, target.receive(from_copy));
    sent.context("reading the audit log that is copied")?;
    received.context("writing the copy")?.context("the source sent no complete history")
}

/// Checks the source's history before it is sent.
///
/// # Errors
/// There is nothing to copy.
pub(super) fn check_source(summary: &HistorySummary) -> anyhow::Result<()> {
    ensure!(summary.total() > 0, "it is empty: there is nothing to copy");
    Ok(())
}

/// Compares a target with the history that it must have in the end: true if it has it already.
///
/// # Errors
/// It has another history.
pub(super) fn is_there(present: &HistorySummary, expected: &HistorySummary) -> anyhow::Result<bool> {
    let has = present.rows.iter().filter(|(_, count)| **count > 0);
    let has: Vec<String> = has.map(|(table, count)| format!("{count} in {table}")).collect();
    let has = has.join(", ");
    ensure!(
        has.is_empty() || present == expected,
        "it isn't empty ({has}): a history is copied into an empty audit log only, a new file or a new database"
    );
    Ok(!has.is_empty())
}

/// Compares the finished copy with the source's history.
///
/// # Errors
/// They differ.
pub(super) fn check_copy(copied: &HistorySummary, expected: &HistorySummary) -> anyhow::Result<()> {
    ensure!(
        copied == expected,
        "the copy differs from its source, so that it was not kept: {copied:?} instead of {expected:?}"
    );
    Ok(())
}

/// The refusal of a store that a bot may write at the same time.
pub(super) const IN_USE: &str = "another Countersign process uses it: stop every `countersign serve` and `countersign run` with this audit log, then repeat the command";
