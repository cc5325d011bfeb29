//! From starting the program to its first acknowledgement, of a command that is then recorded and answered.

use crate::floor::Kind;
use crate::house::House;
use crate::process::Processors;
use crate::report::{Goals, ROUNDS, Rounds, Table, in_turn, tell};
use crate::requests::ANA;
use anyhow::Context;
use std::time::{Duration, Instant};

const MOST_MS: f64 = 15.0;

/// A whole answer comes within this time, or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts each of the floor and of the bot, in turn.
pub async fn measure(house: &House, goals: &mut Goals) -> anyhow::Result<()> {
    tell("starting five times");
    let (stage, signer) = house.stage("start", "").await?;
    let (mut floor, mut bot) = (Rounds::default(), Rounds::default());
    for round in 0..ROUNDS {
        for measured in in_turn(round, ["floor", "bot"]) {
            let signed = signer.command(ANA, "blocked --env production")?;
            let answer = signer.sink.expect(&signed.answer);
            let begun = Instant::now();
            if measured == "floor" {
                let mut process = house.floor(Kind::Acknowledges, Processors::All)?;
                process.first_answer(&signed.bytes)?;
                floor.add(begun.elapsed().as_secs_f64() * 1e3);
            } else {
                let mut process = house.start(&stage, Processors::All)?;
                process.first_answer(&signed.bytes)?;
                bot.add(begun.elapsed().as_secs_f64() * 1e3);
                let arrived = tokio::time::timeout(PATIENCE, answer).await;
                arrived.context("the first command is not answered")??;
            }
        }
    }
    let mut table = Table::new(&["Start to first acknowledgement", "ms"]);
    table.row(["floor".into(), format!("{:.0}", floor.median())]);
    table.row(["countersign".into(), format!("{:.0}", bot.median())]);
    table.print("### Start");
    goals.at_most("start to first acknowledgement, ms", MOST_MS, bot.median());
    Ok(())
}
