//! `countersign run`: a typed line through the workflow, as from any chat. The same rules, the same audit log; the operating
//! system vouches for the user.

use super::{Variables, load_config, print_reply};
use crate::app::App;
use crate::chat;
use crate::chat::terminal::{ButtonLines, Terminal, incoming_event};
use crate::command_line::{as_word, is_quote, to_line};
use crate::config::login_name;
use crate::model::{Coverage, Reply, RunState, TokenPurpose};
use crate::workflow::{Completion, Workflow};
use anyhow::Context;
use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const EXIT_ANSWERED: u8 = 0;
/// Refused, failed, or no target answered.
const EXIT_REFUSED: u8 = 1;
pub const EXIT_INTERNAL: u8 = 2;
/// Some targets answered, or a part was done.
const EXIT_PARTIAL: u8 = 3;

/// As long as the store may take to close a run; the next process closes what is left open.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// For closing what an earlier process left open, which may hold a lock that the command needs. A record that hangs must not hold up an
/// answer for longer.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(2);

const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// The arguments of `countersign run`.
pub struct RunArgs {
    config: PathBuf,
    json: bool,
    /// The command as in chat, after `/db`.
    line: String,
}

impl RunArgs {
    /// Our own options may stand among the command's words, too.
    pub fn new(words: Vec<String>, mut config: PathBuf, mut json: bool) -> RunArgs {
        let mut line = Vec::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--json" {
                json = true;
            } else if let Some(path) = word.strip_prefix("--config=") {
                config = path.into();
            } else if word == "--config" {
                config = words.next().unwrap_or_default().into();
            } else {
                line.push(quote(&word));
            }
        }
        RunArgs { config, json, line: line.join(" ") }
    }
}

/// Quotes a shell argument so that it stays one word of a chat line: `--reason=a b` → `--reason="a b"`.
fn quote(word: &str) -> String {
    if !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || is_quote(c)) {
        return word.to_owned();
    }
    let (option, value) = match word.split_once('=') {
        Some((option, value)) if option.starts_with("--") && !option.contains(char::is_whitespace) => {
            (format!("{option}="), value)
        }
        _ => (String::new(), word),
    };
    let word = as_word(value);
    if word == value { format!("{option}\"{word}\"") } else { format!("{option}{word}") }
}

pub async fn run(args: RunArgs, variables: &Variables<'_>) -> anyhow::Result<u8> {
    let config = load_config(&args.config, variables)?;
    let app = crate::bootstrap::assemble(config.clone()).await?;
    let terminal = Arc::new(Terminal::default());
    let mut senders = chat::senders(&chat::platforms(&app)?);
    senders.push(terminal.clone());
    let workflow = Workflow::new(app, senders);
    let incoming = incoming_event(&login_name(), args.line).context("asking the system for randomness")?;
    workflow.recover(RECOVERY_TIMEOUT).await;
    let completion = tokio::select! {
        completion = workflow.handle_and_wait(incoming, CLOSE_TIMEOUT) => completion,
        never = print_progress(&workflow.app, args.json) => match never {},
    };
    let reply = terminal.last_answer().context("there is no answer")?;
    print_reply(&reply, &button_lines(&workflow.app, &reply).await, args.json, variables)?;
    Ok(status(&workflow.app, completion, &reply).await)
}

/// The exit status. A run that didn't succeed is no success, even though it was answered.
async fn status(app: &App, completion: Completion, reply: &Reply) -> u8 {
    match completion {
        Completion::Refused => return EXIT_REFUSED,
        Completion::Failed => return EXIT_INTERNAL,
        Completion::Answered => {}
    }
    match reply.coverage {
        Coverage::Whole => {}
        Coverage::Partial => return EXIT_PARTIAL,
        Coverage::None => return EXIT_REFUSED,
    }
    let Some(run) = reply.heading.run else { return EXIT_ANSWERED };
    let Ok(Some(run)) = app.audit.store.get(run).await else { return EXIT_ANSWERED };
    match run.state {
        RunState::Failed | RunState::Stopped | RunState::Invalidated => EXIT_REFUSED,
        RunState::Partial => EXIT_PARTIAL,
        RunState::Interrupted => EXIT_INTERNAL,
        _ => EXIT_ANSWERED,
    }
}

async fn button_lines(app: &App, reply: &Reply) -> ButtonLines {
    let mut lines = ButtonLines::new();
    for button in reply.buttons() {
        let Ok(Some(token)) = app.audit.store.token(&button.token).await else { continue };
        let TokenPurpose::RunCommand { command, environment, arguments } = token.purpose else { continue };
        let Some(command) = app.catalog.find(&command) else { continue };
        let environment = environment.map_or(String::new(), |name| format!(" --env {name}"));
        let line = to_line(&command.name, &command.header.args, &arguments);
        lines.insert(button.token.clone(), format!("countersign run {line}{environment}"));
    }
    lines
}

/// Prints the progress to standard error, until the answer is there.
async fn print_progress(app: &App, quiet: bool) -> Infallible {
    let mut printed = None;
    loop {
        tokio::time::sleep(PROGRESS_INTERVAL).await;
        let progress = app.progress.current().filter(|_| !quiet);
        if progress == printed {
            continue;
        }
        if let Some(progress) = &progress {
            let percent = progress.percent.map_or(String::new(), |percent| format!("{percent} % · "));
            let _ = writeln!(std::io::stderr(), "{percent}{}", progress.label);
        }
        printed = progress;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_args(words: &[&str]) -> RunArgs {
        RunArgs::new(words.iter().map(|word| (*word).to_owned()).collect(), "usual".into(), false)
    }

    #[test]
    fn our_own_options_may_stand_anywhere() {
        let args = run_args(&["health", "--config", "x.toml", "--env", "staging", "--json"]);
        assert_eq!(args.line, "health --env staging");
        assert!(args.json && args.config.ends_with("x.toml"));
        assert!(run_args(&["health", "--config=y"]).config.ends_with("y"));
        assert_eq!(run_args(&[]).line, "");
    }

    #[test]
    fn a_word_of_the_shell_stays_one_word() {
        for (word, expected) in [
            ("it's stuck", Some("it's stuck")),
            ("say \"now\"", Some("say \"now\"")),
            ("“x", Some("“x")),
            ("4711", Some("4711")),
        ] {
            let line = run_args(&["kill", "1", "--reason", word]).line;
            let line = crate::command_line::split(&line, &|_, _| None).ok().and_then(|line| line.reason);
            assert_eq!(line.as_deref(), expected, "{word}");
        }
        let line = crate::command_line::split(&run_args(&["kill", "--reason=a b"]).line, &|_, _| None).ok();
        assert_eq!(line.and_then(|line| line.reason).as_deref(), Some("a b"));
    }
}
