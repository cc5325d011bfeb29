//! `countersign new-command`: a file to begin a custom command with, which runs as it is.

use super::print;
use crate::catalog::Catalog;
use crate::files::{self, shell_word};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// The arguments of `countersign new-command`.
#[derive(clap::Args)]
pub struct NewCommandArgs {
    /// Name of the command, as people will type it: lower-case letters, digits and dashes.
    name: String,
    /// Directory of the custom commands, which `[commands]` of the configuration names.
    #[arg(long, default_value = "commands")]
    directory: PathBuf,
}

/// Writes the file, and says what to do next.
///
/// # Errors
/// A name that no custom command can have, or a file that is there: it is never overwritten.
pub fn new_command(args: &NewCommandArgs) -> anyhow::Result<u8> {
    let file = format!("{}.sql", args.name);
    let text = include_str!("files/command.sql").replace("@name@", &args.name);
    let catalog = Catalog::built_in().map_err(crate::bootstrap::command_errors)?;
    catalog.with_file(&file, &text).map_err(crate::bootstrap::command_errors)?;
    let path = args.directory.join(file);
    std::fs::create_dir_all(&args.directory)
        .with_context(|| format!("making the directory {}", args.directory.display()))?;
    files::write_new(&path, &text).with_context(|| format!("writing {}", path.display()))?;
    print(&format!(
        "Wrote {path}. It runs as it is: edit its header and its SQL.\n\n\
         If the configuration names no directory of custom commands yet, add\n\n    \
         [commands]\n    directory = {directory}\n\nNext: countersign check --only servers\n",
        path = shell_word(&path),
        directory = quoted(&args.directory),
    ))?;
    Ok(0)
}

/// A path as a string of TOML.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}
