//! A purge that something ends or slows down in the middle: what is gone by then is told, and it goes on from there.

use crate::harness::{BEN, Scene, Servers, Twist, found};
use crate::purge::{card, checksum, done, newest, scene, tables};
use countersign::model::RunState;
use tokio_postgres::Client;

/// A table of so many old rows, each batch of which takes so long for each of its rows; what the batches were is kept.
pub fn slow(name: &str, rows: u32, seconds_a_row: &str) -> String {
    format!(
        "CREATE TABLE {name} (id int PRIMARY KEY, at timestamptz);
         INSERT INTO {name} SELECT n, now() - interval '1 year' FROM generate_series(1, {rows}) n;
         CREATE TABLE {name}_batches (at timestamptz, rows bigint);
         CREATE FUNCTION {name}_batch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
         BEGIN
             PERFORM pg_sleep((SELECT count(*) FROM gone) * {seconds_a_row});
             INSERT INTO {name}_batches SELECT clock_timestamp(), count(*) FROM gone;
             RETURN NULL;
         END $$;
         CREATE TRIGGER batch AFTER DELETE ON {name} REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION {name}_batch();
         GRANT SELECT, DELETE ON {name} TO countersign_act;"
    )
}

async fn batches(superuser: &Client, name: &str) -> Vec<i64> {
    let sql = format!("SELECT array_agg(rows ORDER BY at) FROM {name}_batches");
    superuser.query_one(&sql, &[]).await.expect("the batches").get(0)
}

pub async fn left(superuser: &Client, name: &str) -> i64 {
    superuser.query_one(&format!("SELECT count(*) FROM {name}"), &[]).await.expect("a number").get(0)
}

/// Approves it, and waits until some of it is done.
async fn begins(scene: &Scene, superuser: &Client, name: &str) -> countersign::demo::fake_slack::Message {
    let asked = card(scene, &format!("{name} --column at --older-than 90d --most-lag 1s")).await;
    scene.click_button(BEN, &asked.at(), "Approve").await;
    let all = left(superuser, name).await;
    found("rows to go", async || (left(superuser, name).await < all).then_some(())).await;
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_slow_is_made_smaller() {
    let scene = scene().await;
    // 2.5 s for 10,000 rows.
    let superuser = tables(&scene, &slow("purged_dear", 20_000, "0.00025")).await;
    let asked = card(&scene, "purged_dear --column at --older-than 90d").await;
    done(&scene, &asked, "20,000 rows of 20,000 were deleted").await;
    let sizes = batches(&superuser, "purged_dear").await;
    assert!(sizes[0] == 10_000 && sizes[1..].iter().all(|rows| *rows <= 5_000), "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_a_time_limit_cuts_is_undone_and_a_smaller_one_tried() {
    let instead = vec![("connections = 12", "connections = 12\nstatement_timeout = \"2s\"")];
    let servers = Some(crate::purge::servers().await);
    let scene = Scene::with(Twist { servers, instead, ..Twist::default() }).await;
    // 4 s for 10,000 rows, 1 s for a quarter of them.
    let superuser = tables(&scene, &slow("purged_cut", 12_000, "0.0004")).await;
    let asked = card(&scene, "purged_cut --column at --older-than 90d").await;
    done(&scene, &asked, "12,000 rows of 12,000 were deleted").await;
    let sizes = batches(&superuser, "purged_cut").await;
    assert!(sizes.iter().all(|rows| *rows <= 2_500), "{sizes:?}");
    assert_eq!((sizes.iter().sum::<i64>(), left(&superuser, "purged_cut").await), (12_000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_turns_read_only_ends_it_and_it_goes_on_afterwards() {
    let scene = Scene::with(Twist { servers: Some(Servers::alone(60).await), ..Twist::default() }).await;
    let superuser = tables(&scene, &slow("purged_full", 100_000, "0.00005")).await;
    let asked = begins(&scene, &superuser, "purged_full").await;
    // As Azure does, before its storage is full.
    superuser.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    superuser.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    let told = scene.until(&asked.at(), "The server is read-only now. ").await.plain();
    let run = newest(&scene).await;
    let stay = left(&superuser, "purged_full").await;
    let gone = run.events.last().unwrap().facts["deleted"].as_i64().unwrap();
    assert_eq!((run.state, gone + stay), (RunState::Partial, 100_000), "{told}");
    assert!(gone > 0 && stay > 0 && told.contains(&format!("--continue {}", run.id)), "{told}");
    superuser.batch_execute("ALTER SYSTEM RESET default_transaction_read_only").await.unwrap();
    superuser.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    let on = "SELECT 1 WHERE current_setting('default_transaction_read_only') = 'off'";
    found("a server that writes", async || superuser.query_opt(on, &[]).await.expect("an answer")).await;
    let again = card(&scene, &format!("purged_full --continue {}", run.id)).await;
    done(&scene, &again, " were deleted, in ").await;
    assert_eq!(checksum(&superuser, "purged_full").await, "0 -");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_falls_behind_or_is_cut_off_in_the_middle_stops_it() {
    let (servers, replica) = Servers::followed().await;
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    let both = [slow("purged_lag", 200_000, "0.00005"), slow("purged_gone", 200_000, "0.00005")].concat();
    let superuser = tables(&scene, &both).await;
    let even =
        "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn = pg_current_wal_lsn()";
    let catches_up = async || {
        found("the replica", async || superuser.query_opt(even, &[]).await.expect("an answer")).await;
    };
    catches_up().await;
    let asked = begins(&scene, &superuser, "purged_lag").await;
    let frozen = replica.freeze().unwrap();
    let told = scene.until(&asked.at(), "Stopped, since the replica sample-replica is ").await.plain();
    drop(frozen);
    let run = newest(&scene).await;
    let stay = left(&superuser, "purged_lag").await;
    let gone = run.events.last().unwrap().facts["deleted"].as_i64().unwrap();
    assert!(told.contains(" behind. ") && gone > 0 && stay > 0, "{gone} and {stay}: {told}");
    assert_eq!((run.state, gone + stay), (RunState::Stopped, 200_000), "{told}");

    catches_up().await;
    let asked = begins(&scene, &superuser, "purged_gone").await;
    drop(replica);
    let told = scene.until(&asked.at(), "Stopped, since the replica sample-replica is gone: ").await.plain();
    let run = newest(&scene).await;
    assert_eq!(run.state, RunState::Stopped, "{told}");
    assert!(left(&superuser, "purged_gone").await > 0 && told.contains("--continue"), "{told}");
}
