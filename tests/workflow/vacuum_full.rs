//! `vacuum-full`: it blocks nobody for longer than it may wait for its lock, and done is what has another file.

use crate::harness::{ANA, Scene, Servers, Twist, found};
use crate::maintenance_harness::{self, LOCK_TIMEOUT, approved, approves, one};
use countersign::model::RunState;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

async fn file(client: &Client, table: &str) -> u32 {
    one(client, &format!("SELECT pg_relation_filenode('{table}')")).await
}

/// Waits until the table's exclusive lock is waited for.
async fn queued(client: &Client, table: &str) {
    let sql = format!(
        "SELECT 1 FROM pg_locks WHERE relation = '{table}'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted"
    );
    found("the wait for the lock", async || client.query_opt(&sql, &[]).await.unwrap()).await;
}

/// What a busy machine takes besides.
const SLACK: Duration = Duration::from_secs(5);

/// Reads the table: for how long, and whether it was seen to wait for its lock.
async fn waits(scene: &Scene, application: &str) -> (Duration, bool) {
    let (reader, pid) = maintenance_harness::session(scene, "billing-service", application).await;
    let watcher = scene.superuser().await;
    let began = Instant::now();
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'";
    let read = async {
        let row = reader.query_one("SELECT count(*) FROM big", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 2000, "a reader has its answer");
        began.elapsed()
    };
    let mut behind = false;
    let watch = async {
        found("the wait", async || watcher.query_opt(waiting, &[&pid]).await.unwrap()).await;
        behind = true;
        std::future::pending::<()>().await
    };
    let waited = tokio::select! {
        waited = read => waited,
        () = watch => unreachable!("it only watches"),
    };
    (waited, behind)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_rewritten_after_a_second_persons_approval() {
    let (scene, superuser) = maintenance_harness::scene("auth-service", Vec::new()).await;
    maintenance_harness::make(&superuser, "auth-service", "big").await;
    let (before, size) = (file(&superuser, "big").await, "SELECT pg_total_relation_size('big')");
    let had: i64 = one(&superuser, size).await;
    let (reader, pid) = maintenance_harness::session(&scene, "auth-service", "auth-report").await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM big").await.unwrap();
    let card = scene.asks(ANA, "vacuum-full auth-service big --env production").await;
    let told = card.plain();
    for words in [
        "Rewrites public.big of auth_service_db in production (VACUUM FULL).",
        "AccessExclusive lock stops reads too",
        "2.0 s at most: then it gives up",
        "95 %",
        "no disk emergency",
        "1 session holds a lock on it",
        &format!("session {pid}"),
        "auth-report",
        "Runs only if it is no larger than ",
        "it has not been rewritten since then, and it is still the same table.",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(file(&superuser, "big").await, before, "nobody has approved it");
    let told = approves(&scene, card).await.plain();
    assert!(told.contains("public.big was rewritten in ") && told.contains(" before, "), "{told}");
    assert_ne!(file(&superuser, "big").await, before);
    assert!(one::<i64>(&superuser, size).await < had);
    assert_eq!(scene.only_run("vacuum-full").await.state, RunState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_up_and_whoever_waited_behind_it_goes_on() {
    let patience = Duration::from_secs(4);
    let lock_timeout = ("connections = 12", "connections = 12\nlock_timeout = \"4s\"");
    let (scene, superuser) = maintenance_harness::scene("billing-service", vec![lock_timeout]).await;
    maintenance_harness::make(&superuser, "billing-service", "big").await;
    let before = file(&superuser, "big").await;
    let card = scene.asks(ANA, "vacuum-full billing-service big --env production").await;
    let (holder, holds) = maintenance_harness::session(&scene, "billing-service", "billing-report").await;
    holder.batch_execute("BEGIN; SELECT count(*) FROM big").await.unwrap();
    let (told, waits) = tokio::join!(approves(&scene, card), async {
        queued(&superuser, "big").await;
        futures::future::join3(
            waits(&scene, "billing-web-1"),
            waits(&scene, "billing-web-2"),
            waits(&scene, "billing-web-3"),
        )
        .await
    });
    for (waited, behind) in [waits.0, waits.1, waits.2] {
        assert!(behind, "a reader didn't wait behind it");
        assert!(waited < patience + SLACK, "a reader waited for {waited:?}");
    }
    let state = format!("SELECT state FROM pg_stat_activity WHERE pid = {holds}");
    assert_eq!(
        one::<String>(&superuser, &state).await,
        "idle in transaction",
        "while its lock is held still"
    );
    let told = told.plain();
    assert!(
        told.contains("public.big was not rewritten: other sessions use it, and it gave up waiting."),
        "{told}"
    );
    assert!(told.contains("Nothing was done, and no session waits for it any longer."), "{told}");
    assert_eq!(file(&superuser, "big").await, before);
    assert_eq!(scene.only_run("vacuum-full").await.state, RunState::Failed);
    holder.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_what_the_card_showed_is_left_alone() {
    let (scene, superuser) = maintenance_harness::scene("payout-service", Vec::new()).await;
    maintenance_harness::make(&superuser, "payout-service", "big").await;
    let card = scene.asks(ANA, "vacuum-full payout-service big --env production").await;
    let more = "INSERT INTO big SELECT id, repeat('y', 900) FROM generate_series(5000, 9000) id";
    superuser.batch_execute(more).await.unwrap();
    let before = file(&superuser, "big").await;
    let told = approves(&scene, card).await.plain();
    assert!(told.contains("may be rewritten. Nothing was done."), "{told}");
    assert_eq!(file(&superuser, "big").await, before);
    assert_eq!(scene.runs_of("vacuum-full").await[0].state, RunState::Invalidated);

    let card = scene.asks(ANA, "vacuum-full payout-service big --env production").await;
    superuser.batch_execute("VACUUM FULL big").await.unwrap();
    let before = file(&superuser, "big").await;
    let told = approves(&scene, card).await.plain();
    assert!(told.contains("public.big was rewritten since the card was made. Nothing was done."), "{told}");
    assert_eq!(file(&superuser, "big").await, before);

    let card = scene.asks(ANA, "vacuum-full payout-service big --env production").await;
    let swap =
        "ALTER TABLE big RENAME TO old_big; CREATE TABLE big (id int); ALTER TABLE big OWNER TO payout_svc";
    superuser.batch_execute(swap).await.unwrap();
    let files = (file(&superuser, "big").await, file(&superuser, "old_big").await);
    let told = approves(&scene, card).await.plain();
    assert!(
        told.contains("public.big is gone, or another table has its name now. Nothing was done."),
        "{told}"
    );
    assert_eq!((file(&superuser, "big").await, file(&superuser, "old_big").await), files);

    maintenance_harness::holds(&superuser, "maintenance of payout_service_db: public.old_big").await;
    let told = approved(&scene, "vacuum-full payout-service old_big").await.plain();
    assert!(
        told.contains("Another Countersign instance holds the lock on public.old_big. Nothing was done."),
        "{told}"
    );
    assert_eq!(file(&superuser, "old_big").await, files.1);

    let runs = scene.runs_of("vacuum-full").await.len();
    superuser
        .batch_execute(
            "CREATE TABLE parted (id int) PARTITION BY RANGE (id); ALTER TABLE parted OWNER TO payout_svc;
             CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (9)",
        )
        .await
        .unwrap();
    scene.without_forms();
    for (line, words) in [
        ("vacuum-full payout-service parted", "takes one partition at a time.\nName one: public.parted_1."),
        ("vacuum-full payout-service old_bigg", "has no table “old_bigg”.\nDid you mean old_big?"),
        ("vacuum-full payout-service assets", "payout_service_db has no table “assets”."),
        ("vacuum-full payout-service", "Missing <table>"),
        ("vacuum-full payout-service big big", "don't know what to do with “big”"),
    ] {
        let told = scene.asks(ANA, &format!("{line} --env production")).await.plain();
        assert!(told.contains(words), "{line}: {told}");
    }
    assert_eq!(scene.runs_of("vacuum-full").await.len(), runs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_its_wait_and_its_work() {
    let patient = ("connections = 12", "connections = 12\nlock_timeout = \"60s\"");
    let (scene, superuser) = maintenance_harness::scene("campaign-service", vec![patient]).await;
    maintenance_harness::make(&superuser, "campaign-service", "big").await;
    let before = file(&superuser, "big").await;
    let card = scene.asks(ANA, "vacuum-full campaign-service big --env production").await;
    let (holder, _) = maintenance_harness::session(&scene, "campaign-service", "campaign-report").await;
    holder.batch_execute("BEGIN; SELECT count(*) FROM big").await.unwrap();
    let (told, ()) = tokio::join!(approves(&scene, card), async {
        queued(&superuser, "big").await;
        maintenance_harness::stops(&scene, "vacuum-full").await;
    });
    let told = told.plain();
    assert!(told.contains("Stopped: public.big is unchanged."), "{told}");
    assert_eq!(file(&superuser, "big").await, before);
    assert_eq!(scene.only_run("vacuum-full").await.state, RunState::Stopped);
    let waits: i64 =
        one(&superuser, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'big'::regclass")
            .await;
    assert_eq!(waits, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_is_told_so_before_anybody_is_asked() {
    let servers = Servers::alone(60).await;
    let instead = vec![LOCK_TIMEOUT];
    let scene: Scene = Scene::with(Twist { servers: Some(servers), instead, ..Twist::default() }).await;
    for (line, words) in [
        (
            "vacuum-full asset-service audit_logs",
            "countersign_act maintain its tables, such as public.audit_logs, which belongs to asset_svc",
        ),
        (
            "reindex asset-service audit_logs",
            "countersign_act maintain its tables, such as public.audit_logs, which belongs to asset_svc",
        ),
    ] {
        let told = scene.asks(ANA, &format!("{line} --env production")).await.plain();
        assert!(told.contains(words) && told.contains("maintain"), "{line}: {told}");
    }
    assert!(scene.runs_of("vacuum-full").await.is_empty() && scene.runs_of("reindex").await.is_empty());
    // The right is taken away between the card and the click.
    let superuser = servers.cluster.connect("asset_service_db").await.unwrap();
    superuser.batch_execute("GRANT asset_svc TO countersign_act").await.unwrap();
    let before = file(&superuser, "audit_logs").await;
    let card = scene.asks(ANA, "vacuum-full asset-service audit_logs --env production").await;
    superuser.batch_execute("REVOKE asset_svc FROM countersign_act").await.unwrap();
    let told = approves(&scene, card).await.plain();
    assert!(told.contains("public.audit_logs was not rewritten: "), "{told}");
    assert_eq!(file(&superuser, "audit_logs").await, before);
    assert_eq!(scene.only_run("vacuum-full").await.state, RunState::Failed);
}
