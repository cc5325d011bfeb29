//! From a file to a [`Config`]: the sections that describe the bot itself, and the order in which the others are read.
//! Environments, people and Slack have files of their own. Nothing here acts on what it reads, and nothing is connected to.

use super::approval::{approval, break_glass};
use super::environments::environments;
use super::migrate;
use super::people::{access, people, services};
use super::schedule::schedule;
use super::secrets::secret;
use super::slack::{is_safe_url, slack};
use super::teams::teams;
use super::validate::{complain, path, within};
use super::{BackupSettings, Config, StoreTimeouts};
use crate::toml_reader::{self, Problem, Problems, Reader, Source};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Kubernetes kills a pod 30 s after it has told it to end, unless `terminationGracePeriodSeconds` says otherwise.
const FINISH_WITHIN: Duration = Duration::from_secs(25);
const LONGEST_FINISH: Duration = Duration::from_secs(24 * 60 * 60);

/// An action is recorded within this time or dropped, and its sender told so: longer, and they have asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Half of the above, so that there is time left to say that the file is locked.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The surroundings that a configuration refers to.
pub(super) struct LoadContext<'o> {
    /// Environment variables, by name.
    pub variable: &'o dyn Fn(&str) -> Option<String>,
    /// The directory that relative paths start from: the configuration file's own.
    pub directory: PathBuf,
}

impl Config {
    /// Reads a configuration file, and the secrets that it names from `env` (a variable's name to its value) and from files.
    /// Relative paths start from the file's directory. The error holds everything that is wrong at once, never a secret.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|cause| Problem {
            file: name.clone(),
            at: None,
            message: format!("the configuration can't be read: {cause}"),
        })?;
        let text = String::from_utf8(bytes).map_err(|cause| not_utf8(&name, &cause))?;
        Config::parse(&name, &text, env)
    }

    /// Reads a configuration from a text; `name` is its file, for messages and as the start of relative paths.
    pub fn parse(name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
        let directory = Path::new(name).parent().unwrap_or(Path::new("")).to_path_buf();
        let outside = LoadContext { variable: env, directory };
        let hash = hex::encode(Sha256::digest(text.as_bytes()));
        let content = text.strip_prefix('\u{feff}').unwrap_or(text);
        toml_reader::read(Source::new(name, content), |root| config(root, &outside, hash))
    }
}

/// The problem of a file that stops being text.
fn not_utf8(name: &str, cause: &std::string::FromUtf8Error) -> Problem {
    let valid = String::from_utf8_lossy(&cause.as_bytes()[..cause.utf8_error().valid_up_to()]);
    Source::new(name, &valid).problem(valid.len(), "this is not UTF-8 text")
}

fn config(root: &mut Reader<'_>, outside: &LoadContext<'_>, hash: String) -> Config {
    let environments = environments(root, outside);
    let access = access(root, &environments);
    let break_glass = break_glass(root);
    let break_glass_role = break_glass.as_ref().map(|settings| settings.role.as_str());
    let roles: Vec<&str> = access.iter().map(|grant| grant.role.as_str()).chain(break_glass_role).collect();
    let migrate = migrate::for_all(root, outside);
    let (store, store_timeouts) = root
        .table("store", |table| (path(table, "path", outside), store_timeouts(table)))
        .unwrap_or_else(|| (PathBuf::new(), StoreTimeouts { answer: ANSWER_WITHIN, lock: LOCK_WAIT }));
    Config {
        listen: listen(root),
        finish_within: within(root, "finish_within", LONGEST_FINISH).unwrap_or(FINISH_WITHIN),
        store,
        store_timeouts,
        slack: root.opt_table("slack", |table| slack(table, outside, &roles)),
        teams: root.opt_table("teams", |table| teams(table, outside, &roles)),
        approval: approval(root, &environments),
        backups: root.table("backups", |table| backups(table, outside)).unwrap_or_default(),
        commands: root.opt_table("commands", |table| path(table, "directory", outside)),
        sql: root.opt_table("sql", |table| path(table, "directory", outside)),
        services: services(root, &environments, migrate.as_ref(), outside),
        people: people(root, &roles),
        break_glass,
        webhook: root.opt_table("webhook", |table| webhook(table, outside)),
        schedule: schedule(root, &environments),
        environments,
        access,
        hash,
    }
}

fn listen(root: &mut Reader<'_>) -> SocketAddr {
    let text = root.string("listen");
    text.parse().unwrap_or_else(|_| {
        complain(root, "listen", &text, "an IP address and a port, like 0.0.0.0:8080 or [::]:8080");
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

fn store_timeouts(table: &mut Reader<'_>) -> StoreTimeouts {
    StoreTimeouts {
        answer: within(table, "answer_within", ANSWER_WITHIN).unwrap_or(ANSWER_WITHIN),
        lock: within(table, "lock_wait", ANSWER_WITHIN).unwrap_or(LOCK_WAIT),
    }
}

fn webhook(table: &mut Reader<'_>, outside: &LoadContext<'_>) -> SecretString {
    let url = secret(table, "url", outside);
    // Whoever reads the message must not read the address.
    if !url.expose_secret().is_empty() && !is_safe_url(url.expose_secret()) {
        table.problem("url", "`url` must hold an https URL (http to this machine only)");
    }
    url
}

fn backups(table: &mut Reader<'_>, outside: &LoadContext<'_>) -> BackupSettings {
    let tools = table.strings("tools").into_iter().map(|tools| outside.directory.join(tools)).collect();
    let search_path = (outside.variable)("PATH").unwrap_or_default();
    // A relative entry would mean whatever directory the program happens to stand in.
    let search_path = std::env::split_paths(&search_path).filter(|entry| entry.is_absolute()).collect();
    BackupSettings { directory: path(table, "directory", outside), tools, search_path }
}
