//! The sections `[redis]` and `[redis.sentinel]`.

use super::sections::{CA_FILE, TLS, optional, required, section, text};
use super::{ConfigKey, ConfigSection, DefaultValue, KeyType};
use crate::config::redis;

/// `[redis]`.
pub(super) const SERVER: ConfigSection = section(
    "redis",
    "A Redis server (6 or newer) for what several replicas share and may lose: the pace of messages, wake-ups, and the progress of running work.",
    &[
        optional(
            "host",
            KeyType::Text,
            "Host name or IP address of the server. This or `[redis.sentinel]` is required.",
        ),
        ConfigKey {
            default: DefaultValue::Number(redis::PORT as usize),
            ..optional("port", KeyType::Count(u16::MAX), "Its port; 10000 on Azure Managed Redis.")
        },
        optional("user", KeyType::Text, "The user in Redis; without one, the default user."),
        optional("password", KeyType::Secret, "Its password."),
        text(
            "key_prefix",
            redis::KEY_PREFIX,
            "Begins every key and channel: two bots on one server need two.",
        ),
        TLS,
        CA_FILE,
    ],
);

/// `[redis.sentinel]`.
pub(super) const SENTINEL: ConfigSection = section(
    "redis.sentinel",
    "The Sentinels that know the server, in place of `host`. They are asked with the TLS of `[redis]`.",
    &[
        required("addresses", KeyType::Texts, "Their hosts and ports: `redis-1.example.com:26379`."),
        required("master", KeyType::Text, "The name that they give the server."),
        optional("password", KeyType::Secret, "Their own password."),
    ],
);
