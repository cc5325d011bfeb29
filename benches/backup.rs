//! A backup beside what the runbook types: `pg_dump -Fc` into a file, and the same client with the quick compression and
//! nothing behind it. Rows like a business has; pgbench's compress 35 : 1 and mislead.
//!
//!     cargo bench --bench backup -- [MiB] [rounds] [directory of the client programs]

use countersign::actions::backup::{Connection, Dump, Tool, choose, dump, find};
use countersign::config::{Backups, Server, Tls};
use countersign::demo::postgres::{Cluster, Options};
use countersign::storage::Storage;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// About this many rows of the sample make a MiB.
const ROWS_PER_MIB: u64 = 2_900;

const ROWS: &str = "CREATE TABLE assets AS SELECT n AS id, gen_random_uuid() AS key, 'creator-' || (random() * 5000)::int AS owner,
    (SELECT string_agg((ARRAY['studio','portrait','summer','draft','final','beach','city','light','product','banner','logo',
        'release','video','poster','night','green'])[1 + (random() * 15)::int], ' ') FROM generate_series(1, 6 + n % 9)) AS title,
    'https://cdn.example.com/' || md5(n::text) || '.jpg' AS url,
    jsonb_build_object('width', (random() * 4000)::int, 'height', (random() * 4000)::int, 'tags', ARRAY['a' || n % 40, 'b' || n % 7]) AS meta,
    timestamptz '2024-01-01' + n * interval '13 seconds' AS created_at, (random() * 1e7)::bigint AS size
    FROM generate_series(1, $1::bigint) n";

/// What a round cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    wall: Duration,
    /// Our own, and that of the children we waited for.
    own: Duration,
    children: Duration,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |at: usize, otherwise: u64| arguments.get(at).map_or(Ok(otherwise), |text| text.parse());
    let (mib, rounds) = (number(0, 800)?, number(1, 3)?);
    let cluster = Cluster::start(Options::default()).await?;
    let client = cluster.connect("postgres").await?;
    client.execute(ROWS, &[&i64::try_from(mib * ROWS_PER_MIB)?]).await?;
    let size: i64 = client.query_one("SELECT pg_table_size('assets')", &[]).await?.get(0);
    let directory = tempfile::tempdir()?;
    let client_directory = arguments.get(2).map_or(cluster.bin_dir().to_owned(), PathBuf::from);
    let backups = Backups {
        directory: directory.path().join("backups"),
        tools: vec![client_directory.clone()],
        search_path: Vec::new(),
    };
    let tools: Vec<Tool> =
        find(&backups).await.into_iter().filter(|tool| tool.directory == client_directory).collect();
    let tool = choose(&tools, cluster.version_num() / 10_000)?;
    let quick = tool.compression().await;
    println!("{} MiB of rows, pg_dump {}, {quick}", size >> 20, tool.version);
    let storage = Storage::open(&backups)?;
    let (mut runbook, mut bare, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let target = directory.path().join("runbook.dump");
        runbook.push(plainly(&cluster, tool, ("--compress=6", &target))?);
        bare.push(plainly(&cluster, tool, (quick, Path::new("/dev/null")))?);
        ours.push(backup(&cluster, tool, (&storage, i64::try_from(round)?)).await?);
    }
    let (runbook, bare, ours) = (median(runbook), median(bare), median(ours));
    for (name, cost) in [("pg_dump -Fc", runbook), ("bare client", bare), ("backup", ours)] {
        println!(
            "{name:12} {:6.2} s, own CPU {:5.2} s, children's {:6.2} s",
            cost.wall.as_secs_f64(),
            cost.own.as_secs_f64(),
            cost.children.as_secs_f64()
        );
    }
    println!("backup / pg_dump -Fc: {:.2}", ours.wall.as_secs_f64() / runbook.wall.as_secs_f64());
    println!("backup / bare client: {:.2}", ours.wall.as_secs_f64() / bare.wall.as_secs_f64());
    println!("own CPU / pg_dump's:  {:.2}", ours.own.as_secs_f64() / bare.children.as_secs_f64());
    Ok(())
}

fn plainly(cluster: &Cluster, tool: &Tool, (compression, target): (&str, &Path)) -> anyhow::Result<Cost> {
    let start = (Instant::now(), cpu()?);
    let status = Command::new(tool.pg_dump())
        .args(["-Fc", compression, "--no-sync", "--file"])
        .arg(target)
        .stdout(Stdio::null())
        .arg("postgres")
        .env("PGHOST", cluster.host())
        .env("PGPORT", cluster.port().to_string())
        .env("PGUSER", cluster.superuser())
        .env("PGPASSWORD", cluster.superuser_password())
        .stdin(Stdio::null())
        .status()?;
    anyhow::ensure!(status.success(), "pg_dump: {status}");
    cost(start)
}

async fn backup(cluster: &Cluster, tool: &Tool, (storage, run): (&Storage, i64)) -> anyhow::Result<Cost> {
    let start = (Instant::now(), cpu()?);
    let job = Dump {
        storage,
        tool,
        connection: Connection {
            server: Server { name: "main".into(), host: cluster.host().into(), port: cluster.port() },
            database: "postgres".into(),
            user: cluster.superuser().into(),
            password: Some(cluster.superuser_password().into()),
            tls: Tls::Off,
            timeout: Duration::from_secs(10),
            application: "countersign bench".into(),
        },
        environment: "bench",
        server_version: String::new(),
        table_bytes: 1,
        asked_by: "bench",
        run,
    };
    dump(&job, &|_| {}).await?;
    let cost = cost(start)?;
    let peak = std::fs::read_to_string("/proc/self/status")?;
    let peak = peak.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
    println!("round {run}: {:.2} s, {peak}", cost.wall.as_secs_f64());
    Ok(cost)
}

/// Our own CPU time and that of ended children, in Linux' ticks of 10 ms.
fn cpu() -> anyhow::Result<(Duration, Duration)> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| -> anyhow::Result<Duration> {
        Ok(Duration::from_millis(10) * (fields[at].parse::<u32>()? + fields[at + 1].parse::<u32>()?))
    };
    // Fields 14 to 17 of proc(5), counted from the state, which is the third.
    Ok((ticks(11)?, ticks(13)?))
}

fn cost((since, (own, children)): (Instant, (Duration, Duration))) -> anyhow::Result<Cost> {
    let now = cpu()?;
    Ok(Cost { wall: since.elapsed(), own: now.0 - own, children: now.1 - children })
}

fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by_key(|cost| cost.wall);
    costs[costs.len() / 2]
}
