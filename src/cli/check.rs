//! `countersign check`: everything that can be wrong before an incident. Mistakes in the configuration and in the commands
//! are told as `serve` tells them; what is asked of the servers is `actions::doctor`'s.

use super::{Variables, configured, show};
use crate::actions::doctor::{Patient, examine};
use crate::chat::terminal::Lines;
use crate::message::{Heading, Reply};
use crate::targets::Targets;
use std::path::Path;

/// Exit statuses.
const WELL: u8 = 0;
pub const MISSING: u8 = 1;

pub async fn check((path, json): (&Path, bool), variables: &Variables<'_>) -> anyhow::Result<u8> {
    let config = configured(path, variables)?;
    crate::rules(&config)?;
    let targets = Targets::new(&config)?;
    let names: Vec<&str> = targets.names().iter().map(String::as_str).collect();
    let report = examine(&Patient { config: &config, targets: &targets }, &names).await;
    let asked = format!("check of {}", path.display());
    let mut reply = Reply::new(Heading { who: None, asked, environment: None, run: None });
    reply.blocks = report.blocks();
    show((&reply, &Lines::new()), json, variables)?;
    Ok(if report.missing() == 0 { WELL } else { MISSING })
}
