//! The reasons why a Redis server can't be used, in words, and what to do about each.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use std::error::Error;
use std::io;

/// The reason why Redis isn't used. Follows "Redis".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisObstacle {
    #[error("does not answer in time")]
    TimedOut,
    #[error("can't be reached: {0}")]
    Network(String),
    #[error("can't be trusted: {0}")]
    Tls(String),
    #[error("refuses the user or the password")]
    Login,
    #[error("doesn't let its user do what Countersign needs: {0}")]
    Permission(String),
    #[error("is a replica, which takes no writes")]
    Replica,
    #[error("is full: it takes no more writes")]
    Full,
    #[error("is one node of a cluster, and the key belongs to another")]
    Cluster,
    #[error("is older than Redis 6")]
    TooOld,
    #[error("has no Sentinel that names a master {0:?}")]
    NoMaster(String),
    #[error("answers with an error: {0}")]
    Other(String),
}

impl RedisObstacle {
    /// What to do about it, as a sentence.
    pub fn fix(&self) -> &'static str {
        match self {
            RedisObstacle::TimedOut | RedisObstacle::Network(_) => {
                "Correct `host` and `port` of `[redis]`, or start the server and let Countersign connect to it."
            }
            RedisObstacle::Tls(_) => {
                "Let `host` of `[redis]` be a name in the server's certificate, and `ca_file` the authority that signed it."
            }
            RedisObstacle::Login => "Correct `user` and `password` of `[redis]`.",
            RedisObstacle::Permission(_) => {
                "Give the user the rights that docs/operations.md lists under \"Redis\"."
            }
            RedisObstacle::Replica => {
                "Name the primary server in `host` of `[redis]`, or its Sentinels in `[redis.sentinel]`."
            }
            RedisObstacle::Full => {
                "Raise the server's `maxmemory`, or let it evict keys: `maxmemory-policy allkeys-lru`."
            }
            RedisObstacle::Cluster => {
                "Use a Redis without clustering; on Azure Managed Redis, the clustering policy `Enterprise` or none."
            }
            RedisObstacle::TooOld => "Upgrade the server to Redis 6 or newer.",
            RedisObstacle::NoMaster(_) => "Correct `[redis.sentinel]`, or start a Sentinel.",
            RedisObstacle::Other(_) => "Look at the server's log.",
        }
    }
}

impl From<io::Error> for RedisObstacle {
    fn from(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (tls, error.kind()) {
            (Some(tls), _) => RedisObstacle::Tls(tls.to_string()),
            (None, io::ErrorKind::TimedOut) => RedisObstacle::TimedOut,
            (None, _) => RedisObstacle::Network(error.to_string()),
        }
    }
}

impl From<RedisError> for RedisObstacle {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            return RedisObstacle::TimedOut;
        }
        let is_dropped = error.is_connection_dropped() || error.is_io_error();
        let network =
            || error.source().map_or_else(|| "the connection was closed".to_owned(), ToString::to_string);
        match (error.kind(), error.code()) {
            _ if is_dropped => RedisObstacle::Network(network()),
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => RedisObstacle::Login,
            (ErrorKind::RESP3NotSupported, _) => RedisObstacle::TooOld,
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
                RedisObstacle::Permission(error.detail().unwrap_or("NOPERM").to_owned())
            }
            (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => RedisObstacle::Replica,
            (ErrorKind::Server(ServerErrorKind::Moved), _) => RedisObstacle::Cluster,
            (_, Some("OOM")) => RedisObstacle::Full,
            (_, Some(code)) => RedisObstacle::Other(code.to_owned()),
            (_, None) => RedisObstacle::Other(error.category().to_owned()),
        }
    }
}
