//! Size of the released program, with the demo and without it, and the number of crates that it is made of.

use crate::report::{Goals, Table, tell};
use anyhow::Context;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const MAX_CRATES: f64 = 295.0;
/// Bytes of a megabyte.
const MB: f64 = 1e6;
const MAX_MB: f64 = 27.0;
const MAX_MB_WITHOUT_DEMO: f64 = 25.0;

/// Builds the program without the demo, and prints both sizes beside the crates of each.
pub fn measure(goals: &mut Goals) -> anyhow::Result<()> {
    tell("building the program without its demo");
    let program = Path::new(env!("CARGO_BIN_EXE_countersign"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("without-demo");
    let build = ["build", "--release", "--no-default-features", "--quiet", "--target-dir"];
    let status = cargo().args(build).arg(&target).status().context("building without the demo")?;
    anyhow::ensure!(status.success(), "building without the demo: {status}");
    let size = megabytes(program)?;
    let size_without_demo = megabytes(&target.join("release/countersign"))?;
    let crates = count_crates(&[])?;
    let crates_without_demo = count_crates(&["--no-default-features"])?;
    let mut table = Table::new(&["", "program", "crates"]);
    table.row(["with the demo".to_owned(), format!("{size:.1} MB"), crates.to_string()]);
    let without = format!("{size_without_demo:.1} MB");
    table.row(["without it".to_owned(), without, crates_without_demo.to_string()]);
    table.print("### Size");
    goals.at_most("crates", MAX_CRATES, crates as f64);
    goals.at_most("MB of the program", MAX_MB, size);
    goals.at_most("MB without the demo", MAX_MB_WITHOUT_DEMO, size_without_demo);
    Ok(())
}

fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.arg("--locked").current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn megabytes(program: &Path) -> anyhow::Result<f64> {
    let metadata = std::fs::metadata(program).with_context(|| format!("measuring {}", program.display()))?;
    Ok(metadata.len() as f64 / MB)
}

/// Crates of the normal dependency tree, one a name and version, ours among them:
/// `cargo tree -e normal --prefix none --no-dedupe | sort -u | wc -l`.
fn count_crates(features: &[&str]) -> anyhow::Result<usize> {
    let tree = ["tree", "-e", "normal", "--prefix", "none", "--no-dedupe"];
    let output = cargo().args(tree).args(features).output().context("listing the crates")?;
    anyhow::ensure!(output.status.success(), "listing the crates: {}", output.status);
    let lines = String::from_utf8(output.stdout).context("reading the list of crates")?;
    Ok(lines.lines().filter(|line| !line.is_empty()).collect::<BTreeSet<_>>().len())
}
