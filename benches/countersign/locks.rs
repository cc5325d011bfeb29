//! `blocked` in a lock queue of 500 sessions, from the command to the whole answer, beside the same question without a queue.

use crate::house::{Bot, House, PRODUCTION};
use crate::load::Wire;
use crate::process::Conversation;
use crate::report::{Goals, ROUNDS, Rounds, Table, tell};
use crate::requests::ANA;
use anyhow::{Context, ensure};
use countersign::demo::postgres::Options;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const WAITERS: usize = 500;

/// Milliseconds that an on-call engineer waits for the answer.
const MOST_MS: f64 = 1_000.0;

/// A queue of that length stands within this time.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(goals: &mut Goals) -> anyhow::Result<()> {
    let settings = vec![("max_connections".to_owned(), (WAITERS + 50).to_string())];
    let house = House::with(Options { settings, ..Options::default() }).await?;
    let bot = house.bot("locks", (Conversation::Anywhere, "")).await?;
    let mut table = Table::new(&["Lock queue", "ms"]);
    let usual = median(&bot, "No session is waiting").await?;
    table.row(["0 sessions".to_owned(), format!("{usual:.1}")]);
    let _queue = queue(&house).await?;
    let queued = median(&bot, &format!("{WAITERS} sessions are blocked")).await?;
    table.row([format!("{WAITERS} sessions"), format!("{queued:.1}")]);
    table.print("### The root blocker of a lock queue");
    goals.at_most(&format!("ms of blocked, {WAITERS} sessions in one queue"), MOST_MS, queued);
    Ok(())
}

/// The holder of a lock and its queue, which last as long as their clients.
async fn queue(house: &House) -> anyhow::Result<Vec<Client>> {
    let (service, account) =
        house.team.service("asset-service").context("the sample has no asset-service")?;
    tell(&format!("locks, a queue of {WAITERS}"));
    let mut clients = Vec::new();
    for at in 0..=WAITERS {
        let client = house.cluster.connect_as(account.login(&service.database, "asset-worker")).await?;
        if at == 0 {
            client.batch_execute("BEGIN; LOCK TABLE assets").await?;
        } else {
            // The statement is sent, and never answered while the holder lasts.
            let waiting = client.batch_execute("BEGIN; LOCK TABLE assets");
            drop(tokio::time::timeout(Duration::from_millis(1), waiting).await);
        }
        clients.push(client);
    }
    let (superuser, until) = (house.cluster.connect("postgres").await?, Instant::now() + PATIENCE);
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while superuser.query_one(sql, &[]).await?.get::<_, i64>(0) < i64::try_from(WAITERS)? {
        ensure!(Instant::now() < until, "the queue doesn't get long enough");
    }
    Ok(clients)
}

/// In milliseconds.
async fn median(bot: &Bot, words: &str) -> anyhow::Result<f64> {
    let mut times = Rounds::default();
    for _ in 0..ROUNDS {
        let signed = bot.signer.command(ANA, &format!("blocked --env {PRODUCTION}"))?;
        let arrival = bot.signer.sink.expect(&signed.answer);
        let mut wire = Wire::connect(bot.process.address)?;
        let begun = Instant::now();
        let acknowledged = tokio::task::block_in_place(|| wire.ask(&signed.bytes))?;
        ensure!(acknowledged.status == 200, "blocked was not taken on");
        let (arrived, answer) = arrival.await?;
        ensure!(answer.contains(words), "{words} is not in the answer: {answer}");
        times.add((arrived - begun).as_secs_f64() * 1e3);
    }
    Ok(times.median())
}
