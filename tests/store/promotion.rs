//! The audit log's primary is lost, and its replica is promoted, whose clock is five minutes off.

use crate::installed::servers;
use crate::postgres::{ROLE, settings, store};
use crate::samples::{append, done, new_run, opened};
use crate::shifted::ShiftedServer;
use countersign::demo::postgres::{Cluster, Options};
use countersign::model::RunState;
use countersign::store::Deadline;
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::Client;

/// `make soak` sets it: seconds without a primary.
const OUTAGE_SECONDS: &str = "COUNTERSIGN_TEST_OUTAGE_SECONDS";

/// Longer than the time after which an instance is taken for dead that shows no sign of life.
const SHORTEST_OUTAGE_S: u64 = 22;

fn outage() -> Duration {
    let seconds = std::env::var(OUTAGE_SECONDS).ok();
    let seconds =
        seconds.map(|seconds| seconds.parse().expect("COUNTERSIGN_TEST_OUTAGE_SECONDS is a number"));
    Duration::from_secs(seconds.unwrap_or(SHORTEST_OUTAGE_S))
}

/// The address of whichever server is the primary.
struct PrimaryAddress {
    port: u16,
    server: Arc<AtomicU16>,
}

impl PrimaryAddress {
    async fn start(server: u16) -> PrimaryAddress {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Arc::new(AtomicU16::new(server));
        let current = Arc::clone(&server);
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let port = current.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        PrimaryAddress { port, server }
    }
}

async fn until(client: &Client, condition: &str) {
    while !client.query_one(&format!("SELECT {condition}"), &[]).await.unwrap().get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn execute(cluster: &Cluster, database: &str, sql: &[&str]) {
    let superuser = cluster.connect(database).await.unwrap();
    for sql in sql {
        superuser.batch_execute(sql).await.unwrap();
    }
}

async fn lives_through_a_promotion(clock_offset_s: i64) {
    let shifted = ShiftedServer::new(&servers()[0], clock_offset_s);
    shifted.shift(false);
    let options = Options { bin_dir: Some(shifted.bin_dir().to_owned()), ..Options::default() };
    let mut primary = Cluster::start(options).await.unwrap();
    let role = format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'");
    let database = format!("CREATE DATABASE record OWNER {ROLE}");
    let slot = "SELECT pg_create_physical_replication_slot('standby')";
    execute(&primary, "postgres", &[&role, &database, slot]).await;
    let mut standby = primary.replica("standby").await.unwrap();
    shifted.shift(true);
    standby.restart().await.unwrap();

    let address = PrimaryAddress::start(primary.port()).await;
    let mut settings = settings(&primary, "record", ROLE);
    settings.server.port = address.port;
    let (a, b) = (store(&settings).await, store(&settings).await);
    let running = done(&a, append(&opened(&a, new_run("d1")).await, "started", RunState::Running)).await;
    let mut new = new_run("d2");
    new.first_event.deadline = Deadline::After(Duration::from_secs(1_800));
    let pending = opened(&b, new).await;
    let superuser = primary.connect("record").await.unwrap();
    let caught_up = "(SELECT replay_lsn FROM pg_stat_replication) >= $1::text::pg_lsn";
    let written: String =
        superuser.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap().get(0);
    until(&superuser, &caught_up.replace("$1", &format!("'{written}'"))).await;

    primary.stop().unwrap();
    tokio::time::sleep(outage()).await;
    execute(&standby, "postgres", &["SELECT pg_promote()"]).await;
    address.server.store(standby.port(), Ordering::SeqCst);

    let promoted = standby.connect("record").await.unwrap();
    let now: Timestamp = promoted.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0);
    let offset = now.duration_since(Timestamp::now()).as_secs();
    assert!((offset - clock_offset_s).abs() < 30, "the clock is {offset} s off");
    // Each has looked at the other several times.
    let beats: i64 =
        promoted.query_one("SELECT max(beat) FROM countersign.instances", &[]).await.unwrap().get(0);
    until(&promoted, &format!("min(beat) >= {beats} + 4 OR bool_or(is_dead) FROM countersign.instances"))
        .await;
    for store in [&a, &b] {
        assert_eq!((store.orphans().await.unwrap(), store.overdue().await.unwrap()), (vec![], vec![]));
    }
    let running = done(&a, append(&running, "checkpoint", RunState::Running)).await;
    done(&a, append(&running, "succeeded", RunState::Succeeded)).await;
    done(&b, append(&pending, "approved", RunState::Approved)).await;
    let verified = b.verify().await.unwrap();
    assert_eq!((verified.events, verified.first_error), (6, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_server_whose_clock_is_off_interrupts_no_live_run() {
    futures::future::join_all([-300, 300].map(lives_through_a_promotion)).await;
}
