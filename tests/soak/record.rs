//! The audit log's server, a primary with a synchronous replica that is promoted when the primary is lost.

use crate::proxy::Proxy;
use countersign::config::{LoginCredentials, PostgresStoreSettings, Server, Tls};
use countersign::demo::postgres::{Cluster, Options};

const ROLE: &str = "recorder";
const DATABASE: &str = "audit";
/// The slot over which the replica streams.
const SLOT: &str = "replica";

/// The pair, behind one address.
pub struct RecordServers {
    primary: Cluster,
    replica: Option<Cluster>,
    pub proxy: Proxy,
}

impl RecordServers {
    pub async fn start() -> RecordServers {
        // A commit is answered once the replica has it.
        let settings = [("synchronous_standby_names", "*"), ("synchronous_commit", "on")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let primary = Cluster::start(Options { settings, ..Options::default() }).await.expect("a server");
        let superuser = primary.connect("postgres").await.expect("the superuser");
        for sql in [
            // There is no replica yet.
            "SET synchronous_commit = 'local'".to_owned(),
            format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'"),
            format!("CREATE DATABASE {DATABASE} OWNER {ROLE} TEMPLATE template0 ENCODING 'UTF8'"),
            "CHECKPOINT".to_owned(),
        ] {
            superuser.batch_execute(&sql).await.expect("the database");
        }
        let proxy = Proxy::start(primary.port()).await;
        let mut servers = RecordServers { primary, replica: None, proxy };
        servers.add_replica().await;
        servers
    }

    /// Adds a replica. The primary is restarted for that, as after a crash.
    pub async fn add_replica(&mut self) {
        let superuser = self.primary.connect("postgres").await.expect("the superuser");
        let slot = "SELECT pg_create_physical_replication_slot($1)";
        superuser.query(slot, &[&SLOT]).await.expect("a slot");
        self.replica = Some(self.primary.replica(SLOT).await.expect("a replica"));
    }

    /// Loses the primary and promotes its replica, which alone answers from then on.
    pub async fn fail_over(&mut self) {
        let replica = self.replica.take().expect("a replica");
        self.primary.stop().expect("the primary's end");
        self.proxy.switch(None);
        let superuser = replica.connect("postgres").await.expect("the superuser");
        let promoted = superuser.query_one("SELECT pg_promote()", &[]).await.expect("the promotion");
        assert!(promoted.get::<_, bool>(0), "the replica isn't promoted");
        self.proxy.switch(Some(replica.port()));
        self.primary = replica;
    }

    /// The section of the configuration, and the secret that it names.
    pub fn section(&self) -> String {
        format!(
            "[store.postgres]\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"{DATABASE}\"\nuser = \"{ROLE}\"\n\
             password = {{ env = \"RECORDER\" }}\ntls = \"off\"\n",
            self.proxy.port
        )
    }

    pub fn secret() -> (String, String) {
        ("RECORDER".to_owned(), ROLE.to_owned())
    }

    pub fn settings(&self) -> PostgresStoreSettings {
        let server = Server { name: "audit log".into(), host: "127.0.0.1".into(), port: self.proxy.port };
        let login = LoginCredentials { user: ROLE.into(), password: Some(ROLE.to_owned().into()) };
        PostgresStoreSettings { server, database: DATABASE.into(), login, tls: Tls::Off }
    }
}
