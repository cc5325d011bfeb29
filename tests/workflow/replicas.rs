//! Replicas of the real program that share an audit log on a PostgreSQL server, behind a real HAProxy.

use crate::balancer::{Balancer, Retries};
use crate::harness::{Scene, Twist, servers};
use crate::process::Process;
use countersign::config::{PostgresStoreSettings, StoreSettings};
use countersign::demo::postgres::{Cluster, Options};
use countersign::model::random_token;
use countersign::store::postgres::PostgresStore;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio_postgres::Client;

/// The server of every shared audit log, which is none of the targets.
pub async fn log_server() -> &'static Cluster {
    static LOG_SERVER: OnceCell<Cluster> = OnceCell::const_new();
    let start = async || {
        let settings = vec![("max_connections".to_owned(), "300".to_owned())];
        Cluster::start(Options { settings, ..Options::default() }).await.expect("a PostgreSQL server")
    };
    LOG_SERVER.get_or_init(start).await
}

/// A scene whose bots share an audit log, in a database of its own.
pub async fn scene_on_one_log(twist: Twist<'_>) -> Scene {
    let servers = match twist.servers {
        Some(servers) => servers,
        None => servers().await,
    };
    let name = format!("audit_{}", random_token().expect("randomness"));
    let log_server = log_server().await;
    let superuser = log_server.connect("postgres").await.expect("the superuser");
    for sql in [
        format!("CREATE ROLE {name} LOGIN PASSWORD 'recorder'"),
        format!("CREATE DATABASE {name} OWNER {name} TEMPLATE template0 ENCODING 'UTF8'"),
    ] {
        superuser.batch_execute(&sql).await.expect("a database for the audit log");
    }
    let place = format!(
        "[store.postgres]\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"{name}\"\nuser = \"{name}\"\n\
         password = {{ env = \"RECORDER\" }}\ntls = \"off\"\n",
        log_server.port()
    );
    let mut instead = twist.instead;
    instead.push(("path = \"record.db\"", &place));
    let mut scene = Scene::without_bot(Twist { instead, servers: Some(servers), ..twist }).await;
    scene.stage.secrets.insert("RECORDER".into(), "recorder".into());
    scene
}

fn log_settings(scene: &Scene) -> PostgresStoreSettings {
    match scene.stage.checked().expect("the configuration").store {
        StoreSettings::Postgres(settings) => *settings,
        StoreSettings::File(_) => panic!("the audit log is a file"),
    }
}

/// The audit log that the bots of a scene share, as one more replica.
pub async fn shared_log(scene: &Scene) -> PostgresStore {
    PostgresStore::open(log_settings(scene), Duration::from_secs(10)).await.expect("the audit log")
}

/// The database of that audit log, and a superuser's session in it.
pub async fn log_database(scene: &Scene) -> (String, Client) {
    let database = log_settings(scene).database;
    let client = log_server().await.connect(&database).await.expect("the audit log's database");
    (database, client)
}

/// So many replicas and their balancer. Dropping it kills them.
pub struct Replicas {
    balancer: Balancer,
    replicas: Vec<Option<Process>>,
}

impl Replicas {
    /// Starts them; the workspace's requests go to the balancer from now on.
    pub async fn start(scene: &Scene, count: usize, retries: Retries) -> Replicas {
        let balancer = Balancer::start(scene.directory.path(), count, retries).await;
        let mut replicas = Replicas { balancer, replicas: (0..count).map(|_| None).collect() };
        for number in 0..count {
            replicas.start_one(scene, number).await;
        }
        scene.workspace().connect_bot(&replicas.balancer.url);
        replicas
    }

    /// The balancer's address: `http://127.0.0.1:4711`.
    pub fn url(&self) -> &str {
        &self.balancer.url
    }

    /// A replica that runs.
    pub fn get(&self, number: usize) -> &Process {
        self.replicas[number].as_ref().expect("a replica that runs")
    }

    /// Starts a replica in the place of one that has ended, and waits until the balancer sends requests to it.
    pub async fn start_one(&mut self, scene: &Scene, number: usize) {
        assert!(self.replicas[number].is_none(), "replica {number} runs already");
        let process = Process::start_unconnected(scene).await;
        self.balancer.sends_to(number, &process.url).await;
        self.replicas[number] = Some(process);
    }

    /// Waits until the balancer sends requests to a replica, or doesn't any more.
    pub async fn until_ready(&self, number: usize, is_ready: bool) {
        self.balancer.finds(number, is_ready).await;
    }

    /// SIGTERM, and waits for the end, which must be a good one.
    pub async fn terminate(&mut self, number: usize) {
        let process = self.replicas[number].take().expect("a replica that runs");
        process.terminate();
        process.ended().await;
    }

    /// SIGKILL.
    pub async fn kill(&mut self, number: usize) {
        self.replicas[number].take().expect("a replica that runs").kill().await;
    }
}
