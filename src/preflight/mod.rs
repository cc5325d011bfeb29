//! What an operator has to know before an incident: for every environment, server and login, what works, what is missing
//! and how to mend it. It looks and changes nothing, but for one small object that it writes into the backup storage and
//! removes again. `countersign check` shows it; whatever else shows it takes the same blocks.

use crate::actions::backup::{Tool, find};
use crate::actions::support::blocks::{count, verdict};
use crate::config::{Backups, Config, Environment, Server};
use crate::model::{Block, Cell, Column, Row, Severity, Shape, Table, Text};
use crate::postgres::Environments;
use crate::storage::{Key, Storage};
use crate::store::sqlite::{Limits, SqliteStore};
use bytes::Bytes;

mod connectivity;
mod server;

/// Of whom it is asked.
pub struct CheckContext<'a> {
    pub config: &'a Config,
    pub targets: &'a Environments,
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    Works,
    /// It can be done without.
    Optional,
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// "main as reader", "main/asset_service_db".
    pub at: String,
    pub standing: CheckStatus,
    /// "doesn't see other sessions": follows what it is about.
    pub found: String,
    /// A statement to copy, or a sentence.
    pub fix: Option<String>,
}

impl Finding {
    pub fn works(at: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding { at: at.into(), standing: CheckStatus::Works, found: found.into(), fix: None }
    }

    pub fn missing(at: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Finding {
        let fix = Some(fix.into());
        Finding { at: at.into(), standing: CheckStatus::Missing, found: found.into(), fix }
    }
}

/// Everything that was found, by where: an environment's name, or "here" for the place where Countersign runs.
#[derive(Debug, Clone, Default)]
pub struct Report(pub Vec<(String, Vec<Finding>)>);

/// The name of the section about Countersign's own place.
const HERE: &str = "Where Countersign runs";

/// Looks at the environments that are named, all at once.
pub async fn examine(patient: &CheckContext<'_>, environments: &[&str]) -> Report {
    let tools = find(&patient.config.backups).await;
    let named = patient.config.environments.iter().filter(|e| environments.contains(&e.name.as_str()));
    let all = named.map(|environment| look(patient, &tools, environment));
    let mut sections = futures::future::join_all(all).await;
    sections.push((HERE.to_owned(), vec![record(patient.config), storage(&patient.config.backups).await]));
    Report(sections)
}

async fn look(
    patient: &CheckContext<'_>,
    tools: &[Tool],
    environment: &Environment,
) -> (String, Vec<Finding>) {
    let all =
        environment.servers.iter().map(|server| server::look(patient.targets, tools, (environment, server)));
    let found = futures::future::join_all(all).await.into_iter().flatten().collect();
    (environment.name.clone(), found)
}

/// The services' databases that are on this server.
fn databases<'a>(targets: &'a Environments, (environment, server): (&Environment, &Server)) -> Vec<&'a str> {
    let services = targets.services().iter();
    let here = services.filter(|service| {
        targets.server_of(environment, service).is_some_and(|found| found.name == server.name)
    });
    let mut databases: Vec<&str> = here.map(|service| service.database.as_str()).collect();
    databases.sort_unstable();
    databases.dedup();
    databases
}

/// Without the record nothing but reads is done.
fn record(config: &Config) -> Finding {
    let at = "record";
    let waits = config.store_waits;
    match SqliteStore::examine(&config.store, Limits { answer: waits.answer, busy: waits.lock }) {
        Ok(true) => Finding::works(at, "can be written"),
        Ok(false) => Finding::works(at, "can be made, as `serve` does at its first start"),
        Err(why) => Finding::missing(
            at,
            format!("can't be written: {why:#}"),
            "Let the account that Countersign runs as write to `path` of `[store]` and its directory, or name another file there.",
        ),
    }
}

async fn storage(backups: &Backups) -> Finding {
    let at = "backup storage";
    match write_and_remove(backups).await {
        Ok(()) => Finding::works(at, "can be written"),
        Err(why) => Finding::missing(
            at,
            format!("can't be written: {why:#}"),
            "Let the account that Countersign runs as write to `directory` of `[backups]`.",
        ),
    }
}

async fn write_and_remove(backups: &Backups) -> anyhow::Result<()> {
    let storage = Storage::open(backups)?;
    let name = crate::model::random_token().ok_or_else(|| anyhow::anyhow!("there is no randomness"))?;
    let key = Key::from(format!("check-{name}"));
    storage.put(&key, Bytes::from_static(b"can be written")).await?;
    Ok(storage.delete(&key).await?)
}

impl Report {
    /// Something about Countersign's own place.
    pub fn add_here(&mut self, finding: Finding) {
        let here = self.0.iter_mut().find(|(place, _)| place == HERE);
        match here {
            Some((_, findings)) => findings.push(finding),
            None => self.0.push((HERE.to_owned(), vec![finding])),
        }
    }

    pub fn missing(&self) -> usize {
        self.0.iter().map(|(_, findings)| missing(findings)).sum()
    }

    /// A verdict, then for each place what was found, and what mends it.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = vec![match self.missing() {
            0 => verdict(Severity::Ok, "Nothing is missing."),
            missing => {
                let places = self.0.iter().filter(|(_, findings)| self::missing(findings) > 0);
                let places: Vec<&str> = places.map(|(place, _)| place.as_str()).collect();
                let words = count(missing, "thing is missing", "things are missing");
                verdict(Severity::Critical, format!("{words}: {}.", places.join(", ")))
            }
        }];
        for (place, findings) in &self.0 {
            blocks.push(Block::Table(table(place, findings)));
            blocks.extend(findings.iter().filter_map(fix).map(Block::Text));
        }
        blocks
    }
}

fn missing(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.standing == CheckStatus::Missing).count()
}

fn table(place: &str, findings: &[Finding]) -> Table {
    let columns =
        ["what", "result", "found"].map(|title| Column { title: title.to_owned(), shape: Shape::Left });
    let rows = findings.iter().map(|finding| {
        let (word, tone) = match finding.standing {
            CheckStatus::Works => ("works", Severity::Ok),
            CheckStatus::Optional => ("optional", Severity::Neutral),
            CheckStatus::Missing => ("missing", Severity::Critical),
        };
        let cells = vec![
            Cell::from(finding.at.as_str()),
            Cell { text: word.to_owned(), tone },
            Cell::from(finding.found.as_str()),
        ];
        Row { cells, buttons: Vec::new() }
    });
    Table {
        title: Some(place.to_owned()),
        columns: columns.to_vec(),
        rows: rows.collect(),
        total: findings.len(),
        empty: None,
    }
}

/// "main as reader: GRANT pg_monitor TO countersign_read;"
fn fix(finding: &Finding) -> Option<Text> {
    let fix = finding.fix.as_ref()?;
    let text = Text::new().strong(format!("{}: ", finding.at));
    // A statement is copied, a sentence is read.
    Some(match fix.ends_with(';') {
        true => text.code(fix.clone()),
        false => text.plain(fix.clone()),
    })
}
