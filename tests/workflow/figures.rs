//! Figures of the servers over time: sampled by the bot, and told by `storage`.

use crate::harness::{ANA, Scene, Servers, Twist};
use crate::maintenance_harness;
use crate::schedule_year::replica;
use countersign::store::{Figure, Store};
use jiff::{SignedDuration, Timestamp};

const GIB: f64 = (1 << 30) as f64;

#[tokio::test(flavor = "multi_thread")]
async fn the_growth_of_databases_is_told_once_it_was_seen_for_long_enough() {
    let servers: &'static Servers = Box::leak(Box::new(maintenance_harness::start().await));
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    // A sample is what PostgreSQL says.
    replica(&scene).await.sample_figures(Timestamp::now()).await.unwrap();
    let sampled = scene.store().figures("production", "main", "databases_bytes").await.unwrap()[0];
    let superuser = servers.cluster.connect("postgres").await.unwrap();
    let sql = "SELECT sum(pg_database_size(oid))::float8, (SELECT sum(size)::float8 FROM pg_ls_waldir()) FROM pg_database";
    let row = superuser.query_one(sql, &[]).await.unwrap();
    let is_near = |sample: f64, real: f64| (sample / real - 1.0).abs() < 0.2;
    assert!(is_near(sampled.1, row.get(0)), "{sampled:?} {row:?}");
    let wal = scene.store().figures("production", "main", "wal_bytes").await.unwrap();
    assert!(wal[0].0 == sampled.0 && is_near(wal[0].1, row.get(1)), "{wal:?} {row:?}");

    let told = scene.asks(ANA, "storage --env production").await.plain();
    assert!(!told.contains("growth"), "{told}");
    let sample = |minutes: i64| Figure {
        environment: "production".to_owned(),
        server: "main".to_owned(),
        name: "databases_bytes".to_owned(),
        at: Timestamp::now() - SignedDuration::from_mins(minutes),
        // 3 GiB a day.
        value: sampled.1 - 3.0 * GIB * minutes as f64 / 1_440.0,
    };
    scene.store().put_figures((1..=24).map(|n| sample(20 * n)).collect()).await.unwrap();
    let told = scene.asks(ANA, "storage --env production").await.plain();
    let line = told.lines().find(|line| line.contains("growth a day")).unwrap_or_else(|| panic!("{told}"));
    assert!(line.contains("3.0 GiB"), "{line}");
}
