//! A backup, asked for in chat, until it is stored and checked, beside what `pg_dump` takes to write into nothing.

use crate::house::{Bot, House, PRODUCTION};
use crate::load::Wire;
use crate::process::{Processors, cpu_of_ended};
use crate::report::{Goals, ROUNDS, Rounds, Table, in_turn, tell};
use crate::requests::ANA;
use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The environment variable for the size of the rows, in MB.
const SIZE: &str = "BENCH_MB";
const USUAL_SIZE: u32 = 800;

const SERVICE: &str = "ledger-service";
const DATABASE: &str = "ledger_service_db";
const ROWS: &str = include_str!("rows.sql");

/// Of the time of the client with the same compression.
const MOST_OF_CLIENT: f64 = 1.05;

/// A backup that takes longer than this does not end.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often to look whether it is there.
const LOOK: Duration = Duration::from_millis(10);

/// What stands in the manifest beside a backup.
#[derive(serde::Deserialize)]
struct Manifest {
    client_version: String,
    compression: String,
    bytes: u64,
}

#[derive(Clone, Copy)]
enum Way {
    Bot,
    Runbook,
    Quick,
    Plain,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Bot, "countersign, command → stored and checked"),
    (Way::Runbook, "pg_dump -Fc > /dev/null, the runbook's"),
    (Way::Quick, "pg_dump -Fc > /dev/null, with countersign's compression"),
    (Way::Plain, "pg_dump > /dev/null"),
];

struct Dumper<'a> {
    house: &'a House,
    bot: Bot,
    last: Option<Manifest>,
    own_cpu: Rounds,
    quick_cpu: Rounds,
}

pub async fn measure(house: &House, goals: &mut Goals) -> anyhow::Result<()> {
    measure_on(house, goals).await?;
    match House::with_zstd().await? {
        Some(house) => measure_on(&house, goals).await,
        None => {
            println!("\nA client with zstd is not measured: `make compat` installs one, with its server.");
            Ok(())
        }
    }
}

async fn measure_on(house: &House, goals: &mut Goals) -> anyhow::Result<()> {
    let rows = fill(house).await?;
    let more = format!("[[services]]\nname = \"{SERVICE}\"\ndatabase = \"{DATABASE}\"\n");
    let bot = house.bot("backup", Processors::All, &more).await?;
    let mut dumper =
        Dumper { house, bot, last: None, own_cpu: Rounds::default(), quick_cpu: Rounds::default() };
    tell("one backup before it counts");
    dumper.dump(Way::Bot).await?;
    dumper.own_cpu = Rounds::default();
    let mut times = vec![Rounds::default(); WAYS.len()];
    for round in 0..ROUNDS {
        tell(&format!("backups, round {} of {ROUNDS}", round + 1));
        for (at, (way, _)) in in_turn(round, WAYS.into_iter().enumerate()) {
            times[at].add(dumper.dump(way).await?);
        }
    }
    let compression = dumper.compression()?.to_owned();
    let client = dumper.last.as_ref().map_or("", |manifest| &manifest.client_version);
    let title = format!("Backup of {rows} MB of rows by pg_dump {client}");
    let mut table = Table::new(&[&title, "s", "× the runbook's"]);
    let runbook = times[1].median();
    for ((_, name), time) in WAYS.iter().zip(&times) {
        table.row([
            (*name).to_owned(),
            format!("{:.2}", time.median()),
            format!("{:.2}", time.median() / runbook),
        ]);
    }
    table.print("### Backup");
    let stored = dumper.last.as_ref().map_or(0, |manifest| manifest.bytes / 1_000_000);
    let (cpu, dump) = (dumper.own_cpu.median(), dumper.quick_cpu.median());
    let peak = dumper.bot.process.most_resident()?;
    println!(
        "\n{stored} MB stored, `{compression}`; Countersign itself took {cpu:.2} s of CPU beside pg_dump's {dump:.2} s, and at most {peak:.0} MiB of memory."
    );
    let goal = if compression.contains("zstd") { 1.0 / 3.0 } else { 0.5 };
    goals.at_most(&format!("backup, {compression}, × the runbook's"), goal, times[0].median() / runbook);
    let name = format!("backup, {compression}, × the bare client's");
    goals.at_most(&name, MOST_OF_CLIENT, times[0].median() / times[2].median());
    Ok(())
}

/// Makes the database; the size of its rows in MB.
async fn fill(house: &House) -> anyhow::Result<i64> {
    let size = match std::env::var(SIZE) {
        Ok(size) => size.parse().with_context(|| format!("{SIZE}={size}"))?,
        Err(_) => USUAL_SIZE,
    };
    tell(&format!("writing {size} MB of rows"));
    house.cluster.connect("postgres").await?.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    let client = house.cluster.connect(DATABASE).await?;
    client.execute("SELECT set_config('bench.megabytes', $1, false)", &[&size.to_string()]).await?;
    client.batch_execute(ROWS).await.context("writing the rows")?;
    // Freezing them now spares the first dump from writing.
    client.batch_execute("VACUUM (FREEZE, ANALYZE)").await?;
    let row = client.query_one("SELECT pg_table_size('ledger') / 1000000", &[]).await?;
    Ok(row.get(0))
}

impl Dumper<'_> {
    /// In seconds.
    async fn dump(&mut self, way: Way) -> anyhow::Result<f64> {
        let quick = match way {
            Way::Quick => vec!["-Fc".to_owned(), self.compression()?.to_owned()],
            Way::Runbook => vec!["-Fc".to_owned()],
            Way::Plain => Vec::new(),
            Way::Bot => return self.bot().await,
        };
        let cpu = cpu_of_ended()?;
        let taken = tokio::task::block_in_place(|| self.bare(&quick))?;
        if let Way::Quick = way {
            self.quick_cpu.add(cpu_of_ended()? - cpu);
        }
        Ok(taken)
    }

    async fn bot(&mut self) -> anyhow::Result<f64> {
        let cpu = self.bot.process.cpu()?;
        let signed = self.bot.signer.command(ANA, &format!("backup {SERVICE} --env {PRODUCTION}"))?;
        let begun = Instant::now();
        let mut wire = Wire::connect(self.bot.process.address)?;
        ensure!(wire.ask(&signed.bytes)?.status == 200, "the backup was not taken on");
        let stored = self.bot.stage.directory.join("backups").join(PRODUCTION).join(DATABASE);
        let manifest = loop {
            // The manifest is written last: with it, the dump is a backup.
            if let Some(manifest) = find(&stored, ".manifest.json") {
                break manifest;
            }
            ensure!(begun.elapsed() < PATIENCE, "no backup:\n{}", self.bot.stage.workspace.transcript());
            tokio::time::sleep(LOOK).await;
        };
        let taken = begun.elapsed().as_secs_f64();
        self.own_cpu.add(self.bot.process.cpu()? - cpu);
        self.last = Some(read(&manifest).await?);
        // The run is closed after its manifest is there; the next may not begin before.
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::fs::remove_dir_all(&stored).context("removing the backup")?;
        Ok(taken)
    }

    fn bare(&self, arguments: &[String]) -> anyhow::Result<f64> {
        let cluster = &self.house.cluster;
        let mut dump = Command::new(self.house.pg_dump());
        dump.args(arguments).env("PGHOST", cluster.host()).env("PGPORT", cluster.port().to_string());
        dump.env("PGUSER", cluster.superuser()).env("PGPASSWORD", cluster.superuser_password());
        dump.env("PGDATABASE", DATABASE).stdout(Stdio::null());
        let begun = Instant::now();
        let status = dump.status().context("starting pg_dump")?;
        ensure!(status.success(), "pg_dump: {status}");
        Ok(begun.elapsed().as_secs_f64())
    }

    fn compression(&self) -> anyhow::Result<&str> {
        Ok(&self.last.as_ref().context("no backup was made")?.compression)
    }
}

fn find(directory: &Path, end: &str) -> Option<PathBuf> {
    let mut files = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    files.find(|path| path.to_string_lossy().ends_with(end))
}

/// Its name may be there before its content is.
async fn read(path: &Path) -> anyhow::Result<Manifest> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match serde_json::from_slice(&std::fs::read(path)?) {
            Ok(manifest) => return Ok(manifest),
            Err(error) if Instant::now() > until => return Err(error).context("reading the manifest"),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}
