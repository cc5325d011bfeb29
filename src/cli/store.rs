//! `countersign store copy`: a copy of the audit log in another store.

use super::{Variables, print};
use crate::clock::duration;
use crate::config::{Config, ConfigPart};
use crate::files;
use crate::sql::grouped;
use crate::store::{self, Copied, CopyProgress};
use anyhow::Context;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// The commands below `countersign store`.
#[derive(clap::Subcommand)]
pub enum StoreCommand {
    /// Copy the audit log of one configuration into another's, which must be empty: from a file to PostgreSQL, or back.
    ///
    /// Stop every `countersign serve` first. The copy has the same events with the same hashes, is verified before it is kept, and is kept
    /// whole or not at all: an interrupted copy can be repeated. Exit status: 0 copied, 1 refused or failed.
    Copy(CopyArgs),
}

/// The arguments of `countersign store copy`.
#[derive(clap::Args)]
pub struct CopyArgs {
    /// The configuration whose audit log is copied.
    #[arg(long)]
    from: PathBuf,
    /// The configuration whose audit log becomes the copy.
    #[arg(long)]
    to: PathBuf,
}

/// Runs a command, prints its result, and returns the exit status.
///
/// # Errors
/// The obstacle. The target is as it was.
pub async fn store(command: StoreCommand, variables: &Variables<'_>) -> anyhow::Result<u8> {
    let StoreCommand::Copy(CopyArgs { from, to }) = command;
    files::restrict_umask();
    let load = |path| Config::load_for(path, variables, Some(ConfigPart::Host)).context("configuring");
    let (source, target) = (load(&from)?, load(&to)?);
    anyhow::ensure!(
        !source.store.is_same(&target.store),
        "{} and {} name the same audit log: name another one in `[store]` of the second",
        from.display(),
        to.display()
    );
    let (source, target) = (crate::bootstrap::history(&source)?, crate::bootstrap::history(&target)?);
    let start = Instant::now();
    let mut shown = start;
    let show = |CopyProgress { copied, total }: CopyProgress| {
        if shown.elapsed() >= PROGRESS_INTERVAL {
            shown = Instant::now();
            let _ = writeln!(std::io::stderr(), "{} of {} rows copied", grouped(copied), grouped(total));
        }
    };
    let Copied { summary, was_there } = store::copy(source, target, show).await?;
    let verdict = if was_there {
        "OK: the target already has this audit log, and nothing was written."
    } else {
        "OK: the audit log was copied, and the hash chain of both sides is intact and the same."
    };
    let rows = |table| grouped(summary.rows.get(table).copied().unwrap_or_default());
    print(&format!(
        "{verdict}\nRuns: {}. Events: {}. Texts: {}. Cards: {}. Time: {}.\nLast hash: {}\n\
         Next: `countersign serve --config {}`. Don't start Countersign with {} again: each audit log would have events that the other \
         one hasn't.\n",
        rows("runs"),
        rows("events"),
        rows("event_texts"),
        rows("cards"),
        duration(start.elapsed().as_secs_f64()),
        summary.head,
        files::shell_word(&to),
        from.display(),
    ))?;
    Ok(0)
}
