//! What is measured, and what it stands on: the released program, the sample on a real PostgreSQL server, the fake Slack.

use crate::floor;
use crate::load::Wire;
use crate::process::{Process, Processors, free_address};
use crate::report::{ROUNDS, Rounds};
use crate::requests::{ANA, Signer};
use crate::sink::Sink;
use anyhow::{Context, ensure};
use countersign::demo::fake_slack::{SIGNING_SECRET, Settings};
use countersign::demo::harness::{INCIDENT, Setup, Site, Stage};
use countersign::demo::postgres::{Cluster, Options};
use countersign::demo::sample::{Sample, Team};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The one environment.
pub const PRODUCTION: &str = "production";

/// A whole answer comes within this time, or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// The major version of the newer server and its clients.
const ZSTD_MAJOR: &str = "17";

/// The server with the ten databases of the sample.
pub struct House {
    pub cluster: Cluster,
    pub team: Team,
    /// The directory of `pg_dump` and `pg_restore`, if not the server's own.
    clients: Option<PathBuf>,
    /// Everything that is written to disk.
    pub directory: tempfile::TempDir,
}

/// A bot as a process of its own, with a record of its own.
pub struct Bot {
    pub process: Process,
    pub stage: Stage,
    pub signer: Signer,
}

impl House {
    pub async fn build() -> anyhow::Result<House> {
        House::with(Options::default()).await
    }

    /// A server with those options.
    pub async fn with(options: Options) -> anyhow::Result<House> {
        House::of(options, None, &Sample::light()).await
    }

    /// A server with a login for what maintains tables.
    pub async fn with_maintainer() -> anyhow::Result<House> {
        House::of(Options::default(), None, &Sample { maintainer: true, ..Sample::light() }).await
    }

    /// A server whose clients are built with zstd, where `make` has installed it; Debian's newest may be too old for that.
    pub async fn with_zstd() -> anyhow::Result<Option<House>> {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools");
        let directory = |kind: &str| tools.join(kind).join(ZSTD_MAJOR).join("bin").canonicalize().ok();
        let (Some(servers), Some(clients)) = (directory("postgres"), directory("clients")) else {
            return Ok(None);
        };
        let options = Options { bin_dir: Some(servers), ..Options::default() };
        House::of(options, Some(clients), &Sample::light()).await.map(Some)
    }

    async fn of(options: Options, clients: Option<PathBuf>, sample: &Sample) -> anyhow::Result<House> {
        let cluster = Cluster::start(options).await?;
        let team = sample.install(&cluster).await.context("installing the sample")?;
        Ok(House { cluster, team, clients, directory: tempfile::tempdir()? })
    }

    pub fn pg_dump(&self) -> PathBuf {
        self.clients.as_deref().unwrap_or(self.cluster.bin_dir()).join("pg_dump")
    }

    /// Starts a bot with a fresh record and waits until it answers; `more` is added to its configuration.
    pub async fn bot(&self, name: &str, processors: Processors, more: &str) -> anyhow::Result<Bot> {
        let (stage, signer) = self.stage(name, more).await?;
        let mut process = self.start(&stage, processors)?;
        process
            .first_answer(&signer.ssl_check()?)
            .with_context(|| format!("the log is {:?}", log(&stage)))?;
        Ok(Bot { process, stage, signer })
    }

    /// From a command to its whole answer, which contains the words: the median of the rounds, in milliseconds.
    pub async fn answer_time(&self, bot: &Bot, line: &str, words: &str) -> anyhow::Result<f64> {
        let mut times = Rounds::default();
        for _ in 0..ROUNDS {
            let signed = bot.signer.command(ANA, line)?;
            let arrival = bot.signer.sink.expect(&signed.answer);
            let mut wire = Wire::connect(bot.process.address)?;
            let begun = Instant::now();
            let acknowledged = tokio::task::block_in_place(|| wire.ask(&signed.bytes))?;
            ensure!(acknowledged.status == 200, "`{line}` was not taken on");
            let arrived = tokio::time::timeout(PATIENCE, arrival).await;
            let log = || std::fs::read_to_string(log(&bot.stage)).unwrap_or_default();
            let (arrived, answer) =
                arrived.with_context(|| format!("`{line}` is not answered; the log:\n{}", log()))??;
            ensure!(answer.contains(words), "{words} is not in the answer to `{line}`: {answer}");
            times.add((arrived - begun).as_secs_f64() * 1e3);
        }
        Ok(times.median())
    }

    /// A bot's surroundings, without the bot.
    pub async fn stage(&self, name: &str, more: &str) -> anyhow::Result<(Stage, Signer)> {
        let directory = self.directory.path().join(name);
        std::fs::create_dir(&directory).context("making a directory")?;
        let site = Site { name: PRODUCTION, production: true, cluster: &self.cluster, team: &self.team };
        let backups = "directory = \"backups\"\n";
        let tools = self.clients.iter().map(|clients| format!("{backups}tools = [{clients:?}]\n"));
        let mut stage = Stage::set(Setup {
            sites: vec![site],
            workspace: Settings { rate_limits: false, ..Settings::default() },
            slack: true,
            teams: None,
            listen: free_address()?,
            directory: &directory,
            extra_config: more,
            replacements: tools.map(|tools| (backups.to_owned(), tools)).collect(),
            socket_mode: false,
        })
        .await?;
        let api = stage.workspace.api_url();
        let sink = Sink::start(api.clone()).await?;
        stage.config = stage.config.replace(&api, &sink.api_url());
        std::fs::write(directory.join("countersign.toml"), &stage.config)?;
        let signer = Signer::new(INCIDENT, sink);
        Ok((stage, signer))
    }

    /// Starts the released program.
    pub fn start(&self, stage: &Stage, processors: Processors) -> anyhow::Result<Process> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.arg("serve").arg("--config").arg(stage.directory.join("countersign.toml"));
        command.envs(&stage.secrets).env_remove("RUST_LOG");
        Process::start(&command, stage.checked()?.listen, processors, &log(stage))
    }

    /// Starts this program as a floor.
    pub fn floor(&self, kind: floor::Kind, processors: Processors) -> anyhow::Result<Process> {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.arg(kind.argument()).arg(address.to_string()).env(floor::SECRET, SIGNING_SECRET);
        let log = self.directory.path().join(format!("{}.log", kind.argument()));
        Process::start(&command, address, processors, &log)
    }
}

fn log(stage: &Stage) -> PathBuf {
    stage.directory.join("bot.log")
}
