//! An audit log on a PostgreSQL server of its own, which several bots share.

use crate::harness::{Scene, Twist, servers};
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
