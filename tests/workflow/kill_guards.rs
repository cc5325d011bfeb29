//! Whom `kill` and `cancel` never touch, when they are asked and again in the statement that acts.

use crate::harness::{ANA, BEN, Scene};
use countersign::model::RunState;
use std::process::{Child, Command, Stdio};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

/// A pid that the query finds as soon as there is one.
async fn pid_of(scene: &Scene, condition: &str) -> i32 {
    let superuser = scene.superuser().await;
    let sql = format!("SELECT pid FROM pg_stat_activity WHERE {condition} LIMIT 1");
    for _ in 0..100_000 {
        if let Some(row) = superuser.query_opt(&sql, &[]).await.unwrap() {
            return row.get(0);
        }
        tokio::task::yield_now().await;
    }
    panic!("no session where {condition}");
}

/// A session of the replication protocol, until it is dropped.
struct Walsender(Child);

impl Walsender {
    fn start(scene: &Scene, role: &str) -> Walsender {
        let cluster = &scene.servers.cluster;
        let target = format!(
            "host={} port={} user={role} dbname=postgres replication=database application_name=walsender-{role}",
            cluster.host(),
            cluster.port()
        );
        let mut psql = Command::new("psql");
        psql.arg("--no-psqlrc").arg(target).env("PGPASSWORD", "sample");
        psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Walsender(psql.spawn().expect("psql"))
    }
}

impl Drop for Walsender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_nobodys_to_end_are_refused_when_asked() {
    let scene = Scene::usual().await;
    scene.role("guards_replica", "REPLICATION").await;
    scene.role("guards_super", "SUPERUSER").await;
    let _walsender = Walsender::start(&scene, "guards_replica");
    let (_superuser, super_pid) = scene.session_of("guards_super", "psql").await;
    // Of the bot's own role and this test's own: other bots' sessions of that role come and go.
    let (_own, own) = scene.reader_session().await;
    let sender = pid_of(&scene, "application_name = 'walsender-guards_replica'").await;
    let checkpointer = pid_of(&scene, "backend_type = 'checkpointer'").await;
    let launcher = pid_of(&scene, "backend_type = 'logical replication launcher'").await;
    for command in ["kill", "cancel"] {
        for (pid, words) in [
            (own, "Countersign's own"),
            (sender, "PostgreSQL's walsender"),
            (checkpointer, "PostgreSQL's checkpointer"),
            (launcher, "PostgreSQL's logical replication launcher"),
            (super_pid, "a superuser's (guards_super)"),
        ] {
            scene.refused(ANA, &format!("{command} {pid} --env production"), words).await;
            assert!(scene.is_there(pid).await);
        }
    }
    assert_eq!(scene.runs_in_all().await, 0);
}

/// What the acting statement is called with.
struct Aim<'a> {
    pid: i32,
    backend_start: &'a str,
    how: &'a str,
    query_start: Option<&'a str>,
    state_change: Option<&'a str>,
    own: Vec<String>,
    role: &'a str,
    database: &'a str,
}

/// The statement itself, as the operator.
async fn signals(client: &Client, aim: &Aim<'_>) -> Vec<Row> {
    let sql = include_str!("../../src/actions/support/signal.sql");
    let Aim { pid, backend_start, how, query_start, own, role, database, state_change } = aim;
    let (backend_start, query_start) = (vec![*backend_start], vec![*query_start]);
    let (state_change, pid, role, database) = (vec![*state_change], vec![*pid], vec![*role], vec![*database]);
    let values: [&(dyn ToSql + Sync); 8] =
        [&pid, &backend_start, how, &query_start, own, &role, &database, &state_change];
    client.query(sql, &values).await.unwrap()
}

/// Start, query's start, role and database of a session, as the plan has them.
async fn facts(client: &Client, pid: i32) -> (String, String, String, String) {
    let sql = "SELECT to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00',
                      COALESCE(to_char(query_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00', '-'),
                      COALESCE(usename, '-')::text, COALESCE(datname, '-')::text FROM pg_stat_activity WHERE pid = $1";
    let row = client.query_one(sql, &[&pid]).await.unwrap();
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_that_acts_tests_identity_and_guards_itself() {
    let scene = Scene::usual().await;
    scene.role("signal_replica", "REPLICATION").await;
    scene.role("signal_super", "SUPERUSER").await;
    let _walsender = Walsender::start(&scene, "signal_replica");
    let (_superuser, super_pid) = scene.session_of("signal_super", "psql").await;
    let sender = pid_of(&scene, "application_name = 'walsender-signal_replica'").await;
    let launcher = pid_of(&scene, "backend_type = 'logical replication launcher'").await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    // A login of its own: nothing but the guard keeps it from ending itself.
    let superuser = scene.role("signal_operator", "").await;
    superuser.batch_execute("GRANT pg_signal_backend, pg_monitor TO signal_operator").await.unwrap();
    let (operator, itself) = scene.session_of("signal_operator", "operator").await;
    let (start, query_start, role, database) = facts(&operator, pid).await;
    let good = || Aim {
        pid,
        backend_start: &start,
        how: "terminate",
        query_start: None,
        state_change: None,
        own: vec!["countersign_read".to_owned()],
        role: &role,
        database: &database,
    };
    let earlier = "2000-01-01 00:00:00.000000+00";
    for (what, aim) in [
        ("another start", Aim { backend_start: earlier, ..good() }),
        ("another role", Aim { role: "auth_svc", ..good() }),
        ("another database", Aim { database: "auth_service_db", ..good() }),
        ("the bot's own role", Aim { own: vec![role.clone()], ..good() }),
        ("cancel while idle", Aim { how: "cancel", query_start: Some(&query_start), ..good() }),
        ("idle, and used since", Aim { how: "idle", state_change: Some(earlier), ..good() }),
        ("idle, and nobody knows since when", Aim { how: "idle", ..good() }),
    ] {
        assert!(signals(&operator, &aim).await.is_empty(), "{what}");
    }
    for (what, pid) in
        [("a superuser", super_pid), ("a walsender", sender), ("a worker", launcher), ("itself", itself)]
    {
        let (start, _, role, database) = facts(&operator, pid).await;
        let aim =
            Aim { pid, backend_start: &start, role: &role, database: &database, own: Vec::new(), ..good() };
        assert!(signals(&operator, &aim).await.is_empty(), "{what}");
        assert!(scene.is_there(pid).await, "{what}");
    }
    assert!(scene.is_there(pid).await);
    assert_eq!(signals(&operator, &good()).await.len(), 1, "and nothing else speaks against it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_is_bound_to_the_statement_that_was_shown() {
    let scene = Scene::usual().await;
    let (busy, pid) = scene.session("asset-report").await;
    let running = tokio::spawn(async move { busy.batch_execute("SELECT pg_sleep(600)").await });
    pid_of(&scene, &format!("pid = {pid} AND state = 'active' AND wait_event = 'PgSleep'")).await;
    let operator = scene.superuser().await;
    operator.batch_execute("SET ROLE countersign_act").await.unwrap();
    let (start, query_start, role, database) = facts(&operator, pid).await;
    let earlier = "2000-01-01 00:00:00.000000+00";
    let aim = |query_start| Aim {
        pid,
        backend_start: &start,
        how: "cancel",
        query_start: Some(query_start),
        state_change: None,
        own: Vec::new(),
        role: &role,
        database: &database,
    };
    assert!(signals(&operator, &aim(earlier)).await.is_empty(), "another statement");
    assert!(!running.is_finished());
    assert_eq!(signals(&operator, &aim(&query_start)).await.len(), 1);
    assert!(running.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_the_statement_and_leaves_the_session() {
    let scene = Scene::usual().await;
    let (client, pid) = scene.session("asset-report").await;
    let line = format!("cancel {pid} --env production");
    scene.refused(ANA, &line, "runs no statement: it is idle, and cancelling can't help").await;
    client.batch_execute("BEGIN").await.unwrap();
    scene.refused(ANA, &line, "idle in transaction, and cancelling can't help").await;
    let told = scene.asks(ANA, &line).await.plain();
    assert!(told.contains(&format!("kill {pid}")), "it says what would help: {told}");
    client.batch_execute("ROLLBACK").await.unwrap();
    let running = tokio::spawn(async move {
        let cancelled = client.batch_execute("SELECT pg_sleep(600)").await.unwrap_err();
        (client, cancelled)
    });
    pid_of(&scene, &format!("pid = {pid} AND state = 'active' AND wait_event = 'PgSleep'")).await;
    let told = scene.asks(ANA, &line).await.plain();
    assert!(told.contains(&format!("The statement of session {pid} is cancelled")), "{told}");
    let (client, cancelled) = running.await.unwrap();
    assert_eq!(cancelled.code().map(|code| code.code()), Some("57014"));
    client.batch_execute("SELECT 1").await.unwrap();
    let run = scene.only_run("cancel").await;
    assert_eq!((run.state, run.events.len()), (RunState::Succeeded, 2));
}

/// Asks, changes something on the server, lets ben approve; what the card says in the end.
async fn after(scene: &Scene, pid: i32, change: impl Future<Output = ()>) -> String {
    let card = scene.kill_card(pid).await;
    change.await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    let shown = scene.until(&card.at(), "Nothing was done").await;
    assert_eq!(scene.runs_of("kill").await[0].state, RunState::Invalidated, "{}", shown.plain());
    shown.plain()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ended_meanwhile_is_gone_and_nobody_else_is_hurt() {
    let scene = Scene::usual().await;
    let (victim, pid) = scene.session("asset-worker-7").await;
    let superuser = scene.superuser().await;
    let leave = async {
        drop(victim);
        let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
        while superuser.query_one(sql, &[&pid]).await.unwrap().get(0) {
            tokio::task::yield_now().await;
        }
    };
    let told = after(&scene, pid, leave).await;
    assert!(told.contains(&format!("is gone: no session has pid {pid} now")), "{told}");
    scene.refused(ANA, &format!("kill {pid} --env production"), "There is no session").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_role_became_a_superusers_or_another_is_left_alone() {
    let scene = Scene::usual().await;
    let superuser = scene.role("later_super", "").await;
    superuser.batch_execute("DROP ROLE IF EXISTS later_renamed").await.unwrap();
    let (_session, pid) = scene.session_of("later_super", "tool").await;
    for (change, back, is) in [
        ("ALTER ROLE later_super SUPERUSER", "ALTER ROLE later_super NOSUPERUSER", "a superuser's now"),
        (
            "ALTER ROLE later_super RENAME TO later_renamed",
            "ALTER ROLE later_renamed RENAME TO later_super",
            "another role's, or in another database now",
        ),
    ] {
        let told = after(&scene, pid, async { superuser.batch_execute(change).await.unwrap() }).await;
        assert!(told.contains(&format!("Session {pid} is {is}, and was left alone.")), "{told}");
        assert!(scene.is_there(pid).await, "{change}");
        superuser.batch_execute(back).await.unwrap();
    }
}
