//! An incident to practise on: a forgotten transaction blocks a migration, which blocks everybody who reads the table.
//! In other databases a report runs for long, and an idle pool holds connections.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{sleep, timeout};
use tokio_postgres::Config;

use super::Team;
use super::applications::Session;
use crate::demo::postgres::Cluster;

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

/// The incident's sessions; dropping it closes them.
pub struct Incident {
    logins: Logins,
    /// The superuser, in the database of the lock tree.
    admin: Session,
    tree: Option<Tree>,
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

struct Tree {
    head: Session,
    alter: Session,
    readers: Vec<Session>,
}

/// The server processes of an [`Incident`].
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

impl Incident {
    /// Returns when the lock tree is complete.
    pub async fn start(cluster: &Cluster, team: &Team) -> anyhow::Result<Incident> {
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
        let mut incident = Incident { logins, admin, tree: None, report: None, pool: Vec::new() };
        incident.restart().await?;
        Ok(incident)
    }

    /// The sessions as of the last start or restart.
    pub fn pids(&self) -> Pids {
        let pid = |session: &Session| session.pid;
        Pids {
            head: self.tree.as_ref().map_or(0, |tree| tree.head.pid),
            alter: self.tree.as_ref().map_or(0, |tree| tree.alter.pid),
            readers: self.tree.iter().flat_map(|tree| &tree.readers).map(pid).collect(),
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

    /// Ends every session of the incident and returns when they are gone.
    pub async fn end(mut self) -> anyhow::Result<()> {
        let pids = self.pids();
        let all = [vec![pids.head, pids.alter, pids.report], pids.readers, pids.pool].concat();
        (self.tree, self.report) = (None, None);
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
        if let Some(tree) = &mut self.tree {
            tree.readers.retain(|reader| waiting.contains(&reader.pid));
            while tree.readers.len() < READERS {
                tree.readers.push(Session::run(&self.logins.reader, READER_SQL).await?);
            }
        }
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

    /// Makes the lock tree, without readers yet.
    async fn make_tree(&mut self) -> anyhow::Result<()> {
        let pids = self.pids();
        self.tree = None;
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
        self.tree = Some(Tree { head, alter, readers: Vec::new() });
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
