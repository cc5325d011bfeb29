//! The schema of the PostgreSQL store and the databases that it refuses.

use crate::postgres::{LIMITED_ROLE, ROLE, databases, settings, store};
use crate::samples::{new_run, opened};
use countersign::config::PostgresStoreSettings;
use countersign::demo::postgres::Cluster;
use countersign::store::postgres::PostgresStore;
use std::time::Duration;

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
        assert_eq!(versions.unwrap().get::<_, Vec<i32>>(0), [1, 2]);
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
            "its schema has version 0, this program needs 2, and the store's user doesn't own it: start this program once as its owner",
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
        let newer = "INSERT INTO countersign.schema_versions (version, usable_from) VALUES (3, 1)";
        execute(cluster, &settings.database, newer).await;
        opened(&store(&settings).await, new_run("d1")).await;
        let newest = "INSERT INTO countersign.schema_versions (version, usable_from) VALUES (7, 3)";
        execute(cluster, &settings.database, newest).await;
        let refused = refusal(&settings).await;
        assert!(
            refused.contains("its schema has version 7, and this program knows 2: use a newer program"),
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
