//! Maintenance of every database with `all`: a database without work is whole, and one that is down is named and holds up no other.

use crate::harness::{Scene, Servers, Twist};
use crate::maintenance_harness::{self, asks, database, make};
use countersign::model::RunState;

const EMPTY: &str = "\n[[services]]\nname = \"empty-service\"\ndatabase = \"empty_db\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_tables_is_done_and_one_that_is_down_is_named() {
    let servers: &'static Servers = Box::leak(Box::new(maintenance_harness::start().await));
    let superuser = servers.cluster.connect("postgres").await.unwrap();
    superuser.batch_execute("CREATE DATABASE empty_db").await.unwrap();
    let scene = Scene::with(Twist { servers: Some(servers), more: EMPTY, ..Twist::default() }).await;
    let asset = servers.cluster.connect(&database("asset-service")).await.unwrap();
    make(&asset, "asset-service", "weekly").await;
    let all = servers.team.services.len() + 1;
    let commands = [
        (
            "vacuum",
            "vacuumed and analyzed",
            "No table is vacuumed and analyzed: empty_db has no table of its own.",
        ),
        ("analyze", "analyzed", "No table is analyzed: empty_db has no table of its own."),
        ("reindex", "reindexed", "No index of empty_db was rebuilt: none is invalid or bloated."),
    ];
    for (command, past, empty) in commands {
        let told = asks(&scene, &format!("{command} all")).await.plain();
        for words in [&format!("{all} databases are {past}, in "), empty] {
            assert!(told.contains(words), "{command}: {words}: {told}");
        }
        assert_eq!(scene.runs_of(command).await[0].state, RunState::Succeeded, "{command}");
    }
    let counts =
        "SELECT (vacuum_count + analyze_count)::int8 FROM pg_stat_user_tables WHERE relname = 'weekly'";
    let counted: i64 = maintenance_harness::one(&asset, counts).await;

    superuser.batch_execute("ALTER DATABASE user_service_db ALLOW_CONNECTIONS false").await.unwrap();
    for (command, past, _) in commands {
        let told = asks(&scene, &format!("{command} all")).await.plain();
        let verdict = format!("{} of {all} databases are {past}", all - 1);
        for words in [&verdict, "; the others are below.", "user_service_db doesn't accept connections"] {
            assert!(told.contains(words), "{command}: {words}: {told}");
        }
        assert_eq!(scene.runs_of(command).await[0].state, RunState::Partial, "{command}");
    }
    let now: i64 = maintenance_harness::one(&asset, counts).await;
    assert!(now > counted, "the others are worked on");
}
