//! One session of the sample's pretended applications.

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_postgres::{CancelToken, Client, Config, NoTls};

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
