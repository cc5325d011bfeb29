//! Shell completions and manual pages, from the definition that parses the command line.

use super::Cli;
use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

/// The name under which the program is installed.
const NAME: &str = "countersign";

/// The completions of a shell, to be sourced by it.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// A manual page in troff: of the program, or of one of its commands.
///
/// # Errors
/// A command that doesn't exist, with those that do.
pub fn manual(command: Option<&str>) -> anyhow::Result<String> {
    let mut root = Cli::command();
    root.build();
    let page = match command {
        None => root,
        Some(name) => {
            let names: Vec<&str> = root.get_subcommands().map(clap::Command::get_name).collect();
            let missing = || format!("there is no command {name}: {}", names.join(", "));
            let found = root.find_subcommand(name).with_context(missing)?.clone();
            found.display_name(format!("{NAME}-{name}"))
        }
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text).context("writing the manual page")?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
