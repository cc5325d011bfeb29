//! The real program between the sample servers, the fake Teams and, where asked for, the fake Slack.

use countersign::demo::fake_slack;
use countersign::demo::fake_teams::{ConversationKind, Tenant, TenantSettings, TenantUser};
use countersign::demo::harness::{Setup, Site, Stage};
use countersign::demo::postgres::{Cluster, Options};
use countersign::demo::sample::{Sample, Team};
use countersign::model::Run;
use countersign::store::sqlite::{SqliteStore, StoreLimits};
use countersign::store::{Filter, Store};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;
use tokio_postgres::Client;

/// The incident's channel in Teams.
pub const INCIDENT: &str = "19:incident@thread.tacv2";
/// A chat of the same people.
pub const CHAT: &str = "19:people@thread.v2";

/// Those of the sample, and one whom the configuration doesn't know.
pub const PEOPLE: [&str; 5] = ["ana", "ben", "cara", "dan", "nora"];

/// The servers that all tests of a binary share.
pub struct Servers {
    pub cluster: Cluster,
    pub team: Team,
}

pub async fn servers() -> &'static Servers {
    static SERVERS: OnceCell<Servers> = OnceCell::const_new();
    SERVERS
        .get_or_init(async || {
            let settings = vec![("max_connections".to_owned(), "400".to_owned())];
            let cluster = Cluster::start(Options { settings, ..Options::default() }).await;
            let cluster = cluster.expect("a PostgreSQL server");
            let team = Sample::light().install(&cluster).await.expect("the sample");
            // The bots of all tests share these roles; in a team's server there are one or two bots.
            let limits = "ALTER ROLE countersign_read CONNECTION LIMIT -1; \
                          ALTER ROLE countersign_act CONNECTION LIMIT -1";
            let superuser = cluster.connect("postgres").await.expect("the superuser");
            superuser.batch_execute(limits).await.expect("no limits");
            Servers { cluster, team }
        })
        .await
}

/// How a configuration differs from the usual.
pub struct Twist<'a> {
    /// The chats that are configured.
    pub slack: bool,
    pub teams: bool,
    pub more: &'a str,
    pub instead: &'a [(&'a str, &'a str)],
}

impl Default for Twist<'_> {
    fn default() -> Self {
        Twist { slack: false, teams: true, more: "", instead: &[] }
    }
}

/// A bot that runs, and everything around it. Dropping it kills the program.
pub struct Bot {
    pub stage: Stage,
    pub teams: Tenant,
    pub servers: &'static Servers,
    pub directory: tempfile::TempDir,
    log: Arc<Mutex<String>>,
    _child: Child,
}

impl Bot {
    pub async fn start(twist: Twist<'_>) -> Bot {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let servers = servers().await;
        let teams = teams().await;
        let directory = tempfile::tempdir().expect("a directory");
        let site =
            |name, production| Site { name, production, cluster: &servers.cluster, team: &servers.team };
        let stage = Stage::set(Setup {
            sites: vec![site("production", true), site("staging", false)],
            workspace: fake_slack::Settings::default(),
            slack: twist.slack,
            teams: twist.teams.then(|| teams.clone()),
            listen: ([127, 0, 0, 1], 0).into(),
            directory: directory.path(),
            extra_config: twist.more,
            replacements: twist.instead.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            socket_mode: false,
        });
        let stage = stage.await.expect("a stage");
        let log = Arc::new(Mutex::new(String::new()));
        let (child, url) = serve(&stage, &log).await;
        teams.connect_bot(&url);
        stage.workspace.connect_bot(&url);
        Bot { stage, teams, servers, directory, log, _child: child }
    }

    /// What the program wrote to its log.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    /// A session of the asset service: its client and pid.
    pub async fn session(&self, application: &str) -> (Client, i32) {
        let (service, account) = self.servers.team.service("asset-service").expect("the service");
        let login = account.login(&service.database, application);
        let client = self.servers.cluster.connect_as(login).await.expect("a session");
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
        (client, pid)
    }

    pub async fn is_there(&self, pid: i32) -> bool {
        let superuser = self.servers.cluster.connect("postgres").await.expect("the superuser");
        let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
        superuser.query_one(sql, &[&pid]).await.expect("an answer").get(0)
    }

    /// The record, as another process reads it.
    pub fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.directory.path().join("record.db"), StoreLimits::default())
            .expect("the record")
    }

    /// Every run, or those of one command.
    pub async fn runs(&self, command: Option<&str>) -> Vec<Run> {
        let filter = Filter { command: command.map(str::to_owned), include_reads: true, ..Filter::default() };
        self.store().list(filter).await.expect("the runs").runs
    }

    /// The only run of a command, as its events.
    pub async fn events_of(&self, command: &str) -> Vec<String> {
        let runs = self.runs(Some(command)).await;
        assert_eq!(runs.len(), 1, "{runs:#?}");
        runs[0].events.iter().map(|event| event.kind.as_str().to_owned()).collect()
    }
}

impl Drop for Bot {
    /// Whatever was played: no secret stands in the log.
    fn drop(&mut self) {
        crate::slack_payloads::keep(&self.stage.workspace);
        crate::teams_payloads::keep(&self.teams);
        let log = self.log();
        let mut secrets = self.stage.secrets.values().filter(|secret| !secret.starts_with("http"));
        let secret = secrets.find(|secret| log.contains(secret.as_str()));
        assert!(secret.is_none() || std::thread::panicking(), "a secret in the log: {log}");
    }
}

/// The people of the sample in a channel and a chat.
async fn teams() -> Tenant {
    let teams = Tenant::start(TenantSettings::default()).await.expect("a fake Teams");
    for name in PEOPLE {
        teams.add_person(TenantUser::new(name));
    }
    teams.add_conversation(ConversationKind::Channel, INCIDENT, &PEOPLE);
    teams.add_conversation(ConversationKind::GroupChat, CHAT, &PEOPLE);
    teams
}

async fn serve(stage: &Stage, log: &Arc<Mutex<String>>) -> (Child, String) {
    let config = stage.directory.join("countersign.toml");
    std::fs::write(&config, &stage.config).expect("the configuration");
    let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .env_clear()
        .envs(&stage.secrets)
        .env("RUST_LOG", "warn,countersign=debug")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program");
    let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
    let kept = Arc::clone(log);
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            *kept.lock().expect("the log") += &(line + "\n");
        }
    });
    let address = found("the program to listen", async || {
        let log = log.lock().expect("the log").clone();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut listening = lines.filter(|line| line["fields"]["message"] == "listening");
        Some(listening.next()?["fields"]["address"].as_str()?.to_owned())
    });
    let address = address.await;
    (child, format!("http://{address}"))
}

/// Waits until what is looked for is there.
pub async fn found<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
