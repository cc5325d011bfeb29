//! The section `[metrics]`.

use super::sections::{required, section};
use super::{ConfigSection, KeyType};

pub(super) const SECTION: ConfigSection = section(
    "metrics",
    "What Prometheus scrapes: `/metrics`, on an address of its own, without a password.",
    &[required(
        "listen",
        KeyType::Text,
        "IP address and port, such as `127.0.0.1:9187`. Whoever reaches it reads the names of commands, environments and services.",
    )],
);
