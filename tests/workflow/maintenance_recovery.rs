//! Maintenance in the middle: its progress, the effect of a stop, and its outcome when its process is killed. A gate holds each up where
//! it is looked at, on servers of their own, since whoever waits at it keeps others' dead rows.

use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use crate::maintenance_harness::{self, database, gated, make, one};
use crate::process::{Process, kinds};
use countersign::audit::{AuditLog, EventDetails};
use countersign::demo::fake_slack::Message;
use countersign::model::{EventKind, Run, RunState};
use countersign::store::AppendOutcome;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::OnceCell;
use tokio_postgres::Client;

async fn servers() -> &'static Servers {
    static SERVERS: OnceCell<Servers> = OnceCell::const_new();
    SERVERS.get_or_init(maintenance_harness::start).await
}

/// Without a bot; the superuser in the service's database, which no other scene uses, where there is a table with dead rows.
async fn scene(service: &str, more: &str) -> (Scene, Client) {
    let servers = servers().await;
    let scene = Scene::without_bot(Twist { servers: Some(servers), more, ..Twist::default() }).await;
    numbers_apart(&scene);
    let superuser = servers.cluster.connect(&database(service)).await.unwrap();
    make(&superuser, service, "big").await;
    (scene, superuser)
}

/// Each record counts its runs from 1, and a session tells no more than its run's number: here no two have the same.
fn numbers_apart(scene: &Scene) {
    static SCENES: AtomicU32 = AtomicU32::new(1);
    drop(scene.store());
    let hand = rusqlite::Connection::open(scene.directory.path().join("record.db")).unwrap();
    let begin = SCENES.fetch_add(1, Ordering::Relaxed) * 1_000;
    hand.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('runs', ?1)", [begin]).unwrap();
}

async fn with_bot(service: &str, more: &str) -> (Scene, Client) {
    let (mut scene, superuser) = scene(service, more).await;
    scene.bot = Some(scene.stage.bot().await.expect("a bot"));
    (scene, superuser)
}

async fn file(client: &Client) -> u32 {
    one(client, "SELECT pg_relation_filenode('big')").await
}

/// Waits until somebody waits at the gate: the pid.
async fn at_the_gate(client: &Client) -> i32 {
    let sql = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    found("somebody at the gate", async || client.query_opt(sql, &[]).await.unwrap().map(|row| row.get(0)))
        .await
}

async fn state(scene: &Scene, command: &str, state: RunState) -> Run {
    found("the state", async || {
        scene.runs_of(command).await.into_iter().next().filter(|run| run.state == state)
    })
    .await
}

/// The bot is killed and begun again, and has looked twice at what goes on.
async fn killed(scene: &Scene, (process, command): (Process, &str)) -> (Process, Run) {
    process.kill().await;
    let again = Process::start(scene).await;
    let run = state(scene, command, RunState::Interrupted).await;
    again.logs("run outcome not known yet", 2).await;
    (again, run)
}

async fn approved(scene: &Scene, line: &str) -> Message {
    let card = scene.card(ANA, &format!("{line} --env production")).await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    card
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_bots_vacuum_full_is_seen_to_go_on_and_then_to_be_done() {
    let (scene, superuser) = scene("auth-service", "").await;
    let gate = gated(&scene, "auth-service", "big").await;
    let before = file(&superuser).await;
    let process = Process::start(&scene).await;
    let card = approved(&scene, "vacuum-full auth-service big").await;
    at_the_gate(&superuser).await;
    let (_again, run) = killed(&scene, (process, "vacuum-full")).await;
    assert_eq!(
        state(&scene, "vacuum-full", RunState::Interrupted).await.version,
        run.version,
        "it is at work still"
    );
    let jobs = scene.asks(ANA, "jobs").await.plain();
    assert!(jobs.contains("1 interrupted run is still working on PostgreSQL"), "{jobs}");
    assert_eq!(file(&superuser).await, before);
    drop(gate);
    let told = scene.until(&card.at(), "public.big was rewritten. ").await.plain();
    assert!(told.contains("can't tell whether that is its work"), "{told}");
    assert_ne!(file(&superuser).await, before);
    let run = state(&scene, "vacuum-full", RunState::Succeeded).await;
    assert_eq!(kinds(&run), ["requested", "approved", "started", "interrupted", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_bots_vacuum_full_that_is_ended_has_changed_nothing_and_says_so() {
    let (scene, superuser) = scene("payout-service", "").await;
    let _gate = gated(&scene, "payout-service", "big").await;
    let before = file(&superuser).await;
    let process = Process::start(&scene).await;
    let card = approved(&scene, "vacuum-full payout-service big").await;
    at_the_gate(&superuser).await;
    let (_again, run) = killed(&scene, (process, "vacuum-full")).await;
    let told = scene.asks(BEN, &format!("stop {}", run.id)).await.plain();
    assert!(
        told.contains(&format!("1 session of the interrupted run #{} got the signal to end", run.id)),
        "{told}"
    );
    let words = "public.big was not rewritten: Countersign was interrupted, and nothing was changed.";
    scene.until(&card.at(), words).await;
    assert_eq!(file(&superuser).await, before);
    state(&scene, "vacuum-full", RunState::Failed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_bots_analyze_and_reindex_are_seen_to_be_done() {
    let (scene, superuser) = scene("billing-service", "").await;
    let gate = gated(&scene, "billing-service", "big").await;
    let process = Process::start(&scene).await;
    let card = scene.asks(ANA, "analyze billing-service big --env production").await;
    at_the_gate(&superuser).await;
    let (process, run) = killed(&scene, (process, "analyze")).await;
    assert_eq!(
        state(&scene, "analyze", RunState::Interrupted).await.version,
        run.version,
        "it is at work still"
    );
    drop(gate);
    scene.until(&card.at(), "1 table is analyzed since it began. Countersign was interrupted").await;
    state(&scene, "analyze", RunState::Succeeded).await;

    let gate = scene.servers.cluster.connect(&database("billing-service")).await.unwrap();
    gate.batch_execute("SELECT pg_advisory_lock(4711)").await.unwrap();
    let indexes = "SELECT string_agg(indexrelid::text, ' ' ORDER BY indexrelid) FROM pg_index WHERE indrelid = 'big'::regclass";
    let before: String = one(&superuser, indexes).await;
    let card = scene.asks(ANA, "reindex billing-service big_gate_idx --env production").await;
    at_the_gate(&superuser).await;
    let (_again, run) = killed(&scene, (process, "reindex")).await;
    assert_eq!(
        state(&scene, "reindex", RunState::Interrupted).await.version,
        run.version,
        "it is at work still"
    );
    drop(gate);
    scene.until(&card.at(), "1 index is rebuilt. Countersign was interrupted").await;
    assert_ne!(one::<String>(&superuser, indexes).await, before);
    state(&scene, "reindex", RunState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_bots_reindex_that_is_ended_is_not_called_done() {
    let (scene, superuser) = scene("user-service", "").await;
    let _gate = gated(&scene, "user-service", "big").await;
    let process = Process::start(&scene).await;
    let card = scene.asks(ANA, "reindex user-service big_gate_idx --env production").await;
    let pid = at_the_gate(&superuser).await;
    let (_again, _) = killed(&scene, (process, "reindex")).await;
    superuser.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    let told =
        scene.until(&card.at(), "No index is rebuilt, of 1. Countersign was interrupted").await.plain();
    assert!(told.contains("the next reindex of the table drops that"), "{told}");
    state(&scene, "reindex", RunState::Failed).await;
    let left: i64 = one(&superuser, "SELECT count(*) FROM pg_class WHERE relname ~ '_ccnew[0-9]*$'").await;
    assert_eq!(left, 1, "nobody repeats it, nor clears up after it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_fulls_progress_is_seen_and_a_stop_leaves_the_table_as_it_was() {
    let (scene, superuser) = with_bot("campaign-service", "").await;
    let _gate = gated(&scene, "campaign-service", "big").await;
    let before = file(&superuser).await;
    let card = approved(&scene, "vacuum-full campaign-service big").await;
    // All rows, and two of three indexes.
    scene.until(&card.at(), "86 % · public.big: rebuilding index").await;
    let run = state(&scene, "vacuum-full", RunState::Running).await.id;
    let dry = scene.asks(BEN, &format!("stop {run} --dry-run")).await.plain();
    assert!(dry.contains("rolls back all that it has done"), "{dry}");
    maintenance_harness::stops(&scene, "vacuum-full").await;
    scene.until(&card.at(), "Stopped: public.big is unchanged. The copy written so far was discarded.").await;
    assert_eq!(file(&superuser).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_that_is_cut_in_its_analyze_says_which_half_is_done() {
    let (scene, superuser) = with_bot("creator-service", "").await;
    let _gate = gated(&scene, "creator-service", "big").await;
    let last = "SELECT (last_vacuum IS NOT NULL) || ' ' || (last_analyze IS NOT NULL) FROM pg_stat_all_tables WHERE relid = 'big'::regclass";
    let card = scene.asks(ANA, "vacuum creator-service big --env production").await;
    at_the_gate(&superuser).await;
    maintenance_harness::stops(&scene, "vacuum").await;
    let told = scene.until(&card.at(), "Stopped: public.big is vacuumed, but not analyzed.").await.plain();
    assert!(told.contains("Vacuumed; the stop interrupted its ANALYZE."), "{told}");
    assert_eq!(one::<String>(&superuser, last).await, "true false");
    assert_eq!(scene.only_run("vacuum").await.state, RunState::Stopped);

    let card = scene.asks(ANA, "vacuum creator-service big --env production").await;
    let pid = at_the_gate(&superuser).await;
    superuser.execute("SELECT pg_cancel_backend($1)", &[&pid]).await.unwrap();
    let told = scene.until(&card.at(), "public.big is vacuumed, but not analyzed.").await.plain();
    assert!(
        told.contains("Vacuumed, but not analyzed: PostgreSQL refused: ") && told.contains("57014"),
        "{told}"
    );
    assert_eq!(scene.runs_of("vacuum").await[0].state, RunState::Partial);
}

/// As if the process had died right behind its claim.
async fn claimed_by_a_dead_process(scene: &Scene, command: &str) {
    let runs = AuditLog { store: Arc::new(scene.store()), approval: scene.stage.checked().unwrap().approval };
    let mut run = scene.runs_of(command).await.remove(0);
    for happening in [EventKind::Approved, EventKind::Started] {
        let AppendOutcome::Done(next) = runs.append(&run, happening, EventDetails::default()).await.unwrap()
        else {
            panic!("not {}", happening.as_str())
        };
        run = *next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_enable_stats_and_reset_stats_are_looked_at() {
    let rule = "[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"enable-stats\"]\nsecond_person = true\n";
    let (mut scene, superuser) = scene("content-service", "").await;
    let password = &scene.servers.team.operator.password;
    let ready = format!(
        "CREATE ROLE stats_owner LOGIN SUPERUSER PASSWORD '{password}'; DROP EXTENSION pg_stat_statements"
    );
    superuser.batch_execute(&ready).await.unwrap();
    let owner = (
        "[environments.logins.operator]\n",
        "[environments.logins.owner]\nuser = \"stats_owner\"\npassword = { env = \"PRODUCTION_OPERATOR_PASSWORD\" }\n[environments.logins.operator]\n",
    );
    let twist =
        Twist { servers: Some(servers().await), more: rule, instead: vec![owner], ..Twist::default() };
    scene = Scene::with(twist).await;
    for (made, words, is) in [
        (false, "pg_stat_statements is not in content_service_db.", RunState::Failed),
        (true, " is in content_service_db: `slow` works from now on.", RunState::Succeeded),
    ] {
        let card = scene.card(ANA, "enable-stats content-service --env production").await;
        if made {
            superuser.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
        }
        claimed_by_a_dead_process(&scene, "enable-stats").await;
        let told = scene.until(&card.at(), words).await.plain();
        assert!(told.contains("Countersign was interrupted and can't tell"), "{told}");
        assert_eq!(scene.runs_of("enable-stats").await[0].state, is);
    }

    // Since 17 each statement says since when it is counted; before, nothing tells, and the run stays unknown.
    let tells = one::<i32>(&superuser, "SELECT current_setting('server_version_num')::int").await >= 170_000;
    let grant = "GRANT EXECUTE ON FUNCTION pg_stat_statements_reset TO countersign_maintain";
    superuser.batch_execute(grant).await.unwrap();
    for (reset, words, is) in [
        (false, "its statistics were not reset.", RunState::Failed),
        (true, "its statistics were reset. Countersign was interrupted", RunState::Succeeded),
    ] {
        let card = scene.asks(ANA, "reset-stats content-service --env production").await;
        claimed_by_a_dead_process(&scene, "reset-stats").await;
        if reset {
            let all = "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)";
            superuser.batch_execute(all).await.unwrap();
        }
        let words = if tells { words } else { "its outcome is unknown" };
        scene.until(&card.at(), words).await;
        assert_eq!(
            scene.runs_of("reset-stats").await[0].state,
            if tells { is } else { RunState::Interrupted }
        );
    }
}
