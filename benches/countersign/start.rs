//! From starting the program to its first acknowledgement, and what it holds while nobody asks.

use crate::house::{Bot, House};
use crate::process::{Conversation, Process};
use crate::report::{Goals, ROUNDS, Rounds, Table, in_turn, tell};
use crate::requests::NOBODY;
use std::time::{Duration, Instant};

/// An idle bot has done by then what it does at its start: opened its record, warmed its connections.
const SETTLED: Duration = Duration::from_secs(3);

/// Five starts each of the floor and of the bot, in turn.
pub async fn measure(house: &House) -> anyhow::Result<()> {
    tell("starting five times");
    let (stage, signer) = house.stage("start", "").await?;
    let request = signer.command(NOBODY, "help")?.bytes;
    let (mut floor, mut bot) = (Rounds::default(), Rounds::default());
    for round in 0..ROUNDS {
        for measured in in_turn(round, ["floor", "bot"]) {
            let begun = Instant::now();
            let (mut process, times) = match measured {
                "floor" => (house.floor(Conversation::Anywhere)?, &mut floor),
                _ => (house.start(&stage, Conversation::Anywhere)?, &mut bot),
            };
            process.first_answer(&request)?;
            times.add(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    let mut table = Table::new(&["Start to first acknowledgement", "ms"]);
    table.row(["floor".into(), format!("{:.0}", floor.median())]);
    table.row(["countersign".into(), format!("{:.0}", bot.median())]);
    table.print("### Start");
    Ok(())
}

/// Resident memory of both before anybody asked, in MiB.
pub async fn idle(floor: &Process, bot: &Bot, goals: &mut Goals) -> anyhow::Result<(f64, f64)> {
    tokio::time::sleep(SETTLED).await;
    let idle = (floor.resident()?, bot.process.resident()?);
    goals.at_most("resident memory, idle, MiB", 30.0, idle.1);
    Ok(idle)
}
