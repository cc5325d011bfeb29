//! `quiet`: a finding that people hear nothing of for some time. The run itself is the state: the newest of a finding decides, for every replica.

use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::clock::{duration_seconds, format_duration};
use crate::command_line::as_word;
use crate::error::{Error, Result};
use crate::incident::{LONGEST_QUIET, QuietFinding, open_findings};
use crate::model::{AnswerFinding, Plan, Text};
use crate::sql::minute;
use crate::suggest::{nearest, shown};
use async_trait::async_trait;
use serde_json::json;
use std::time::Duration;

/// Names of the arguments.
const FINDING: &str = "finding";
const TIME: &str = "time";
/// Names of the plan's identity.
const TARGET: &str = "target";
const CHECK: &str = "check";

/// The command `quiet`.
pub struct Quiet;

#[async_trait]
impl Action for Quiet {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let environment = call.environment_name();
        let seconds = call.value(TIME).and_then(duration_seconds).unwrap_or_default();
        let period = Duration::from_secs(seconds);
        if period > LONGEST_QUIET {
            let longest = format_duration(LONGEST_QUIET);
            return Err(Error::user(format!("A finding can be quiet for {longest} at most.")));
        }
        let store = &*call.app.audit.store;
        let open =
            open_findings(store, &call.app.schedule, environment).await.map_err(anyhow::Error::from)?;
        let typed = call.value(FINDING).unwrap_or_default();
        let finding = find(&open, typed, environment)?;
        let period = format_duration(period);
        let mut plan = Plan::of(format!(
            "Keeps “{finding}” in {environment} quiet for {period}, whatever becomes of it."
        ));
        plan.impact = "Other findings are told as ever.".to_owned();
        plan.rollback = format!("`quiet {} 1m`", as_word(&finding.to_string()));
        plan.identity.insert(TARGET.to_owned(), finding.target.clone());
        plan.identity.insert(CHECK.to_owned(), finding.check.clone());
        plan.identity.insert(TIME.to_owned(), seconds.to_string());
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        if let Err(lost) = execution.ensure_current().await {
            return lost.into();
        }
        let identity = &execution.plan.identity;
        let seconds = identity.get(TIME).and_then(|seconds| seconds.parse().ok());
        let (Some(target), Some(check), Some(seconds)) = (identity.get(TARGET), identity.get(CHECK), seconds)
        else {
            return Outcome::invalidated("The plan names no finding.");
        };
        // From the run's own time, by the store's clock.
        let Ok(until) = execution.run.opened_at.checked_add(Duration::from_secs(seconds)) else {
            return Outcome::invalidated("The time is too long.");
        };
        let quiet = QuietFinding { target: target.clone(), check: check.clone(), until };
        let name = if target.is_empty() { check.clone() } else { format!("{target}: {check}") };
        let environment = execution.environment().unwrap_or_default();
        let verdict =
            Text::from(format!("“{name}” in {environment} is quiet until {}. To end it: ", minute(until)))
                .code(format!("quiet {} 1m", as_word(&name)));
        Outcome { facts: json!({ QuietFinding::FACT: quiet }), ..Outcome::done(verdict) }
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::StepCheck, EffectGuard::Repeatable]
    }
}

/// The open finding of that name, of which the beginning is enough where no other begins so.
fn find<'f>(open: &'f [AnswerFinding], typed: &str, environment: &str) -> Result<&'f AnswerFinding> {
    let names: Vec<String> = open.iter().map(ToString::to_string).collect();
    let wanted = typed.trim().to_lowercase();
    let is_exact = |name: &String| name.to_lowercase() == wanted;
    let begins = |name: &String| name.to_lowercase().starts_with(&wanted);
    let exact = names.iter().position(is_exact);
    let only = || {
        let mut begin = (0..names.len()).filter(|index| begins(&names[*index]));
        begin.next().filter(|_| begin.next().is_none())
    };
    if let Some(finding) = exact.or_else(only).and_then(|index| open.get(index)) {
        return Ok(finding);
    }
    let problem = format!("No finding “{}” lasts in {environment}.", shown(typed));
    Err(match nearest(typed, names.iter().map(String::as_str)) {
        Some(near) => Error::instead(problem, format!("Did you mean `quiet {}`?", as_word(near))),
        None if names.is_empty() => Error::user(format!("No finding lasts in {environment}.")),
        None => {
            let words: Vec<String> = names.iter().map(|name| as_word(name)).collect();
            Error::instead(problem, format!("There are: {}.", words.join(", ")))
        }
    })
}
