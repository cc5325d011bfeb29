//! Who waits for whom, drawn exactly: every true edge and no other, each session once.

use crate::harness::{SOON, World, words};
use crate::installed::on_each_server;
use countersign::demo::postgres::Options;
use std::collections::BTreeSet;
use tokio_postgres::Client;

/// A session of the asset service in its own transaction, and its pid.
async fn session(world: &World, application: &str) -> (Client, i32) {
    let (service, account) = world.team.service("asset-service").unwrap();
    let client = world.cluster.connect_as(account.login(&service.database, application)).await.unwrap();
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    client.batch_execute("BEGIN").await.unwrap();
    (client, pid)
}

/// One more session, which runs into a lock; returns when it waits.
async fn waiter(world: &World, application: &str, sql: &'static str) -> i32 {
    let (client, pid) = session(world, application).await;
    tokio::spawn(async move { client.batch_execute(sql).await });
    until_blocked(world, pid).await;
    pid
}

async fn until_blocked(world: &World, pid: i32) {
    let observer = world.cluster.connect("postgres").await.unwrap();
    let waits = "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'";
    while observer.query_opt(waits, &[&pid]).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}

/// The rows of the answer: the pid, how deep it hangs, and whom it waits for.
fn drawn(told: &str) -> Vec<(i32, usize, BTreeSet<i32>)> {
    let rows = told.lines().skip_while(|line| !line.starts_with("[] session")).skip(1);
    let rows = rows.map_while(|line| {
        let mut cells = line.split(" | ");
        let session = cells.next()?;
        let pid = session.trim_start_matches(['│', '└', ' ']).parse().ok()?;
        let depth = session.matches(['│', '└']).count();
        let above = cells.next()?.split(", ").filter_map(|pid| pid.parse().ok()).collect();
        Some((pid, depth, above))
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_incident_has_seven_edges() {
    const UPDATE: &str =
        "UPDATE assets SET description = description WHERE id = (SELECT min(id) FROM assets)";
    let world = World::start().await;
    let (head, head_pid) = session(&world, "asset-api").await;
    head.batch_execute(UPDATE).await.unwrap();
    let row = waiter(&world, "asset-worker-1", UPDATE).await;
    let tuple = waiter(&world, "asset-worker-2", UPDATE).await;
    let alter = waiter(&world, "migration", "ALTER TABLE assets ADD COLUMN note text").await;
    let reader = waiter(&world, "asset-report", "SELECT count(*) FROM assets").await;
    let (prisma, prisma_pid) = session(&world, "prisma-1").await;
    prisma.batch_execute("SELECT pg_advisory_xact_lock(72707369)").await.unwrap();
    let second = waiter(&world, "prisma-2", "SELECT pg_advisory_xact_lock(72707369)").await;

    let told = world.told("blocked").await;
    assert!(told.starts_with("CRITICAL: 5 sessions are blocked in 2 queues, the longest for "), "{told}");
    let root =
        format!("; the root blocker of the largest queue is pid {head_pid} (asset-api) of asset_service_db.");
    assert!(told.lines().next().unwrap().ends_with(&root), "{told}");
    let expected = [
        (head_pid, 0, BTreeSet::new()),
        (row, 1, BTreeSet::from([head_pid])),
        (tuple, 2, BTreeSet::from([row])),
        (alter, 3, BTreeSet::from([head_pid, row, tuple])),
        (reader, 4, BTreeSet::from([alter])),
        (prisma_pid, 0, BTreeSet::new()),
        (second, 1, BTreeSet::from([prisma_pid])),
    ];
    assert_eq!(drawn(&told), expected, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_is_one_row_a_session() {
    let world = World::start().await;
    let (head, head_pid) = session(&world, "asset-api").await;
    head.batch_execute("LOCK TABLE assets").await.unwrap();
    let mut queue = vec![head_pid];
    for _ in 0..22 {
        queue.push(waiter(&world, "asset-worker", "LOCK TABLE assets").await);
    }
    let told = world.told("blocked").await;
    let drawn = drawn(&told);
    assert_eq!(drawn.iter().map(|(pid, ..)| *pid).collect::<Vec<_>>(), queue, "{told}");
    let ahead =
        drawn.iter().enumerate().all(|(at, (_, _, above))| *above == queue[..at].iter().copied().collect());
    assert!(ahead, "each waits for all who came before: {told}");
}

/// Waits until the answer contains that.
async fn told(world: &World, line: &str, part: &str) -> String {
    words(&world.until(line, |answer| words(answer).contains(part)).await)
}

/// A queue of 400 has 80,000 edges: they are computed, not asked for, and their closure over all pairs is never made.
#[tokio::test(flavor = "multi_thread")]
async fn four_hundred_waiters_are_answered() {
    let settings = vec![("max_connections".to_owned(), "500".to_owned())];
    let world = World::with(Options { settings, ..Options::default() }).await;
    let (head, pid) = session(&world, "asset-api").await;
    head.batch_execute("LOCK TABLE assets").await.unwrap();
    for _ in 0..400 {
        let (client, _) = session(&world, "asset-worker").await;
        tokio::spawn(async move { client.batch_execute("LOCK TABLE assets").await });
    }
    let told = told(&world, "blocked", "400 sessions are blocked").await;
    let verdict =
        format!("CRITICAL: 400 sessions are blocked by pid {pid} (asset-api) of asset_service_db, ");
    assert!(told.starts_with(&verdict), "{told}");
    assert!(told.contains(&format!("\n{pid} | root blocker (400 waiting) | ")), "{told}");
    assert_eq!(drawn(&told).len(), 50, "{told}");
    let idle = world.told("idle --over 1s").await;
    let verdict =
        format!("CRITICAL: pid {pid} (asset-api) of asset_service_db has been idle in a transaction for ");
    assert!(idle.starts_with(&verdict) && idle.contains(" and blocks 400 sessions."), "{idle}");
    let locks = world.told(&format!("locks {pid}")).await;
    assert!(locks.contains("; 400 sessions wait for it, the longest for "), "{locks}");
    let plan = world.plan(&format!("kill {pid}")).await.unwrap();
    assert!(plan.context.contains(&("unblocks".to_owned(), "400 waiting sessions".to_owned())), "{plan:?}");
    assert_eq!(plan.tables[0].title.as_deref(), Some("Waiting sessions: the 20 longest of 400"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_to_blame_is_not_named() {
    on_each_server(async |bin_dir| {
        let world = World::on(Some(bin_dir)).await;
        let users = world.cluster.connect("user_service_db").await.unwrap();
        users.batch_execute("BEGIN; CREATE TABLE x (i int); PREPARE TRANSACTION 'innocent-9'").await.unwrap();
        let (guilty, _) = session(&world, "asset-api").await;
        guilty.batch_execute("LOCK TABLE assets; PREPARE TRANSACTION 'guilty-9'").await.unwrap();
        let pid = waiter(&world, "asset-worker", "SELECT FROM assets").await;
        let blocked =
            told(&world, "blocked", "1 session is blocked by prepared transaction guilty-9, ").await;
        assert!(!blocked.contains("innocent-9"), "{blocked}");
        let next = "Its owner must end it in asset_service_db, with COMMIT PREPARED or ROLLBACK PREPARED.\n";
        assert!(blocked.ends_with(next), "{blocked}");
        let locks = world.told(&format!("locks {pid}")).await;
        assert!(locks.contains(" for prepared transaction guilty-9. "), "{locks}");
        let assets = world.cluster.connect("asset_service_db").await.unwrap();
        assets.batch_execute("ROLLBACK PREPARED 'guilty-9'").await.unwrap();

        a_deadlock_is_told(&world).await;
        waits_that_are_no_locks_are_told(&world).await;
        a_root_blocker_that_nobody_can_end_is_told(&world).await;
        a_wait_for_a_standby_is_told(&world).await;
        an_autovacuum_that_does_not_yield_is_told(&world).await;
    })
    .await;
}

/// A setting of the server, once its sessions have it.
async fn set(client: &Client, name: &str, value: &str) {
    client.batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).await.unwrap();
    client.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    while client.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get::<_, &str>(0) != value {}
}

async fn a_wait_for_a_standby_is_told(world: &World) {
    let superuser = world.cluster.connect("postgres").await.unwrap();
    set(&superuser, "synchronous_standby_names", "nope").await;
    let (writer, pid) = session(world, "writer").await;
    let commit = "SET LOCAL synchronous_commit = on; UPDATE assets SET description = description; COMMIT";
    let writing = tokio::spawn(async move { writer.batch_execute(commit).await });
    let blocked = told(world, "blocked", "1 session is blocked by a synchronous standby, ").await;
    assert!(
        blocked.contains(&format!("\n└ {pid} | ")) && blocked.contains("waiting for a synchronous standby"),
        "{blocked}"
    );
    assert!(
        blocked.ends_with("`replication` shows the standbys.\n")
            || blocked.ends_with("replication shows the standbys.\n"),
        "{blocked}"
    );
    let locks = world.told(&format!("locks {pid}")).await;
    assert!(locks.contains("a synchronous standby"), "{locks}");
    set(&superuser, "synchronous_standby_names", "").await;
    writing.await.unwrap().unwrap();
    told(world, "blocked", "OK: ").await;
}

/// One that prevents wraparound: a lock of somebody else's doesn't cancel it. It lasts, since it rests after each page.
const OLD_TABLE: &str = "
    CREATE TABLE old WITH (autovacuum_freeze_max_age = 100000, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, fillfactor = 10)
        AS SELECT g AS id, repeat('x', 500) AS t FROM generate_series(1, 1000) g;
    ALTER TABLE old OWNER TO asset_svc;
    CREATE TEMP TABLE n (n int);
    DO $$ BEGIN FOR n IN 1..101000 LOOP
        BEGIN INSERT INTO n VALUES (1); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$";

async fn an_autovacuum_that_does_not_yield_is_told(world: &World) {
    let superuser = world.cluster.connect("asset_service_db").await.unwrap();
    // With a second for a dozen databases its launcher would never come to some of them.
    set(&superuser, "autovacuum_naptime", "3s").await;
    superuser.batch_execute(OLD_TABLE).await.unwrap();
    let working = "SELECT a.pid FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND l.relation = 'old'::regclass AND l.granted
                   WHERE a.backend_type = 'autovacuum worker' AND a.query LIKE '%to prevent wraparound%'";
    let looking = async {
        loop {
            if let Some(row) = superuser.query_opt(working, &[]).await.unwrap() {
                return row.get(0);
            }
            tokio::task::yield_now().await;
        }
    };
    let looked = tokio::time::timeout(SOON, looking).await;
    let others = "SELECT concat_ws(' ', datname, query, state, wait_event, (SELECT age(relfrozenxid) FROM pg_class WHERE relname = 'old'))
                  FROM pg_stat_activity WHERE backend_type ~ 'autovacuum'";
    let others: Vec<String> =
        superuser.query(others, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let worker: i32 = looked.unwrap_or_else(|_| panic!("no autovacuum worker came: {others:?}"));
    let alter = waiter(world, "migration", "LOCK TABLE old").await;
    let reader = waiter(world, "asset-api", "SELECT FROM old").await;
    let verdict = format!("2 sessions are blocked by pid {worker} (autovacuum worker) of asset_service_db, ");
    let blocked = told(world, "blocked", &verdict).await;
    assert!(blocked.contains("to prevent wraparound"), "{blocked}");
    assert!(
        blocked.contains(&format!("\n└ {alter} | {worker} | "))
            && blocked.contains(&format!("└ {reader} | {alter} | ")),
        "{blocked}"
    );
    let next = format!(
        "The root blocker can't be ended from here (it is PostgreSQL's autovacuum worker). To let the others pass, cancel the first \
         that waits for it: cancel {alter}\n"
    );
    assert!(blocked.ends_with(&next), "{blocked}");
    let refused = world.plan(&format!("kill {worker}")).await.expect_err("no client's session").to_string();
    assert!(refused.contains("autovacuum worker"), "{refused}");
}

async fn a_deadlock_is_told(world: &World) {
    let superuser = world.cluster.connect("postgres").await.unwrap();
    superuser.batch_execute("ALTER SYSTEM SET deadlock_timeout = '1h'").await.unwrap();
    superuser.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    let mut ring = Vec::new();
    for (at, own) in ["d1", "d2"].into_iter().enumerate() {
        let (client, pid) = session(world, own).await;
        while client.query_one("SHOW deadlock_timeout", &[]).await.unwrap().get::<_, &str>(0) != "1h" {}
        client.batch_execute(&format!("SELECT pg_advisory_xact_lock({at})")).await.unwrap();
        ring.push((client, pid));
    }
    let pids: Vec<i32> = ring.iter().map(|(_, pid)| *pid).collect();
    for (at, (client, _)) in ring.into_iter().enumerate() {
        let sql = format!("SELECT pg_advisory_xact_lock({})", 1 - at);
        tokio::spawn(async move { client.batch_execute(&sql).await });
        until_blocked(world, pids[at]).await;
    }
    let third = waiter(world, "third", "SELECT pg_advisory_xact_lock(0)").await;
    let (first, second) = (pids[0].min(pids[1]), pids[0].max(pids[1]));
    let name = |pid: i32| if pid == pids[0] { "d1" } else { "d2" };
    let verdict = format!(
        "CRITICAL: 3 sessions are blocked: pid {first} ({}), pid {second} ({}) wait for each other, the longest for ",
        name(first),
        name(second)
    );
    let blocked = told(world, "blocked", &verdict).await;
    assert!(blocked.contains(&format!("\n{third} | ")) && !blocked.contains("root blocker"), "{blocked}");
    assert!(blocked.ends_with(&format!("(1h). To end it now: cancel {first}\n")), "{blocked}");
    superuser.query("SELECT pg_cancel_backend($1)", &[&first]).await.unwrap();
    told(world, "blocked", "OK: ").await;
}

async fn waits_that_are_no_locks_are_told(world: &World) {
    let (writer, writer_pid) = session(world, "writer").await;
    let write = "ROLLBACK; BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE assets SET description = description WHERE id = ''";
    writer.batch_execute(write).await.unwrap();
    writer.batch_execute("CREATE TEMP TABLE written AS SELECT 1").await.unwrap();
    let (dump, pid) = session(world, "dump").await;
    let snapshot = "ROLLBACK; BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; SELECT 1";
    tokio::spawn(async move { dump.batch_execute(snapshot).await });
    let verdict = format!(
        "1 session is blocked by pid {writer_pid} (writer) of asset_service_db, the longest for at most "
    );
    let blocked = told(world, "blocked", &verdict).await;
    assert!(
        blocked.contains("waiting for a safe snapshot") && blocked.contains("is at most what is shown"),
        "{blocked}"
    );
    let locks = world.told(&format!("locks {pid}")).await;
    let waits = format!(" for a safe snapshot, which pid {writer_pid} (writer) delays. ");
    assert!(locks.contains(&waits), "{locks}");
    writer.batch_execute("ROLLBACK").await.unwrap();

    let (reader, reader_pid) = session(world, "reader").await;
    reader.batch_execute("DECLARE c CURSOR FOR SELECT * FROM assets; FETCH 1 FROM c").await.unwrap();
    let owner = world.cluster.connect("asset_service_db").await.unwrap();
    let vacuum =
        tokio::spawn(
            async move { owner.batch_execute("VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) assets").await },
        );
    let verdict = format!("1 session is blocked by pid {reader_pid} (reader) of asset_service_db, ");
    let blocked = told(world, "blocked", &verdict).await;
    assert!(blocked.contains("waiting for a buffer pin"), "{blocked}");
    let health = world.told("health").await;
    assert!(health.contains("1 session is waiting for a buffer pin or a safe snapshot."), "{health}");
    reader.batch_execute("ROLLBACK").await.unwrap();
    vacuum.await.unwrap().unwrap();
}

async fn a_root_blocker_that_nobody_can_end_is_told(world: &World) {
    let admin = world.cluster.connect("asset_service_db").await.unwrap();
    admin.batch_execute("BEGIN; LOCK TABLE assets IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
    let alter = waiter(world, "migration", "LOCK TABLE assets").await;
    waiter(world, "asset-api", "SELECT FROM assets").await;
    let blocked = told(world, "blocked", "2 sessions are blocked by pid ").await;
    let next = format!(
        "The root blocker can't be ended from here (it is a superuser's). To let the others pass, cancel the first that waits \
         for it: cancel {alter}\n"
    );
    assert!(blocked.ends_with(&next), "{blocked}");
    admin.batch_execute("ROLLBACK").await.unwrap();
}
