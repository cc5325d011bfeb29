//! The section `[redis]`: the server of the state that replicas share and may lose.

use super::environments::{host, is_host, tls};
use super::secrets::opt_secret;
use super::validate::{count, reject, title};
use super::{LoadContext, Server, Tls};
use crate::suggest::quoted;
use crate::toml_reader::Reader;
use secrecy::SecretString;

/// Redis' own port. Azure Managed Redis has 10000.
pub(super) const PORT: u16 = 6379;

/// The port of a Sentinel that is named without one.
const SENTINEL_PORT: u16 = 26_379;

pub(super) const KEY_PREFIX: &str = "countersign";

/// Characters of the prefix: it begins every key.
const LONGEST_PREFIX: usize = 64;

/// A Redis server, which the replicas share.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    pub server: RedisServer,
    /// Without one, the server's default user.
    pub user: Option<String>,
    pub password: Option<SecretString>,
    pub tls: Tls,
    /// Begins every key and channel: two bots on one server need two.
    pub key_prefix: String,
}

/// The way to the server that takes writes.
#[derive(Debug, Clone)]
pub enum RedisServer {
    Address(Server),
    /// Sentinels know the master of that name.
    Sentinels {
        sentinels: Vec<Server>,
        master: String,
        password: Option<SecretString>,
    },
}

pub(super) fn settings(table: &mut Reader<'_>, context: &LoadContext<'_>) -> RedisSettings {
    let server = if table.has("sentinel") { by_sentinels(table, context) } else { address(table) };
    let servers = match &server {
        RedisServer::Address(server) => std::slice::from_ref(server),
        RedisServer::Sentinels { sentinels, .. } => sentinels,
    };
    let tls = tls(table, servers, context);
    RedisSettings {
        server,
        user: table.has("user").then(|| title(table, "user").value),
        password: opt_secret(table, "password", context),
        tls,
        key_prefix: if table.has("key_prefix") { key_prefix(table) } else { KEY_PREFIX.to_owned() },
    }
}

fn address(table: &mut Reader<'_>) -> RedisServer {
    let port = count(table, "port", u16::MAX).unwrap_or(PORT);
    RedisServer::Address(Server { name: "Redis".to_owned(), host: host(table), port })
}

fn by_sentinels(table: &mut Reader<'_>, context: &LoadContext<'_>) -> RedisServer {
    for key in ["host", "port"] {
        if table.has(key) {
            let message = format!("`{key}` means nothing beside `[redis.sentinel]`, which names the server");
            table.problem(key, message);
        }
    }
    let read = table.table("sentinel", |table| RedisServer::Sentinels {
        sentinels: sentinels(table),
        master: title(table, "master").value,
        password: opt_secret(table, "password", context),
    });
    read.unwrap_or_else(|| RedisServer::Sentinels {
        sentinels: Vec::new(),
        master: String::new(),
        password: None,
    })
}

fn sentinels(table: &mut Reader<'_>) -> Vec<Server> {
    const FORM: &str = "`addresses` must name Sentinels by host and port: \"redis-1.example.com:26379\"";
    table.needs_entry("addresses", FORM);
    let addresses = table.checked_strings("addresses", |entry| {
        sentinel(entry).is_none().then(|| format!("{FORM}, not {}", quoted(entry)))
    });
    addresses.iter().filter_map(|entry| sentinel(entry)).collect()
}

/// "redis-1.example.com:26379", or without the port.
fn sentinel(entry: &str) -> Option<Server> {
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, port.parse().ok().filter(|port| *port != 0)?),
        // An IPv6 address, or no port.
        _ => (entry, SENTINEL_PORT),
    };
    is_host(host).then(|| Server { name: "Sentinel".to_owned(), host: host.to_owned(), port })
}

fn key_prefix(table: &mut Reader<'_>) -> String {
    let prefix = table.string("key_prefix");
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if prefix.is_empty() || prefix.len() > LONGEST_PREFIX || !prefix.chars().all(fits) {
        reject(table, "key_prefix", &prefix, "1 to 64 letters, digits, dashes, dots and underscores");
    }
    prefix
}
