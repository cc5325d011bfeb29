//! `countersign check` of a PostgreSQL store: each privilege that the program needs is missed, and what would stop a start is found.

use crate::postgres::{LIMITED_ROLE, ROLE, databases, settings, store};
use crate::roles::limit;
use countersign::store::postgres::{PostgresCheckError, PostgresStore, check};
use std::time::Duration;
use tokio_postgres::Client;

/// The privileges of the limited role, as GRANT and REVOKE write them.
async fn granted(hand: &Client) -> Vec<String> {
    let sql = "SELECT format('%s ON countersign.%I', privilege_type, table_name) FROM information_schema.role_table_grants
         WHERE grantee = $1 AND table_schema = 'countersign' AND table_name <> 'schema_versions'
        UNION ALL
        SELECT format('UPDATE (%I) ON countersign.runs', column_name) FROM information_schema.role_column_grants
         WHERE grantee = $1 AND table_schema = 'countersign' AND table_name = 'runs' AND privilege_type = 'UPDATE'";
    hand.query(sql, &[&LIMITED_ROLE]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn each_missing_privilege_is_named_by_the_statement_that_grants_it() {
    for (cluster, owners) in databases().await {
        drop(store(&owners).await);
        limit(cluster, &owners.database, ROLE);
        let limited = settings(cluster, &owners.database, LIMITED_ROLE);
        let hand = cluster.connect(&owners.database).await.unwrap();
        let missing = async || check(limited.clone()).await.unwrap().missing_grants;
        assert_eq!(missing().await, [""; 0]);
        let privileges = granted(&hand).await;
        assert!(privileges.len() > 35, "{privileges:?}");
        for privilege in privileges {
            hand.batch_execute(&format!("REVOKE {privilege} FROM {LIMITED_ROLE}")).await.unwrap();
            let grants = missing().await;
            assert_eq!(grants, [format!("GRANT {privilege} TO {LIMITED_ROLE};")]);
            hand.batch_execute(&grants[0]).await.unwrap();
        }
        assert_eq!(missing().await, [""; 0]);
        let executes = "countersign.set_frozen(text)";
        hand.batch_execute(&format!("REVOKE EXECUTE ON FUNCTION {executes} FROM PUBLIC")).await.unwrap();
        assert_eq!(missing().await, [format!("GRANT EXECUTE ON FUNCTION {executes} TO {LIMITED_ROLE};")]);
    }
}

#[tokio::test]
async fn what_would_stop_a_start_is_found_in_the_same_words() {
    let database = "CURRENT";
    let cases = [
        String::new(),
        format!(
            "CREATE SCHEMA countersign AUTHORIZATION {ROLE}; GRANT USAGE ON SCHEMA countersign TO {LIMITED_ROLE}"
        ),
        "CREATE SCHEMA countersign; CREATE TABLE countersign.things (x int)".to_owned(),
        format!("ALTER DATABASE {database} SET default_transaction_read_only = on"),
    ];
    for sql in cases {
        for (cluster, owners) in databases().await {
            let hand = cluster.connect(&owners.database).await.unwrap();
            let connects = format!("GRANT CONNECT ON DATABASE {} TO {LIMITED_ROLE}", owners.database);
            hand.batch_execute(&connects).await.unwrap();
            hand.batch_execute(&sql.replace(database, &owners.database)).await.unwrap();
            let limited = settings(cluster, &owners.database, LIMITED_ROLE);
            let found = match check(limited.clone()).await {
                Err(PostgresCheckError::Unusable(error)) => error.to_string(),
                other => panic!("{sql}: {other:?}"),
            };
            let started = PostgresStore::open(limited, Duration::from_secs(10)).await.err().unwrap();
            assert_eq!(found, format!("{started:#}"), "{sql}");
        }
    }
}

#[tokio::test]
async fn settings_that_can_lose_events_are_warned_of() {
    for (_, owners) in databases().await {
        let warned = async || {
            let warnings = check(owners.clone()).await.unwrap().warnings;
            warnings.iter().map(|warning| warning.problem.split(' ').next().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(warned().await, ["there", "fsync", "full_page_writes"]);
    }
}
