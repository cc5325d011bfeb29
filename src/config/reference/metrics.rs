//! The section `[metrics]`.

use super::sections::required;
use super::{ConfigSection, KeyType};

pub(super) const SECTION: ConfigSection = ConfigSection {
    path: "metrics",
    is_array: false,
    is_required: false,
    meaning: "What Prometheus scrapes: `/metrics`, on an address of its own, without a password.",
    keys: &[required(
        "listen",
        KeyType::Text,
        "IP address and port, such as `127.0.0.1:9187`. Whoever reaches it reads the names of commands, environments and services.",
    )],
};
