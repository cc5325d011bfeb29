//! The sample's applications: their sessions, and the everyday work of one session for each service.

use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};
use tokio_postgres::{CancelToken, Client, Config, NoTls};

use super::{SampleService, Team};
use crate::demo::postgres::Cluster;

/// Between two statements of a service: enough for statistics to move, too little for the machine to notice.
const PAUSE: Duration = Duration::from_millis(300);

/// Before a service whose session was ended connects again.
const RECONNECT: Duration = Duration::from_secs(1);

/// The statements of every service on the tables that all have; $1 is a text of digits.
const EVERYDAY: [&str; 3] = [
    r#"SELECT "displayName" FROM "User" WHERE id = md5($1)::uuid::text"#,
    r#"INSERT INTO audit_logs (actor_id, action, details)
       SELECT id, 'view', jsonb_build_object('page', $1::text) FROM "User" WHERE id = md5($1)::uuid::text"#,
    r#"UPDATE "User" SET "updatedAt" = now() WHERE id = md5($1)::uuid::text"#,
];

/// A session that ends when this is dropped, whatever its server process is doing.
///
/// A dropped [`Client`] alone would wait for the answers that are still to come, which is what an incident is about.
pub struct Session {
    pub pid: i32,
    client: Option<Client>,
    connection: AbortHandle,
    cancel: CancelToken,
}

impl Session {
    pub async fn open(config: &Config) -> anyhow::Result<Session> {
        let (client, connection) = config.connect(NoTls).await.context("connecting as an application")?;
        let connection = tokio::spawn(async move {
            // Being killed is what these sessions are for.
            let _ = connection.await;
        });
        let (cancel, connection) = (client.cancel_token(), connection.abort_handle());
        let mut session = Session { pid: 0, client: Some(client), connection, cancel };
        session.pid = session.client()?.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        Ok(session)
    }

    /// Opens a session that runs one statement and then ends.
    pub async fn run(config: &Config, sql: &'static str) -> anyhow::Result<Session> {
        let mut session = Session::open(config).await?;
        if let Some(client) = session.client.take() {
            tokio::spawn(async move {
                // Whoever killed it knows why it failed.
                let _ = client.batch_execute(sql).await;
            });
        }
        Ok(session)
    }

    pub fn client(&self) -> anyhow::Result<&Client> {
        self.client.as_ref().context("the session is busy with its one statement")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
        // A busy server process does not notice that its connection is closed.
        if let Ok(runtime) = Handle::try_current() {
            let cancel = self.cancel.clone();
            runtime.spawn(async move {
                // The server may be gone too, which is as good.
                let _ = cancel.cancel_query(NoTls).await;
            });
        }
    }
}

/// The services' work; dropping it stops them.
///
/// They keep away from the tables of the [`Incident`](super::Incident), so that they never join its queue.
pub struct Traffic {
    _services: JoinSet<()>,
}

impl Traffic {
    /// A service that is killed, or whose server is gone, comes back.
    pub fn start(cluster: &Cluster, team: &Team) -> Traffic {
        let mut services = JoinSet::new();
        for (service, account) in &team.services {
            let config = cluster.config(account.login(&service.database, &service.name));
            services.spawn(keep_working(config, service.clone()));
        }
        Traffic { _services: services }
    }
}

async fn keep_working(config: Config, service: SampleService) {
    loop {
        // It ends with its session, which anybody may end: that is no failure of the sample.
        let _ = work(&config, &service).await;
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn work(config: &Config, service: &SampleService) -> anyhow::Result<()> {
    let session = Session::open(config).await?;
    let client = session.client()?;
    let statements = EVERYDAY.iter().copied().chain([service.everyday_sql]);
    for (n, sql) in (1..).zip(statements.cycle()) {
        client.query(sql, &[&(n % 1000).to_string()]).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
