//! Findings that nobody is told of for some time. The newest run of the command for a finding decides, for every replica.

use crate::model::{AnswerFinding, RunState};
use crate::store::{Filter, Store, StoreResult};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Runs of [`QUIET`] that count at a time.
const MAX_QUIET: usize = 200;

/// The command after which nobody is told of a finding for some time.
pub const QUIET: &str = "quiet";

/// The longest time for which a finding can be quiet.
pub const LONGEST_QUIET: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A finding that people don't want to be told of, as the last event of a run of [`QUIET`] has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietFinding {
    pub target: String,
    pub check: String,
    /// UTC.
    pub until: Timestamp,
}

impl QuietFinding {
    /// Name of the fact.
    pub const FACT: &'static str = "quiet";

    /// The findings of an environment that are quiet at that time (UTC).
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn all(store: &dyn Store, environment: &str, at: Timestamp) -> StoreResult<Vec<QuietFinding>> {
        let filter = Filter {
            environment: Some(environment.to_owned()),
            command: Some(QUIET.to_owned()),
            states: vec![RunState::Succeeded],
            since: at.checked_sub(LONGEST_QUIET).ok(),
            limit: MAX_QUIET,
            ..Filter::default()
        };
        let mut newest: Vec<QuietFinding> = Vec::new();
        for run in store.list(filter).await?.runs {
            let fact = run.events.last().and_then(|event| event.facts.get(QuietFinding::FACT));
            let quiet = fact.and_then(|fact| serde_json::from_value::<QuietFinding>(fact.clone()).ok());
            let is_same = |quiet: &QuietFinding, other: &QuietFinding| {
                quiet.target == other.target && quiet.check == other.check
            };
            newest.extend(quiet.filter(|quiet| !newest.iter().any(|newer| is_same(newer, quiet))));
        }
        newest.retain(|quiet| at < quiet.until);
        Ok(newest)
    }

    /// True if it is about that finding.
    pub fn is_about(&self, finding: &AnswerFinding) -> bool {
        self.target == finding.target && self.check == finding.check
    }
}
