//! Indexes, bloat, autovacuum: the situation is made, the answer read, and held against PostgreSQL's own word. They answer
//! while an ALTER TABLE waits for its lock.

use crate::harness::{World, severity, words};
use crate::replication::until;
use countersign::config::ThresholdOverride;
use countersign::model::{Severity, TokenPurpose};
use tokio_postgres::Client;

async fn superuser(world: &World) -> Client {
    world.cluster.connect("asset_service_db").await.unwrap()
}

/// In a session of its own, which ends: until then, PostgreSQL need not count what it did.
async fn make(world: &World, statements: &[&str]) {
    let client = superuser(world).await;
    for sql in statements {
        client.batch_execute(sql).await.unwrap();
    }
}

/// The lines of one titled table, its head included.
fn section<'a>(told: &'a str, title: &str) -> &'a str {
    let start = told.find(&format!("[{title}]")).unwrap_or_else(|| panic!("no {title} in {told}"));
    let end = told[start + 1..].find("\n[").map_or(told.len(), |end| start + 1 + end);
    &told[start..end]
}

const INDEXES: &str = r#"
CREATE SCHEMA "Old stuff";
CREATE TABLE "Old stuff"."User" (id text REFERENCES public."User" (id), "we""ird. näme" int);
INSERT INTO "Old stuff"."User" SELECT NULL, n FROM generate_series(1, 10000) n;
CREATE INDEX "half finished" ON "Old stuff"."User" ("we""ird. näme");
CREATE TABLE part (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
CREATE INDEX part_at ON part (at);
CREATE INDEX part_at_too ON part (at);
CREATE TABLE guarded (actor text REFERENCES "User" (id), note text);
CREATE INDEX guarded_actor ON guarded (actor) WHERE actor IS NOT NULL;
INSERT INTO guarded (note) SELECT 'x' FROM generate_series(1, 10000);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = '"Old stuff"."half finished"'::regclass;
ANALYZE "Old stuff"."User", guarded, part"#;

#[tokio::test(flavor = "multi_thread")]
async fn indexes_to_drop_to_mend_and_to_add() {
    let world = World::start().await;
    let admin = superuser(&world).await;
    make(&world, &INDEXES.split(";\n").collect::<Vec<_>>()).await;
    make(&world, &["SELECT count(*) FROM guarded"; 10]).await;
    let answer =
        world.until("indexes asset-service", |told| words(told).contains("index scans\nguarded | ")).await;
    let told = words(&answer);
    assert!(told.starts_with("WARNING: asset-service: 1 index is invalid: "), "{told}");
    let invalid = section(&told, "Invalid");
    assert!(invalid.contains("\n\"Old stuff\".\"half finished\" | \"Old stuff\".\"User\" | "), "{invalid}");
    assert!(invalid.ends_with(" | its build was interrupted"), "{invalid}");

    assert!(told.contains("\nasset-service: 2 indexes are redundant: another "), "{told}");
    let double = section(&told, "Redundant");
    assert!(double.contains("\nidx_assets_owner | assets | \"assets_ownerId_idx\" | "), "{double}");
    assert!(double.contains("\npart_at_too | part | part_at | "), "{double}");
    assert_eq!(double.lines().count(), 3, "a partitioned index counts once: {double}");

    assert!(
        told.contains("\nasset-service: 1 foreign key has no index that begins with one of its columns, on a table of 10,000 rows or more"),
        "{told}"
    );
    let keys = section(&told, "Foreign keys without an index");
    assert!(keys.contains("\n\"Old stuff\".\"User\" | id | 10,000 | \"User\"\n"), "{keys}");
    assert!(keys.contains("\nasset_versions | \"assetId\" | "), "{keys}");
    assert!(!keys.contains("guarded"), "an index of all that is not null serves: {keys}");

    let unused = section(&told, "Unused");
    assert!(unused.contains("\nassets_checksum_idx | assets | "), "{unused}");
    assert!(unused.contains(" | serves a foreign key\n"), "{unused}");
    assert!(unused.contains(" | same columns as part_at_too\n") && !unused.contains("part_1"), "{unused}");
    assert!(
        !unused.contains("pkey") && !unused.contains("_key |"),
        "what keeps rows unique is used: {unused}"
    );
    assert!(!told.contains("not been used since"), "nobody can say so on the first day: {told}");
    let without = section(&told, "Tables without a primary key");
    assert!(without.contains("\nguarded | 10,000\n") && !without.contains("part_1"), "{without}");
    assert!(told.ends_with("To rebuild it: reindex asset-service \"Old stuff.half finished\"\n"), "{told}");

    // The next step is one that works, and what it says next is true.
    admin.batch_execute("REINDEX INDEX CONCURRENTLY \"Old stuff\".\"half finished\"").await.unwrap();
    let told = world.told("indexes asset-service").await;
    assert_eq!(section(&told, "Invalid").lines().count(), 1, "{told}");
    assert!(told.ends_with("In a migration: DROP INDEX CONCURRENTLY idx_assets_owner\n"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bloat_is_told_from_dead_rows_and_from_what_may_not_be_seen() {
    let world = World::start().await;
    let admin = superuser(&world).await;
    let tables = "CREATE TABLE \"Fat one\" (id int, t text) WITH (autovacuum_enabled = off);
        INSERT INTO \"Fat one\" SELECT n, repeat('x', 400) FROM generate_series(1, 60000) n;
        CREATE TABLE dying (id int) WITH (autovacuum_enabled = off);
        INSERT INTO dying SELECT generate_series(1, 30000);
        DELETE FROM \"Fat one\" WHERE id % 3 > 0; DELETE FROM dying WHERE id % 2 = 0";
    make(&world, &[tables]).await;
    // Counts that come late are added to what VACUUM and ANALYZE have found meanwhile.
    let counted =
        |told: &_| words(told).contains("| 40,000 |") && words(told).contains("\ndying | 15,000 | ");
    world.until("bloat asset-service", counted).await;
    admin.batch_execute("ANALYZE dying").await.unwrap();
    admin.batch_execute("VACUUM (ANALYZE) \"Fat one\"").await.unwrap();
    let bloat = world.until("bloat asset-service", |told| !words(told).contains("| 40,000 |")).await;
    let told = words(&bloat);
    assert_eq!(severity(&bloat), Severity::Warning, "{told}");
    let table = section(&told, "Bloat (estimated)");
    assert!(
        table.lines().any(|line| line.starts_with("\"Fat one\" | ") && line.ends_with(" | needs SELECT")),
        "{told}"
    );
    assert!(told.contains("asset-service: Countersign's reader may not SELECT from "), "{told}");
    assert!(!told.contains("is wasted"), "{told}");
    assert!(
        told.contains("asset-service: 50 % of the rows of dying are dead and not removed yet."),
        "{told}"
    );
    assert!(told.ends_with("Next: vacuum asset-service dying\n"), "{told}");

    admin.batch_execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO countersign_read").await.unwrap();
    let size = "SELECT pg_relation_size('\"Fat one\"')::float8";
    let before: f64 = admin.query_one(size, &[]).await.unwrap().get(0);
    let sections = world.sections("bloat asset-service").await.unwrap();
    let told = world.told("bloat asset-service").await;
    assert!(told.starts_with("WARNING: asset-service: an estimated "), "{told}");
    assert!(told.contains(" of \"Fat one\" is wasted: ") && !told.contains("needs SELECT"), "{told}");
    let column = sections[0].columns.iter().position(|name| name == "wasted (est.)_bytes").unwrap();
    let wasted = sections[0].rows[0].values[column].number().unwrap();
    admin.batch_execute("VACUUM FULL \"Fat one\"").await.unwrap();
    let after: f64 = admin.query_one(size, &[]).await.unwrap().get(0);
    let truth = before - after;
    assert!((wasted - truth).abs() < truth / 10.0, "{wasted} is far from {truth}");
}

/// Two sessions: one in a transaction that has read the tables, one whose ALTER TABLE waits behind it.
async fn queue_alter(world: &World) -> (Client, tokio::task::JoinHandle<()>) {
    let (holder, waiter) = (superuser(world).await, superuser(world).await);
    holder.batch_execute("BEGIN; SELECT count(*) FROM assets; SELECT count(*) FROM part").await.unwrap();
    let waiting = tokio::spawn(async move {
        let alter =
            "BEGIN; ALTER TABLE assets ADD COLUMN x int; ROLLBACK; ALTER TABLE part_1 SET (fillfactor = 50)";
        waiter.batch_execute(alter).await.unwrap();
    });
    let superuser = superuser(world).await;
    let waits = "SELECT FROM pg_locks WHERE relation = 'assets'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted";
    while superuser.query_opt(waits, &[]).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    (holder, waiting)
}

#[tokio::test(flavor = "multi_thread")]
async fn they_answer_while_an_alter_table_waits() {
    let world = World::start().await;
    let admin = superuser(&world).await;
    make(&world, &INDEXES.split(";\n").collect::<Vec<_>>()).await;
    admin.batch_execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO countersign_read").await.unwrap();
    let (holder, waiting) = queue_alter(&world).await;
    let alone = "SET lock_timeout = '100ms'; SELECT pg_relation_size('assets')";
    assert!(admin.batch_execute(alone).await.is_err(), "the ALTER TABLE waits");
    for (question, row) in [
        ("indexes asset-service", "\nidx_assets_owner | assets | "),
        ("bloat asset-service", "\nassets | "),
        ("autovacuum asset-service", "\nassets | "),
    ] {
        for section in world.sections(question).await.unwrap() {
            assert!(section.failures.is_empty(), "{question}: {:?}", section.failures);
        }
        let told = world.told(question).await;
        assert!(told.contains(row), "{question}: {told}");
    }
    let still = "SELECT count(*) FROM pg_locks WHERE relation = 'assets'::regclass AND NOT granted";
    assert_eq!(admin.query_one(still, &[]).await.unwrap().get::<_, i64>(0), 1, "it waited all along");
    holder.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn autovacuum_names_what_is_due_and_what_holds_it_back() {
    let mut world = World::start().await;
    let admin = superuser(&world).await;
    let table = "CREATE SCHEMA \"Old stuff\"; CREATE TABLE \"Old stuff\".\"User\" (id int) WITH (autovacuum_enabled = off);
        INSERT INTO \"Old stuff\".\"User\" SELECT generate_series(1, 30000); DELETE FROM \"Old stuff\".\"User\"";
    make(&world, &[table]).await;
    let (asset, account) = world.team.service("asset-service").unwrap();
    let forgotten = world.cluster.connect_as(account.login(&asset.database, "asset-report")).await.unwrap();
    forgotten
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM assets")
        .await
        .unwrap();
    let pid: i32 = forgotten.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let victim = world.cluster.connect_as(account.login(&asset.database, "asset-api")).await.unwrap();
    victim.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM assets").await.unwrap();
    let waiting_pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    // Each block that writes takes a number of its own.
    let numbers = "CREATE TEMP TABLE n (n int); DO $$ BEGIN FOR n IN 1..10000 LOOP
        BEGIN INSERT INTO n VALUES (1); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$";
    admin.batch_execute(numbers).await.unwrap();
    admin
        .batch_execute("BEGIN; INSERT INTO \"Old stuff\".\"User\" VALUES (1); PREPARE TRANSACTION 'orphan-8'")
        .await
        .unwrap();

    let said = "asset-service: \"Old stuff\".\"User\" is due, but autovacuum is disabled for it. Next: vacuum asset-service \"Old stuff.User\"\n";
    let answer = world.until("autovacuum asset-service", |told| words(told).contains(said)).await;
    let told = words(&answer);
    assert_eq!(severity(&answer), Severity::Warning, "{told}");
    let held = section(&told, "Held back by");
    assert!(held.contains(&format!("\nsession | {pid} | asset-report of asset_service_db | ")), "{held}");
    assert!(held.contains("\nprepared transaction | - | orphan-8 of asset_service_db | "), "{held}");
    let due = section(&told, "Tables").lines().nth(1).unwrap();
    assert!(due.starts_with("\"Old stuff\".\"User\" | 30,0") && due.contains(" | dead rows, "), "{due}");
    // Below the limits nobody is offered, and never who waits.
    assert!(answer.button_purposes.is_empty(), "{told}");
    let lock = "LOCK TABLE assets IN ACCESS EXCLUSIVE MODE";
    let waiting = tokio::spawn(async move { victim.batch_execute(lock).await });
    until(&admin, "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted").await;
    world
        .change(|config| {
            config.environments[0].limits.push(ThresholdOverride {
                command: "autovacuum".to_owned(),
                column: "held_xids".to_owned(),
                warning: Some(10_000.0),
                critical: None,
            });
        })
        .await;
    let answer = world.ask("Ana Example", "autovacuum asset-service").await.unwrap();
    let told = words(&answer);
    assert!(section(&told, "Held back by").contains(&format!("\nsession | {waiting_pid} | ")), "{told}");
    assert!(told.contains(&format!("To end the session that holds VACUUM back: kill {pid}")), "{told}");
    let [(_, TokenPurpose::RunCommand { command, arguments, .. })] = answer.button_purposes.as_slice() else {
        panic!("{told}")
    };
    assert_eq!((command.as_str(), &arguments["pid"]), ("kill", &pid.to_string()));
    let elsewhere = world.told("autovacuum auth-service").await;
    assert!(!elsewhere.contains("asset-report"), "a session holds back its own database: {elsewhere}");
    let all = world.told("autovacuum").await;
    assert!(
        all.contains("asset-service | \"Old stuff\".\"User\" | ") && all.contains("[Age of databases]"),
        "{all}"
    );

    admin.query("SELECT pg_terminate_backend($1)", &[&waiting_pid]).await.unwrap();
    waiting.await.unwrap().unwrap_err();
    admin.batch_execute("ROLLBACK PREPARED 'orphan-8'").await.unwrap();
    forgotten.batch_execute("COMMIT").await.unwrap();
    let slow = superuser(&world).await;
    slow.batch_execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1").await.unwrap();
    let vacuum = tokio::spawn(async move { slow.batch_execute("VACUUM \"Old stuff\".\"User\"").await });
    let running =
        world.until("autovacuum asset-service", |told| words(told).contains(" | manual, pid ")).await;
    let told = words(&running);
    assert!(section(&told, "Running now").contains("\n\"Old stuff\".\"User\" | "), "{told}");
    vacuum.abort();

    admin.batch_execute("ALTER SYSTEM SET autovacuum = off").await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let off = world.until("autovacuum asset-service", |told| severity(told) == Severity::Critical).await;
    let told = words(&off);
    assert!(told.starts_with("CRITICAL: primary: autovacuum is disabled (autovacuum = off).\n"), "{told}");
}
