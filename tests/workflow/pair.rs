//! Two processes on one audit log in PostgreSQL, and everything that each acting command needs. One of them reaches the audit log and the
//! targets through gates.

use crate::acting_commands::{ACTING_COMMANDS, ActingCommand};
use crate::gate::Gate;
use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use crate::process::Process;
use countersign::config::StoreSettings;
use countersign::demo::fake_slack::Message;
use countersign::demo::harness::INCIDENT;
use countersign::demo::postgres::{Cluster, Options};
use countersign::demo::sample::Sample;
use countersign::model::{Run, RunId, RunState};
use countersign::store::postgres::PostgresStore;
use countersign::store::{Filter, Store};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Client;

const COUNT: &str = "/*\nsummary = \"Count\"\ngroup = \"act\"\nrisk = \"danger\"\nscope = \"database\"\nlogin = \"operator\"\n\
    args = [{ name = \"service\", type = \"service\", positional = true, required = true, help = \"one\" }]\n\
    example = \"count auth-service\"\n*/\n-- ## One [preview]\nSELECT 1 AS count\n-- ## Count\nINSERT INTO public.counted DEFAULT VALUES\n";

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workflow/prisma.py");

/// Nobody is in a hurry, except for a lock.
const PATIENT: &str = "connections = 60\nstatement_timeout = \"60s\"\nlock_timeout = \"1s\"";

/// The effect of each command, by its name.
pub type Effects = BTreeMap<&'static str, String>;

/// The run of each command, by its name.
pub type Runs = BTreeMap<&'static str, RunId>;

/// Two processes on one record in PostgreSQL. A reaches the target and the record through gates.
pub struct Pair {
    pub scene: Scene,
    pub a: Process,
    pub b: Process,
    pub target_gate: Gate,
    pub store_gate: Gate,
    pub record: PostgresStore,
    audit: Client,
    /// The superuser in each command's database.
    databases: BTreeMap<String, Client>,
    /// The session that each command is about.
    pids: BTreeMap<&'static str, i32>,
    _sessions: Vec<Client>,
}

impl Pair {
    pub async fn new() -> Pair {
        let settings = vec![("max_connections".to_owned(), "300".to_owned())];
        let sample = Sample { maintainer: true, owner: true, ..Sample::light() };
        let (cluster, team) = sample.start(Options { settings, ..Options::default() }).await.unwrap();
        let servers: &'static Servers = Box::leak(Box::new(Servers { cluster, team }));
        let superuser = servers.cluster.connect("postgres").await.unwrap();
        for role in ["read", "act", "maintain", "owner"] {
            let sql = format!("ALTER ROLE countersign_{role} CONNECTION LIMIT -1");
            superuser.batch_execute(&sql).await.unwrap();
        }
        // Whoever creates the extension has to be one.
        superuser.batch_execute("ALTER ROLE countersign_owner SUPERUSER").await.unwrap();
        let log_server: &'static Cluster =
            Box::leak(Box::new(Cluster::start(Options::default()).await.unwrap()));
        let log_superuser = log_server.connect("postgres").await.unwrap();
        log_superuser.batch_execute("CREATE ROLE recorder LOGIN PASSWORD 'recorder'").await.unwrap();
        let make = "CREATE DATABASE audit OWNER recorder TEMPLATE template0 ENCODING 'UTF8'";
        log_superuser.batch_execute(make).await.unwrap();
        let mut scene = scene(servers, log_server).await;
        let target_gate = Gate::before(servers.cluster.port()).await;
        let store_gate = Gate::before(log_server.port()).await;
        let b_config = scene.stage.config.clone();
        let port = |gate: u16| format!("port = {gate}\n");
        let at_the_server = port(servers.cluster.port());
        let (targets, store) = b_config.split_once("[store.postgres]").unwrap();
        scene.stage.config = format!(
            "{}[store.postgres]{}",
            targets.replace(&at_the_server, &port(target_gate.port)),
            store
                .replacen(&port(log_server.port()), &port(store_gate.port), 1)
                .replace(&at_the_server, &port(target_gate.port))
        );
        let a = Process::start(&scene).await;
        scene.stage.config = b_config;
        // Its clock is behind: it must not take A's sessions for older than their runs.
        let b = Process::start_with_clock(&scene, -60).await;
        let StoreSettings::Postgres(store) = scene.stage.checked().unwrap().store else { panic!("a file") };
        let record = PostgresStore::open(*store, Duration::from_secs(10)).await.unwrap();
        let audit = log_server.connect("audit").await.unwrap();
        let mut pair = Pair {
            scene,
            a,
            b,
            target_gate,
            store_gate,
            record,
            audit,
            databases: BTreeMap::new(),
            pids: BTreeMap::new(),
            _sessions: Vec::new(),
        };
        pair.prepare().await;
        pair
    }

    /// Prepares every command's database and session.
    async fn prepare(&mut self) {
        for acting in &ACTING_COMMANDS {
            let client = self.scene.servers.cluster.connect(&acting.database()).await.unwrap();
            client.batch_execute(&acting.setup_sql()).await.unwrap();
            self.databases.insert(acting.command.to_owned(), client);
            let name = format!("paused-{}", acting.command);
            let (service, account) = self.scene.servers.team.service(acting.service).unwrap();
            let login = account.login(&service.database, &name);
            match acting.command {
                "cancel" => {
                    let (client, pid) = self.scene.session_by(login).await;
                    self.pids.insert(acting.command, pid);
                    // After each cancellation it sleeps again.
                    tokio::spawn(async move {
                        while !client.is_closed() {
                            let _ = client.batch_execute("SELECT pg_sleep(600)").await;
                        }
                    });
                }
                "kill" | "kill-idle" => {
                    let (client, pid) = self.scene.session_by(login).await;
                    self.pids.insert(acting.command, pid);
                    self._sessions.push(client);
                }
                _ => {}
            }
        }
    }

    /// Tells how often a command had its effect, as far as it can be told: another text is another effect.
    pub async fn effect(&self, acting: &ActingCommand) -> String {
        if acting.command == "backup" {
            return self.backups().len().to_string();
        }
        let pid = self.pids.get(acting.command).map_or(String::new(), ToString::to_string);
        let sql = acting.effect.replace("{pid}", &pid);
        let row = self.databases[acting.command].query_opt(&sql, &[]).await.unwrap();
        row.map_or_else(|| "none".to_owned(), |row| row.get(0))
    }

    pub async fn effects(&self) -> Effects {
        let mut effects = Effects::new();
        for acting in &ACTING_COMMANDS {
            effects.insert(acting.command, self.effect(acting).await);
        }
        effects
    }

    /// Waits until the command has had an effect, and then lets happen what would show another. Returns the effect.
    pub async fn has_happened(&self, acting: &ActingCommand, before: &Effects) -> String {
        let command = acting.command;
        found(&format!("the effect of {command}"), async || {
            let effect = self.effect(acting).await;
            (effect != before[command] && effect != "none").then_some(())
        })
        .await;
        self.databases[command].batch_execute(acting.afterwards).await.unwrap();
        self.effect(acting).await
    }

    /// As [`Pair::has_happened`], for each of the commands that are selected.
    pub async fn have_happened(
        &self,
        before: &Effects,
        is_selected: impl Fn(&ActingCommand) -> bool,
    ) -> Effects {
        let mut effects = Effects::new();
        for acting in ACTING_COMMANDS.iter().filter(|acting| is_selected(acting)) {
            effects.insert(acting.command, self.has_happened(acting, before).await);
        }
        effects
    }

    /// The numbers of the runs that have a backup in the storage.
    fn backups(&self) -> Vec<String> {
        let directory = self.scene.directory.path().join("backups/production/auth_service_db");
        let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name.ends_with(".json"));
        names
    }

    /// Requests the commands that are selected and lets them be approved where they have to be, all through one process.
    pub async fn run_all(&self, process: &Process, is_selected: impl Fn(&ActingCommand) -> bool) -> Runs {
        self.scene.workspace().connect_bot(&process.url);
        let mut runs = Runs::new();
        for acting in ACTING_COMMANDS.iter().filter(|acting| is_selected(acting)) {
            let pid = self.pids.get(acting.command).map_or(String::new(), ToString::to_string);
            let line = acting.line.replace("{pid}", &pid);
            let before = self.newest(acting.command).await.map(|run| run.id);
            self.scene.say(ANA, &format!("{line} --env production --reason \"a test\"")).await;
            let run = found(&format!("a run of {line}"), async || {
                self.newest(acting.command).await.filter(|run| Some(run.id) > before)
            })
            .await;
            if run.state == RunState::Pending {
                self.approves(process, acting.command).await;
            }
            runs.insert(acting.command, run.id);
        }
        runs
    }

    async fn approves(&self, process: &Process, command: &str) {
        let noted = "SELECT FROM countersign.cards WHERE message = $1";
        let heading = format!("requested {command} ");
        let card = found(&format!("a card of {command}"), async || {
            let messages = self.scene.workspace().visible_messages(ANA, INCIDENT);
            let is_its = |card: &Message| card.button("Approve").is_some() && card.plain().contains(&heading);
            let card = messages.into_iter().rev().find(is_its)?;
            self.audit.query_opt(noted, &[&card.ts]).await.unwrap().map(|_| card)
        })
        .await;
        let workspace = process.of(&self.scene);
        assert!(workspace.click_button(BEN, &card.at(), "Approve").await.ok(), "{}", card.plain());
    }

    async fn newest(&self, command: &str) -> Option<Run> {
        let filter = Filter { command: Some(command.to_owned()), limit: 1, ..Filter::default() };
        self.record.list(filter).await.unwrap().runs.pop()
    }

    /// Waits for a run's end.
    pub async fn ends(&self, run: RunId) -> Run {
        found(&format!("the end of run {run}"), async || {
            let run = self.record.get(run).await.unwrap()?;
            (!run.state.is_open() && run.state != RunState::Interrupted).then_some(run)
        })
        .await
    }

    /// A is paused, and B takes it for dead: A's runs are interrupted. (The 20 s that this takes are tested with the beats.)
    pub async fn a_is_taken_for_dead(&self, runs: &Runs) {
        self.a.pause();
        let mark = "SELECT countersign.mark_dead(i.id, i.beat) FROM countersign.instances i
                    WHERE i.id = (SELECT owner FROM countersign.runs WHERE id = $1)";
        for run in runs.values() {
            self.audit.query(mark, &[run]).await.unwrap();
        }
        let all: Vec<RunId> = runs.values().copied().collect();
        let left = "SELECT count(*) FROM countersign.runs WHERE id = ANY ($1) AND state = 'running'";
        found("A's runs to be interrupted", async || {
            let left: i64 = self.audit.query_one(left, &[&all]).await.unwrap().get(0);
            (left == 0).then_some(())
        })
        .await;
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("A:\n{}\nB:\n{}", self.a.log(), self.b.log());
        }
    }
}

async fn scene(servers: &'static Servers, log_server: &Cluster) -> Scene {
    let store = format!(
        "[store.postgres]\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"audit\"\nuser = \"recorder\"\n\
         password = {{ env = \"RECORDER\" }}\ntls = \"off\"\n",
        log_server.port()
    );
    let more = format!(
        "\n[sql]\ndirectory = \"sql\"\n[migrate]\ndeploy = [\"python3\", \"{STAND_IN}\", \"migrate\", \"deploy\"]\n\
         resolve = [\"python3\", \"{STAND_IN}\", \"migrate\", \"resolve\", \"--{{as}}\", \"{{migration}}\"]\n\
         directory = \"{{service}}\"\nenv = {{ PATH = \"/usr/local/bin:/usr/bin:/bin\", PSQL = \"{}/psql\" }}\n",
        servers.cluster.bin_dir().display()
    );
    let twist = Twist {
        servers: Some(servers),
        more: &more,
        instead: vec![("path = \"record.db\"", &store), ("connections = 12", PATIENT)],
        commands: vec![("count.sql", COUNT)],
        ..Twist::default()
    };
    let mut scene = Scene::without_bot(twist).await;
    scene.stage.secrets.insert("RECORDER".into(), "recorder".into());
    let path = |name: &str| scene.directory.path().join(name);
    for service in ["user-service", "payout-service"] {
        std::fs::create_dir_all(path(service).join("prisma/migrations")).unwrap();
    }
    let migration = path("user-service/prisma/migrations/20260101000000_paused");
    std::fs::create_dir(&migration).unwrap();
    std::fs::write(migration.join("migration.sql"), "CREATE TABLE paused_migration ()").unwrap();
    std::fs::create_dir(path("sql")).unwrap();
    let file = "/* summary = \"Adds a row\" */\nINSERT INTO public.paused_rows DEFAULT VALUES";
    std::fs::write(path("sql/add-row.sql"), file).unwrap();
    scene
}
