//! The store on a PostgreSQL server, over every major: the contract, what somebody does with SQL of their own, the schema's versions,
//! and connections that are lost.

use crate::contract::{self, Fresh};
use crate::installed::servers;
use countersign::config::{LoginCredentials, PostgresStoreSettings, Server, Tls};
use countersign::demo::postgres::{Cluster, Options};
use countersign::store::Store;
use countersign::store::postgres::PostgresStore;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

contract::contract!(fresh);

/// The bot's role, which owns its databases and is nothing else.
pub const ROLE: &str = "recorder";

/// A role that owns nothing.
pub const LIMITED_ROLE: &str = "appender";

/// One server of each major, for all tests.
pub async fn clusters() -> &'static [Cluster] {
    static CLUSTERS: OnceCell<Vec<Cluster>> = OnceCell::const_new();
    let start = async || {
        let starts = servers().into_iter().map(async |bin_dir| {
            let cluster =
                Cluster::start(Options { bin_dir: Some(bin_dir), ..Options::default() }).await.unwrap();
            let superuser = cluster.connect("postgres").await.unwrap();
            for role in [ROLE, LIMITED_ROLE] {
                let sql = format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'");
                superuser.batch_execute(&sql).await.unwrap();
            }
            cluster
        });
        futures::future::join_all(starts).await
    };
    CLUSTERS.get_or_init(start).await
}

/// A new database of the bot's on each server.
pub async fn databases() -> Vec<(&'static Cluster, PostgresStoreSettings)> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let mut all = Vec::new();
    for cluster in clusters().await {
        let database = format!("record_{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let superuser = cluster.connect("postgres").await.unwrap();
        for sql in [
            format!("CREATE DATABASE {database} OWNER {ROLE} TEMPLATE template0 ENCODING 'UTF8'"),
            format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"),
        ] {
            superuser.batch_execute(&sql).await.unwrap();
        }
        all.push((cluster, settings(cluster, &database, ROLE)));
    }
    all
}

/// The password of a role is its name.
pub fn settings(cluster: &Cluster, database: &str, role: &str) -> PostgresStoreSettings {
    let server = Server { name: "audit log".into(), host: "127.0.0.1".into(), port: cluster.port() };
    let login = LoginCredentials { user: role.into(), password: Some(role.to_owned().into()) };
    PostgresStoreSettings { server, database: database.into(), login, tls: Tls::Off }
}

pub async fn store(settings: &PostgresStoreSettings) -> Arc<dyn Store> {
    Arc::new(PostgresStore::open(settings.clone(), Duration::from_secs(10)).await.unwrap())
}

async fn fresh() -> Vec<Fresh> {
    let mut all = Vec::new();
    for (_, settings) in databases().await {
        let stores = [store(&settings).await, store(&settings).await];
        all.push(Fresh { stores, keep: Box::new(()) });
    }
    all
}
