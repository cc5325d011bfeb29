//! The scene of the soak: the fake Slack with its people, a target server, the audit log's servers, Redis, the replicas, and the balancer
//! in front of them.

use crate::balancer::{Balancer, Retries};
use crate::journal::Journal;
use crate::record::RecordServers;
use crate::redis_server::{PRIMARY, RedisGroup};
use crate::replica::Replica;
use countersign::demo::fake_slack::{Account, Channel, Kind, Settings, Workspace};
use countersign::demo::free_port;
use countersign::demo::harness::{Setup, Site, Stage};
use countersign::demo::postgres::{Cluster, Options};
use countersign::demo::sample::Sample;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres::Client;

pub const REPLICAS: usize = 3;

/// Each person types in one of these. The bot sends a message a second to each.
const CHANNELS: usize = 20;

/// The table has no key: a second execution of a run shows as a second row.
const COUNTED: &str =
    "CREATE TABLE counted (number int, by text DEFAULT current_setting('application_name'));
    GRANT INSERT ON counted TO countersign_act; GRANT SELECT ON counted TO countersign_read;
    ALTER ROLE countersign_read CONNECTION LIMIT -1; ALTER ROLE countersign_act CONNECTION LIMIT -1";

/// Runs with equal arguments exclude each other: each has a number of its own.
const COUNT: &str = "/*\nsummary = \"Count\"\ngroup = \"act\"\nrisk = \"danger\"\nscope = \"server\"\n\
    login = \"operator\"\nexample = \"count 1\"\n\
    args = [{ name = \"number\", type = \"int\", positional = true, required = true, help = \"Any\" }]\n*/\n\
    -- ## One [preview]\nSELECT 1 AS count\n\
    -- ## Count\nINSERT INTO public.counted (number) VALUES (:'number'::int)\n";

/// A simulated person.
#[derive(Debug, Clone)]
pub struct Person {
    /// "p017".
    pub name: String,
    pub account: String,
    pub channel: String,
    pub is_approver: bool,
}

pub struct Scene {
    pub workspace: Workspace,
    pub people: Vec<Person>,
    pub services: Vec<String>,
    pub target: Cluster,
    pub record: tokio::sync::Mutex<RecordServers>,
    pub redis: tokio::sync::Mutex<RedisGroup>,
    pub replicas: Vec<tokio::sync::Mutex<Replica>>,
    pub journal: Arc<Mutex<Journal>>,
    pub directory: PathBuf,
    /// The way of every request.
    _balancer: Balancer,
}

impl Scene {
    /// Sets everything up. What it writes is in a directory of the build's, and stays there.
    pub async fn start(name: &str, people: usize) -> Scene {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("commands")).expect("a directory");
        std::fs::write(directory.join("commands/count.sql"), COUNT).expect("a command");
        let settings = vec![("max_connections".to_owned(), "200".to_owned())];
        let options = Options { settings, ..Options::default() };
        let sample = Sample::light();
        let (target, record, redis) =
            tokio::join!(sample.start(options), RecordServers::start(), RedisGroup::start());
        let (target, team) = target.expect("a server with the sample");
        let superuser = target.connect("postgres").await.expect("the superuser");
        superuser.batch_execute(COUNTED).await.expect("the table");
        let people = crowd(people);
        let sections = format!("{}{}", record.section(), redis_section(&redis));
        let stage = stage(
            &directory,
            &people,
            Site { name: "production", production: true, cluster: &target, team: &team },
            sections,
        )
        .await;
        let workspace = stage.workspace.clone();
        let journal = Arc::new(Mutex::new(Journal::new()));
        follow(&workspace, &journal);
        for number in 1..=CHANNELS {
            let (id, name) = (channel(number), format!("team-{number}"));
            workspace.add_channel(Channel { id, name, is_bot_member: true, ..Channel::default() });
        }
        for Person { name, account, .. } in &people {
            workspace.add_person(Account::new(account, name, Kind::Member));
        }
        let mut replicas = replicas(&stage, &directory);
        futures::future::join_all(replicas.iter_mut().map(Replica::start)).await;
        let balancer = Balancer::start(&directory, REPLICAS, Retries::AsInExample).await;
        for (number, replica) in replicas.iter().enumerate() {
            balancer.sends_to(number, &replica.url).await;
        }
        workspace.connect_bot(&balancer.url);
        let replicas = replicas.into_iter().map(tokio::sync::Mutex::new).collect();
        let services = team.services.iter().map(|(service, _)| service.name.to_string()).collect();
        let (record, redis) = (tokio::sync::Mutex::new(record), tokio::sync::Mutex::new(redis));
        Scene {
            workspace,
            people,
            services,
            target,
            record,
            redis,
            replicas,
            journal,
            directory,
            _balancer: balancer,
        }
    }

    pub async fn superuser(&self) -> Client {
        self.target.connect("postgres").await.expect("the superuser")
    }

    /// Rows of the table by the sessions that inserted them: "countersign #12 p017".
    pub async fn counted(&self) -> BTreeMap<String, i64> {
        let sql = "SELECT by, count(*) FROM counted GROUP BY by";
        let rows = self.superuser().await.query(sql, &[]).await.expect("the rows");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

fn channel(number: usize) -> String {
    format!("C0TEAM{number:02}")
}

/// Every tenth person approves.
fn crowd(people: usize) -> Vec<Person> {
    let person = |number: usize| Person {
        name: format!("p{number:03}"),
        account: format!("U0P{number:03}"),
        channel: channel(number % CHANNELS + 1),
        is_approver: number.is_multiple_of(10),
    };
    (0..people).map(person).collect()
}

fn redis_section(redis: &RedisGroup) -> String {
    let port = redis.sentinel_port();
    format!(
        "[redis]\ntls = \"off\"\n\n[redis.sentinel]\naddresses = [\"127.0.0.1:{port}\"]\nmaster = \"{PRIMARY}\"\n\n"
    )
}

/// The surroundings of the replicas. `sections` name the audit log and Redis.
async fn stage(directory: &Path, people: &[Person], site: Site<'_>, sections: String) -> Stage {
    let mut more = "\n[commands]\ndirectory = \"commands\"\n\n".to_owned();
    for Person { name, account, is_approver, .. } in people {
        let roles = if *is_approver { "\"on-call\", \"approver\"" } else { "\"on-call\"" };
        writeln!(
            more,
            "[[people]]\nname = \"{name}\"\nslack = [\"{account}\"]\nroles = [{roles}]\nnotify = \"channel\"\n"
        )
        .expect("a text");
    }
    // The sample's own people would have copies of every card.
    let replacements = [
        ("path = \"record.db\"", sections),
        ("roles = [\"approver\"]", "roles = [\"observer\"]".to_owned()),
        ("notify = \"direct\"", "notify = \"channel\"".to_owned()),
    ];
    let mut stage = Stage::set(Setup {
        sites: vec![site],
        // Slack's limits would be the bound of everything.
        workspace: Settings { rate_limits: false, ..Settings::default() },
        slack: true,
        teams: None,
        listen: ([127, 0, 0, 1], 0).into(),
        directory,
        extra_config: &more,
        replacements: replacements.map(|(old, new)| (old.to_owned(), new)).into(),
        socket_mode: false,
    })
    .await
    .expect("a stage");
    stage.secrets.extend([RecordServers::secret()]);
    stage
}

/// The replicas, each with a configuration that differs in its port.
fn replicas(stage: &Stage, directory: &Path) -> Vec<Replica> {
    let replica = |number| {
        let port = free_port().expect("a port");
        let replica = Replica::new(number, port, directory, &stage.secrets);
        let listen = format!("listen = \"127.0.0.1:{port}\"");
        let config = stage.config.replace("listen = \"127.0.0.1:0\"", &listen);
        std::fs::write(replica.config(), config).expect("the configuration");
        replica
    };
    (0..REPLICAS).map(replica).collect()
}

/// Reads every message of the bot's into the journal.
fn follow(workspace: &Workspace, journal: &Arc<Mutex<Journal>>) {
    let (mut messages, journal) = (workspace.follow_messages(), Arc::clone(journal));
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            journal.lock().read(&message);
        }
    });
}
