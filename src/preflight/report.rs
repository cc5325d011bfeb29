//! The findings of a check and their report: a verdict, then each part's findings, equal ones once, and how to fix them.

use crate::actions::support::blocks::{count, verdict};
use crate::config::ConfigPart;
use crate::model::{Block, Cell, Column, ColumnKind, Row, Severity, Table, Text};

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

/// All findings by section: an environment's name, or [`HOST_SECTION`].
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The only part that was checked; `None` is all.
    pub only: Option<ConfigPart>,
    pub sections: Vec<(String, Vec<Finding>)>,
}

/// Section about the host that Countersign runs on.
pub(super) const HOST_SECTION: &str = "Where Countersign runs";

impl Report {
    /// Adds a finding about the host that Countersign runs on.
    pub fn add_finding(&mut self, finding: Finding) {
        match self.sections.iter_mut().find(|(section, _)| section == HOST_SECTION) {
            Some((_, findings)) => findings.push(finding),
            None => self.sections.push((HOST_SECTION.to_owned(), vec![finding])),
        }
    }

    /// The verdict where nothing is missing: no wider than the checks.
    fn success(&self) -> &'static str {
        match self.only {
            None => "All checks passed.",
            Some(ConfigPart::Servers) => {
                "All checks of the servers passed. Chat and this host were not checked."
            }
            Some(ConfigPart::Chat) => {
                "All checks of chat passed. The servers and this host were not checked."
            }
            Some(ConfigPart::Host) => {
                "All checks of this host passed. The servers and chat were not checked."
            }
        }
    }

    /// Checks that failed: the same one of ten databases is one.
    pub fn missing_count(&self) -> usize {
        self.sections.iter().map(|(_, findings)| count_missing(findings)).sum()
    }

    /// A verdict, then each section's findings and fixes.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = vec![match self.missing_count() {
            0 => verdict(Severity::Ok, self.success()),
            missing => {
                let sections = self.sections.iter().filter(|(_, findings)| count_missing(findings) > 0);
                let sections: Vec<&str> = sections.map(|(section, _)| section.as_str()).collect();
                let failed = count(missing, "check failed", "checks failed");
                verdict(Severity::Critical, format!("{failed}: {}.", sections.join(", ")))
            }
        }];
        for (section, findings) in &self.sections {
            let groups = groups(findings);
            blocks.push(Block::Table(table(section, &groups)));
            blocks.extend(fixes(&groups).into_iter().map(Block::Text));
        }
        blocks
    }
}

/// Findings that say the same of several subjects.
struct Group<'f> {
    findings: Vec<&'f Finding>,
}

impl<'f> Group<'f> {
    fn first(&self) -> &'f Finding {
        self.findings[0]
    }

    fn subject(&self) -> String {
        subjects(self.findings.iter().map(|finding| finding.subject.as_str()).collect())
    }
}

fn groups(findings: &[Finding]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for finding in findings {
        let is_same = |group: &&mut Group<'_>| {
            let first = group.first();
            finding.status != CheckStatus::Works
                && (first.status, &first.details) == (finding.status, &finding.details)
        };
        match groups.iter_mut().find(is_same) {
            Some(group) => group.findings.push(finding),
            None => groups.push(Group { findings: vec![finding] }),
        }
    }
    groups
}

/// "main/auth_db", or "main: 10 databases" where they are many of one server.
fn subjects(mut all: Vec<&str>) -> String {
    all.dedup();
    let servers: Vec<&str> = all.iter().filter_map(|subject| Some(subject.rsplit_once('/')?.0)).collect();
    match all.as_slice() {
        [only] => (*only).to_owned(),
        many if servers.len() == many.len() && servers.iter().all(|server| *server == servers[0]) => {
            format!("{}: {} databases", servers[0], many.len())
        }
        many => many.join(", "),
    }
}

fn count_missing(findings: &[Finding]) -> usize {
    groups(findings).iter().filter(|group| group.first().status == CheckStatus::Missing).count()
}

fn table(section: &str, groups: &[Group<'_>]) -> Table {
    let column = |title: &str| Column { title: title.to_owned(), kind: ColumnKind::Left };
    let rows = groups.iter().map(|group| {
        let finding = group.first();
        let (word, severity) = match finding.status {
            CheckStatus::Works => ("works", Severity::Ok),
            CheckStatus::Optional => ("optional", Severity::Neutral),
            CheckStatus::Missing => ("missing", Severity::Critical),
        };
        let cells = vec![
            Cell::from(group.subject().as_str()),
            Cell { text: word.to_owned(), severity },
            Cell::from(finding.details.as_str()),
        ];
        Row { cells, buttons: Vec::new() }
    });
    Table {
        title: Some(section.to_owned()),
        columns: ["checked", "result", "details"].map(column).to_vec(),
        rows: rows.collect(),
        total: groups.len(),
        empty: None,
    }
}

/// "main as reader: GRANT pg_monitor TO countersign_read;", each fix once, with everything that it is for.
fn fixes(groups: &[Group<'_>]) -> Vec<Text> {
    let mut fixes: Vec<(&str, Vec<&str>)> = Vec::new();
    for finding in groups.iter().flat_map(|group| &group.findings) {
        let Some(fix) = finding.fix.as_deref() else { continue };
        let subject = finding.subject.as_str();
        match fixes.iter_mut().find(|(known, _)| *known == fix) {
            Some((_, subjects)) if subjects.contains(&subject) => {}
            Some((_, subjects)) => subjects.push(subject),
            None => fixes.push((fix, vec![subject])),
        }
    }
    let text = |(fix, subjects): (&str, Vec<&str>)| {
        let text = Text::new().strong(format!("{}: ", subjects.join(", ")));
        if fix.ends_with(';') { text.code(fix) } else { text.plain(fix) }
    };
    fixes.into_iter().map(text).collect()
}
