//! Roles of the PostgreSQL store: the scripts in `deploy/`, a role that only appends, and what somebody does with SQL of their own.

use crate::contract::{self, Fresh};
use crate::postgres::{LIMITED_ROLE, ROLE, clusters, databases, settings, store};
use crate::samples::{append, done, new_run, opened};
use countersign::demo::postgres::{Cluster, ConnectionParameters};
use countersign::model::RunState;
use countersign::store::Store;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use tokio_postgres::Client;

contract::contract!(limited: who_goes_on_takes_its_resources_again, a_freeze_stops_what_asks_to_be_stopped,
    lists_are_filtered, old_cards_are_removed, erased_text_is_not_found, tokens_never_change, a_look_begins_once_and_keeps_what_it_found, figures_are_kept_for_a_while, copies_lag_until_shown,
    one_sends_a_copy, conversations_are_bound);

/// Runs a script of `deploy/` as its head says.
fn psql(cluster: &Cluster, user: &str, password: &str, arguments: &[&str]) {
    let output = Command::new("psql")
        .args(["--no-psqlrc", "--set=ON_ERROR_STOP=1"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PGHOST", cluster.host())
        .env("PGPORT", cluster.port().to_string())
        .env("PGUSER", user)
        .env("PGPASSWORD", password)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// Grants the limited role what it needs in a database.
pub fn limit(cluster: &Cluster, database: &str, owner: &str) {
    let (database, bot) = (format!("--dbname={database}"), format!("--set=bot={LIMITED_ROLE}"));
    psql(cluster, owner, owner, &[&database, &bot, "--file=deploy/audit-log-grants.sql"]);
}

/// Stores of a role that doesn't own the tables.
async fn limited() -> Vec<Fresh> {
    let mut all = Vec::new();
    for (cluster, owners) in databases().await {
        drop(store(&owners).await);
        limit(cluster, &owners.database, ROLE);
        let own = settings(cluster, &owners.database, LIMITED_ROLE);
        all.push(Fresh { stores: [store(&own).await, store(&own).await], keep: Box::new(()) });
    }
    all
}

async fn connect(cluster: &Cluster, database: &str, role: &str) -> anyhow::Result<Client> {
    let application_name = "by hand";
    cluster.connect_as(ConnectionParameters { user: role, password: role, database, application_name }).await
}

/// SQL that changes what was recorded.
const CHANGES: [&str; 7] = [
    "UPDATE countersign.events SET bytes = ''",
    "DELETE FROM countersign.events WHERE seq = 5",
    "TRUNCATE countersign.events CASCADE",
    "INSERT INTO countersign.events VALUES (9, 1, '{}', '')",
    "UPDATE countersign.event_texts SET text = ''",
    "DELETE FROM countersign.runs",
    "UPDATE countersign.runs SET request = '{}'",
];

#[tokio::test]
async fn the_scripts_make_a_database_that_only_appends() {
    for cluster in clusters().await {
        let superuser = cluster.connect("postgres").await.unwrap();
        psql(
            cluster,
            cluster.superuser(),
            cluster.superuser_password(),
            &["--file=deploy/audit-log.sql", "postgres"],
        );
        superuser.batch_execute("ALTER ROLE countersign PASSWORD 'countersign'").await.unwrap();
        let owner = store(&settings(cluster, "countersign", "countersign")).await;
        ledger(&owner).await;
        let others = connect(cluster, "countersign", LIMITED_ROLE).await.err().unwrap();
        assert!(format!("{others:#}").contains("permission denied for database"), "{others:#}");
        limit(cluster, "countersign", "countersign");
        let bot = store(&settings(cluster, "countersign", LIMITED_ROLE)).await;
        opened(&bot, new_run("by the bot")).await;

        for (role, code) in [("countersign", "23000"), (LIMITED_ROLE, "42501")] {
            let hand = connect(cluster, "countersign", role).await.unwrap();
            for sql in CHANGES {
                // Both may append, at the head alone.
                let code = if sql.starts_with("INSERT") { "23000" } else { code };
                let refused = hand.batch_execute(sql).await.unwrap_err();
                assert_eq!(refused.code().map(|code| code.code()), Some(code), "{role}: {sql}");
            }
        }
        let verified = bot.verify().await.unwrap();
        assert_eq!((verified.events, verified.first_error), (6, None));
    }
}

/// Five events of three runs, with texts.
async fn ledger(store: &Arc<dyn Store>) {
    let mut runs = Vec::new();
    for n in 0..3 {
        let mut new = new_run(&format!("d{n}"));
        new.first_event.texts = BTreeMap::from([("reason".into(), format!("reason {n}"))]);
        runs.push(opened(store, new).await);
    }
    let approved = done(store, append(&runs[0], "approved", RunState::Approved)).await;
    done(store, append(&approved, "started", RunState::Running)).await;
}

const TABLES: [(&str, &str); 3] = [
    ("runs", "id, version, state, opened_at, changed_at, deadline, owner, delivery_id, request"),
    ("events", "seq, run, bytes, hash, write_id"),
    ("event_texts", "seq, name, key, text"),
];

#[tokio::test]
async fn tampering_is_found() {
    let cases = [
        ("UPDATE events SET bytes = replace(bytes, '4711', '4712') WHERE seq = 2", "event 2 was changed"),
        ("UPDATE events SET bytes = bytes || ' ' WHERE seq = 5", "event 5 was changed"),
        ("UPDATE events SET hash = sha256('') WHERE seq = 3", "event 3 was changed"),
        ("UPDATE events SET hash = '' WHERE seq = 5", "event 5 was changed"),
        ("UPDATE events SET run = 3 WHERE seq = 4", "event 4 was moved"),
        ("DELETE FROM events WHERE seq = 1", "event 1 is missing"),
        ("DELETE FROM events WHERE seq = 3", "event 3 is missing"),
        (
            "DELETE FROM events WHERE seq = 3; UPDATE events SET seq = seq - 1 WHERE seq = 4",
            "event 3 was changed",
        ),
        ("DELETE FROM events WHERE seq = 5", "run 1 has 2 events and says 3"),
        ("UPDATE runs SET state = 'succeeded' WHERE id = 1", "run 1: its state was changed"),
        ("UPDATE runs SET state = 'perhaps' WHERE id = 1", "run 1: its row can't be read"),
        ("UPDATE runs SET version = 9 WHERE id = 2", "run 2 has 1 events and says 9"),
        ("UPDATE runs SET deadline = now() WHERE id = 2", "run 2: its times were changed"),
        (
            "UPDATE runs SET opened_at = opened_at - interval '1 us' WHERE id = 2",
            "run 2: its times were changed",
        ),
        ("UPDATE runs SET changed_at = 'infinity' WHERE id = 2", "run 2: its row can't be read"),
        (
            "UPDATE runs SET request = replace(request, '4711', '1') WHERE id = 2",
            "run 2: its request was changed",
        ),
        (
            "UPDATE runs SET request = replace(request, 'U-ana', 'U-ben') WHERE id = 3",
            "run 3: its request was changed",
        ),
        ("DELETE FROM runs WHERE id = 3", "run 3 was removed"),
        (
            "INSERT INTO runs (id, version, state, request, delivery_id, opened_at, changed_at)
             SELECT 4, 1, state, request, 'forged', opened_at, changed_at FROM runs WHERE id = 2",
            "run 4 has no events",
        ),
        ("UPDATE event_texts SET text = 'another' WHERE seq = 2", "event 2: its text was changed"),
        ("UPDATE event_texts SET key = '' WHERE seq = 2", "event 2: its text was changed"),
        ("INSERT INTO event_texts VALUES (2, 'more', '', 'x')", "event 2: a text was added"),
        ("INSERT INTO event_texts VALUES (9, 'more', '', 'x')", "texts of events that don't exist"),
    ];
    let servers = databases().await.into_iter().map(async |(cluster, settings)| {
        let store = store(&settings).await;
        ledger(&store).await;
        // As a superuser, past the fences.
        let hand = cluster.connect(&settings.database).await.unwrap();
        hand.batch_execute("SET session_replication_role = replica; SET search_path = countersign")
            .await
            .unwrap();
        for (table, columns) in TABLES {
            let sql = format!("CREATE TABLE public.{table} AS SELECT {columns} FROM {table}");
            hand.batch_execute(&sql).await.unwrap();
        }
        for (sql, found) in cases {
            hand.batch_execute(sql).await.unwrap();
            let broken = store.verify().await.unwrap().first_error.unwrap_or_default();
            assert!(broken.contains(found), "{sql}: {broken:?}");
            for (table, columns) in TABLES {
                let sql = format!(
                    "DELETE FROM {table}; INSERT INTO {table} ({columns}) SELECT {columns} FROM public.{table}"
                );
                hand.batch_execute(&sql).await.unwrap();
            }
        }
        assert_eq!(store.verify().await.unwrap().first_error, None);
    });
    futures::future::join_all(servers).await;
}
