//! A signed slash command → its acknowledgement, and its answer, beside the floors. The servers have one processor and the load another.
//!
//! *Redelivered*: a command is verified, parsed, given a place among the events in work and handed to the workflow, which drops it as a
//! duplicate: all that stands before an acknowledgement, and as little as possible behind it. *New*: each command is of another
//! account that isn't listed, and is answered by one more HTTP request of the same processor, at a rate at which nothing is turned away.

use crate::floor::Kind;
use crate::house::{Bot, House};
use crate::load::{Lane, Tally, drive};
use crate::process::{Process, Processors};
use crate::report::{Goals, Rounds, Table, in_turn, tell};
use crate::requests::NOBODY;
use anyhow::ensure;
use std::time::{Duration, Instant};

const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];
/// The floor and the bot in turn, so many times each.
const PAIRS: usize = 20;
const WARM_UP: Duration = Duration::from_millis(200);
const MEASURED: Duration = Duration::from_millis(500);

/// Different commands that are redelivered.
const KNOWN: usize = 64;
/// Time between two new commands.
const NEW_EVERY: Duration = Duration::from_micros(500);
/// New commands of one measurement.
const NEW: usize = 2_000;
/// All answers come within this time, or never.
const PATIENCE: Duration = Duration::from_secs(20);

/// An idle bot has opened its audit log and warmed its connections by then.
const SETTLED: Duration = Duration::from_secs(3);

const LEAST_RATE: f64 = 0.95;
const MOST_CPU: f64 = 1.05;
const MOST_P99: f64 = 1.2;
const MOST_CPU_OF_ANSWER: f64 = 1.5;
const MOST_MIB_IDLE: f64 = 16.0;
const MOST_MIB: f64 = 30.0;

/// Measurements of one server.
#[derive(Clone, Default)]
struct Line {
    per_second: Rounds,
    p50: Rounds,
    p99: Rounds,
    /// µs of CPU a command.
    cpu: Rounds,
    /// Percent.
    shed: Rounds,
}

impl Line {
    fn add(&mut self, tally: &Tally, cpu: f64) {
        let all = (tally.latencies.len() + tally.shed) as f64;
        self.per_second.add(tally.per_second());
        self.p50.add(tally.percentile(50.0));
        self.p99.add(tally.percentile(99.0));
        self.cpu.add(cpu * 1e6 / all);
        self.shed.add(100.0 * tally.shed as f64 / all);
    }
}

/// The floor's line and the bot's.
type Pair = [Line; 2];

pub async fn measure(house: &House, goals: &mut Goals) -> anyhow::Result<()> {
    let bot = house.bot("acks", Processors::First, "").await?;
    let help = bot.signer.command(NOBODY, "help")?.bytes;
    let mut floor = house.floor(Kind::Acknowledges, Processors::First)?;
    floor.first_answer(&help)?;
    let mut answering_floor = house.floor(Kind::Answers, Processors::First)?;
    answering_floor.first_answer(&help)?;
    tokio::time::sleep(SETTLED).await;
    let idle = [floor.resident()?, bot.process.resident()?];
    let known = bot.signer.commands(NOBODY, "blocked --env production", KNOWN)?;
    let mut acknowledged: [Pair; CONNECTIONS.len()] = Default::default();
    let mut answered = Pair::default();
    for round in 0..PAIRS {
        tell(&format!("acknowledgements, pair {} of {PAIRS}", round + 1));
        for (connections, [bare, ours]) in CONNECTIONS.into_iter().zip(&mut acknowledged) {
            for (process, line) in in_turn(round, [(&floor, bare), (&bot.process, ours)]) {
                redeliver(process, &known, connections, WARM_UP, &mut Line::default())?;
                redeliver(process, &known, connections, MEASURED, line)?;
            }
        }
        let [bare, ours] = &mut answered;
        for (process, line) in in_turn(round, [(&answering_floor, bare), (&bot.process, ours)]) {
            answer(&bot, process, line).await?;
        }
    }
    print(&acknowledged, &answered);
    judge(&acknowledged, &answered, goals);
    memory([&floor, &bot.process], idle, goals)
}

/// Blocks: nothing else is to run meanwhile but the server, and the other threads' tasks.
fn redeliver(
    process: &Process,
    requests: &[Vec<u8>],
    connections: usize,
    duration: Duration,
    line: &mut Line,
) -> anyhow::Result<()> {
    let lane = Lane { connections, requests, every: None };
    let before = process.cpu()?;
    let tallies = tokio::task::block_in_place(|| drive(process.address, &[lane], duration))?;
    let cpu = process.cpu()? - before;
    tallies.iter().for_each(|tally| line.add(tally, cpu));
    Ok(())
}

/// New commands, until the last is answered.
async fn answer(bot: &Bot, process: &Process, line: &mut Line) -> anyhow::Result<()> {
    let requests = bot.signer.of_strangers("blocked --env production", NEW)?;
    let lane = Lane { connections: 64, requests: &requests, every: Some(NEW_EVERY) };
    let duration = NEW_EVERY * u32::try_from(NEW - 1)?;
    let sink = &bot.signer.sink;
    let (answers, cpu) = (sink.answered(), process.cpu()?);
    let tallies = tokio::task::block_in_place(|| drive(process.address, &[lane], duration))?;
    // What is turned away is told so in its acknowledgement.
    let commands: usize = tallies.iter().map(|tally| tally.latencies.len()).sum();
    let until = Instant::now() + PATIENCE;
    while sink.answered() - answers < commands {
        let arrived = sink.answered() - answers;
        ensure!(Instant::now() < until, "{arrived} of {commands} answers arrived");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let cpu = process.cpu()? - cpu;
    tallies.iter().for_each(|tally| line.add(tally, cpu));
    Ok(())
}

fn print(acknowledged: &[Pair], answered: &Pair) {
    let head =
        ["", "connections", "requests/s", "p50 ms", "p99 ms", "CPU µs each", "CPU × floor", "turned away"];
    let mut table = Table::new(&head);
    let mut pair = |names: [&str; 2], connections: usize, lines: &Pair| {
        for (name, line) in names.into_iter().zip(lines) {
            table.row([
                name.to_owned(),
                connections.to_string(),
                format!("{:.0}", line.per_second.median()),
                format!("{:.2}", line.p50.median()),
                format!("{:.2}", line.p99.median()),
                format!("{:.1}", line.cpu.median()),
                format!("{:.2}", line.cpu.median() / lines[0].cpu.median()),
                format!("{:.0} %", line.shed.median()),
            ]);
        }
    };
    for (connections, lines) in CONNECTIONS.into_iter().zip(acknowledged) {
        pair(["floor, acknowledged", "countersign, redelivered"], connections, lines);
    }
    pair(["floor, answered", "countersign, new and answered"], 64, answered);
    table.print("### Signed slash command → acknowledgement, answer");
}

fn judge(acknowledged: &[Pair], answered: &Pair, goals: &mut Goals) {
    let ratio =
        |[bare, ours]: &Pair, figure: fn(&Line) -> &Rounds| figure(ours).median() / figure(bare).median();
    for (connections, lines) in CONNECTIONS.into_iter().zip(acknowledged) {
        if connections == 256 {
            let name = "p99 of acknowledgements at 256, × floor";
            goals.at_most(name, MOST_P99, ratio(lines, |line| &line.p99));
        } else {
            let name = format!("acknowledgements/s at {connections}, × floor");
            goals.at_least(&name, LEAST_RATE, ratio(lines, |line| &line.per_second));
            let name = format!("CPU of an acknowledgement at {connections}, × floor");
            goals.at_most(&name, MOST_CPU, ratio(lines, |line| &line.cpu));
        }
    }
    let name = "CPU of a new command, answered, × floor";
    goals.at_most(name, MOST_CPU_OF_ANSWER, ratio(answered, |line| &line.cpu));
}

/// Prints the resident memory of the floor and of the bot, idle and now.
fn memory(processes: [&Process; 2], idle: [f64; 2], goals: &mut Goals) -> anyhow::Result<()> {
    let mut table = Table::new(&["Resident MiB", "idle", "after load"]);
    let mut after = [0.0; 2];
    for (at, name) in ["floor", "countersign"].into_iter().enumerate() {
        after[at] = processes[at].resident()?;
        table.row([name.to_owned(), format!("{:.1}", idle[at]), format!("{:.1}", after[at])]);
    }
    table.print("### Memory");
    goals.at_most("resident memory, idle, MiB", MOST_MIB_IDLE, idle[1]);
    goals.at_most("resident memory after load, MiB", MOST_MIB, after[1]);
    Ok(())
}
