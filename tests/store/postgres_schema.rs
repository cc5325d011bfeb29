//! The schema of the PostgreSQL store and the databases that it refuses.

use crate::postgres::{LIMITED_ROLE, ROLE, databases, settings, store};
use crate::samples::{append, done, new_run, opened};
use countersign::config::PostgresStoreSettings;
use countersign::demo::postgres::Cluster;
use countersign::model::RunState;
use countersign::store::postgres::{KnownSchema, PostgresStore, SchemaMigration};
use countersign::store::{Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

async fn refusal(settings: &PostgresStoreSettings) -> String {
    let opened = PostgresStore::open(settings.clone(), Duration::from_secs(10)).await;
    format!("{:#}", opened.err().expect("a refusal"))
}

async fn execute(cluster: &Cluster, database: &str, sql: &str) {
    cluster.connect(database).await.unwrap().batch_execute(sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_first_starts_makes_the_tables() {
    for (cluster, settings) in databases().await {
        let starts = (0..6).map(|_| store(&settings));
        let stores = futures::future::join_all(starts).await;
        for (n, store) in stores.iter().enumerate() {
            opened(store, new_run(&format!("d{n}"))).await;
        }
        let hand = cluster.connect(&settings.database).await.unwrap();
        let versions =
            hand.query_one("SELECT array_agg(version) FROM countersign.schema_versions", &[]).await;
        assert_eq!(versions.unwrap().get::<_, Vec<i32>>(0), [1, 2, 3, 4]);
        let verified = stores[0].verify().await.unwrap();
        assert_eq!((verified.events, verified.first_error), (6, None));
    }
}

/// A table of versions as the first program makes it.
const VERSIONS: &str =
    "CREATE TABLE countersign.schema_versions (version integer PRIMARY KEY, usable_from integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp())";

#[tokio::test]
async fn an_older_schema_is_brought_up_by_its_owner_alone() {
    let owned = format!("CREATE SCHEMA countersign AUTHORIZATION {ROLE}");
    let usable = format!("GRANT CONNECT ON DATABASE current TO {LIMITED_ROLE}");
    let readable = format!(
        "GRANT USAGE ON SCHEMA countersign TO {LIMITED_ROLE}; GRANT SELECT ON ALL TABLES IN SCHEMA countersign TO {LIMITED_ROLE}"
    );
    let cases = [
        (
            String::new(),
            "it has no schema countersign, and the store's user may not make one: grant CREATE on the database",
        ),
        (
            format!("{owned}; {readable}"),
            "its schema countersign is empty, and the store's user may not make tables in it: grant CREATE on the schema",
        ),
        (
            format!("{owned}; SET ROLE {ROLE}; {VERSIONS}; {readable}"),
            "its schema has version 0, this program needs 4, and the store's user doesn't own it: start this program once as its owner",
        ),
    ];
    for (sql, words) in &cases {
        for (cluster, owners) in databases().await {
            let usable = usable.replace("current", &owners.database);
            execute(cluster, &owners.database, &format!("{usable}; {sql}")).await;
            let refused = refusal(&settings(cluster, &owners.database, LIMITED_ROLE)).await;
            assert!(refused.contains(words), "{refused}");
            opened(&store(&owners).await, new_run("d1")).await;
        }
    }
}

#[tokio::test]
async fn a_newer_schema_is_used_if_it_can_be() {
    for (cluster, settings) in databases().await {
        let before = store(&settings).await;
        let newer = "INSERT INTO countersign.schema_versions (version, usable_from) VALUES (5, 1)";
        execute(cluster, &settings.database, newer).await;
        opened(&store(&settings).await, new_run("d1")).await;
        let newest = "INSERT INTO countersign.schema_versions (version, usable_from) VALUES (7, 5)";
        execute(cluster, &settings.database, newest).await;
        let refused = refusal(&settings).await;
        assert!(
            refused.contains("its schema has version 7, and this program knows 4: use a newer program"),
            "{refused}"
        );
        assert_eq!(before.verify().await.unwrap().events, 1, "nothing was changed");
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_refused_in_words() {
    const FOREIGN: &str = "its schema countersign is another program's";
    let cases = [
        ("CREATE SCHEMA countersign; CREATE TABLE countersign.things (x int)", FOREIGN),
        ("CREATE SCHEMA countersign; CREATE VIEW countersign.schema_versions AS SELECT 1 AS x", FOREIGN),
        ("CREATE SCHEMA countersign; CREATE TABLE countersign.schema_versions (version text)", FOREIGN),
    ];
    for (sql, words) in cases {
        for (cluster, settings) in databases().await {
            execute(cluster, &settings.database, sql).await;
            execute(
                cluster,
                &settings.database,
                &format!(
                    "GRANT USAGE ON SCHEMA countersign TO {ROLE};
                GRANT SELECT ON ALL TABLES IN SCHEMA countersign TO {ROLE}"
                ),
            )
            .await;
            let refused = refusal(&settings).await;
            assert!(refused.contains(words), "{sql}: {refused}");
        }
    }
    for (cluster, owners) in databases().await {
        for encoding in ["SQL_ASCII", "LATIN1"] {
            let database = format!("{}_{}", owners.database, encoding.to_lowercase());
            let sql = format!(
                "CREATE DATABASE {database} OWNER {ROLE} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
            );
            execute(cluster, "postgres", &sql).await;
            let refused = refusal(&settings(cluster, &database, ROLE)).await;
            assert!(
                refused.contains(&format!("its database has the encoding {encoding}, not UTF8")),
                "{refused}"
            );
        }
        let limited = settings(cluster, &owners.database, LIMITED_ROLE);
        let grant = format!("GRANT CONNECT ON DATABASE {} TO {LIMITED_ROLE}", owners.database);
        drop(store(&owners).await);
        execute(cluster, "postgres", &grant).await;
        let ungranted = refusal(&limited).await;
        assert!(
            ungranted.contains("may not read its schema countersign: deploy/audit-log-grants.sql"),
            "{ungranted}"
        );
        let missing = refusal(&settings(cluster, "missing", ROLE)).await;
        assert!(missing.contains("its server has no such database"), "{missing}");
        let read_only = format!("ALTER DATABASE {} SET default_transaction_read_only = on", owners.database);
        execute(cluster, "postgres", &read_only).await;
        let refused = refusal(&owners).await;
        assert!(refused.contains("the transaction is read-only"), "{refused}");
    }
}

/// What the next program would need: the first step adds, and a later one removes what only programs before it read.
const EXPAND: SchemaMigration = SchemaMigration {
    sql: "ALTER TABLE countersign.runs ADD COLUMN priority integer NOT NULL DEFAULT 0;
          CREATE INDEX runs_by_priority ON countersign.runs (priority, id);
          CREATE TABLE countersign.waits (name text PRIMARY KEY, ends_at timestamptz NOT NULL)",
    usable_from: 1,
};
const CONTRACT: SchemaMigration = SchemaMigration {
    sql: "DROP TABLE countersign.rate_limits; ALTER TABLE countersign.waits RENAME TO rate_limits",
    usable_from: 5,
};
const FIRST: SchemaMigration = KnownSchema::CURRENT.migrations[0];
const SECOND: SchemaMigration = KnownSchema::CURRENT.migrations[1];
const THIRD: SchemaMigration = KnownSchema::CURRENT.migrations[2];
const FOURTH: SchemaMigration = KnownSchema::CURRENT.migrations[3];
const NEXT: KnownSchema = KnownSchema { migrations: &[FIRST, SECOND, THIRD, FOURTH, EXPAND] };
const LATER: KnownSchema = KnownSchema { migrations: &[FIRST, SECOND, THIRD, FOURTH, EXPAND, CONTRACT] };

async fn open_as(settings: &PostgresStoreSettings, schema: KnownSchema) -> anyhow::Result<Arc<dyn Store>> {
    Ok(Arc::new(PostgresStore::open_as(settings.clone(), Duration::from_secs(10), schema).await?))
}

/// Runs from their request to their end, until it is told to stop; every write must succeed.
async fn works(store: &Arc<dyn Store>, name: &str, ended: &AtomicUsize, is_over: &AtomicBool) {
    for number in 0.. {
        let run = opened(store, new_run(&format!("{name} {number}"))).await;
        let run = done(store, append(&run, "approved", RunState::Approved)).await;
        let run = done(store, append(&run, "started", RunState::Running)).await;
        done(store, append(&run, "succeeded", RunState::Succeeded)).await;
        ended.fetch_add(1, Ordering::SeqCst);
        if is_over.load(Ordering::SeqCst) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_under_load_loses_nothing_and_a_program_that_is_too_old_is_refused() {
    for (cluster, settings) in databases().await {
        let old = [store(&settings).await, store(&settings).await];
        let (by_old, by_new, is_over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let more = async |counter: &AtomicUsize| {
            let before = counter.load(Ordering::SeqCst);
            while counter.load(Ordering::SeqCst) < before + 6 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let updating = async {
            more(&by_old).await;
            // Two at once: one of them migrates.
            let (a, b) = tokio::join!(open_as(&settings, NEXT), open_as(&settings, NEXT));
            let (a, b) = (a.unwrap(), b.unwrap());
            let working = works(&a, "new", &by_new, &is_over);
            let looking = async {
                more(&by_old).await;
                more(&by_new).await;
                // One of the version before may still be started.
                opened(&store(&settings).await, new_run("old again")).await;
                is_over.store(true, Ordering::SeqCst);
            };
            tokio::join!(working, looking);
            b
        };
        let (_, _, new) = tokio::join!(
            works(&old[0], "old", &by_old, &is_over),
            works(&old[1], "also old", &by_old, &is_over),
            updating,
        );
        let all = by_old.load(Ordering::SeqCst) + by_new.load(Ordering::SeqCst);
        let verified = new.verify().await.unwrap();
        assert_eq!((verified.events, verified.first_error), (all as i64 * 4 + 1, None));

        old[0].check_instance().await.unwrap();
        let newest = open_as(&settings, LATER).await.unwrap();
        opened(&newest, new_run("newest")).await;
        opened(&open_as(&settings, NEXT).await.unwrap(), new_run("newer")).await;
        let words = "its schema has version 6, and this program knows 4: use a newer program";
        let refused = refusal(&settings).await;
        assert!(refused.contains(words), "{refused}");
        // One that still runs says so, and is no longer ready.
        let told = old[0].check_instance().await;
        assert!(matches!(&told, Err(StoreError::Broken(told)) if told == words), "{told:?}");
        let hand = cluster.connect(&settings.database).await.unwrap();
        let versions = "SELECT array_agg(version ORDER BY version) FROM countersign.schema_versions";
        let versions: Vec<i32> = hand.query_one(versions, &[]).await.unwrap().get(0);
        assert_eq!(versions, [1, 2, 3, 4, 5, 6]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_while_another_replica_migrates() {
    for (cluster, settings) in databases().await {
        let hand = cluster.connect(&settings.database).await.unwrap();
        let watch = cluster.connect(&settings.database).await.unwrap();
        hand.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1129531214, 0)").await.unwrap();
        let starting = tokio::spawn({
            let settings = settings.clone();
            async move { open_as(&settings, NEXT).await }
        });
        let waiting = "SELECT l.virtualtransaction FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                        WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()";
        let mut attempts = std::collections::BTreeSet::new();
        // Longer than one attempt waits.
        while attempts.len() < 2 {
            assert!(!starting.is_finished(), "it didn't wait");
            let waits = watch.query_opt(waiting, &[]).await.unwrap();
            attempts.extend(waits.map(|row| row.get::<_, String>(0)));
        }
        hand.batch_execute("COMMIT").await.unwrap();
        let store = starting.await.unwrap().unwrap();
        opened(&store, new_run("d1")).await;
    }
}

/// A step that takes as long as somebody holds a lock which its own limits don't end.
const SLOW: SchemaMigration = SchemaMigration {
    sql: "SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(7); ALTER TABLE countersign.runs ADD COLUMN priority integer",
    usable_from: 1,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_may_take_longer_than_any_other_statement() {
    const SLOW_STEP: KnownSchema = KnownSchema { migrations: &[FIRST, SECOND, THIRD, FOURTH, SLOW] };
    // A bot's statements end after 8 s, and without an answer its connection counts as lost after 9.
    const IS_SLOW: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event = 'advisory' AND clock_timestamp() - query_start > interval '10 s')";
    let migrations = databases().await.into_iter().map(async |(cluster, settings)| {
        let running = store(&settings).await;
        let hand = cluster.connect(&settings.database).await.unwrap();
        hand.batch_execute("SELECT pg_advisory_lock(7)").await.unwrap();
        let starting = async { open_as(&settings, SLOW_STEP).await.unwrap() };
        let holding = async {
            let until = Instant::now() + Duration::from_secs(60);
            while !hand.query_one(IS_SLOW, &[]).await.unwrap().get::<_, bool>(0) {
                assert!(Instant::now() < until, "the step doesn't wait");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            opened(&running, new_run("by the version before")).await;
            hand.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
        };
        let (migrated, ()) = tokio::join!(starting, holding);
        opened(&migrated, new_run("d1")).await;
        let version = "SELECT max(version) FROM countersign.schema_versions";
        assert_eq!(hand.query_one(version, &[]).await.unwrap().get::<_, i32>(0), 5);
    });
    futures::future::join_all(migrations).await;
}
