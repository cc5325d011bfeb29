//! `reindex`: done is another, valid index of the same name; what a broken one leaves is found, named, and dropped when nobody builds.

use crate::harness::{ANA, Scene, Servers, Twist, found};
use crate::maintenance_harness::{self, LOCK_TIMEOUT, asks, ended, one};
use countersign::model::RunState;
use tokio_postgres::Client;

/// Name, oid and whether it works, of each index of a table.
async fn indexes(client: &Client, table: &str) -> Vec<(String, u32, bool)> {
    let sql = "SELECT c.relname::text, c.oid, i.indisvalid AND i.indisready AND i.indislive FROM pg_index i
               JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1::text::regclass ORDER BY 1";
    let rows = client.query(sql, &[&table]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

fn names(indexes: &[(String, u32, bool)]) -> Vec<&str> {
    indexes.iter().map(|(name, ..)| name.as_str()).collect()
}

/// All of them are others now, of the same names, and work.
#[track_caller]
fn rebuilt(before: &[(String, u32, bool)], after: &[(String, u32, bool)]) {
    assert_eq!(names(before), names(after));
    for (before, after) in before.iter().zip(after) {
        assert!(before.1 != after.1 && after.2, "{before:?} {after:?}");
    }
}

/// A snapshot from before, in a transaction that uses another table: the last wait is for it.
async fn snapshot(scene: &Scene, service: &str) -> (Client, i32) {
    let (client, pid) = maintenance_harness::session(scene, service, "old-report").await;
    let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM \"User\"";
    client.batch_execute(sql).await.unwrap();
    (client, pid)
}

/// The pid of what builds, once it waits for older snapshots.
async fn waits(client: &Client, table: &str) -> i32 {
    let sql = "SELECT pid FROM pg_stat_progress_create_index WHERE relid = $1::text::regclass AND phase = 'waiting for old snapshots'";
    found("the wait for older snapshots", async || {
        client.query_opt(sql, &[&table]).await.unwrap().map(|row| row.get(0))
    })
    .await
}

/// As a REINDEX that was killed leaves it.
async fn leftover(client: &Client, table: &str) {
    let sql = format!(
        "CREATE INDEX {table}_x_ccnew ON {table} (pad);
         UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{table}_x_ccnew'::regclass"
    );
    client.batch_execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_of_every_name_are_rebuilt_and_seen_to_be() {
    let (scene, superuser) = maintenance_harness::scene("user-service", Vec::new()).await;
    maintenance_harness::make(&superuser, "user-service", "big").await;
    superuser.batch_execute("ALTER INDEX big_pad_id_idx RENAME TO \"Big.Pad idx\"").await.unwrap();
    let before = indexes(&superuser, "big").await;
    let size: i64 = one(&superuser, "SELECT pg_indexes_size('big')").await;
    let told = asks(&scene, "reindex user-service big").await.plain();
    assert!(told.contains("2 indexes are rebuilt, in ") && told.contains("Size: "), "{told}");
    assert!(!told.contains("eftover"), "{told}");
    let after = indexes(&superuser, "big").await;
    rebuilt(&before, &after);
    assert!(
        one::<i64>(&superuser, "SELECT pg_indexes_size('big')").await < size,
        "half of the rows are gone"
    );
    assert_eq!(scene.runs_of("reindex").await[0].state, RunState::Succeeded);

    let told = asks(&scene, "reindex user-service \"Big.Pad idx\"").await.plain();
    assert!(told.contains("public.\"Big.Pad idx\" is rebuilt, in "), "{told}");
    let single = indexes(&superuser, "big").await;
    assert_eq!(single[1], after[1], "the key was not asked for");
    rebuilt(&after[..1], &single[..1]);

    superuser
        .batch_execute(
            "CREATE SCHEMA \"Old\" AUTHORIZATION user_svc; CREATE TABLE \"Old\".big (id int PRIMARY KEY); ALTER TABLE \"Old\".big OWNER TO user_svc;
             CREATE TABLE parted (id int, pad text) PARTITION BY RANGE (id);
             CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (9);
             CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (9) TO (20);
             CREATE INDEX parted_pad ON parted (pad); CREATE INDEX ON parted_1 (id);
             ALTER TABLE parted OWNER TO user_svc; ALTER TABLE parted_1 OWNER TO user_svc; ALTER TABLE parted_2 OWNER TO user_svc",
        )
        .await
        .unwrap();
    let before = (indexes(&superuser, "parted_1").await, indexes(&superuser, "parted_2").await);
    let told = asks(&scene, "reindex user-service parted_pad").await.plain();
    assert!(told.contains("2 indexes are rebuilt"), "{told}");
    let told = asks(&scene, "reindex user-service parted").await.plain();
    assert!(told.contains("3 indexes are rebuilt"), "{told}");
    rebuilt(&before.0, &indexes(&superuser, "parted_1").await);
    rebuilt(&before.1, &indexes(&superuser, "parted_2").await);

    let before = indexes(&superuser, "big").await;
    let runs = scene.runs_of("reindex").await.len();
    scene.without_forms();
    for (line, words) in [
        ("reindex user-service big", "“big” can be \"Old\".big or public.big."),
        ("reindex user-service bigg", "user_service_db has no table or index “bigg”.\nDid you mean big?"),
        ("reindex user-service assets", "user_service_db has no table or index “assets”."),
        ("reindex", "Missing <service>"),
        ("reindex user-service big now", "don't know what to do with “now”"),
        ("reindex usr-service big", "no service “usr-service”"),
        ("reindex all big", "works on every database, and “big” is in one of them"),
    ] {
        let told = scene.asks(ANA, &format!("{line} --env production")).await.plain();
        assert!(told.contains(words), "{line}: {told}");
    }
    assert_eq!(indexes(&superuser, "big").await, before);
    assert_eq!(scene.runs_of("reindex").await.len(), runs);
    let told = asks(&scene, "reindex user-service Old.big").await.plain();
    assert!(told.contains("\"Old\".big_pkey is rebuilt") || told.contains("1 index"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_gives_up_drops_what_it_left_or_names_it() {
    let (scene, superuser) = maintenance_harness::scene("creator-service", vec![LOCK_TIMEOUT]).await;
    maintenance_harness::make(&superuser, "creator-service", "big").await;
    let before = indexes(&superuser, "big").await;
    let (report, pid) = snapshot(&scene, "creator-service").await;
    let old = format!(
        "SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND clock_timestamp() - xact_start > interval '1 s'"
    );
    found("an old transaction", async || superuser.query_opt(&old, &[]).await.unwrap()).await;
    let dry = scene.asks(ANA, "reindex creator-service big_pkey --env production --dry-run").await.plain();
    for words in ["Open transactions that could hold it up", "needs ", "at a time; then it gives up"] {
        assert!(dry.contains(words), "{words}: {dry}");
    }
    let card = scene.asks(ANA, "reindex creator-service big_pkey --env production").await;
    let holds_up = format!("the oldest is session {pid} (old-report), open for ");
    assert!(card.plain().contains(&holds_up), "{}", card.plain());
    let told = ended(&scene, card).await.plain();
    assert!(told.contains("public.big_pkey was not rebuilt."), "{told}");
    assert!(told.contains("Gave up waiting for a lock or an older transaction."), "{told}");
    assert!(
        told.contains("Dropped leftover public.big_pkey_ccnew (")
            && told.contains(") of an interrupted rebuild."),
        "{told}"
    );
    assert!(told.to_lowercase().contains("dropped"), "{told}");
    assert_eq!(indexes(&superuser, "big").await, before, "as it was, and nothing is left");
    assert_eq!(scene.only_run("reindex").await.state, RunState::Failed);

    // Whoever uses the table itself holds up the DROP too: it is named, and stays.
    report.batch_execute("COMMIT; BEGIN; SELECT count(*) FROM big").await.unwrap();
    leftover(&superuser, "big").await;
    let told = asks(&scene, "reindex creator-service big_pkey").await.plain();
    assert!(told.contains("public.big_x_ccnew"), "{told}");
    assert!(
        told.contains("remains: a transaction that uses its table kept the DROP waiting too long"),
        "{told}"
    );
    assert!(told.contains("`DROP INDEX CONCURRENTLY public."), "{told}");
    assert!(names(&indexes(&superuser, "big").await).contains(&"big_x_ccnew"));

    report.batch_execute("COMMIT").await.unwrap();
    let told = asks(&scene, "reindex creator-service big_pkey").await.plain();
    assert!(told.contains("public.big_pkey is rebuilt"), "{told}");
    assert!(told.to_lowercase().contains("dropped") && told.contains("of an earlier rebuild"), "{told}");
    let after = indexes(&superuser, "big").await;
    assert_eq!(after[0], before[0], "the other index was not asked for");
    rebuilt(&before[1..], &after[1..]);
    assert_eq!(scene.runs_of("reindex").await[0].state, RunState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_index_is_begun_after_the_time_limit() {
    let (scene, superuser) = maintenance_harness::scene("asset-service", Vec::new()).await;
    maintenance_harness::make(&superuser, "asset-service", "timed").await;
    let before = indexes(&superuser, "timed").await;
    let (report, _) = snapshot(&scene, "asset-service").await;
    let card = scene.asks(ANA, "reindex asset-service timed --within 1s --env production").await;
    let pid = waits(&superuser, "timed").await;
    let over = format!(
        "SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND clock_timestamp() - query_start > interval '1 s'"
    );
    found("the end of the limit", async || superuser.query_opt(&over, &[]).await.unwrap()).await;
    report.batch_execute("COMMIT").await.unwrap();
    let told = ended(&scene, card).await.plain();
    assert!(told.contains("The time limit is over: 1 of 2 indexes rebuilt"), "{told}");
    let after = indexes(&superuser, "timed").await;
    assert_eq!(names(&before), names(&after), "nothing is left of a rebuild");
    let changed = before.iter().zip(&after).filter(|(before, after)| before.1 != after.1).count();
    assert_eq!((changed, scene.only_run("reindex").await.state), (1, RunState::Partial));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_may_be_building_is_left_alone() {
    let (scene, superuser) = maintenance_harness::scene("content-service", vec![LOCK_TIMEOUT]).await;
    maintenance_harness::make(&superuser, "content-service", "big").await;
    leftover(&superuser, "big").await;
    let (report, _) = snapshot(&scene, "content-service").await;
    let builder = maintenance_harness::session(&scene, "content-service", "migration").await.0;
    let building =
        tokio::spawn(
            async move { builder.batch_execute("CREATE INDEX CONCURRENTLY mine ON big (pad)").await },
        );
    waits(&superuser, "big").await;
    let before = indexes(&superuser, "big").await;
    let told = asks(&scene, "reindex content-service big_pkey").await.plain();
    assert!(
        told.contains("public.big_x_ccnew")
            && told.contains("remains: another session is building on its table"),
        "{told}"
    );
    assert!(told.contains("public.big_pkey was not rebuilt.") && told.contains("Gave up"), "{told}");
    assert_eq!(indexes(&superuser, "big").await, before);
    assert!(!building.is_finished(), "it builds still");

    report.batch_execute("COMMIT").await.unwrap();
    building.await.unwrap().unwrap();
    let told = asks(&scene, "reindex content-service big_pkey").await.plain();
    assert!(told.contains("public.big_pkey is rebuilt") && told.to_lowercase().contains("dropped"), "{told}");
    let after = indexes(&superuser, "big").await;
    assert_eq!(names(&after), ["big_pad_id_idx", "big_pkey", "mine"]);
    assert!(after.iter().all(|(_, _, works)| *works), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_killed_session_leave_nothing() {
    let (scene, superuser) = maintenance_harness::scene("rights-service", Vec::new()).await;
    maintenance_harness::make(&superuser, "rights-service", "big").await;
    let before = indexes(&superuser, "big").await;
    let (report, _) = snapshot(&scene, "rights-service").await;
    let card = scene.asks(ANA, "reindex rights-service big --env production").await;
    waits(&superuser, "big").await;
    scene.until(&card.at(), "waiting for old snapshots").await;
    assert!(
        indexes(&superuser, "big").await.iter().any(|(name, _, works)| name.ends_with("_ccnew") && !works)
    );
    maintenance_harness::stops(&scene, "reindex").await;
    let told = scene.until(&card.at(), "Stopped: 0 of 2 indexes rebuilt").await.plain();
    assert!(told.contains("was interrupted, 1 not started."), "{told}");
    assert!(told.contains("_ccnew") && told.to_lowercase().contains("dropped"), "{told}");
    assert_eq!(indexes(&superuser, "big").await, before);
    assert_eq!(scene.runs_of("reindex").await[0].state, RunState::Stopped);

    let card = scene.asks(ANA, "reindex rights-service big_pkey --env production").await;
    let pid = waits(&superuser, "big").await;
    superuser.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    let told = ended(&scene, card).await.plain();
    assert!(
        told.contains("public.big_pkey was not rebuilt.") && told.contains("Interrupted: the server"),
        "{told}"
    );
    assert!(told.contains("public.big_pkey_ccnew") && told.to_lowercase().contains("dropped"), "{told}");
    assert_eq!(indexes(&superuser, "big").await, before);
    assert_eq!(scene.runs_of("reindex").await[0].state, RunState::Failed);

    maintenance_harness::holds(&superuser, "maintenance of rights_service_db: public.big").await;
    report.batch_execute("COMMIT").await.unwrap();
    let told = asks(&scene, "reindex rights-service big").await.plain();
    assert!(
        told.contains("Another Countersign instance holds the lock on public.big. Nothing was done."),
        "{told}"
    );
    assert_eq!(indexes(&superuser, "big").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_name_it_tells_of_the_indexes_that_its_login_may_not_rebuild() {
    let servers: &'static Servers = Box::leak(Box::new(maintenance_harness::start().await));
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    let superuser = servers.cluster.connect(&maintenance_harness::database("user-service")).await.unwrap();
    superuser
        .batch_execute("CREATE SCHEMA closed; CREATE TABLE closed.box (id int PRIMARY KEY)")
        .await
        .unwrap();
    let line = "reindex user-service";
    let told = asks(&scene, line).await.plain();
    for words in [
        "none is invalid or bloated",
        "Left out, since countersign_maintain may not maintain them: closed.box_pkey",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // With none that it may rebuild, nothing is called well.
    let revoke = "REVOKE USAGE ON SCHEMA public FROM PUBLIC, countersign_maintain";
    superuser.batch_execute(revoke).await.unwrap();
    let refused = asks(&scene, line).await.plain();
    assert!(refused.contains("maintain") && !refused.contains("none is invalid"), "{refused}");
    assert!(refused.contains("Give closed.box to a role that is no superuser"), "{refused}");
}
