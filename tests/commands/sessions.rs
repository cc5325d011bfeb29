//! Sentences about sessions are no wider than what was looked at: the right clock, waits of all kinds, transactions of many
//! statements, sessions that hide, and Countersign's own.

use crate::harness::{World, words};
use crate::installed::on_each_server;
use countersign::config::ThresholdOverride;
use countersign::demo::postgres::ConnectionParameters;
use countersign::sql::Answer;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// A session of the asset service, and its pid.
async fn session(world: &World, application: &str) -> (Client, i32) {
    let (asset, account) = world.team.service("asset-service").unwrap();
    let client = world.cluster.connect_as(account.login(&asset.database, application)).await.unwrap();
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    (client, pid)
}

/// Runs a statement that will wait, and returns when it does.
async fn waits(world: &World, (client, pid): (Client, i32), sql: &'static str) -> JoinHandle<()> {
    let waiting = tokio::spawn(async move { drop(client.batch_execute(sql).await) });
    let (observer, wait) = (world.cluster.connect("postgres").await.unwrap(), is_waiting(pid));
    while observer.query_opt(&wait, &[]).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    waiting
}

fn is_waiting(pid: i32) -> String {
    format!(
        "SELECT FROM pg_stat_activity WHERE pid = {pid} AND
         (wait_event_type IN ('Lock', 'BufferPin') OR wait_event IN ('SyncRep', 'SafeSnapshot'))"
    )
}

/// Lowers limits of `health`, so that nobody waits minutes for a sentence.
async fn lower(world: &mut World, limits: &[(&str, f64)]) {
    world
        .change(|config| {
            for (column, warning) in limits {
                config.environments[0].limits.push(ThresholdOverride {
                    command: "health".to_owned(),
                    column: (*column).to_owned(),
                    warning: Some(*warning),
                    critical: None,
                });
            }
        })
        .await;
}

async fn told(world: &World, line: &str, part: &str) -> String {
    words(&world.until(line, |answer| words(answer).contains(part)).await)
}

/// The longest wait by PostgreSQL's own clock, in seconds; none before PostgreSQL 14.
async fn longest_wait(world: &World) -> Option<f64> {
    let sql = "SELECT extract(epoch FROM clock_timestamp() - min((to_jsonb(l) ->> 'waitstart')::timestamptz))::float8
               FROM pg_locks l WHERE NOT granted";
    world.cluster.connect("postgres").await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
}

fn health_wait(answer: &Answer) -> String {
    let told = words(answer);
    told.lines().find(|line| line.contains("waiting for a lock")).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_names_who_and_measures_waits_from_their_start() {
    on_each_server(async |bin_dir| {
        let mut world = World::on(Some(bin_dir)).await;
        lower(&mut world, &[("idle_in_transaction_s", 0.0), ("oldest_transaction_s", 0.0)]).await;
        // A transaction of an application without a name that only reads: nothing holds VACUUM back once it is idle.
        let (nameless, pid) = session(&world, "").await;
        nameless.batch_execute("BEGIN; SELECT count(*) FROM assets").await.unwrap();
        let role = &world.team.service("asset-service").unwrap().1.user;
        let idle = format!("primary: pid {pid} ({role}) has been idle in a transaction for ");
        let health = told(&world, "health", &idle).await;
        assert!(health.contains(&format!("To end it: kill {pid}\n")), "{health}");
        let open = format!("primary: pid {pid} ({role}) has had a transaction open for ");
        let line = health.lines().find(|line| line.contains(&open)).unwrap_or_default();
        assert!(line.ends_with(". long shows it.") && !line.contains("VACUUM"), "{health}");
        nameless
            .batch_execute("DELETE FROM assets WHERE id = ''; CREATE TEMP TABLE x AS SELECT 1")
            .await
            .unwrap();
        told(&world, "health", " and holds VACUUM back. long shows it.").await;
        nameless.batch_execute("COMMIT").await.unwrap();

        // The statement began two seconds before the wait.
        let (holder, _) = session(&world, "batch").await;
        holder.batch_execute("BEGIN; LOCK TABLE assets").await.unwrap();
        let late = "DO $$ BEGIN PERFORM pg_sleep(2); LOCK TABLE assets; END $$";
        let waiting = waits(&world, session(&world, "late").await, late).await;
        let health = health_wait(&world.ask("Ana Example", "health").await.unwrap());
        let sections = world.sections("health").await.unwrap();
        let server = sections.iter().find(|section| section.title.as_deref() == Some("Locks")).unwrap();
        let number = |column: &str| {
            let at = server.columns.iter().position(|known| known == column).unwrap();
            server.rows[0].values[at].number()
        };
        match longest_wait(&world).await {
            Some(longest) => {
                assert!(number("waiting_s").unwrap() <= longest && !health.contains("at most"), "{health}");
            }
            None => assert!(
                number("_waiting_at_most_s").unwrap() >= 2.0 && health.contains("for at most "),
                "{health}"
            ),
        }
        holder.batch_execute("ROLLBACK").await.unwrap();
        waiting.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_sees_waits_of_background_processes_and_for_standbys() {
    let world = World::start().await;
    let primary = world.cluster.connect("user_service_db").await.unwrap();
    let subscriber = world.cluster.connect("asset_service_db").await.unwrap();
    primary
        .batch_execute("CREATE TABLE pubt (id int PRIMARY KEY); CREATE PUBLICATION pb FOR TABLE pubt")
        .await
        .unwrap();
    primary.query("SELECT pg_create_logical_replication_slot('sb', 'pgoutput')", &[]).await.unwrap();
    let connection = format!(
        "host={} port={} dbname=user_service_db user={} password={}",
        world.cluster.host(),
        world.cluster.port(),
        world.cluster.superuser(),
        world.cluster.superuser_password()
    );
    subscriber.batch_execute("CREATE TABLE pubt (id int PRIMARY KEY)").await.unwrap();
    let subscribe = format!(
        "CREATE SUBSCRIPTION sb CONNECTION '{connection}' PUBLICATION pb
         WITH (create_slot = false, slot_name = 'sb', copy_data = false)"
    );
    subscriber.batch_execute(&subscribe).await.unwrap();
    subscriber.batch_execute("BEGIN; LOCK TABLE pubt").await.unwrap();
    primary.batch_execute("INSERT INTO pubt VALUES (1)").await.unwrap();
    let health = told(&world, "health", "primary: 1 session is waiting for a lock, the longest for ").await;
    assert!(health.contains("\nReplication | 1 subscriber, "), "{health}");
    subscriber.batch_execute("ROLLBACK").await.unwrap();
    // A subscriber can be a synchronous standby, too.
    subscriber.batch_execute("DROP SUBSCRIPTION sb").await.unwrap();

    primary.batch_execute("ALTER SYSTEM SET synchronous_commit = 'on'").await.unwrap();
    for (names, needed) in [
        ("FIRST 2 (r1, nope)", "2 synchronous standbys"),
        ("any 3 (a, b, c, d)", "3 synchronous standbys"),
        ("2 (a, b)", "2 synchronous standbys"),
        ("nope", "1 synchronous standby"),
        ("*", "1 synchronous standby"),
    ] {
        primary
            .batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"))
            .await
            .unwrap();
        primary.query("SELECT pg_reload_conf()", &[]).await.unwrap();
        let health =
            told(&world, "health", &format!("commits need {needed} and have 0, so they hang; ")).await;
        assert!(health.starts_with("CRITICAL: primary: commits need "), "{health}");
    }
    let commit = waits(&world, session(&world, "asset-api").await, "CREATE TABLE tick (id int)").await;
    let health = told(&world, "health", "1 session is waiting now. replication shows the standbys.").await;
    assert!(health.starts_with("CRITICAL: "), "{health}");
    primary.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    primary.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    commit.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_sessions_and_many_short_statements_are_no_all_clear() {
    let world = World::start().await;
    world.heal().await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    let role = "CREATE ROLE app LOGIN PASSWORD 'app'; ALTER ROLE app SET track_activities = off";
    superuser.batch_execute(role).await.unwrap();
    let login = ConnectionParameters {
        user: "app",
        password: "app",
        database: "postgres",
        application_name: "hidden",
    };
    let hidden = world.cluster.connect_as(login).await.unwrap();
    hidden.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let limit = "1 session hides what it does (track_activities is off for it): nothing can be said of ";
    for line in ["long --over 1h", "health"] {
        let told = told(&world, line, limit).await;
        assert!(told.starts_with("WARNING: ") && told.lines().next().unwrap().contains(limit), "{told}");
        assert!(told.lines().nth(1).unwrap().starts_with("Apart from that: "), "{told}");
    }
    drop(hidden);

    let (batch, pid) = session(&world, "batch").await;
    batch.batch_execute("BEGIN").await.unwrap();
    let working = tokio::spawn(async move { while batch.batch_execute("SELECT 1").await.is_ok() {} });
    let row = format!("\n{pid} | ");
    let long = told(&world, "long --over 2s", &row).await;
    assert!(long.contains(" (batch) of asset_service_db, in a transaction (now "), "{long}");
    assert!(long.contains(&format!("kill {pid} ends the session.")), "{long}");
    working.abort();
}

/// What Countersign does itself is never offered for `kill`, whichever of its logins it uses; its names alone prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn own_sessions_are_known_by_role_and_name() {
    let world = World::start().await;
    let own = world.team.operator.login("asset_service_db", "countersign #313 ana");
    let own = world.cluster.connect_as(own).await.unwrap();
    own.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let idle_pool = world.team.operator.login("asset_service_db", "countersign");
    let idle_pool = world.cluster.connect_as(idle_pool).await.unwrap();
    idle_pool.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let long = told(&world, "long --over 1s", "Countersign, run #313").await;
    assert!(long.starts_with("WARNING: 1 session has been busy "), "{long}");
    assert!(
        long.ends_with("Run #313 is Countersign's own: stop 313 ends it.\n") && !long.contains("kill"),
        "{long}"
    );
    let connections = world.told("connections").await;
    assert!(
        !connections.contains("countersign") && connections.contains("\nCountersign | "),
        "{connections}"
    );

    let (forged, pid) = session(&world, "countersign #314 ana").await;
    forged.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let long = told(&world, "long --over 1s", &format!("\n{pid} | ")).await;
    assert!(long.contains(&format!("kill {pid} ends the session.")) && !long.contains("run #314"), "{long}");
}
