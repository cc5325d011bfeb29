//! Whoever approves reads whom it hurts and how to undo it: in the plan of every command that waits for a second person.

use crate::harness::{ANA, Scene, Servers, Twist, found};
use crate::migrate_harness::Shop;
use countersign::catalog::Catalog;
use countersign::demo::postgres::Options;
use countersign::demo::sample::Sample;
use countersign::model::Risk;
use std::collections::BTreeSet;

const MIGRATION: &str = "20250101000000_init";

/// A server with something for each of them to do.
async fn scene() -> Scene {
    let sample = Sample { maintainer: true, ..Sample::light() };
    let (cluster, team) = sample.start(Options::default()).await.expect("a server with the sample");
    let servers: &'static Servers = Box::leak(Box::new(Servers { cluster, team }));
    let twist = Twist { servers: Some(servers), more: "\n[sql]\ndirectory = \"sql\"\n", ..Twist::default() };
    let mut scene = Scene::without_bot(twist).await;
    let sql = scene.directory.path().join("sql");
    std::fs::create_dir(&sql).unwrap();
    std::fs::write(
        sql.join("tidy.sql"),
        "/* summary = \"Tidies up\" */\nCOMMENT ON TABLE public.assets IS ''",
    )
    .unwrap();
    let superuser = servers.cluster.connect("asset_service_db").await.unwrap();
    superuser
        .batch_execute(
            "CREATE TABLE old (id bigserial PRIMARY KEY, at timestamptz); ALTER TABLE old OWNER TO asset_svc;
             INSERT INTO old (at) VALUES (now() - interval '1 year'); GRANT asset_svc TO countersign_act",
        )
        .await
        .unwrap();
    scene.bot = Some(scene.stage.bot().await.expect("a bot"));
    scene
}

/// The plan, which must say both. What nothing can undo says so.
fn says_both(command: &str, told: &str) -> String {
    assert!(told.contains("Dry run"), "{command}: {told}");
    for word in ["Impact: ", "Rollback: "] {
        let rest = told.lines().find_map(|line| line.split_once(word)).map(|(_, rest)| rest.trim());
        assert!(
            rest.is_some_and(|rest| rest == "none" || rest.len() > 5),
            "{command} doesn't say “{word}…”: {told}"
        );
    }
    command.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_plan_that_waits_says_whom_it_hurts_and_how_to_undo_it() {
    let scene = scene().await;
    let (_idle, pid) = scene.session("asset-worker-7").await;
    let superuser = scene.superuser().await;
    let rests = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND state = 'idle' AND clock_timestamp() - state_change > interval '1 s'";
    found("a second", async || superuser.query_opt(rests, &[&pid]).await.unwrap()).await;
    let mut said = BTreeSet::new();
    for line in [
        format!("kill {pid}"),
        "kill-idle asset-service --older-than 1s".to_owned(),
        "purge asset-service old --column at --older-than 90d".to_owned(),
        "vacuum-full asset-service old".to_owned(),
        "reset-stats asset-service".to_owned(),
        "run-sql tidy asset-service".to_owned(),
    ] {
        let told = scene.asks(ANA, &format!("{line} --env production --dry-run")).await.plain();
        said.insert(says_both(line.split(' ').next().unwrap(), &told));
    }
    scene.asks(ANA, "freeze").await;
    said.insert(says_both("unfreeze", &scene.asks(ANA, "unfreeze --dry-run").await.plain()));

    let shop = Shop::open("", "").await;
    shop.writes(MIGRATION, "SELECT 1/0;");
    let told = shop.scene.asks(ANA, "migrate shop --env staging --dry-run").await.plain();
    said.insert(says_both("migrate", &told));
    shop.migrates().await;
    let line = format!("migrate-resolve shop {MIGRATION} --as rolled-back --env staging --dry-run");
    said.insert(says_both("migrate-resolve", &shop.scene.asks(ANA, &line).await.plain()));

    let catalog = Catalog::built_in().unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let all = catalog.iter().filter(|command| command.header.risk == Risk::Danger);
    assert_eq!(said, all.map(|command| command.name.clone()).collect());
}
