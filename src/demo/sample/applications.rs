//! The sample's applications: the everyday work of one session for each service, and an incident to practise on.

use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::{CancelToken, Client, Config, NoTls};
use tokio_util::task::AbortOnDropHandle;

use super::Team;
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

const READERS: usize = 4;

/// As large as a service's pool commonly is.
const POOL: usize = 12;

const HEAD_SQL: &str =
    r#"BEGIN; UPDATE assets SET "updatedAt" = now() WHERE id IN (SELECT id FROM assets ORDER BY id LIMIT 5)"#;
const ALTER_SQL: &str = r#"ALTER TABLE assets ADD COLUMN "reviewedAt" timestamp(3)"#;
const UNDO_ALTER_SQL: &str = r#"ALTER TABLE assets DROP COLUMN IF EXISTS "reviewedAt""#;
const READER_SQL: &str = r#"SELECT a.id, a."fileName" FROM assets a JOIN "User" u ON u.id = a."ownerId" WHERE u.email = 'jane.doe@example.com'"#;
/// Sleeps for each row instead of computing, so that it takes hours and no processor.
const REPORT_SQL: &str = r#"SELECT kind, count(*), max("occurredAt") FROM "Analytics".events WHERE pg_sleep(30)::text = '' GROUP BY kind"#;
const POOL_SQL: &str = r#"SELECT id, title FROM "Campaign" ORDER BY "startsAt" DESC LIMIT 20"#;

/// Time for the incident to come about: it takes a moment on a machine that does nothing else.
const LIMIT: Duration = Duration::from_secs(60);
const BLOCKED: &str = "cardinality(pg_blocking_pids(pid)) > 0";
const POLL: Duration = Duration::from_millis(20);

/// Polls until sessions that ended meanwhile are opened again.
const POLLS_PER_ROUND: usize = 50;

/// A session that ends when this is dropped, whatever its server process is doing.
///
/// A dropped [`Client`] alone would wait for the answers that are still to come, which is what an incident is about.
pub struct Session {
    pub pid: i32,
    client: Option<Client>,
    _connection: AbortOnDropHandle<Result<(), tokio_postgres::Error>>,
    cancel: CancelToken,
}

impl Session {
    pub async fn open(config: &Config) -> anyhow::Result<Session> {
        let (client, connection) = config.connect(NoTls).await.context("connecting as an application")?;
        // Its result doesn't matter: being killed is what these sessions are for.
        let connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        Ok(Session { pid, cancel: client.cancel_token(), client: Some(client), _connection: connection })
    }

    /// Opens a session that runs one statement and then ends.
    pub async fn run(config: &Config, sql: &'static str) -> anyhow::Result<Session> {
        let mut session = Session::open(config).await?;
        if let Some(client) = session.client.take() {
            // Whoever killed it knows why it failed.
            tokio::spawn(async move { client.batch_execute(sql).await });
        }
        Ok(session)
    }

    pub fn client(&self) -> anyhow::Result<&Client> {
        self.client.as_ref().context("the session is busy with its one statement")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A busy server process does not notice that its connection is closed.
        if let Ok(runtime) = Handle::try_current() {
            let cancel = self.cancel.clone();
            // The server may be gone too, which is as good.
            runtime.spawn(async move { cancel.cancel_query(NoTls).await });
        }
    }
}

/// The services' work; dropping it stops them.
///
/// They keep away from the tables of the [`SampleIncident`], so that they never join its queue.
pub struct Traffic {
    _services: JoinSet<()>,
}

impl Traffic {
    /// A service that is killed, or whose server is gone, comes back.
    pub fn start(cluster: &Cluster, team: &Team) -> Traffic {
        let mut services = JoinSet::new();
        for (service, account) in team.services.clone() {
            let config = cluster.config(account.login(&service.database, &service.name));
            services.spawn(async move {
                loop {
                    // It ends with its session, which anybody may end: that is no failure of the sample.
                    let _ = work(&config, service.everyday_sql).await;
                    sleep(RECONNECT).await;
                }
            });
        }
        Traffic { _services: services }
    }
}

async fn work(config: &Config, everyday_sql: &str) -> anyhow::Result<()> {
    let session = Session::open(config).await?;
    let statements = EVERYDAY.iter().copied().chain([everyday_sql]);
    for (n, sql) in (1..).zip(statements.cycle()) {
        session.client()?.query(sql, &[&(n % 1000).to_string()]).await?;
        sleep(PAUSE).await;
    }
    Ok(())
}

/// An incident to practise on: a forgotten transaction blocks a migration, which blocks everybody who reads the table.
/// In other databases a report runs for long, and an idle pool holds connections. Dropping it closes its sessions.
pub struct SampleIncident {
    logins: Logins,
    /// The superuser, in the database of the lock tree.
    admin: Session,
    head: Option<Session>,
    alter: Option<Session>,
    readers: Vec<Session>,
    report: Option<Session>,
    pool: Vec<Session>,
}

struct Logins {
    head: Config,
    alter: Config,
    reader: Config,
    report: Config,
    pool: Config,
}

/// The server processes of an [`SampleIncident`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pids {
    /// Idle in transaction: the root blocker of the lock tree.
    pub head: i32,
    /// Waits for the head.
    pub alter: i32,
    /// Each waits for the ALTER TABLE only.
    pub readers: Vec<i32>,
    /// In another database, blocked by nobody.
    pub report: i32,
    /// Idle, in another database.
    pub pool: Vec<i32>,
}

impl SampleIncident {
    /// Returns when the lock tree is complete.
    pub async fn start(cluster: &Cluster, team: &Team) -> anyhow::Result<SampleIncident> {
        let (asset, asset_account) = team.service("asset-service")?;
        let (analytics, analytics_account) = team.service("analytics-service")?;
        let (campaign, campaign_account) = team.service("campaign-service")?;
        let logins = Logins {
            head: cluster.config(asset_account.login(&asset.database, "asset-worker-7")),
            alter: cluster.config(asset_account.login(&asset.database, "prisma-migrate")),
            reader: cluster.config(asset_account.login(&asset.database, "asset-api")),
            report: cluster.config(analytics_account.login(&analytics.database, "analytics-report")),
            pool: cluster.config(campaign_account.login(&campaign.database, "campaign-api")),
        };
        let admin = Session::open(&cluster.superuser_config(&asset.database)).await?;
        let (head, alter, report, readers, pool) = (None, None, None, Vec::new(), Vec::new());
        let mut incident = SampleIncident { logins, admin, head, alter, readers, report, pool };
        incident.restart().await?;
        Ok(incident)
    }

    /// The sessions as of the last start or restart.
    pub fn pids(&self) -> Pids {
        let pid = |session: &Session| session.pid;
        Pids {
            head: self.head.as_ref().map_or(0, pid),
            alter: self.alter.as_ref().map_or(0, pid),
            readers: self.readers.iter().map(pid).collect(),
            report: self.report.as_ref().map_or(0, pid),
            pool: self.pool.iter().map(pid).collect(),
        }
    }

    /// Opens again what has been ended since, and returns when the lock tree is complete. Live sessions are kept; a lock tree
    /// without its head or its ALTER TABLE is made again.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let repaired = async {
            loop {
                self.repair().await?;
                for _ in 0..POLLS_PER_ROUND {
                    if self.is_complete().await? {
                        return anyhow::Ok(());
                    }
                    sleep(POLL).await;
                }
            }
        };
        let too_late = || format!("the incident has not come about within {} s", LIMIT.as_secs());
        timeout(LIMIT, repaired).await.with_context(too_late)?
    }

    /// The time for which the migration has been blocked, and the number of sessions of users behind it; `None` once it is not blocked.
    pub async fn stuck(&self) -> anyhow::Result<Option<(Duration, usize)>> {
        let pids = self.pids();
        let sql = "SELECT extract(epoch FROM clock_timestamp() - query_start)::float8
                   FROM pg_stat_activity WHERE pid = $1 AND cardinality(pg_blocking_pids(pid)) > 0";
        let Some(row) = self.admin.client()?.query_opt(sql, &[&pids.alter]).await? else { return Ok(None) };
        let blocked = Duration::try_from_secs_f64(row.get(0)).unwrap_or_default();
        Ok(Some((blocked, self.matching(BLOCKED, &pids.readers).await?.len())))
    }

    /// Ends every session of the incident and returns when they are gone.
    pub async fn end(mut self) -> anyhow::Result<()> {
        let pids = self.pids();
        let all = [vec![pids.head, pids.alter, pids.report], pids.readers, pids.pool].concat();
        (self.head, self.alter, self.report) = (None, None, None);
        self.readers.clear();
        self.pool.clear();
        self.terminate(&all).await
    }

    async fn repair(&mut self) -> anyhow::Result<()> {
        let pids = self.pids();
        let is_tree = self.matching("state = 'idle in transaction'", &[pids.head]).await?.len() == 1
            && self.matching(BLOCKED, &[pids.alter]).await?.len() == 1;
        if !is_tree {
            self.make_tree().await?;
        }
        let waiting = self.matching(BLOCKED, &pids.readers).await?;
        self.readers.retain(|reader| waiting.contains(&reader.pid));
        while self.readers.len() < READERS {
            self.readers.push(Session::run(&self.logins.reader, READER_SQL).await?);
        }
        // So that the sessions have begun in one order, whatever the machine does beside.
        self.wait_for_readers().await?;
        if self.matching("state = 'active'", &[pids.report]).await?.is_empty() {
            self.report = Some(Session::run(&self.logins.report, REPORT_SQL).await?);
        }
        let idle = self.matching("state = 'idle'", &pids.pool).await?;
        self.pool.retain(|session| idle.contains(&session.pid));
        while self.pool.len() < POOL {
            let session = Session::open(&self.logins.pool).await?;
            session.client()?.batch_execute(POOL_SQL).await?;
            self.pool.push(session);
        }
        Ok(())
    }

    /// Waits for one round until each reader is blocked.
    async fn wait_for_readers(&self) -> anyhow::Result<()> {
        let readers = self.pids().readers;
        for _ in 0..POLLS_PER_ROUND {
            if self.matching(BLOCKED, &readers).await?.len() == readers.len() {
                break;
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Makes the lock tree, without readers yet.
    async fn make_tree(&mut self) -> anyhow::Result<()> {
        let pids = self.pids();
        (self.head, self.alter) = (None, None);
        self.readers.clear();
        self.terminate(&[vec![pids.head, pids.alter], pids.readers].concat()).await?;
        // Without its head the last ALTER TABLE went through.
        self.admin.client()?.batch_execute(UNDO_ALTER_SQL).await?;

        let head = Session::open(&self.logins.head).await?;
        head.client()?.batch_execute(HEAD_SQL).await?;
        let alter = Session::run(&self.logins.alter, ALTER_SQL).await?;
        // Whoever reads before the ALTER TABLE waits is not blocked by it.
        let blocked = async {
            while self.matching(BLOCKED, &[alter.pid]).await?.is_empty() {
                sleep(POLL).await;
            }
            anyhow::Ok(())
        };
        timeout(LIMIT, blocked).await.context("waiting in vain for the ALTER TABLE to be blocked")??;
        (self.head, self.alter) = (Some(head), Some(alter));
        Ok(())
    }

    async fn is_complete(&self) -> anyhow::Result<bool> {
        let pids = self.pids();
        let sql = "
            SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'idle in transaction')
               AND pg_blocking_pids($2) = ARRAY[$1]
               AND (SELECT bool_and(pg_blocking_pids(reader) = ARRAY[$2]) FROM unnest($3::int[]) AS reader)
               AND EXISTS (SELECT FROM pg_stat_activity WHERE pid = $4 AND state = 'active')";
        let admin = self.admin.client()?;
        let row = admin.query_one(sql, &[&pids.head, &pids.alter, &pids.readers, &pids.report]).await?;
        Ok(row.get(0) && self.matching("state = 'idle'", &pids.pool).await?.len() == POOL)
    }

    /// Those of the server processes for which a condition on `pg_stat_activity` holds.
    async fn matching(&self, condition: &'static str, pids: &[i32]) -> anyhow::Result<Vec<i32>> {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE pid = ANY($1) AND {condition}");
        let rows = self.admin.client()?.query(&sql, &[&pids]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Ends these sessions, if they are still the incident's, and waits until they are gone.
    async fn terminate(&self, pids: &[i32]) -> anyhow::Result<()> {
        let ours = "application_name IN ('asset-worker-7', 'prisma-migrate', 'asset-api', 'analytics-report', 'campaign-api')";
        let ended = async {
            loop {
                let remaining = self.matching(ours, pids).await?;
                if remaining.is_empty() {
                    return anyhow::Ok(());
                }
                let sql = "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid";
                self.admin.client()?.execute(sql, &[&remaining]).await?;
                sleep(POLL).await;
            }
        };
        timeout(LIMIT, ended).await.with_context(|| format!("processes {pids:?} do not end"))?
    }
}
