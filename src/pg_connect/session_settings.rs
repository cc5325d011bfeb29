//! Settings of a session. Every connection pins them in its start-up options, which win over `ALTER DATABASE … SET` and
//! `ALTER ROLE … SET`, and reads them back in its first statement. Without them a database's owner decides what our SQL means:
//! on the default search_path a function in `public` is called in place of PostgreSQL's own wherever its argument types match
//! better (CVE-2018-1058).

use super::unreachable::Unreachable;
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Schemas in which our SQL finds its names. pg_temp is last, since PostgreSQL searches it first where it isn't named.
pub const SEARCH_PATH: &str = "pg_catalog, pg_temp";

/// Settings of every session that has SQL of ours, and of pg_dump.
const NAMES_AND_SNAPSHOTS: [(&str, &str); 4] = [
    ("search_path", SEARCH_PATH),
    // A hot standby refuses serializable transactions.
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    // The login's own privileges are those that roles.sql grants.
    ("role", "none"),
];

/// Settings of our own sessions, with their values as PostgreSQL shows them. All are in every version that is supported, and
/// open to every role: one that isn't would end the connection.
const OWN_SESSIONS: [(&str, &str); 14] = [
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("xmlbinary", "base64"),
    ("xmloption", "content"),
    ("standard_conforming_strings", "on"),
    ("quote_all_identifiers", "off"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    // The planner would compute a table's checks and its parents' partition keys, whose functions are its owner's.
    ("constraint_exclusion", "partition"),
    // The warnings of a VACUUM are part of its result.
    ("client_min_messages", "notice"),
    ("jit", "off"),
];

/// Time limits that only some versions have: since 14, and since 17.
const NEWER_TIMEOUTS: [&str; 2] = ["idle_session_timeout", "transaction_timeout"];

/// A setting with a value of its own for each connection. A server that shows this value has read the start-up options.
const CONNECTION_ID: &str = "countersign.connection";

/// The limits of a session's statements.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    pub statement_timeout: Duration,
    pub lock_timeout: Duration,
    /// Time limit of a wait for the next statement of a transaction.
    pub idle_in_transaction: Duration,
}

/// The settings of one connection.
pub struct SessionSettings {
    pinned: Vec<(&'static str, String)>,
    connection_id: String,
}

impl SessionSettings {
    /// Settings with those limits. A reader's transactions are read-only, and it reads no table through a row-level security policy,
    /// which would run the code of the table's owner.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(limits: SessionLimits, reads: bool) -> Result<SessionSettings, Unreachable> {
        let no_random = || Unreachable::Other("the system has no random numbers".to_owned());
        let connection_id = crate::model::random_token().ok_or_else(no_random)?;
        // The first: where it is missing, no option has arrived.
        let mut pinned = vec![(CONNECTION_ID, connection_id.clone())];
        let fixed = NAMES_AND_SNAPSHOTS.into_iter().chain(OWN_SESSIONS);
        pinned.extend(fixed.map(|(name, value)| (name, value.to_owned())));
        pinned.push(("statement_timeout", milliseconds(limits.statement_timeout)));
        pinned.push(("lock_timeout", milliseconds(limits.lock_timeout)));
        let idle = milliseconds(limits.idle_in_transaction);
        pinned.push(("idle_in_transaction_session_timeout", idle));
        pinned.push(("row_security", if reads { "off" } else { "on" }.to_owned()));
        // Where others act, the setting is the server's: a database that is read-only must be seen to be so.
        if reads {
            pinned.push(("default_transaction_read_only", "on".to_owned()));
        }
        Ok(SessionSettings { pinned, connection_id })
    }

    /// Pins one more setting, with its value as PostgreSQL shows it.
    pub fn with(mut self, name: &'static str, value: &str) -> SessionSettings {
        self.pinned.push((name, value.to_owned()));
        self
    }

    /// The `options` of the start-up packet.
    pub fn options(&self) -> String {
        options(self.pinned.iter().map(|(name, value)| (*name, value.as_str())))
    }

    /// Reads the settings back, and sets what the start-up options can't: a setting that a version doesn't have, or that a role
    /// may not set, would refuse the connection.
    ///
    /// Returns the setting of `lc_messages`, which decides the language of the server's messages.
    ///
    /// # Errors
    /// The connection must be closed: another setting applies than the one that was pinned.
    pub async fn apply(&self, client: &Client, major: u32, superuser: bool) -> Result<String, ApplyError> {
        let messages = client.simple_query(&self.first_statement(major, superuser)).await?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        for (index, (name, value)) in self.pinned.iter().enumerate() {
            if row.and_then(|row| row.get(index)) == Some(value.as_str()) {
                continue;
            }
            return Err(if *name == CONNECTION_ID {
                ApplyError::Ignored
            } else {
                ApplyError::Changed { setting: name, triggers: login_triggers(client).await }
            });
        }
        let lc_messages = row.and_then(|row| row.get(row.len().checked_sub(1)?));
        Ok(lc_messages.unwrap_or_default().to_owned())
    }

    /// Every name in it has its schema, and every argument its exact type: it is sent before the search_path is known.
    fn first_statement(&self, major: u32, superuser: bool) -> String {
        let text = |value: &str| format!("'{value}'::pg_catalog.text");
        let shown = |name: &str| format!("pg_catalog.current_setting({}, true)", text(name));
        let set = |name: &str, value: &str| {
            format!("pg_catalog.set_config({}, {}, false)", text(name), text(value))
        };
        let mut columns: Vec<String> = self.pinned.iter().map(|(name, _)| shown(name)).collect();
        // A pooler would keep the changes for other clients of its own.
        let if_pinned = |condition: &str, change: String| {
            let (id, expected) = (shown(CONNECTION_ID), text(&self.connection_id));
            format!(
                "CASE WHEN {id} OPERATOR(pg_catalog.=) {expected} THEN CASE WHEN {condition} THEN {change} END END"
            )
        };
        // Not by the version: some servers tell another than they have.
        let timeouts = NEWER_TIMEOUTS.into_iter();
        columns
            .extend(timeouts.map(|name| if_pinned(&format!("{} IS NOT NULL", shown(name)), set(name, "0"))));
        // In English messages are redacted best.
        let may_set = match (superuser, major) {
            (true, _) => "true".to_owned(),
            (_, 15..) => {
                let (name, privilege) = (text("lc_messages"), text("SET"));
                format!("pg_catalog.has_parameter_privilege({name}, {privilege})")
            }
            _ => "false".to_owned(),
        };
        columns.push(if_pinned(&may_set, set("lc_messages", "C")));
        columns.push(shown("lc_messages"));
        format!("SELECT {}", columns.join(", "))
    }
}

/// The database's event triggers that run when a session begins, which PostgreSQL has from 17 on. None if they can't be read. Every name
/// in the statement has its schema: the settings of this session don't apply.
async fn login_triggers(client: &Client) -> Vec<String> {
    let sql = "SELECT t.evtname FROM pg_catalog.pg_event_trigger t
               WHERE t.evtevent OPERATOR(pg_catalog.=) 'login'::pg_catalog.name
                 AND t.evtenabled OPERATOR(pg_catalog.<>) 'D'::pg_catalog.\"char\" ORDER BY t.evtname";
    let messages = client.simple_query(sql).await.unwrap_or_default();
    let names = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    names.collect()
}

/// The reason that the settings of a new connection don't apply.
#[derive(Debug)]
pub enum ApplyError {
    Failed(tokio_postgres::Error),
    /// The server didn't read the start-up options.
    Ignored,
    /// It read them, and a setting has another value now.
    Changed {
        setting: &'static str,
        triggers: Vec<String>,
    },
}

impl From<tokio_postgres::Error> for ApplyError {
    fn from(error: tokio_postgres::Error) -> ApplyError {
        ApplyError::Failed(error)
    }
}

/// The options for pg_dump, which sets its time limits and formats itself. Settings that change how a value is written are left
/// to it and to the database, since the value is restored there.
pub fn dump_options() -> String {
    options(NAMES_AND_SNAPSHOTS)
}

/// The options for a program that migrates: its own time limit ends it, and no default of a role or a database. It needs its own
/// search_path and role, which are where it creates its tables and whose they are. The role's `lock_timeout` stays: whoever set one wants no migration to wait.
pub fn migration_options(major: u32) -> String {
    let no_limit = [("statement_timeout", "0"), ("idle_in_transaction_session_timeout", "0")];
    let snapshots =
        NAMES_AND_SNAPSHOTS.into_iter().filter(|(name, _)| !["search_path", "role"].contains(name));
    // The server refuses a start-up option that it doesn't know.
    let newer = NEWER_TIMEOUTS.into_iter().zip([14, 17]).filter(|(_, since)| major >= *since);
    let newer = newer.map(|(name, _)| (name, "0"));
    options(snapshots.chain(no_limit).chain(newer))
}

/// `-c name=value`, as the start-up packet and libpq's PGOPTIONS take it: a space within a value is escaped.
fn options<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let option = |(name, value): (&str, &str)| {
        format!("-c {name}={}", value.replace('\\', "\\\\").replace(' ', "\\ "))
    };
    settings.into_iter().map(option).collect::<Vec<_>>().join(" ")
}

/// A time limit as PostgreSQL shows it: in the largest unit that leaves no remainder.
fn milliseconds(limit: Duration) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
    let milliseconds = limit.as_millis();
    let unit = units.into_iter().find(|(size, _)| milliseconds != 0 && milliseconds.is_multiple_of(*size));
    unit.map_or("0".to_owned(), |(size, unit)| format!("{}{unit}", milliseconds / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_is_written_as_postgresql_shows_it() {
        let shown =
            [(0, "0"), (1, "1ms"), (1_500, "1500ms"), (30_000, "30s"), (90_000, "90s"), (120_000, "2min")];
        for (limit, text) in shown.into_iter().chain([(7_200_000, "2h"), (172_800_000, "2d")]) {
            assert_eq!(milliseconds(Duration::from_millis(limit)), text);
        }
    }

    #[test]
    fn a_space_in_a_value_is_escaped() {
        let expected = "-c search_path=pg_catalog,\\ pg_temp -c default_transaction_isolation=read\\ committed \
                        -c default_transaction_deferrable=off -c role=none";
        assert_eq!(dump_options(), expected);
    }
}
