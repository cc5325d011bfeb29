//! Checks before an incident, for `countersign check`: for every environment, server and login, what works, what is missing and
//! how to fix it. They change nothing, except for one small object that is written into the backup storage and removed again.

use crate::actions::backup::{Tool, find};
use crate::actions::support::blocks::{count, verdict};
use crate::config::{BackupSettings, Config, Environment, Server};
use crate::model::{Block, Cell, Column, Row, Severity, Shape, Table, Text};
use crate::postgres::Environments;
use crate::storage::{Key, Storage};
use crate::store::sqlite::SqliteStore;
use bytes::Bytes;

mod server;

/// Configuration and connections that the checks use.
pub struct CheckContext<'a> {
    pub config: &'a Config,
    pub targets: &'a Environments,
}

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    Works,
    /// Countersign works without it.
    Optional,
    Missing,
}

/// One checked thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// "main as reader", "main/asset_service_db".
    pub subject: String,
    pub status: CheckStatus,
    /// "doesn't see other sessions": follows the subject.
    pub details: String,
    /// A statement to copy, or a sentence.
    pub fix: Option<String>,
}

impl Finding {
    pub fn works(subject: impl Into<String>, details: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), status: CheckStatus::Works, details: details.into(), fix: None }
    }

    pub fn missing(
        subject: impl Into<String>,
        details: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        let fix = Some(fix.into());
        Finding { subject: subject.into(), status: CheckStatus::Missing, details: details.into(), fix }
    }
}

/// All findings by section: an environment's name, or [`HERE`].
#[derive(Debug, Clone, Default)]
pub struct Report(pub Vec<(String, Vec<Finding>)>);

/// Section about the host that Countersign runs on.
const HERE: &str = "Where Countersign runs";

/// Checks the named environments in parallel.
pub async fn examine(context: &CheckContext<'_>, environments: &[&str]) -> Report {
    let tools = find(&context.config.backups).await;
    let named = context.config.environments.iter().filter(|e| environments.contains(&e.name.as_str()));
    let checks = named.map(|environment| check_environment(context, &tools, environment));
    let mut sections = futures::future::join_all(checks).await;
    sections.push((HERE.to_owned(), vec![record(context.config), storage(&context.config.backups).await]));
    Report(sections)
}

async fn check_environment(
    context: &CheckContext<'_>,
    tools: &[Tool],
    environment: &Environment,
) -> (String, Vec<Finding>) {
    let servers = environment.servers.iter();
    let checks = servers.map(|server| server::check(context.targets, tools, environment, server));
    let findings = futures::future::join_all(checks).await.into_iter().flatten().collect();
    (environment.name.clone(), findings)
}

/// The services' databases that are on this server.
fn databases<'a>(targets: &'a Environments, environment: &Environment, server: &Server) -> Vec<&'a str> {
    let services = targets.services().iter();
    let on_server = services.filter(|service| {
        targets.server_of(environment, service).is_some_and(|other| other.name == server.name)
    });
    let mut databases: Vec<&str> = on_server.map(|service| service.database.as_str()).collect();
    databases.sort_unstable();
    databases.dedup();
    databases
}

/// Checks the audit log's store: without it only read commands work.
fn record(config: &Config) -> Finding {
    let subject = "audit log";
    match SqliteStore::examine(&config.store, config.store_timeouts.lock) {
        Ok(true) => Finding::works(subject, "can be written"),
        Ok(false) => Finding::works(subject, "can be created, as `serve` does at its first start"),
        Err(error) => Finding::missing(
            subject,
            format!("can't be written: {error:#}"),
            "Let the account that Countersign runs as write to `path` of `[store]` and its directory, or set another path.",
        ),
    }
}

async fn storage(backups: &BackupSettings) -> Finding {
    let subject = "backup storage";
    match write_and_remove(backups).await {
        Ok(()) => Finding::works(subject, "can be written"),
        Err(error) => Finding::missing(
            subject,
            format!("can't be written: {error:#}"),
            "Let the account that Countersign runs as write to `directory` of `[backups]`.",
        ),
    }
}

async fn write_and_remove(backups: &BackupSettings) -> anyhow::Result<()> {
    let storage = Storage::open(backups)?;
    let name =
        crate::model::random_token().ok_or_else(|| anyhow::anyhow!("the system has no random numbers"))?;
    let key = Key::from(format!("check-{name}"));
    storage.put(&key, Bytes::from_static(b"can be written")).await?;
    Ok(storage.delete(&key).await?)
}

impl Report {
    /// Adds a finding about the host that Countersign runs on.
    pub fn add_here(&mut self, finding: Finding) {
        let here = self.0.iter_mut().find(|(section, _)| section == HERE);
        match here {
            Some((_, findings)) => findings.push(finding),
            None => self.0.push((HERE.to_owned(), vec![finding])),
        }
    }

    pub fn missing(&self) -> usize {
        self.0.iter().map(|(_, findings)| missing(findings)).sum()
    }

    /// A verdict, then each section's findings and fixes.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = vec![match self.missing() {
            0 => verdict(Severity::Ok, "All checks passed."),
            missing => {
                let sections = self.0.iter().filter(|(_, findings)| self::missing(findings) > 0);
                let sections: Vec<&str> = sections.map(|(section, _)| section.as_str()).collect();
                let failed = count(missing, "check failed", "checks failed");
                verdict(Severity::Critical, format!("{failed}: {}.", sections.join(", ")))
            }
        }];
        for (section, findings) in &self.0 {
            blocks.push(Block::Table(table(section, findings)));
            blocks.extend(findings.iter().filter_map(fix).map(Block::Text));
        }
        blocks
    }
}

fn missing(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.status == CheckStatus::Missing).count()
}

fn table(section: &str, findings: &[Finding]) -> Table {
    let columns =
        ["checked", "result", "details"].map(|title| Column { title: title.to_owned(), shape: Shape::Left });
    let rows = findings.iter().map(|finding| {
        let (word, tone) = match finding.status {
            CheckStatus::Works => ("works", Severity::Ok),
            CheckStatus::Optional => ("optional", Severity::Neutral),
            CheckStatus::Missing => ("missing", Severity::Critical),
        };
        let cells = vec![
            Cell::from(finding.subject.as_str()),
            Cell { text: word.to_owned(), tone },
            Cell::from(finding.details.as_str()),
        ];
        Row { cells, buttons: Vec::new() }
    });
    Table {
        title: Some(section.to_owned()),
        columns: columns.to_vec(),
        rows: rows.collect(),
        total: findings.len(),
        empty: None,
    }
}

/// "main as reader: GRANT pg_monitor TO countersign_read;"
fn fix(finding: &Finding) -> Option<Text> {
    let fix = finding.fix.as_ref()?;
    let text = Text::new().strong(format!("{}: ", finding.subject));
    let is_statement = fix.ends_with(';');
    Some(if is_statement { text.code(fix.clone()) } else { text.plain(fix.clone()) })
}
