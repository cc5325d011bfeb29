//! The section `[[schedule]]`.

use super::sections::{optional, required, section, text, time};
use super::{ConfigKey, ConfigSection, DefaultValue, KeyType};
use crate::config::schedule;

/// `[[schedule]]`.
pub(super) const WINDOW: ConfigSection = section("schedule", "A maintenance window: a command that `countersign serve` runs by itself. `schedule` shows its last outcome and its next \
              start.", &[
        required("name", KeyType::Text, "Its name."),
        required(
            "run",
            KeyType::Text,
            "The command and its arguments, such as `backup all`. What needs an approval waits for people, each time.",
        ),
        required("environments", KeyType::Texts, "Environments."),
        required("at", KeyType::Text, "Its start times: cron's five fields, in `zone`."),
        text(
            "zone",
            schedule::ZONE,
            "A time zone of the tz database, such as `Europe/Berlin`. A fixed hour and minute that the change to summer time skips comes \
             right after it; one that the change back repeats comes once.",
        ),
        time(
            "within",
            schedule::WITHIN,
            schedule::LONGEST_WITHIN,
            "A run that hasn't succeeded this long after its start time is late. It waits as long for a run that works on the same.",
        ),
        ConfigKey {
            name: "catch_up",
            kind: KeyType::Pause(schedule::LONGEST_CATCH_UP),
            is_required: false,
            default: DefaultValue::Time(schedule::CATCH_UP),
            meaning: "A start that was missed, since no Countersign ran, is made up for this long; after that it is only told.",
        },
        optional(
            "channel",
            KeyType::Text,
            "The channel for its requests and for each run that didn't go well. Without one it is `terminal_channel`.",
        ),
        ConfigKey {
            name: "report",
            kind: KeyType::Choice(&["problems", "changes"]),
            is_required: false,
            default: DefaultValue::Text("problems"),
            meaning: "What people are told: each run that didn't go well, or, of a command that reads, one message for each incident that it finds, edited until it is over.",
        },
        optional("notify", KeyType::Texts, "Roles: their people are mentioned when a run didn't go well."),
    ]).array();
