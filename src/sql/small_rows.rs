//! Rows that say nothing: those with less than a hundredth of the whole are counted in one line, unless the asker chose the rows.

use super::format::is_share;
use super::hits::value_severity;
use super::{SectionResult, TargetRow};
use crate::catalog::Command;
use crate::model::{Severity, Text};

/// Shares below this say nothing, in percent.
const SMALL_PCT: f64 = 1.0;

/// Fewer rows are shown: one line in their place would save nothing.
const MIN_ROWS: usize = 3;

/// The last rows of a section.
pub(super) struct SmallRows {
    /// The number of rows before them.
    pub start: usize,
    count: usize,
    /// Their shares together.
    sum_pct: f64,
}

impl SmallRows {
    /// The small rows among the first `limit` of a section that is sorted by its shares; `None` for any other section, and for a command
    /// without the switch that lists them.
    pub fn of(command: &Command, section: &SectionResult, limit: usize) -> Option<SmallRows> {
        let has_switch = command.header.args.iter().any(|spec| spec.switch && spec.name == "all");
        let is_listed = has_switch && section.target_count == 1 && !section.has_choices;
        let column = section.columns.iter().position(|column| is_share(column)).filter(|_| is_listed)?;
        let rows = &section.rows[..limit.min(section.rows.len())];
        let shares: Vec<f64> = rows.iter().map(|row| row.values[column].number()).collect::<Option<_>>()?;
        if !shares.is_sorted_by(|larger, smaller| larger >= smaller) {
            return None;
        }
        let start = shares.iter().position(|share| *share < SMALL_PCT)?;
        let is_finding = |row: &TargetRow| {
            let mut thresholds = command.header.thresholds.values();
            thresholds.any(|threshold| {
                let at = section.columns.iter().position(|known| *known == threshold.column);
                at.is_some_and(|at| value_severity(threshold, &row.values[at]) > Severity::Ok)
            })
        };
        let count = rows.len() - start;
        let is_short = count >= MIN_ROWS && start > 0 && !rows[start..].iter().any(is_finding);
        is_short.then(|| SmallRows { start, count, sum_pct: shares[start..].iter().sum() })
    }

    /// "16 more below 1 %, together 3.1 %. `sizes asset-service --all` lists them."
    pub fn line(&self, command: &Command, section: &SectionResult) -> Text {
        let service = section.service.as_ref().map(|service| format!(" {service}")).unwrap_or_default();
        let counted = format!("{} more below {SMALL_PCT:.0} %, together {:.1} %. ", self.count, self.sum_pct);
        Text::new().plain(counted).code(format!("{}{service} --all", command.name)).plain(" lists them.")
    }
}
