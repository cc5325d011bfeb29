//! `countersign init`: writes a configuration from at most six answers, of options, of a person or of standard input. It holds no
//! secret, and is checked before it is written.

use super::print;
use crate::config::{Config, login_name};
use crate::files::{self, shell_word};
use anyhow::{Context, bail};
use std::io::{BufRead, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// PostgreSQL's port.
const PORT: u16 = 5432;

/// Parts of the names of environments that are not production.
const NOT_PRODUCTION: [&str; 8] = ["stag", "dev", "test", "qa", "uat", "sandbox", "demo", "local"];

/// The arguments of `countersign init`.
#[derive(clap::Args)]
pub struct InitArgs {
    /// The file to write. A file that is there is never overwritten.
    #[arg(long, default_value = super::CONFIG)]
    config: PathBuf,
    /// Chat platform: slack, teams, or none for the terminal alone.
    #[arg(long)]
    platform: Option<String>,
    /// Name of the first environment.
    #[arg(long)]
    environment: Option<String>,
    /// Its PostgreSQL server: host or host:port.
    #[arg(long)]
    server: Option<String>,
    /// The first service and its database: asset-service=asset_service_db.
    #[arg(long)]
    service: Option<String>,
    /// Your name, as others will read it.
    #[arg(long)]
    person: Option<String>,
    /// Directory of the audit log and the backups.
    #[arg(long)]
    directory: Option<String>,
}

/// The answers, as they were typed; those that are still missing have an example in their place.
#[derive(Debug, Clone)]
struct Answers {
    platform: String,
    environment: String,
    server: String,
    service: String,
    person: String,
    directory: String,
}

/// One question, and the option that answers it.
struct Question {
    text: &'static str,
    option: &'static str,
    /// The answer to an empty line is the one of [`Answers::default`].
    has_default: bool,
    given: fn(&InitArgs) -> Option<&String>,
    field: fn(&mut Answers) -> &mut String,
}

const QUESTIONS: [Question; 6] = [
    Question {
        text: "Chat platform (slack, teams or none)",
        option: "--platform",
        has_default: true,
        given: |args| args.platform.as_ref(),
        field: |answers| &mut answers.platform,
    },
    Question {
        text: "Name of the first environment",
        option: "--environment",
        has_default: true,
        given: |args| args.environment.as_ref(),
        field: |answers| &mut answers.environment,
    },
    Question {
        text: "Its PostgreSQL server, host or host:port",
        option: "--server",
        has_default: false,
        given: |args| args.server.as_ref(),
        field: |answers| &mut answers.server,
    },
    Question {
        text: "A service and its database, like asset-service=asset_service_db",
        option: "--service",
        has_default: false,
        given: |args| args.service.as_ref(),
        field: |answers| &mut answers.service,
    },
    Question {
        text: "Your name, as others will read it",
        option: "--person",
        has_default: true,
        given: |args| args.person.as_ref(),
        field: |answers| &mut answers.person,
    },
    Question {
        text: "Directory of the audit log and the backups",
        option: "--directory",
        has_default: true,
        given: |args| args.directory.as_ref(),
        field: |answers| &mut answers.directory,
    },
];

/// Asks what no option answers, writes the configuration, and says what to do next.
///
/// # Errors
/// A file that is there, an option's answer that the configuration can't have, or a question without an answer.
pub fn init(args: &InitArgs) -> anyhow::Result<u8> {
    let path = &args.config;
    if path.symlink_metadata().is_ok() {
        bail!(
            "{} is there already and is never overwritten: name another file with --config",
            path.display()
        );
    }
    let mut answers = Answers::default();
    let mut input = std::io::stdin().lock();
    for question in &QUESTIONS {
        answers = match (question.given)(args) {
            Some(given) => answers
                .with(question, given)
                .map_err(|problem| anyhow::anyhow!("{} can't be {given:?}: {problem}", question.option))?,
            None => ask(question, &answers, &mut input)?,
        };
    }
    let text = answers.configuration().map_err(anyhow::Error::msg)?;
    files::write_new(path, &text).with_context(|| format!("writing {}", path.display()))?;
    print(&next_steps(path, &answers))?;
    Ok(0)
}

/// Asks until the answer fits. Questions go to standard error.
fn ask(question: &Question, answers: &Answers, input: &mut impl BufRead) -> anyhow::Result<Answers> {
    let default = question.has_default.then(|| (question.field)(&mut answers.clone()).clone());
    loop {
        let shown = default.as_ref().map_or(String::new(), |default| format!(" [{default}]"));
        let _ = write!(std::io::stderr(), "{}{shown}: ", question.text);
        let mut line = String::new();
        let length = input.read_line(&mut line).context("reading the answer")?;
        if length == 0 {
            let _ = writeln!(std::io::stderr());
        }
        let typed = line.trim();
        let answer = match &default {
            Some(default) if typed.is_empty() => default.as_str(),
            None if length == 0 => bail!("there is no answer: give {}", question.option),
            _ => typed,
        };
        match answers.with(question, answer) {
            Ok(answers) => return Ok(answers),
            Err(problem) if length == 0 => bail!("{} can't be {answer:?}: {problem}", question.option),
            Err(problem) => {
                let _ = writeln!(std::io::stderr(), "{problem}");
            }
        }
    }
}

fn next_steps(path: &Path, answers: &Answers) -> String {
    let Answers { server, .. } = answers;
    let variable = answers.variable();
    let path = shell_word(path);
    format!(
        "Wrote {path}. It contains no secrets.\n\n\
         Create the logins countersign_read and countersign_act on {server} with roles.sql (in deploy/, or in\n\
         /usr/share/countersign of the package), and put their passwords into {variable}_READER_PASSWORD and\n\
         {variable}_OPERATOR_PASSWORD.\n\n\
         Next: countersign check --only servers --config {path}\n"
    )
}

impl Default for Answers {
    fn default() -> Answers {
        let text = str::to_owned;
        Answers {
            platform: text("slack"),
            environment: text("production"),
            server: text("localhost"),
            service: text("asset-service=asset_service_db"),
            person: login_name(),
            directory: text("/var/lib/countersign"),
        }
    }
}

impl Answers {
    /// The answers with one more, if a configuration can have it.
    fn with(&self, question: &Question, answer: &str) -> Result<Answers, String> {
        let mut answers = self.clone();
        answer.clone_into((question.field)(&mut answers));
        answers.configuration().map(|_| answers)
    }

    /// The configuration, or its first mistake.
    fn configuration(&self) -> Result<String, String> {
        let (host, port) = host_and_port(&self.server)?;
        let Some((service, database)) = self.service.split_once('=') else {
            return Err("a service and its database are written like asset-service=asset_service_db".into());
        };
        let (chat, account) = match self.platform.as_str() {
            "slack" => (include_str!("files/slack.toml"), "# slack = [\"U0EXAMPLE\"]\n"),
            "teams" => {
                (include_str!("files/teams.toml"), "# teams = [\"00000000-0000-0000-0000-000000000001\"]\n")
            }
            "none" => ("", ""),
            _ => return Err("the chat platform is slack, teams or none".into()),
        };
        if self.directory.is_empty() {
            return Err("a directory's path isn't empty".into());
        }
        let directory = self.directory.trim_end_matches('/');
        let text = [
            ("@chat@", chat.to_owned()),
            ("@account@", account.to_owned()),
            ("@store@", quoted(&format!("{directory}/countersign.db"))),
            ("@backups@", quoted(&format!("{directory}/backups"))),
            ("@production@", self.is_production().to_string()),
            ("@tls@", quoted(if is_this_machine(&host) { "off" } else { "verified" })),
            ("@host@", quoted(&host)),
            ("@port@", port.to_string()),
            ("@variable@", self.variable()),
            ("@login@", quoted(&login_name())),
            ("@environment@", quoted(&self.environment)),
            ("@service@", quoted(service.trim())),
            ("@database@", quoted(database.trim())),
            ("@person@", quoted(&self.person)),
        ]
        .into_iter()
        .fold(include_str!("files/countersign.toml").to_owned(), |text, (key, value)| {
            text.replace(key, &value)
        });
        match Config::parse("countersign.toml", &text, &|_| Some("set".to_owned())) {
            Ok(_) => Ok(text),
            Err(problems) => {
                Err(problems.0.into_iter().next().map_or_else(String::new, |first| first.message))
            }
        }
    }

    /// Production unless the name says otherwise: a mistake must not make it look harmless.
    fn is_production(&self) -> bool {
        !NOT_PRODUCTION.iter().any(|part| self.environment.contains(part))
    }

    /// Beginning of the names of the environment's variables.
    fn variable(&self) -> String {
        let name = self.environment.to_uppercase().replace('-', "_");
        if name.starts_with(|c: char| c.is_ascii_digit()) { format!("ENV_{name}") } else { name }
    }
}

/// "db.example.com", "db.example.com:5433", "::1", "[::1]:5433".
fn host_and_port(server: &str) -> Result<(String, u16), String> {
    if server.parse::<IpAddr>().is_ok() {
        return Ok((server.to_owned(), PORT));
    }
    let (host, port) = server.rsplit_once(':').map_or((server, None), |(host, port)| (host, Some(port)));
    let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| format!("{port:?} is no port")))?;
    Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A string of TOML: JSON's strings are ones, and the configuration has no control characters.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
