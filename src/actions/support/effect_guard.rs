//! The mechanisms that make a second effect harmless. A process that was paused for long, and taken for dead, wakes with its next
//! statement ready to be sent, while another process may have closed its run and done the same for a new request. The audit log alone
//! can't prevent that: the effect itself has to.

use crate::actions::{Implementation, find};
use crate::catalog::Catalog;
use std::fmt::Write as _;
use strum::VariantArray;

/// A mechanism that makes a second effect of an action harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, VariantArray)]
#[strum(serialize_all = "title_case")]
pub enum EffectGuard {
    /// The session that acts first takes an advisory lock on the target, and then asks the audit log whether the run is still this
    /// process' ([`Execution::lock_target`](crate::actions::Execution::lock_target); in a transaction, [`Transaction::lock`](crate::postgres::Transaction::lock)).
    /// Who takes the run over sees the lock and judges nothing before it is gone (`support/find_backends.sql`).
    TargetLock,
    /// The acting statement compares the target with the plan: a session's pid and start, a table's oid and file, the freeze. Where PostgreSQL
    /// takes the statement in no transaction, the one before it does, on the same session (`support/signal.sql`, `purge/guard.sql`).
    PlannedTarget,
    /// Before each step the audit log is asked, or takes an event of the run, and refuses both once another process has taken the run
    /// over ([`Execution::ensure_current`](crate::actions::Execution::ensure_current), [`Execution::checkpoint`](crate::actions::Execution::checkpoint)).
    StepCheck,
    /// The effect is an object whose key has the run's number: two runs never write the same (`backup/manifest.rs`).
    RunKey,
    /// Prisma reads its migration history again under its own lock: a migration is applied or resolved once.
    MigrationHistory,
    /// Done again, it changes nothing more.
    Repeatable,
    /// The effect is in the audit log's store, in a transaction that is refused unless this instance still executes the run
    /// ([`Store::change_freeze`](crate::store::Store::change_freeze), [`Store::bind_conversation`](crate::store::Store::bind_conversation)).
    RunningRun,
    /// The effect is an event of the audit log, appended only in the version of the run that was read.
    RunVersion,
}

impl EffectGuard {
    /// The mechanism in a sentence, for people.
    pub fn description(self) -> &'static str {
        match self {
            EffectGuard::TargetLock => {
                "The session that acts takes an advisory lock on the target, then asks the audit log whether the run is still its own."
            }
            EffectGuard::PlannedTarget => {
                "The acting statement compares the target with the plan: the session's start, the table's oid and file, the freeze."
            }
            EffectGuard::StepCheck => {
                "Before each step the audit log confirms that the run is still this process'."
            }
            EffectGuard::RunKey => "The object's key has the run's number.",
            EffectGuard::MigrationHistory => "Prisma reads its migration history again under its own lock.",
            EffectGuard::Repeatable => "Done again, it changes nothing more.",
            EffectGuard::RunningRun => {
                "The effect is in the audit log's store, and its transaction tests that the run is still this process'."
            }
            EffectGuard::RunVersion => {
                "The effect is an event of the audit log, appended only in the version of the run that was read."
            }
        }
    }
}

/// The tables of the commands that change something with their guards, and of the guards, in Markdown: for `docs/security.md`.
pub fn effect_guard_tables(catalog: &Catalog) -> String {
    let mut tables = "| command | a second effect is harmless by |\n|---|---|\n".to_owned();
    for command in catalog.iter() {
        let Some(Implementation::Action(action)) = find(command) else { continue };
        let guards: Vec<&str> = action.effect_guards().iter().map(|guard| guard.into()).collect();
        let _ = writeln!(tables, "| `{}` | {} |", command.name, guards.join(", ").to_lowercase());
    }
    tables.push_str("\n| guard | mechanism |\n|---|---|\n");
    for guard in EffectGuard::VARIANTS {
        let name = <&str>::from(guard).to_lowercase();
        let _ = writeln!(tables, "| {name} | {} |", guard.description());
    }
    tables
}
