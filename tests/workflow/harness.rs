//! What every scene needs: a bot on a stage of its own, and the sample servers, which all scenes of this binary share.

use countersign::demo::fake_slack::{Fault, Message, MessageRef, Settings, Workspace};
use countersign::demo::harness::{Bot, INCIDENT, Setup, Site, Stage};
use countersign::demo::postgres::{Cluster, Options};
use countersign::demo::sample::{Sample, Team};
use countersign::model::Run;
use countersign::store::sqlite::{SqliteStore, StoreLimits};
use countersign::store::{Filter, Store};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio_postgres::Client;

pub const ANA: &str = "U0ANA";
pub const BEN: &str = "U0BEN";
pub const CARA: &str = "U0CARA";
pub const DAN: &str = "U0DAN";

/// The servers of this binary: started once, ended with the process.
pub struct Servers {
    pub cluster: Cluster,
    pub team: Team,
}

pub async fn servers() -> &'static Servers {
    static SERVERS: OnceCell<Servers> = OnceCell::const_new();
    SERVERS.get_or_init(|| Servers::for_many(400)).await
}

impl Servers {
    /// Servers that several scenes share.
    pub async fn for_many(max_connections: u32) -> Servers {
        let servers = Servers::start(max_connections).await;
        // The bots of all scenes share these roles; in a team's server there are one or two bots.
        let limits =
            "ALTER ROLE countersign_read CONNECTION LIMIT -1; ALTER ROLE countersign_act CONNECTION LIMIT -1";
        let superuser = servers.cluster.connect("postgres").await.expect("the superuser");
        superuser.batch_execute(limits).await.expect("no limits");
        servers
    }

    /// Servers for a scene alone, with so many connection slots. They end with the process.
    pub async fn alone(max_connections: u32) -> &'static Servers {
        Box::leak(Box::new(Servers::start(max_connections).await))
    }

    /// As [`Servers::alone`], with a replica that follows.
    pub async fn followed() -> (&'static Servers, Cluster) {
        let mut servers = Servers::start(60).await;
        let superuser = servers.cluster.connect("postgres").await.expect("the superuser");
        superuser.query("SELECT pg_create_physical_replication_slot('replica')", &[]).await.expect("a slot");
        // It is stopped like a crash, and commits without waiting for the disk.
        superuser.batch_execute("CHECKPOINT").await.expect("a checkpoint");
        let replica = servers.cluster.replica("replica").await.expect("a replica");
        (Box::leak(Box::new(servers)), replica)
    }

    async fn start(max_connections: u32) -> Servers {
        let settings = vec![("max_connections".to_owned(), max_connections.to_string())];
        let options = Options { settings, ..Options::default() };
        let (cluster, team) = Sample::light().start(options).await.expect("a server with the sample");
        Servers { cluster, team }
    }
}

/// One scene.
pub struct Scene {
    pub stage: Stage,
    pub bot: Option<Bot>,
    pub servers: &'static Servers,
    pub directory: tempfile::TempDir,
}

/// How a scene differs from the usual.
#[derive(Default)]
pub struct Twist<'a> {
    pub more: &'a str,
    pub instead: Vec<(&'a str, &'a str)>,
    pub socket_mode: bool,
    pub workspace: Option<Settings>,
    /// Files of the team's own commands.
    pub commands: Vec<(&'a str, &'a str)>,
    /// Others than those that all scenes share.
    pub servers: Option<&'static Servers>,
}

impl Scene {
    pub async fn usual() -> Scene {
        Scene::with(Twist::default()).await
    }

    pub async fn with(twist: Twist<'_>) -> Scene {
        let mut scene = Scene::without_bot(twist).await;
        scene.bot = Some(scene.stage.bot().await.expect("a bot"));
        scene
    }

    /// Everything around a bot, for tests that start it themselves.
    pub async fn without_bot(twist: Twist<'_>) -> Scene {
        countersign_provider();
        let servers = match twist.servers {
            Some(alone) => alone,
            None => servers().await,
        };
        let directory = tempfile::tempdir().expect("a directory");
        let mut more = twist.more.to_owned();
        if !twist.commands.is_empty() {
            let commands = directory.path().join("commands");
            std::fs::create_dir(&commands).expect("a directory");
            for (name, text) in &twist.commands {
                std::fs::write(commands.join(name), text).expect("a command file");
            }
            more = format!("{more}\n[commands]\ndirectory = \"commands\"\n");
        }
        let site =
            |name, production| Site { name, production, cluster: &servers.cluster, team: &servers.team };
        let stage = Stage::set(Setup {
            sites: vec![site("production", true), site("staging", false)],
            workspace: twist.workspace.unwrap_or_default(),
            slack: true,
            teams: None,
            listen: ([127, 0, 0, 1], 0).into(),
            directory: directory.path(),
            extra_config: &more,
            replacements: twist.instead.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            socket_mode: twist.socket_mode,
        })
        .await
        .expect("a stage");
        Scene { stage, bot: None, servers, directory }
    }

    pub fn workspace(&self) -> &Workspace {
        &self.stage.workspace
    }

    /// Lets no form be opened from here on: whoever leaves out an argument is told what is missing.
    pub fn without_forms(&self) {
        self.workspace().fault("views.open", Fault::Error("expired_trigger_id"));
    }

    /// Somebody types a command in the incident's channel; it must be acknowledged.
    pub async fn say(&self, who: &str, line: &str) {
        self.says_in(who, INCIDENT, line).await;
    }

    pub async fn says_in(&self, who: &str, channel: &str, line: &str) {
        let ack = self.workspace().say(who, channel, &format!("/db {line}")).await;
        assert!(ack.ok(), "{line}: {ack:?}");
    }

    /// Types a command and waits for the answer that begins with it.
    pub async fn asks(&self, who: &str, line: &str) -> Message {
        let before = self.count(who);
        self.say(who, line).await;
        self.next(who, before, line).await
    }

    pub fn count(&self, who: &str) -> usize {
        self.workspace().visible_messages(who, INCIDENT).len()
    }

    /// The first message that this person sees after that many.
    pub async fn next(&self, who: &str, before: usize, what: &str) -> Message {
        let found = self
            .workspace()
            .wait_for(what, |workspace| workspace.visible_messages(who, INCIDENT).into_iter().nth(before))
            .await;
        found.unwrap_or_else(|why| panic!("{why}"))
    }

    /// Clicks; the answer is whatever comes of it.
    pub async fn click_button(&self, who: &str, message: &MessageRef, button: &str) {
        let ack = self.workspace().click_button(who, message, button).await;
        assert!(ack.ok(), "{button}: {ack:?}");
    }

    /// Clicks and waits for what the clicker alone is told.
    pub async fn is_told(&self, who: &str, message: &MessageRef, button: &str) -> Message {
        let before = self.count(who);
        self.click_button(who, message, button).await;
        self.next(who, before, button).await
    }

    /// Waits until the message says something.
    pub async fn until(&self, message: &MessageRef, words: &str) -> Message {
        let found = self.workspace().wait_for(words, |workspace| {
            workspace.message(message).filter(|message| message.plain().contains(words))
        });
        found.await.unwrap_or_else(|why| panic!("{why}"))
    }

    /// A session of the asset service: its client and pid.
    pub async fn session(&self, application: &str) -> (Client, i32) {
        let (service, account) = self.servers.team.service("asset-service").expect("the service");
        self.session_by(account.login(&service.database, application)).await
    }

    pub async fn superuser(&self) -> Client {
        self.servers.cluster.connect("postgres").await.expect("the superuser")
    }

    pub async fn is_there(&self, pid: i32) -> bool {
        let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
        self.superuser().await.query_one(sql, &[&pid]).await.expect("an answer").get(0)
    }

    /// The record, as another process would read it.
    pub fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.directory.path().join("record.db"), StoreLimits::default())
            .expect("the record")
    }

    pub async fn runs_of(&self, command: &str) -> Vec<Run> {
        let filter = Filter { command: Some(command.to_owned()), include_reads: true, ..Filter::default() };
        self.store().list(filter).await.expect("the runs").runs
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        crate::slack_payloads::keep(self.workspace());
    }
}

/// Waits until what is looked for is there.
pub async fn found<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn countersign_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
