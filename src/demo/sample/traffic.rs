//! Everyday work: one session for each service asks its database a little, all the time.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_postgres::Config;

use super::session::Session;
use super::{SampleService, Team};
use crate::demo::postgres::Cluster;

/// Between two statements of a service: enough for statistics to move, too little for the machine to notice.
const PAUSE: Duration = Duration::from_millis(300);

/// Before a service whose session was ended connects again.
const RECONNECT: Duration = Duration::from_secs(1);

/// What every service does to the tables that all have; $1 is a text of digits.
const EVERYDAY: [&str; 3] = [
    r#"SELECT "displayName" FROM "User" WHERE id = md5($1)::uuid::text"#,
    r#"INSERT INTO audit_logs (actor_id, action, details)
       SELECT id, 'view', jsonb_build_object('page', $1::text) FROM "User" WHERE id = md5($1)::uuid::text"#,
    r#"UPDATE "User" SET "updatedAt" = now() WHERE id = md5($1)::uuid::text"#,
];

/// The services at work; dropping it stops them.
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
    let statements = EVERYDAY.iter().copied().chain([service.question]);
    for (n, sql) in (1..).zip(statements.cycle()) {
        client.query(sql, &[&(n % 1000).to_string()]).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
