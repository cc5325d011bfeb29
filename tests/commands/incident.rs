//! An incident: a transaction sits idle, an ALTER TABLE queues behind it, readers queue behind the ALTER TABLE.

use crate::harness::{World, severity, words};
use countersign::demo::sample::SampleIncident;
use countersign::model::{Severity, TokenPurpose};

/// A row with these first cells, its time, and these cells after it.
fn has_row(told: &str, first: &str, after: &str) -> bool {
    told.split_once(first).and_then(|(_, row)| row.split('\n').next()).is_some_and(|row| {
        row.split_once(after).is_some_and(|(time, _)| !time.is_empty() && !time.contains('|'))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_is_named_and_every_question_is_answered() {
    let world = World::start().await;
    let incident = SampleIncident::start(&world.cluster, &world.team).await.unwrap();
    let pids = incident.pids();

    let blocked = world.ask("Ana Example", "blocked").await.unwrap();
    let told = words(&blocked);
    let verdict = format!(
        "CRITICAL: 5 sessions are blocked by pid {} (asset-worker-7) of asset_service_db, the longest for ",
        pids.head
    );
    assert!(told.starts_with(&verdict), "{told}");
    let root = format!("\n{} | root blocker (5 waiting) | ", pids.head);
    assert!(has_row(&told, &root, " | asset-worker-7 | idle in transaction | asset_service_db"), "{told}");
    let alter = format!("\n└ {} | {} | ", pids.alter, pids.head);
    assert!(has_row(&told, &alter, " | prisma-migrate | waiting for AccessExclusiveLock"), "{told}");
    assert!(!told.contains("jane.doe"), "{told}");
    let [(_, TokenPurpose::RunCommand { command, environment, arguments })] =
        blocked.button_purposes.as_slice()
    else {
        panic!("the head alone can be killed: {:?}", blocked.button_purposes)
    };
    assert_eq!((command.as_str(), environment.as_deref()), ("kill", Some("production")));
    assert_eq!((&arguments["pid"], arguments["server"].as_str()), (&pids.head.to_string(), "primary"));
    let client = world.cluster.connect("postgres").await.unwrap();
    let same = "SELECT backend_start = $2::text::timestamptz FROM pg_stat_activity WHERE pid = $1";
    let same = client.query_one(same, &[&pids.head, &arguments["backend_start"]]).await.unwrap();
    assert!(same.get::<_, bool>(0), "to the microsecond: {arguments:?}");

    let health = world.ask("Ana Example", "health").await.unwrap();
    assert!(matches!(severity(&health), Severity::Warning | Severity::Critical), "{}", words(&health));
    let told = words(&health);
    assert!(told.contains("5 sessions are waiting for a lock, the longest for "), "{told}");
    assert!(told.contains("blocked shows the root blocker"), "{told}");
    // A sequence that is nearly used up hurts nobody yet.
    let first = "CRITICAL: primary: 5 sessions are waiting for a lock, the longest for ";
    let health = world.until("health", |health| words(health).starts_with(first)).await;
    assert!(words(&health).contains("has used 95 % of its range"), "{}", words(&health));

    let sizes = world.told("sizes asset-service").await;
    assert!(sizes.starts_with("WARNING: assets is locked, so its size is an estimate"), "{sizes}");
    let assets = sizes.lines().find(|line| line.starts_with("assets | ")).unwrap();
    assert!(assets.ends_with("| estimated: locked"), "{sizes}");
    assert_eq!(sizes.matches("estimated: locked").count(), 1, "{sizes}");

    world.until("long --over 1s", |told| words(told).contains(&format!("\n{} | ", pids.report))).await;
    let connections = world.told("connections").await;
    assert!(
        connections.contains("\ncampaign-api | 12 | 0 | 12 | 0 | - | campaign_service_db\n"),
        "{connections}"
    );
}

/// Only what can be ended is offered: not the victims, not a superuser's session.
#[tokio::test(flavor = "multi_thread")]
async fn long_offers_the_cause_and_no_victim() {
    let world = World::start().await;
    let incident = SampleIncident::start(&world.cluster, &world.team).await.unwrap();
    let pids = incident.pids();
    let admin = world.cluster.connect("asset_service_db").await.unwrap();
    admin.batch_execute("BEGIN").await.unwrap();
    let superuser: i32 = admin.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let long = world.until("long --over 1s", |told| words(told).contains(&format!("\n{superuser} | "))).await;
    let offered: Vec<String> = long
        .button_purposes
        .iter()
        .map(|(_, meaning)| match meaning {
            TokenPurpose::RunCommand { arguments, .. } => arguments["pid"].clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let mut expected = [pids.head.to_string(), pids.report.to_string()];
    expected.sort();
    let mut offered = offered;
    offered.sort();
    assert_eq!(offered, expected, "{}", words(&long));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_is_named_and_not_offered() {
    let world = World::start().await;
    let (asset, account) = world.team.service("asset-service").unwrap();
    let client = world.cluster.connect_as(account.login(&asset.database, "asset-api")).await.unwrap();
    client.batch_execute("BEGIN; LOCK TABLE assets; PREPARE TRANSACTION 'orphan-7'").await.unwrap();
    let waiter = tokio::spawn(async move { client.batch_execute("SELECT FROM assets").await });
    let blocked = world.until("blocked", |told| severity(told) == Severity::Critical).await;
    let told = words(&blocked);
    assert!(
        told.starts_with("CRITICAL: 1 session is blocked by prepared transaction orphan-7, the longest for "),
        "{told}"
    );
    assert!(blocked.button_purposes.is_empty() && !told.contains("kill 0"), "{told}");
    let health = world.told("health").await;
    assert!(health.contains("Prepared xacts | 1, oldest "), "{health}");
    waiter.abort();
}

/// A deploy holds Prisma's lock and waits for a prepared transaction, which is pid 0; a second deploy waits for that lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_behind_a_prepared_transaction_and_prismas_lock_is_one_tree() {
    let world = World::start().await;
    let (asset, account) = world.team.service("asset-service").unwrap();
    let session = async |name: &str| {
        let client = world.cluster.connect_as(account.login(&asset.database, name)).await.unwrap();
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        (client, pid)
    };
    let (orphan, _) = session("asset-api").await;
    orphan.batch_execute("BEGIN; LOCK TABLE assets; PREPARE TRANSACTION 'orphan-8'").await.unwrap();
    let (deploy, first) = session("prisma-migrate-1").await;
    deploy.query("SELECT pg_advisory_lock(72707369)", &[]).await.unwrap();
    let alter =
        tokio::spawn(async move { deploy.batch_execute("ALTER TABLE assets ADD COLUMN n int").await });
    let (late, second) = session("prisma-migrate-2").await;
    let waits = tokio::spawn(async move { late.batch_execute("SELECT pg_advisory_lock(72707369)").await });
    let queued = format!("\n│ └ {second} | {first} | ");
    let ends = " | prisma-migrate-2 | waiting for ExclusiveLock | asset_service_db";
    let blocked = world
        .until("blocked", |answer| {
            has_row(&words(answer), &queued, ends) && words(answer).contains("2 sessions are blocked")
        })
        .await;
    let told = words(&blocked);
    let verdict = "CRITICAL: 2 sessions are blocked by prepared transaction orphan-8, the longest for ";
    assert!(told.starts_with(verdict), "{told}");
    assert!(told.contains("\n0 | root blocker (2 waiting) | - | prepared transaction orphan-8 | "), "{told}");
    let deploy = format!("\n└ {first} | 0 | ");
    assert!(
        has_row(&told, &deploy, " | prisma-migrate-1 | waiting for AccessExclusiveLock | asset_service_db"),
        "{told}"
    );
    assert!(blocked.button_purposes.is_empty(), "neither pid 0 nor a victim: {:?}", blocked.button_purposes);
    let client = world.cluster.connect("postgres").await.unwrap();
    let row = client.query_one("SELECT pg_blocking_pids($1), pg_blocking_pids($2)", &[&first, &second]).await;
    let row = row.unwrap();
    assert_eq!((row.get::<_, Vec<i32>>(0), row.get::<_, Vec<i32>>(1)), (vec![0], vec![first]));
    alter.abort();
    waits.abort();
}
