//! The configuration: the only reader of files and environment variables. Secrets are [`SecretString`]s, given by the name
//! of an environment variable or of a file, never written in the file itself. Everything that is missing or wrong is
//! reported at once, with file and line. What the values mean for a request is decided elsewhere (`access`, `targets`).

use crate::model::{LoginKind, PlatformKind};
use crate::toml_reader::{self, Problem, Problems, Reader, Source};
use nix::unistd::{Uid, User, geteuid, getuid};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod access;
mod chat;
mod environments;
mod links;
mod migrate;
mod redis;
pub mod reference;
mod schedule;
mod secrets;
mod store;
mod validate;

pub use access::{NotificationPlace, QuietHours};
pub use chat::*;
pub use links::{LinkSubject, LinkTemplate};
pub use redis::{RedisServer, RedisSettings};
pub use schedule::{MaintenanceWindow, WindowReport};
pub use store::{PostgresStoreSettings, StoreSettings, StoreTimeouts};

use secrets::secret;
use validate::{duration, path, pause, reject};

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    /// Address of `/metrics`; without one there is none.
    pub metrics_listen: Option<SocketAddr>,
    /// Time in which the bot, told to stop, still serves though it isn't ready: a balancer has to notice.
    pub shutdown_delay: Duration,
    /// Time for open runs to end when the bot shuts down.
    pub shutdown_timeout: Duration,
    pub store: StoreSettings,
    pub store_timeouts: StoreTimeouts,
    /// The server of what several replicas share; without one, each has its own in memory.
    pub redis: Option<RedisSettings>,
    pub chat: ChatSettings,
    pub approval: ApprovalSettings,
    pub break_glass: Option<BreakGlassSettings>,
    /// Address of the webhook that is notified of pending requests.
    pub webhook: Option<SecretString>,
    pub backups: BackupSettings,
    /// A team's own commands.
    pub commands: Option<PathBuf>,
    /// A team's reviewed SQL files, for `run-sql`.
    pub sql: Option<PathBuf>,
    pub environments: Vec<Environment>,
    pub services: Vec<Service>,
    pub people: Vec<PersonConfig>,
    pub access: Vec<Grant>,
    pub schedule: Vec<MaintenanceWindow>,
    pub links: Vec<LinkTemplate>,
    /// SHA-256 of the file's bytes, in hex: kept in every run's record.
    pub hash: String,
}

/// Number of approvers, and how long requests wait and approvals last.
#[derive(Debug, Clone)]
pub struct ApprovalSettings {
    /// A request waits this long for its approvers.
    pub wait: Duration,
    /// Once approved, the run must start within this time.
    pub start_within: Duration,
    /// Number of different people who must approve; never the requester.
    pub approvers: usize,
    /// Approvers are reminded after this time, and again after three times as long.
    pub remind_after: Duration,
    /// Stricter rules; of several that fit, the strictest counts.
    pub rules: Vec<ApprovalRule>,
}

/// Further requirements of some commands in some environments. It only ever adds.
#[derive(Debug, Clone)]
pub struct ApprovalRule {
    /// Its line in the file.
    pub line: usize,
    /// `*` is all of them, and commands without an environment.
    pub environments: Vec<String>,
    /// Risks or command names; `*` is all.
    pub commands: Vec<String>,
    /// Commands that run at once elsewhere wait for a second person here.
    pub second_person: bool,
    /// A request needs a reason.
    pub reason_required: bool,
    pub approvers: Option<usize>,
    pub wait: Option<Duration>,
    pub start_within: Option<Duration>,
}

/// Permission to act without a second person. Another person has to review it afterwards.
#[derive(Debug, Clone)]
pub struct BreakGlassSettings {
    pub role: String,
    pub commands: Vec<String>,
    /// True if the file names the commands; false for the built-in default, whose unknown names are not reported.
    pub commands_configured: bool,
    /// At most one break-glass run is allowed in this time, whoever runs it.
    pub interval: Duration,
}

/// The storage of dumps and the programs that make them.
#[derive(Debug, Clone, Default)]
pub struct BackupSettings {
    /// A directory; each backup is an object below it.
    pub directory: PathBuf,
    /// Directories with `pg_dump` and `pg_restore`, searched in this order, then `PATH` and Debian's places.
    pub tools: Vec<PathBuf>,
    /// The absolute directories of `PATH`, in its order.
    pub search_path: Vec<PathBuf>,
}

/// One environment: servers, logins, and how careful to be.
#[derive(Debug, Clone)]
pub struct Environment {
    pub name: String,
    /// Shown in a warning colour; never a default.
    pub production: bool,
    /// The first is the one whose databases the services use unless they name another.
    pub servers: Vec<Server>,
    pub logins: BTreeMap<LoginKind, LoginCredentials>,
    /// The database for questions about the whole server.
    pub maintenance_database: String,
    pub tls: Tls,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    pub lock_timeout: Duration,
    /// Connections that the bot may hold to the environment's servers at once, all logins together.
    pub connections: usize,
    /// Lines shown by `connect`, with {host} {port} {database} {service}.
    pub connect_hints: Vec<String>,
    /// The team's own limits, where ours don't fit.
    pub limits: Vec<ThresholdOverride>,
}

/// Replaces the limits from which a command marks a value as warning or critical. A limit that isn't given stays the command's.
#[derive(Debug, Clone, PartialEq)]
pub struct ThresholdOverride {
    pub command: String,
    pub column: String,
    pub warning: Option<f64>,
    pub critical: Option<f64>,
}

/// One PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub name: String,
    pub host: String,
    pub port: u16,
}

impl Server {
    /// True for the same host and port, as they are written: another name of one host isn't known.
    pub fn is_same(&self, other: &Server) -> bool {
        self.port == other.port && self.host.eq_ignore_ascii_case(&other.host)
    }
}

/// A role of the database, for one kind of work.
#[derive(Debug, Clone)]
pub struct LoginCredentials {
    pub user: String,
    pub password: Option<SecretString>,
}

/// Protection of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Certificate and host name verified, with the roots of the file or, without one, with the system's.
    Verified { ca_file: Option<PathBuf> },
    /// No TLS: loopback only, and the file must say so.
    Off,
}

/// A service and its database.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: String,
    pub database: String,
    /// The size class that the team gives it: "large".
    pub size: Option<String>,
    /// Its Prisma migrations: directories with a `migration.sql` each.
    pub migrations: Option<PathBuf>,
    /// Deploys the migrations, if a program does.
    pub migrate: Option<MigrateSettings>,
    /// Environment to server, where it isn't the environment's first.
    pub servers: BTreeMap<String, String>,
}

/// Deployment of a service's migrations: a program that Countersign starts, with `{service}`, `{database}` and
/// `{environment}` filled in.
#[derive(Debug, Clone)]
pub struct MigrateSettings {
    /// Program and arguments, run without a shell.
    pub deploy: Vec<String>,
    /// As `deploy`, with `{migration}` and `{as}` ("applied" or "rolled-back") as well.
    pub resolve: Option<Vec<String>>,
    pub directory: PathBuf,
    /// The variable that gets the database's URL.
    pub url: String,
    /// The schema of Prisma's migration table.
    pub schema: String,
    /// Time limit, after which the program is killed.
    pub timeout: Duration,
    /// All of its other variables.
    pub env: BTreeMap<String, EnvValue>,
}

/// The value of a child's environment variable.
#[derive(Debug, Clone)]
pub enum EnvValue {
    Plain(String),
    Secret(SecretString),
}

/// One human, and all their accounts.
#[derive(Debug, Clone)]
pub struct PersonConfig {
    pub name: String,
    pub accounts: BTreeMap<PlatformKind, Vec<String>>,
    pub roles: Vec<String>,
    /// The place that they chose to be told in: of requests, and of outcomes of their own.
    pub notify: Option<NotificationPlace>,
    /// Hours in which only requests on production are told to them.
    pub quiet: Option<QuietHours>,
}

impl PersonConfig {
    /// Accounts of the person on a platform.
    pub fn accounts(&self, platform: PlatformKind) -> &[String] {
        self.accounts.get(&platform).map(Vec::as_slice).unwrap_or_default()
    }

    /// True if the id, in any case, is of one of the person's accounts.
    pub fn has_account(&self, id: &str) -> bool {
        self.accounts.values().flatten().any(|account| account.eq_ignore_ascii_case(id))
    }
}

/// Commands that a role may run or approve, by environment. Nothing is allowed that no grant allows.
#[derive(Debug, Clone)]
pub struct Grant {
    pub role: String,
    /// Environment names; `*` is all of them.
    pub environments: Vec<String>,
    /// Risks ("read", "write", "danger") or command names that the role may run or ask for; `*` is all.
    pub run: Vec<String>,
    /// Risks or command names that the role may approve.
    pub approve: Vec<String>,
}

/// The login name of the person at the terminal: of whoever logged in (the audit id, which stays the same through `sudo` and
/// `su`, pam_loginuid(8)), else of the process' user; a user without a name is their number. Never from the environment.
pub fn login_name() -> String {
    let audit_id = std::fs::read_to_string("/proc/self/loginuid").ok();
    // Nobody logged in to a container or a service: u32::MAX.
    let audit_id = audit_id.and_then(|text| text.trim().parse().ok()).filter(|uid| *uid != u32::MAX);
    user_name(audit_id.map_or_else(getuid, Uid::from_raw))
}

/// The account that the process acts as; an account without a name is its number.
pub fn process_account() -> String {
    user_name(geteuid())
}

fn user_name(uid: Uid) -> String {
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

/// Kubernetes kills a pod 30 s after it has told it to end, unless `terminationGracePeriodSeconds` says otherwise.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);
/// Balancers probe every few seconds.
const SHUTDOWN_DELAY: Duration = Duration::from_secs(5);
const LONGEST_SHUTDOWN_DELAY: Duration = Duration::from_secs(5 * 60);
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// A part of the set-up that is used by itself, as a check does. The secrets of the others needn't exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigPart {
    /// The database servers.
    Servers,
    /// Slack and Teams.
    Chat,
    /// The audit log, Redis, and the backups on this host.
    Host,
}

/// The surroundings that a configuration refers to.
#[derive(Clone)]
struct LoadContext<'a> {
    /// Environment variables, by name.
    env_var: &'a dyn Fn(&str) -> Option<String>,
    /// The directory that relative paths start from: the configuration file's own.
    directory: PathBuf,
    /// The only part that is used; `None` is all.
    only: Option<ConfigPart>,
    /// Secrets that are named must exist.
    requires_secrets: bool,
}

impl<'a> LoadContext<'a> {
    fn new(file: &str, env_var: &'a dyn Fn(&str) -> Option<String>, only: Option<ConfigPart>) -> Self {
        let directory = Path::new(file).parent().unwrap_or(Path::new("")).to_path_buf();
        LoadContext { env_var, directory, only, requires_secrets: only.is_none() }
    }

    /// For the sections of a part.
    fn of(&self, part: ConfigPart) -> Self {
        LoadContext { requires_secrets: self.only.is_none_or(|only| only == part), ..self.clone() }
    }
}

impl Config {
    /// Reads a configuration file, and the secrets that it names from `env` (a variable's name to its value) and from files.
    /// Relative paths start from the file's directory. The error holds everything that is wrong at once, never a secret.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
        Config::load_for(path, env, None)
    }

    /// Reads a configuration file of which only one part is used, where one is named: secrets of the others may be absent, and are
    /// then empty.
    pub fn load_for(
        path: &Path,
        env: &dyn Fn(&str) -> Option<String>,
        only: Option<ConfigPart>,
    ) -> Result<Config, Problems> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|cause| Problem {
            file: name.clone(),
            at: None,
            message: format!("the configuration can't be read: {cause}"),
        })?;
        let text = String::from_utf8(bytes).map_err(|cause| {
            let valid = String::from_utf8_lossy(&cause.as_bytes()[..cause.utf8_error().valid_up_to()]);
            Source::new(&name, &valid).problem(valid.len(), "this is not UTF-8 text")
        })?;
        parse(&name, &text, LoadContext::new(&name, env, only))
    }

    /// Reads a configuration from a text; `name` is its file, for messages and as the start of relative paths.
    pub fn parse(name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
        parse(name, text, LoadContext::new(name, env, None))
    }
}

fn parse(name: &str, text: &str, context: LoadContext<'_>) -> Result<Config, Problems> {
    let hash = hex::encode(Sha256::digest(text.as_bytes()));
    let content = text.strip_prefix('\u{feff}').unwrap_or(text);
    toml_reader::read(Source::new(name, content), |root| config(root, &context, hash))
}

fn config(root: &mut Reader<'_>, context: &LoadContext<'_>, hash: String) -> Config {
    let environments = environments::environments(root, &context.of(ConfigPart::Servers));
    let access = access::grants(root, &environments);
    let break_glass = access::break_glass(root);
    let break_glass_role = break_glass.as_ref().map(|settings| settings.role.as_str());
    let roles: Vec<&str> = access.iter().map(|grant| grant.role.as_str()).chain(break_glass_role).collect();
    let migrate = root.opt_table("migrate", |table| migrate::section(table, context));
    let services = environments::services(root, &environments, migrate.as_ref(), context);
    let store = root.table("store", |table| {
        let settings = store::settings(table, &environments, &context.of(ConfigPart::Host));
        (settings, store::timeouts(table))
    });
    // A missing section was reported.
    let missing = || {
        let (call_timeout, lock_timeout) = (store::CALL_TIMEOUT, store::LOCK_TIMEOUT);
        (StoreSettings::File(PathBuf::new()), StoreTimeouts { call_timeout, lock_timeout })
    };
    let (store, store_timeouts) = store.unwrap_or_else(missing);
    // One process alone serves a file: no other could take over.
    let shutdown_delay = if store.file().is_some() { Duration::ZERO } else { SHUTDOWN_DELAY };
    let listen = listen(root, "0.0.0.0:8080 or [::]:8080");
    let chat = chat::sections(root, &context.of(ConfigPart::Chat), &roles);
    let people = access::people(root, &roles);
    let schedule = schedule::windows(root, &environments, &chat, &roles);
    Config {
        listen,
        metrics_listen: root.opt_table("metrics", |table| metrics_listen(table, listen)),
        shutdown_delay: pause(root, "shutdown_delay", LONGEST_SHUTDOWN_DELAY).unwrap_or(shutdown_delay),
        shutdown_timeout: duration(root, "finish_within", LONGEST_SHUTDOWN).unwrap_or(SHUTDOWN_TIMEOUT),
        store,
        store_timeouts,
        redis: root.opt_table("redis", |table| redis::settings(table, &context.of(ConfigPart::Host))),
        approval: access::approval(root, &environments),
        backups: root.table("backups", |table| backups(table, context)).unwrap_or_default(),
        commands: root.opt_table("commands", |table| path(table, "directory", context)),
        sql: root.opt_table("sql", |table| path(table, "directory", context)),
        services,
        people,
        break_glass,
        webhook: root.opt_table("webhook", |table| webhook(table, &context.of(ConfigPart::Chat))),
        schedule,
        chat,
        links: links::links(root, &environments),
        environments,
        access,
        hash,
    }
}

fn listen(table: &mut Reader<'_>, example: &str) -> SocketAddr {
    let text = table.string("listen");
    text.parse().unwrap_or_else(|_| {
        reject(table, "listen", &text, &format!("an IP address and a port, like {example}"));
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

/// The address of `/metrics`, which the requests of the chat platforms must not reach.
fn metrics_listen(table: &mut Reader<'_>, chat: SocketAddr) -> SocketAddr {
    let address = listen(table, "127.0.0.1:9187");
    if address == chat && address.port() != 0 {
        table.problem(
            "listen",
            format!("`listen` must be another address than the {chat} of the chat platforms"),
        );
    }
    address
}

fn webhook(table: &mut Reader<'_>, context: &LoadContext<'_>) -> SecretString {
    let url = secret(table, "url", context);
    // Whoever reads the message must not read the address.
    if !url.expose_secret().is_empty() && !is_safe_url(url.expose_secret()) {
        table.problem("url", "`url` must hold an https URL (http to this machine only)");
    }
    url
}

fn backups(table: &mut Reader<'_>, context: &LoadContext<'_>) -> BackupSettings {
    let tools =
        table.strings("tools").into_iter().map(|directory| context.directory.join(directory)).collect();
    let path_variable = (context.env_var)("PATH").unwrap_or_default();
    // A relative entry would depend on the program's working directory.
    let search_path = std::env::split_paths(&path_variable).filter(|entry| entry.is_absolute()).collect();
    BackupSettings { directory: path(table, "directory", context), tools, search_path }
}
