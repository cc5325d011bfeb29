//! A signed slash command → its acknowledgement, beside the floor. The servers have one processor and the load another.
//!
//! Two kinds of command. *Redelivered*: it is verified, parsed, given a place among the events in work and handed to the flow,
//! which drops it as seen before: all that stands before an acknowledgement, and as little as possible behind it. *New*: each
//! is of an account that isn't listed, and so is answered, by one more HTTP request that the same processor makes. No server
//! can do both at the floor's rate; what is too much is turned away, and counted as such.

use crate::house::{Bot, House};
use crate::load::{Lane, drive};
use crate::process::{Conversation, Process};
use crate::report::{Goals, ROUNDS, Rounds, Table, in_turn, tell};
use crate::requests::NOBODY;
use crate::start;
use std::time::Duration;

const CONNECTIONS: [usize; 3] = [1, 16, 64];
const WARM_UP: Duration = Duration::from_millis(200);
const MEASURED: Duration = Duration::from_secs(1);

/// Different commands that are redelivered.
const KNOWN: usize = 64;
/// New commands for one measurement: more than a processor verifies meanwhile.
const NEW: usize = 120_000;

/// One line of the table.
#[derive(Clone, Default)]
struct Line {
    per_second: Rounds,
    p50: Rounds,
    p99: Rounds,
    cpu: Rounds,
    shed: Rounds,
}

/// What is asked, of whom.
struct Load<'a> {
    process: &'a Process,
    requests: &'a [Vec<u8>],
    connections: usize,
}

pub async fn measure(house: &House, goals: &mut Goals) -> anyhow::Result<()> {
    let bot = house.bot("acks", (Conversation::Server, "")).await?;
    let mut floor = house.floor(Conversation::Server)?;
    floor.first_answer(&bot.signer.command(NOBODY, "help")?.bytes)?;
    let idle = start::idle(&floor, &bot, goals).await?;
    let known = bot.signer.commands(NOBODY, "blocked --env production", KNOWN)?;
    let mut bare = vec![Line::default(); CONNECTIONS.len()];
    let mut ours = bare.clone();
    let mut answered = Line::default();
    for round in 0..ROUNDS {
        tell(&format!("acknowledgements, round {} of {ROUNDS}", round + 1));
        for (at, connections) in CONNECTIONS.into_iter().enumerate() {
            for (process, line) in in_turn(round, [(&floor, &mut bare[at]), (&bot.process, &mut ours[at])]) {
                let load = Load { process, requests: &known, connections };
                load.run(WARM_UP, &mut Line::default())?;
                load.run(MEASURED, line)?;
            }
        }
        let new = bot.signer.commands(NOBODY, "blocked --env production", NEW)?;
        Load { process: &bot.process, requests: &new, connections: 64 }.run(MEASURED, &mut answered)?;
    }
    print(&[("floor", &bare), ("countersign, redelivered", &ours)], &answered);
    judge((&bare, &ours), goals);
    memory((&floor, &bot), idle)
}

impl Load<'_> {
    /// Blocks: nothing else is to run meanwhile but the server, and the other threads' tasks.
    fn run(&self, lasting: Duration, line: &mut Line) -> anyhow::Result<()> {
        let lane = Lane { connections: self.connections, requests: self.requests, every: None };
        let before = self.process.cpu()?;
        let driven = tokio::task::block_in_place(|| drive(self.process.address, &[lane], lasting))?;
        let cpu = self.process.cpu()? - before;
        for tally in driven {
            let all = (tally.latencies.len() + tally.shed) as f64;
            line.per_second.add(tally.per_second());
            line.p50.add(tally.percentile(50.0));
            line.p99.add(tally.percentile(99.0));
            line.cpu.add(cpu * 1e6 / all);
            line.shed.add(100.0 * tally.shed as f64 / all);
        }
        Ok(())
    }
}

fn print(kinds: &[(&str, &Vec<Line>)], answered: &Line) {
    let head = [
        "Acknowledgements",
        "connections",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "CPU µs each",
        "× floor",
        "turned away",
    ];
    let mut table = Table::new(&head);
    let mut row = |name: &str, connections: usize, (line, floor): (&Line, &Line)| {
        table.row([
            name.to_owned(),
            connections.to_string(),
            format!("{:.0}", line.per_second.median()),
            format!("{:.2}", line.p50.median()),
            format!("{:.2}", line.p99.median()),
            format!("{:.1}", line.cpu.median()),
            format!("{:.2}", line.per_second.median() / floor.per_second.median()),
            format!("{:.0} %", line.shed.median()),
        ]);
    };
    let floor = kinds[0].1;
    for (at, connections) in CONNECTIONS.into_iter().enumerate() {
        kinds.iter().for_each(|(name, lines)| row(name, connections, (&lines[at], &floor[at])));
    }
    row("countersign, new and answered", 64, (answered, &floor[CONNECTIONS.len() - 1]));
    table.print("### Signed slash command → acknowledgement");
}

fn judge((bare, ours): (&[Line], &[Line]), goals: &mut Goals) {
    for (at, connections) in CONNECTIONS.into_iter().enumerate() {
        let ratio = ours[at].per_second.median() / bare[at].per_second.median();
        goals.at_least(&format!("acknowledgements/s at {connections}, × floor"), 0.8, ratio);
    }
}

fn memory((floor, bot): (&Process, &Bot), idle: (f64, f64)) -> anyhow::Result<()> {
    let mut table = Table::new(&["Resident MiB", "idle", "after load"]);
    table.row(["floor".into(), format!("{:.1}", idle.0), format!("{:.1}", floor.resident()?)]);
    table.row(["countersign".into(), format!("{:.1}", idle.1), format!("{:.1}", bot.process.resident()?)]);
    table.print("### Memory");
    Ok(())
}
