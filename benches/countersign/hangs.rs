//! Acknowledgements while PostgreSQL, the record's store or Slack's API hang, beside the same load while nothing does: 64
//! connections that ask as fast as they can, and new commands of a listed person, each of which runs into what hangs.

use crate::house::{House, PRODUCTION};
use crate::load::{Lane, Tally, drive};
use crate::process::Processors;
use crate::report::{Goals, ROUNDS, Rounds, Table, in_turn, tell};
use crate::requests::ANA;
use crate::sink::Sink;
use anyhow::{Context, ensure};
use countersign::demo::fake_slack::{Fault, Workspace};
use rusqlite::Connection;
use std::path::Path;
use std::time::{Duration, Instant};

const WARM_UP: Duration = Duration::from_millis(500);
/// In which a bot that answers has answered everything.
const PATIENCE: Duration = Duration::from_secs(20);
/// Shorter than a read waits for its record (2 s), so that nothing that hangs is given up meanwhile.
const MEASURED: Duration = Duration::from_millis(1_800);
/// A hundred new commands a second: all of a phase stay in work at once, and there is room for 256.
const NEW_EVERY: Duration = Duration::from_millis(10);
const CONNECTIONS: usize = 64;

/// How much longer than usual the slowest hundredth may take.
const MOST: f64 = 2.0;

#[derive(Clone, Copy, PartialEq)]
enum Hang {
    Nothing,
    Postgres,
    Store,
    Slack,
}

const ALL: [(Hang, &str); 4] = [
    (Hang::Nothing, "nothing"),
    (Hang::Postgres, "PostgreSQL"),
    (Hang::Store, "the store"),
    (Hang::Slack, "Slack's API"),
];

#[derive(Default, Clone)]
struct Line {
    per_second: Rounds,
    p50: Rounds,
    p99: Rounds,
    new_p99: Rounds,
    stuck: Rounds,
}

pub async fn measure(house: &House, goals: &mut Goals) -> anyhow::Result<()> {
    let mut lines = vec![Line::default(); ALL.len()];
    for round in 0..ROUNDS {
        tell(&format!("hangs, round {} of {ROUNDS}", round + 1));
        for (at, (hang, name)) in in_turn(round, ALL.into_iter().enumerate()) {
            let directory = format!("hang-{round}-{at}");
            phase(house, (hang, &directory), &mut lines[at])
                .await
                .with_context(|| format!("while {name} hangs"))?;
        }
    }
    let head = [
        "While this hangs",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "× usual p99",
        "p99 of those that run into it",
    ];
    let mut table = Table::new(&head);
    let usual = lines[0].p99.median();
    for ((hang, name), line) in ALL.iter().zip(&lines) {
        let ratio = line.p99.median() / usual;
        table.row([
            (*name).to_owned(),
            format!("{:.0}", line.per_second.median()),
            format!("{:.2}", line.p50.median()),
            format!("{:.2}", line.p99.median()),
            format!("{ratio:.2}"),
            format!("{:.2} ({:.0} stuck)", line.new_p99.median(), line.stuck.median()),
        ]);
        if *hang != Hang::Nothing {
            goals.at_most(&format!("p99 at 64 while {name} hangs, × usual"), MOST, ratio);
        }
    }
    table.print("### Acknowledgements while something hangs");
    Ok(())
}

/// One bot of its own, so that nothing of the last hang is left.
async fn phase(house: &House, (hang, directory): (Hang, &str), line: &mut Line) -> anyhow::Result<()> {
    let bot = house.bot(directory, Processors::First, "").await?;
    let sink = &bot.signer.sink;
    let question = format!("blocked --env {PRODUCTION}");
    let known = bot.signer.of_strangers(&question, CONNECTIONS)?;
    let new = |lasting: Duration| {
        let many = lasting.as_nanos() / NEW_EVERY.as_nanos() + 2;
        bot.signer.commands(ANA, &question, usize::try_from(many)?)
    };
    let run = |lasting: Duration| -> anyhow::Result<Vec<Tally>> {
        let new = new(lasting)?;
        let lanes = [
            Lane { connections: CONNECTIONS, requests: &known, every: None },
            Lane { connections: 4, requests: &new, every: Some(NEW_EVERY) },
        ];
        tokio::task::block_in_place(|| drive(bot.process.address, &lanes, lasting))
    };
    let before = sink.answered();
    let taken_on: usize = run(WARM_UP)?.iter().skip(1).map(|new| new.latencies.len()).sum();
    // Of the others each is answered once. After this, an answer is one to a command of the phase.
    all_answered(sink, before + taken_on + known.len()).await?;
    let before = sink.answered();
    // Counted before anything goes on: what was held up is answered at once then.
    let (driven, answered) = {
        let _frozen = (hang == Hang::Postgres).then(|| house.cluster.freeze()).transpose()?;
        let _locked = (hang == Hang::Store).then(|| lock(&bot.stage.directory)).transpose()?;
        let _silent = (hang == Hang::Slack).then(|| Silence::fall(sink, &bot.stage.workspace));
        (run(MEASURED)?, sink.answered() - before)
    };
    let [all, new] = driven.as_slice() else { anyhow::bail!("two lanes") };
    ensure!(all.shed + new.shed == 0, "{} commands were turned away", all.shed + new.shed);
    ensure!(hang == Hang::Nothing || answered == 0, "it doesn't hang: {answered} answers arrived");
    line.per_second.add(all.per_second());
    line.p50.add(all.percentile(50.0));
    line.p99.add(all.percentile(99.0));
    line.new_p99.add(new.percentile(99.0));
    line.stuck.add(new.latencies.len().saturating_sub(answered) as f64);
    Ok(())
}

async fn all_answered(sink: &Sink, many: usize) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while sink.answered() < many {
        ensure!(Instant::now() < until, "{} of {many} answers arrived", sink.answered());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Another process that writes the record's file and doesn't end.
fn lock(directory: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(directory.join("record.db")).context("opening the record")?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.execute_batch("BEGIN EXCLUSIVE").context("locking the record")?;
    Ok(connection)
}

/// Slack answers nothing until this is dropped.
struct Silence<'a>(&'a Sink, &'a Workspace);

impl<'a> Silence<'a> {
    fn fall(sink: &'a Sink, workspace: &'a Workspace) -> Silence<'a> {
        sink.hang(true);
        workspace.fault("", Fault::Hang);
        Silence(sink, workspace)
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.hang(false);
        self.1.fault("", Fault::Clear);
    }
}
