//! The command line: serve the chat, show the demo, run one command here, check everything, begin a configuration. Standard output has the answer,
//! standard error the errors and the log; the exit status says whether the command succeeded.

use crate::catalog::Catalog;
use crate::chat::terminal::{ButtonLines, json, render::Screen, render::render};
use crate::config::{Config, reference};
use crate::files;
use crate::http::{HttpServer, ShutdownSignals};
use crate::model::Reply;
use anyhow::Context;
use clap::Parser;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

mod check;
mod generate;
mod init;
mod new_command;
mod run;
mod store;
mod verify;

/// Runs a team's PostgreSQL runbook from chat; what destroys waits for a second person.
#[derive(Parser)]
#[command(version)]
enum Cli {
    /// Serve the chat.
    Serve {
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
    },
    /// Try it in a browser: a fake Slack, a fake Teams, two PostgreSQL servers, an incident. Nothing is left behind.
    #[cfg(feature = "demo")]
    Demo {
        #[arg(long, default_value = "127.0.0.1:8055")]
        page: std::net::SocketAddr,
    },
    /// Run one command here, as in chat: for when chat is down. The same rules, the same history.
    ///
    /// Exit status: 0 answered, 1 refused, failed or no target answered, 2 something is wrong with Countersign, 3 only some targets
    /// answered or only a part was done.
    Run {
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
        /// The command as in chat: health --env staging. Without one, a short menu.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Check the configuration, the commands, every server and every login, and show how to fix what is missing.
    ///
    /// Changes nothing: no server and no file. Exit status: 0 all is well, 1 something is missing or wrong.
    Check {
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
        /// Check one part only; the secrets of the others needn't exist yet.
        #[arg(long)]
        only: Option<check::CheckPart>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check the audit log's hash chain, and print the number of events and the last hash.
    ///
    /// Changes no entry, and may run beside the bot. Exit status: 0 all is well, 1 the log was changed or can't be read.
    Verify {
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
    },
    /// Move the audit log to another place.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Print the table of commands, as docs/commands.md has it.
    Commands,
    /// Print the tables of docs/configuration.md: every key of the configuration.
    ConfigReference,
    /// Print the JSON schema of the configuration, for editors.
    ConfigSchema,
    /// Write a configuration, from at most six answers. Options answer a question beforehand.
    Init(init::InitArgs),
    /// Write a file to begin a custom command with.
    NewCommand(new_command::NewCommandArgs),
    /// Print the completions of a shell.
    Completions { shell: clap_complete::Shell },
    /// Print a manual page: countersign man | man -l -
    Man {
        /// The command to describe: run, check. Without one, the program.
        command: Option<String>,
    },
}

const CONFIG: &str = "countersign.toml";

/// Exit status of a check that found something missing or wrong.
const EXIT_MISSING: u8 = 1;

/// Log filter of a command that only answers: internal errors, whose reference its answer names.
const QUIET: &str = "off,countersign=error";

/// Width of a terminal that doesn't report it: the usual default.
const DEFAULT_COLUMNS: usize = 80;

/// Smallest reported width that is accepted: no table fits into less.
const MIN_COLUMNS: usize = 40;

/// Environment variables, by name.
pub type Variables<'v> = dyn Fn(&str) -> Option<String> + 'v;

/// Runs the command line, and returns the exit status.
pub async fn run(variables: &Variables<'_>) -> ExitCode {
    let cli = Cli::parse();
    let quiet = matches!(cli, Cli::Run { .. } | Cli::Check { .. } | Cli::Verify { .. } | Cli::Store(_));
    crate::telemetry::init(if quiet { QUIET } else { "warn,countersign=info" });
    let (status, failure_status) = match cli {
        Cli::Serve { config } => (serve(&config, variables).await, 1),
        #[cfg(feature = "demo")]
        Cli::Demo { page } => (crate::demo::show(page).await.map(|()| 0), 1),
        Cli::Run { config, json, command } => {
            let args = run::RunArgs::new(command, config, json);
            (run::run(args, variables).await, run::EXIT_INTERNAL)
        }
        Cli::Check { config, only, json } => {
            let args = check::CheckArgs { config, only: only.map(Into::into), json };
            (check::check(args, variables).await, EXIT_MISSING)
        }
        Cli::Verify { config } => (verify::verify(&config, variables).await, 1),
        Cli::Store(command) => (store::store(command, variables).await, 1),
        Cli::Commands => (commands(), 1),
        Cli::ConfigReference => (print(&reference::markdown()).map(|()| 0), 1),
        Cli::ConfigSchema => (print(&format!("{:#}\n", reference::schema())).map(|()| 0), 1),
        Cli::Init(args) => (init::init(&args), 1),
        Cli::NewCommand(args) => (new_command::new_command(&args), 1),
        Cli::Completions { shell } => (print(&generate::completions(shell)).map(|()| 0), 1),
        Cli::Man { command } => (manual(command.as_deref()), 1),
    };
    ExitCode::from(status.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "Error: {}", with_causes(&error));
        failure_status
    }))
}

/// An error and its causes, a paragraph each. anyhow's own `Debug` would add a backtrace where `RUST_BACKTRACE` is set.
fn with_causes(error: &anyhow::Error) -> String {
    let mut causes = error.chain().map(ToString::to_string);
    let mut text = causes.next().unwrap_or_default();
    for cause in causes {
        text.push_str("\n\nCaused by:\n    ");
        text.push_str(&cause.replace('\n', "\n    "));
    }
    text
}

async fn serve(config: &Path, variables: &Variables<'_>) -> anyhow::Result<u8> {
    let config = load_config(config, variables)?;
    let server = HttpServer::bind(config).await?;
    let mut signals = ShutdownSignals::listen().context("listening to signals")?;
    let stop = CancellationToken::new();
    let serving = server.serve(stop.clone().cancelled_owned());
    let twice = async {
        signals.next().await;
        stop.cancel();
        signals.next().await;
    };
    tokio::select! {
        result = serving => result.map(|()| 0),
        () = twice => anyhow::bail!("told to stop a second time: what was running is interrupted"),
    }
}

/// Loads the configuration. From here on no other account may read the files that the process makes.
fn load_config(path: &Path, variables: &Variables<'_>) -> anyhow::Result<Config> {
    files::restrict_umask();
    Config::load(path, variables).context("configuring")
}

fn commands() -> anyhow::Result<u8> {
    print(&Catalog::built_in().map_err(crate::bootstrap::command_errors)?.markdown())?;
    Ok(0)
}

fn manual(command: Option<&str>) -> anyhow::Result<u8> {
    print(&generate::manual(command)?)?;
    Ok(0)
}

fn print_reply(
    reply: &Reply,
    lines: &ButtonLines,
    as_json: bool,
    variables: &Variables<'_>,
) -> anyhow::Result<()> {
    print(&if as_json { json::render(reply, lines) } else { render(reply, lines, screen(variables)) })
}

/// Prints to standard output. A closed pipe is no error: its reader has read enough.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("printing the answer")
        }
        _ => Ok(()),
    }
}

/// Colours are for a terminal only, and only if nobody objects (<https://no-color.org>).
fn screen(variables: &Variables<'_>) -> Screen {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return Screen { width: DEFAULT_COLUMNS, colours: false };
    }
    let size = rustix::termios::tcgetwinsize(&out).map_or(0, |size| usize::from(size.ws_col));
    let no_color = variables("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = variables("TERM").is_some_and(|value| value == "dumb");
    let width = if size == 0 { DEFAULT_COLUMNS } else { size.max(MIN_COLUMNS) };
    Screen { width, colours: !no_color && !is_dumb }
}
