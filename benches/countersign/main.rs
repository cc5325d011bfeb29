//! `make bench`: what the released program reaches, beside the least that any program would need, in one run. Everything that
//! is compared is measured in interleaved rounds, five or twenty, and their medians are shown; a goal that is missed is printed as missed.
//!
//! Two equal programs differ by up to half in one round on a shared machine: trust ratios of one run, never times of two.
//!
//!     BENCH_MB=100 cargo bench --bench countersign -- record sizes start acks hangs slow health sessions tables backup
//!
//! takes a smaller database, and any of these parts alone. `BENCH_TABLES=1000` makes fewer tables for `tables`,
//! `BENCH_RUNS=100000` fewer runs for `record`.

mod acks;
mod backup;
mod floor;
mod hangs;
mod health;
mod house;
mod load;
mod process;
mod record;
mod report;
mod requests;
mod sessions;
mod sink;
mod sizes;
mod slow;
mod start;
mod tables;

use house::House;
use process::{can_pin, processors, step_aside};
use report::{Goals, tell};

const PARTS: [&str; 10] =
    ["record", "sizes", "start", "acks", "hangs", "slow", "health", "sessions", "tables", "backup"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let [first, address] = arguments.as_slice()
        && let Some(kind) = floor::Kind::of_argument(first)
    {
        return floor::serve(kind, address).await;
    }
    if let Some(unknown) = arguments.iter().find(|argument| !PARTS.contains(&argument.as_str())) {
        anyhow::bail!("there is no part {unknown}; there are {}", PARTS.join(", "));
    }
    let mut goals = Goals::default();
    let mut parts: Vec<&str> = PARTS.to_vec();
    parts.retain(|part| arguments.is_empty() || arguments.iter().any(|a| a == part));
    // It needs no server.
    if parts.first() == Some(&"record") {
        record::measure(&mut goals).await?;
        parts.remove(0);
    }
    if parts.is_empty() {
        goals.print();
        return Ok(());
    }
    tell("setting up");
    let house = House::build().await?;
    println!("{}", machine(&house));
    for part in parts {
        step_aside(matches!(part, "acks" | "hangs"))?;
        match part {
            "sizes" => sizes::measure(&mut goals)?,
            "start" => start::measure(&house, &mut goals).await?,
            "acks" => acks::measure(&house, &mut goals).await?,
            "hangs" => hangs::measure(&house, &mut goals).await?,
            "health" => health::measure(&house, &mut goals).await?,
            "slow" => slow::measure(&house, &mut goals).await?,
            "sessions" => sessions::measure(&mut goals).await?,
            "tables" => tables::measure(&mut goals).await?,
            _ => backup::measure(&house, &mut goals).await?,
        }
    }
    goals.print();
    Ok(())
}

fn machine(house: &House) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unnamed processor", |(_, model)| model);
    let apart = if can_pin() { "the servers on one, the load on the others" } else { "not kept apart" };
    let version = house.cluster.version_num();
    format!(
        "{} × {model}, {apart}; PostgreSQL {}.{}; loopback, no TLS.",
        processors(),
        version / 10_000,
        version % 10_000
    )
}
