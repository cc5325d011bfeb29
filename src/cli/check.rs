//! `countersign check`: the checks of one part or of all, and their report.

use super::{EXIT_MISSING, Variables, print_reply};
use crate::bootstrap::Rules;
use crate::chat::terminal::ButtonLines;
use crate::config::{Config, ConfigPart};
use crate::model::{Heading, Reply};
use crate::postgres::Environments;
use crate::preflight::{self, CheckContext, Finding};
use anyhow::Context;
use clap::ValueEnum;
use std::path::PathBuf;

/// The arguments of `countersign check`.
pub struct CheckArgs {
    pub config: PathBuf,
    /// The only part to check; `None` is all.
    pub only: Option<ConfigPart>,
    pub json: bool,
}

/// A part of the checks, as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CheckPart {
    /// Every server, login and database
    Servers,
    /// Slack and Teams
    Chat,
    /// The audit log, Redis, and the backups on this host
    Host,
}

impl From<CheckPart> for ConfigPart {
    fn from(part: CheckPart) -> Self {
        match part {
            CheckPart::Servers => ConfigPart::Servers,
            CheckPart::Chat => ConfigPart::Chat,
            CheckPart::Host => ConfigPart::Host,
        }
    }
}

/// Runs the checks, prints the report, and returns the exit status.
/// The error lists every mistake in the configuration or in the commands.
pub async fn check(args: CheckArgs, variables: &Variables<'_>) -> anyhow::Result<u8> {
    let CheckArgs { config: path, only, json } = args;
    let config = Config::load_for(&path, variables, only).context("configuring")?;
    let Rules { catalog, access, schedule } = crate::bootstrap::rules(&config)?;
    let environments = Environments::new(&config)?;
    let context = CheckContext {
        config: &config,
        catalog: &catalog,
        environments: &environments,
        access: &access,
        schedule: &schedule,
    };
    let mut report = preflight::check(&context, only).await;
    if only.is_none_or(|part| part == ConfigPart::Chat) {
        let mut findings = crate::chat::check(&config).await;
        if findings.is_empty() && only.is_some() {
            let fix = "Add a section `[slack]` or `[teams]`.";
            findings.push(Finding::missing("chat", "the configuration has no chat platform", fix));
        }
        for finding in findings {
            report.add_finding(finding);
        }
    }
    let command = format!("check of {}", path.display());
    let mut reply = Reply::new(Heading { requester: None, command, environment: None, run: None });
    reply.blocks = report.blocks();
    print_reply(&reply, &ButtonLines::new(), json, variables)?;
    Ok(if report.missing_count() == 0 { 0 } else { EXIT_MISSING })
}
