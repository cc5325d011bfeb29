//! `blocked`, `idle` and the plan of `kill-idle` on a server with 2,000 sessions, from the command to the whole answer.

use crate::house::{House, PRODUCTION};
use crate::process::Processors;
use crate::report::{Goals, Table, tell};
use anyhow::{Context, ensure};
use countersign::demo::postgres::Options;
use futures::{StreamExt, TryStreamExt};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Lengths of the queue for one lock, and the milliseconds that an on-call engineer waits for an answer. Everybody waits for all who
/// came before: 500 sessions have 125,000 edges between them, 2,000 have 2,000,000.
const QUEUES: [(usize, f64); 2] = [(500, 1_000.0), (2_000, 3_000.0)];
const SESSIONS: usize = QUEUES[1].0 + 1;
const MOST_MS: f64 = 3_000.0;

/// Sessions that connect at the same time.
const AT_ONCE: usize = 16;
const IDLE_FOR: Duration = Duration::from_secs(1);
/// The queue stands within this time.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

pub async fn measure(goals: &mut Goals) -> anyhow::Result<()> {
    // Each that waits would look for a deadlock through the whole queue, one after another: that is PostgreSQL's time, not the answer's.
    let settings = [("max_connections", (SESSIONS + 50).to_string()), ("deadlock_timeout", "1h".to_owned())];
    let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
    let house = House::with(Options { settings, ..Options::default() }).await?;
    let bot = house.bot("sessions", Processors::All, "").await?;
    let mut table = Table::new(&["On a server with 2,000 sessions", "ms"]);
    let sessions = connect(&house).await?;
    tokio::time::sleep(IDLE_FOR).await;
    let mut row = |what: &str, most_ms: f64, ms: f64| {
        table.row([what.to_owned(), format!("{ms:.0}")]);
        goals.at_most(&format!("ms of {what}"), most_ms, ms);
    };
    let line = format!("kill-idle asset-service --older-than 1s --dry-run --env {PRODUCTION}");
    let ends = format!("Ends {SESSIONS} sessions");
    row("the plan of kill-idle, 2,001 idle sessions", MOST_MS, house.answer_time(&bot, &line, &ends).await?);
    let line = format!("blocked --env {PRODUCTION}");
    let nobody = house.answer_time(&bot, &line, "No session is waiting").await?;
    row("blocked, nobody waits", QUEUES[0].1, nobody);
    sessions[0].batch_execute("BEGIN; LOCK TABLE assets").await?;
    let mut queued = 0;
    for (length, most_ms) in QUEUES {
        queue(&house, &sessions[1 + queued..=length], length).await?;
        queued = length;
        let blocked = house.answer_time(&bot, &line, &format!("{length} sessions are blocked")).await?;
        row(&format!("blocked, a queue of {length}"), most_ms, blocked);
        let line = format!("idle --over 1s --env {PRODUCTION}");
        let idle = house.answer_time(&bot, &line, &format!("blocks {length} sessions")).await?;
        row(&format!("idle, a queue of {length}"), most_ms, idle);
    }
    table.print("### Many sessions");
    Ok(())
}

/// Sessions of one service, idle.
async fn connect(house: &House) -> anyhow::Result<Vec<Client>> {
    let (service, account) =
        house.team.service("asset-service").context("the sample has no asset-service")?;
    tell(&format!("sessions, {SESSIONS} of them"));
    let login = account.login(&service.database, "asset-worker");
    let connecting = (0..SESSIONS).map(|_| house.cluster.connect_as(login));
    futures::stream::iter(connecting).buffer_unordered(AT_ONCE).try_collect().await
}

/// Lets these sessions wait for the lock, and returns when the queue has its length.
async fn queue(house: &House, sessions: &[Client], length: usize) -> anyhow::Result<()> {
    tell(&format!("sessions, a queue of {length}"));
    for session in sessions {
        // The statement is sent, and never answered while the holder lasts.
        let waiting = session.batch_execute("BEGIN; LOCK TABLE assets");
        drop(tokio::time::timeout(Duration::from_millis(1), waiting).await);
    }
    let (superuser, until) = (house.cluster.connect("postgres").await?, Instant::now() + PATIENCE);
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while superuser.query_one(sql, &[]).await?.get::<_, i64>(0) < i64::try_from(length)? {
        ensure!(Instant::now() < until, "the queue doesn't get long enough");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
