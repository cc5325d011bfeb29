//! Every section of the configuration, with its keys.

use super::{ConfigKey, ConfigSection, DefaultValue, KeyType, metrics, redis, schedule};
use crate::config::{access, chat, environments, migrate, store};
use std::time::Duration;

/// A section that may be left out, and of which there is one.
pub(super) const fn section(
    path: &'static str,
    meaning: &'static str,
    keys: &'static [ConfigKey],
) -> ConfigSection {
    ConfigSection { path, is_array: false, is_required: false, meaning, keys }
}

impl ConfigSection {
    /// There can be several.
    pub(super) const fn array(self) -> ConfigSection {
        ConfigSection { is_array: true, ..self }
    }

    pub(super) const fn required(self) -> ConfigSection {
        ConfigSection { is_required: true, ..self }
    }
}

pub(super) const fn required(name: &'static str, kind: KeyType, meaning: &'static str) -> ConfigKey {
    ConfigKey { name, kind, is_required: true, default: DefaultValue::None, meaning }
}

pub(super) const fn optional(name: &'static str, kind: KeyType, meaning: &'static str) -> ConfigKey {
    ConfigKey { name, kind, is_required: false, default: DefaultValue::None, meaning }
}

pub(super) const fn text(name: &'static str, default: &'static str, meaning: &'static str) -> ConfigKey {
    ConfigKey { name, kind: KeyType::Text, is_required: false, default: DefaultValue::Text(default), meaning }
}

pub(super) const fn time(
    name: &'static str,
    default: Duration,
    longest: Duration,
    meaning: &'static str,
) -> ConfigKey {
    let kind = KeyType::Duration(longest);
    ConfigKey { name, kind, is_required: false, default: DefaultValue::Time(default), meaning }
}

const USER: ConfigKey = required("user", KeyType::Text, "The role in PostgreSQL.");
const PASSWORD: ConfigKey = optional(
    "password",
    KeyType::Secret,
    "Its password. Without one the server must let the role in by other means.",
);
const LOGIN_KEYS: &[ConfigKey] = &[USER, PASSWORD];

pub(super) const TLS: ConfigKey = ConfigKey {
    name: "tls",
    kind: KeyType::Choice(&["verified", "off"]),
    is_required: false,
    default: DefaultValue::Text("verified"),
    meaning: "`off` is for servers on the same machine only.",
};
pub(super) const CA_FILE: ConfigKey =
    optional("ca_file", KeyType::Path, "The certificates that are trusted, in the place of the system's.");

const GROUPS: &str =
    "Role to group: whoever has the role counts only while they are in the group. It never adds a person.";
const TERMINAL_CHANNEL: &str =
    "The channel for requests made with `countersign run`. Without one they are refused.";

/// Every section, in the order of the documentation.
pub const SECTIONS: &[ConfigSection] = &[
    section("", "The top of the file, before the first section.", &[
            required(
                "listen",
                KeyType::Text,
                "IP address and port for requests from the chat platforms, such as `0.0.0.0:8080`.",
            ),
            ConfigKey {
                name: "shutdown_delay",
                kind: KeyType::Pause(crate::config::LONGEST_SHUTDOWN_DELAY),
                is_required: false,
                default: DefaultValue::Time(crate::config::SHUTDOWN_DELAY),
                meaning: "Time in which a bot that is told to stop isn't ready but still serves, so that a balancer notices. Without \
                          `[store.postgres]` the default is `0s`.",
            },
            time(
                "finish_within",
                crate::config::SHUTDOWN_TIMEOUT,
                crate::config::LONGEST_SHUTDOWN,
                "Time for running work to end when the bot is told to stop.",
            ),
        ]).required(),
    section("store", "The audit log of every run.", &[
            optional(
                "path",
                KeyType::Path,
                "Its file, on a disk that survives the process. This or `[store.postgres]` is required.",
            ),
            time(
                "answer_within",
                store::CALL_TIMEOUT,
                store::CALL_TIMEOUT,
                "A request that isn't recorded within this time is dropped, and its sender is told.",
            ),
            time(
                "lock_wait",
                store::LOCK_TIMEOUT,
                store::CALL_TIMEOUT,
                "The part of it spent waiting for another process's lock on the file.",
            ),
        ]).required(),
    section("store.postgres", "A database for the audit log, on a server that no environment uses, in place of `path`.", &[
            required(
                "host",
                KeyType::Text,
                "Host name or IP address of the server, which must not be a pooler.",
            ),
            ConfigKey {
                default: DefaultValue::Number(environments::PORT as usize),
                ..optional("port", KeyType::Count(u16::MAX), "Its port.")
            },
            required("database", KeyType::Text, "The database, for the audit log alone."),
            USER,
            PASSWORD,
            TLS,
            CA_FILE,
        ]),
    redis::SERVER,
    redis::SENTINEL,
    metrics::SECTION,
    section("slack", "The Slack app.", &[
            required("workspaces", KeyType::Texts, "The workspaces (team ids) that are served."),
            required("bot_token", KeyType::Secret, "The app's Bot User OAuth Token."),
            required(
                "signing_secrets",
                KeyType::Secrets,
                "The signing secret, and its successor while it is rotated; the successor may be `optional = true`.",
            ),
            optional(
                "app_token",
                KeyType::Secret,
                "An app-level token: with it the bot connects out (Socket Mode) and needs no public address.",
            ),
            text("command", chat::COMMAND, "The slash command."),
            optional("groups", KeyType::TextMap, GROUPS),
            optional("terminal_channel", KeyType::Text, TERMINAL_CHANNEL),
            text("api_url", chat::API_URL, "Slack's Web API."),
        ]),
    section("teams", "The bot in Microsoft Teams.", &[
            required("app_id", KeyType::Text, "The client id of the bot's Entra app or managed identity."),
            required("tenants", KeyType::Texts, "The tenants that are served; the first is the bot's own."),
            optional("client_secret", KeyType::Secret, "Of the Entra app; a managed identity has none."),
            text("login_url", chat::LOGIN_URL, "Entra, which gives an app with a client secret its tokens."),
            optional("groups", KeyType::TextMap, GROUPS),
            optional("terminal_channel", KeyType::Text, TERMINAL_CHANNEL),
            text("service_url", chat::SERVICE_URL, "The Connector, for messages that are not replies."),
            optional("service_hosts", KeyType::Texts, "More hosts that a message may name as its Connector."),
            text(
                "openid_url",
                chat::OPENID_URL,
                "The document that names the keys of the Bot Framework's tokens.",
            ),
            text("issuer", chat::ISSUER, "The issuer of those tokens."),
            text("scope", chat::SCOPE, "The scope of the bot's own token."),
        ]),
    section("approval", "How requests are approved.", &[
            time("wait", access::WAIT, access::LONGEST_WAIT, "A request waits this long for approval."),
            time(
                "start_within",
                access::START_WITHIN,
                access::LONGEST_WAIT,
                "Once approved, the run must start within this time.",
            ),
            time(
                "remind_after",
                access::REMIND_AFTER,
                access::LONGEST_WAIT,
                "Approvers are reminded after this time, and again after three times as long.",
            ),
            ConfigKey {
                name: "approvers",
                kind: KeyType::Count(access::MAX_APPROVERS as u16),
                is_required: false,
                default: DefaultValue::Number(1),
                meaning: "How many people must approve; the requester doesn't count.",
            },
        ]),
    section("approval.rules", "A stricter rule. If several match, the strictest applies; each must ask for something.", &[
            required("environments", KeyType::Texts, "Environments; `*` is all of them."),
            required("commands", KeyType::Texts, "Risks or commands; `*` is all."),
            optional(
                "second_person",
                KeyType::Boolean,
                "Requires approval for a command that runs at once elsewhere.",
            ),
            ConfigKey {
                name: "reason",
                kind: KeyType::Choice(&["required", "optional"]),
                is_required: false,
                default: DefaultValue::Text("optional"),
                meaning: "`required` refuses a request without a reason.",
            },
            optional(
                "approvers",
                KeyType::Count(access::MAX_APPROVERS as u16),
                "How many people must approve.",
            ),
            optional("wait", KeyType::Duration(access::LONGEST_WAIT), "A request waits this long."),
            optional(
                "start_within",
                KeyType::Duration(access::LONGEST_WAIT),
                "The run must start within this time.",
            ),
        ]).array(),
    section("break_glass", "Emergency actions without approval, which somebody else has to review afterwards. Without this section there are none.", &[
            required("role", KeyType::Text, "The role that may use it."),
            optional(
                "commands",
                KeyType::Texts,
                "The commands; by default `cancel`, `kill` and `kill-idle`.",
            ),
            time(
                "every",
                access::BREAK_GLASS_INTERVAL,
                access::LONGEST_INTERVAL,
                "At most one such run is allowed in this time.",
            ),
        ]),
    section("webhook", "A webhook that is notified of pending requests and of critical findings.", &[required("url", KeyType::Secret, "Its https address.")]),
    section("backups", "The storage of dumps, and the programs that make them.", &[
            required("directory", KeyType::Path, "The directory of the dumps."),
            optional(
                "tools",
                KeyType::Texts,
                "Directories with pg_dump and pg_restore, searched before PATH.",
            ),
        ]).required(),
    section("commands", "The team's custom commands.", &[required("directory", KeyType::Path, "Their directory.")]),
    section("sql", "The team's reviewed SQL files, for `run-sql`.", &[required("directory", KeyType::Path, "Their directory.")]),
    section("environments", "An environment. There is no default environment.", &[
            required(
                "name",
                KeyType::Text,
                "Its name, as people type it: lower-case letters, digits and dashes.",
            ),
            required("production", KeyType::Boolean, "Shown in a warning colour."),
            TLS,
            CA_FILE,
            text(
                "maintenance_database",
                environments::MAINTENANCE_DATABASE,
                "The database for questions about the whole server.",
            ),
            ConfigKey {
                name: "connections",
                kind: KeyType::Count(environments::MAX_CONNECTIONS),
                is_required: false,
                default: DefaultValue::Number(environments::CONNECTIONS),
                meaning: "Connections to the environment's servers at once, for all logins together.",
            },
            time(
                "connect_timeout",
                environments::CONNECT_TIMEOUT,
                environments::LONGEST_CONNECT_TIMEOUT,
                "Time limit for a connection.",
            ),
            time(
                "statement_timeout",
                environments::STATEMENT_TIMEOUT,
                environments::LONGEST_STATEMENT_TIMEOUT,
                "Time limit for a statement.",
            ),
            time(
                "lock_timeout",
                environments::LOCK_TIMEOUT,
                environments::LONGEST_LOCK_TIMEOUT,
                "Time limit for a wait for a lock.",
            ),
            optional(
                "connect_hints",
                KeyType::Texts,
                "Lines that `connect` shows, with {host}, {port}, {database} and {service} filled in.",
            ),
            optional(
                "thresholds",
                KeyType::Thresholds,
                "Limits of this environment, as `health.connections_pct = { warning = 90, critical = 98 }`.",
            ),
        ]).array().required(),
    section("environments.servers", "A PostgreSQL server of the environment. Services are on the first unless they name another.", &[
            required("name", KeyType::Text, "Its name, as people type it."),
            required("host", KeyType::Text, "Host name or IP address of the server itself, not of a pooler."),
            ConfigKey {
                name: "port",
                kind: KeyType::Count(u16::MAX),
                is_required: false,
                default: DefaultValue::Number(environments::PORT as usize),
                meaning: "Its port.",
            },
        ]).array().required(),
    login("environments.logins.reader", true, "The login that reads. It can't make changes."),
    login(
        "environments.logins.operator",
        true,
        "The login that makes changes, for every purpose without a login of its own.",
    ),
    login("environments.logins.signal", false, "The login that ends sessions."),
    login("environments.logins.dump", false, "The login that dumps."),
    login("environments.logins.maintain", false, "The login that vacuums, reindexes and resets statistics."),
    login("environments.logins.owner", false, "The login that migrates and purges."),
    section("services", "A service and its database.", &[
            required("name", KeyType::Text, "Its name, as people type it."),
            required("database", KeyType::Text, "Its database."),
            optional("size", KeyType::Text, "The size class that the team gives it."),
            optional("migrations", KeyType::Path, "The directory of its Prisma migrations."),
            optional(
                "servers",
                KeyType::TextMap,
                "Environment to server, where it isn't on the environment's first.",
            ),
        ]).array().required(),
    migration(
        "migrate",
        "The program that `migrate` starts, without a shell. Both `deploy` and `directory` are needed here or in a service.",
    ),
    migration("services.migrate", "What a service has other than `[migrate]`."),
    section("people", "A person, with all their accounts. Whoever isn't listed can't use Countersign.", &[
            required("name", KeyType::Text, "The person's name, as cards show it."),
            optional("slack", KeyType::Texts, "Slack user ids."),
            optional("teams", KeyType::Texts, "Entra object ids."),
            optional("terminal", KeyType::Texts, "Login names where Countersign runs."),
            optional("roles", KeyType::Texts, "Roles, as [[access]] names them."),
            optional("notify", KeyType::Choice(&["direct", "channel"]), "Where they are told, once."),
            optional("quiet", KeyType::Text, "Two times in UTC between which only production disturbs them."),
        ]).array(),
    section("access", "What a role may run or approve, and where. Everything that no entry allows is refused.", &[
            required("role", KeyType::Text, "The role."),
            required("environments", KeyType::Texts, "Environments; `*` is all of them."),
            optional(
                "run",
                KeyType::Texts,
                "Risks (`read`, `write`, `danger`) or commands that it may run or request; `*` is all.",
            ),
            optional("approve", KeyType::Texts, "Risks or commands that it may approve."),
        ]).array(),
    schedule::WINDOW,
    section("links", "A link to another system, such as a dashboard or a log search, below answers and outcomes.", &[
            required("label", KeyType::Text, "The words of the link, 24 characters at most."),
            required(
                "about",
                KeyType::Choice(&["session", "service", "run"]),
                "The link is shown where a command, or a row with a button, names a session or a service; or with a run.",
            ),
            required(
                "url",
                KeyType::Text,
                "An https address with {environment} and, for a session, {server} and {pid}; for a service, {server}, {service} and {database}; for a run, {command} and {run}.",
            ),
            optional("environments", KeyType::Texts, "Only these environments; all without it."),
        ]).array(),
];

const fn login(path: &'static str, is_required: bool, meaning: &'static str) -> ConfigSection {
    ConfigSection { is_required, ..section(path, meaning, LOGIN_KEYS) }
}

const fn migration(path: &'static str, meaning: &'static str) -> ConfigSection {
    section(path, meaning, MIGRATE_KEYS)
}

const MIGRATE_KEYS: &[ConfigKey] = &[
    optional(
        "deploy",
        KeyType::Texts,
        "Program and arguments, with {service}, {database} and {environment} filled in.",
    ),
    optional("resolve", KeyType::Texts, "The same for `migrate-resolve`, with {migration} and {as} as well."),
    optional(
        "directory",
        KeyType::Text,
        "The working directory, with the same names filled in as in `deploy`.",
    ),
    text("url", migrate::URL_VARIABLE, "The environment variable that gets the database's URL."),
    text("schema", migrate::SCHEMA, "The schema of Prisma's migration table."),
    time(
        "within",
        migrate::TIMEOUT,
        migrate::LONGEST_TIMEOUT,
        "Time limit, after which the program is ended.",
    ),
    optional("env", KeyType::Variables, "The program's other environment variables."),
];
