//! The sample team: CreatorBridge's ten services, each with a database of Prisma-style tables, on a throwaway server
//! with the roles of Azure Database for PostgreSQL. Its names are data here and must appear nowhere else.
//!
//! The tables hold what a runbook looks for: a duplicate and an unused index, an invalid one, a foreign key without an
//! index, a nearly used-up sequence, an unvalidated constraint, failed and rolled-back migrations, names in mixed case.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio_postgres::Client;

use super::postgres::{Cluster, ConnectionParameters, Options, Seed, find_bin_dir};

mod applications;

pub use applications::{Pids, SampleIncident, Traffic};

/// Countersign's own roles, as a team sets them up; also what the deployment's documentation points to.
pub const ROLES_SQL: &str = include_str!("../../../deploy/roles.sql");

const AZURE_ROLES_SQL: &str = include_str!("azure_roles.sql");
const TEMPLATE: &str = "sample_template";
const TEMPLATE_SQL: &str = include_str!("template.sql");
const COMMON_SQL: &str = include_str!("common.sql");
const FINISH_SQL: &str = include_str!("finish.sql");
const ATTEMPTS_SQL: &str = include_str!("login_attempts.sql");

/// The content of a sample server.
#[derive(Debug, Clone)]
pub struct Sample {
    pub services: Vec<SampleService>,
    /// Rows in each table of a small service; larger ones have a multiple.
    pub rows: u32,
    /// Rows of `login_attempts`, a table of the auth service that takes long; at 0 there is none.
    pub attempts: u32,
    /// With a login of its own for what maintains tables, a member of their owners.
    pub maintainer: bool,
    /// With a login of its own for what only a table's owner may do, a member of all of them.
    pub owner: bool,
}

/// A service, its database and the role it logs in as, which owns its tables.
#[derive(Debug, Clone)]
pub struct SampleService {
    pub name: String,
    pub database: String,
    pub role: String,
    /// The factor to a small service's rows.
    pub size: u32,
    /// Makes and fills the service's own tables.
    tables_sql: &'static str,
    /// The service's own query, which it repeats all day; $1 is a text of digits.
    everyday_sql: &'static str,
}

/// A stopped server for each kind of sample and each installation, and the logins to it.
type Seeds = BTreeMap<String, Arc<OnceCell<(Seed, Team)>>>;

/// Those of [`Sample::start`].
static SEEDS: Mutex<Seeds> = Mutex::new(BTreeMap::new());

/// A login of the sample.
#[derive(Clone)]
pub struct LoginAccount {
    pub user: String,
    pub password: String,
}

impl LoginAccount {
    fn new(user: &str) -> anyhow::Result<LoginAccount> {
        let password = crate::model::random_token().context("asking the system for randomness")?;
        Ok(LoginAccount { user: user.into(), password })
    }

    pub fn login<'a>(&'a self, database: &'a str, application_name: &'a str) -> ConnectionParameters<'a> {
        ConnectionParameters { user: &self.user, password: &self.password, database, application_name }
    }
}

/// The logins to a sample on a server.
#[derive(Clone)]
pub struct Team {
    pub services: Vec<(SampleService, LoginAccount)>,
    /// Azure's customer admin: no superuser, but a member of every service's role.
    pub admin: LoginAccount,
    /// `countersign_read`
    pub reader: LoginAccount,
    /// `countersign_act`
    pub operator: LoginAccount,
    /// `countersign_maintain`
    pub maintainer: Option<LoginAccount>,
    /// `countersign_owner`
    pub owner: Option<LoginAccount>,
}

impl Team {
    pub fn service(&self, name: &str) -> anyhow::Result<&(SampleService, LoginAccount)> {
        let service = self.services.iter().find(|(service, _)| service.name == name);
        service.with_context(|| format!("no service {name} in the sample"))
    }
}

impl Sample {
    /// The whole sample, for the demo's production: the ten databases hold about 25 MB of it, and the table that takes long
    /// 100 MB more.
    pub fn full() -> Sample {
        Sample { rows: 500, attempts: 800_000, ..Sample::small() }
    }

    /// For the demo's staging: as [`Sample::full`], with few rows.
    pub fn small() -> Sample {
        Sample { attempts: 2_000, maintainer: true, owner: true, ..Sample::light() }
    }

    /// The services' tables with few rows, for tests.
    pub fn light() -> Sample {
        Sample { services: creatorbridge(), rows: 10, attempts: 0, maintainer: false, owner: false }
    }

    /// Makes a server with the sample. The first of its kind in this process is made, and the others are copies, which takes a fourth
    /// of the time: they have the same passwords and the same system identifier. With libraries of their own to load, none is a copy.
    ///
    /// # Errors
    /// PostgreSQL isn't installed, or a server doesn't start.
    pub async fn start(&self, options: Options) -> anyhow::Result<(Cluster, Team)> {
        // The sample's extension is one of its libraries.
        if options.settings.iter().any(|(name, _)| name == "shared_preload_libraries") {
            let cluster = Cluster::start(options).await?;
            let team = self.install(&cluster).await?;
            return Ok((cluster, team));
        }
        let bin_dir = options.bin_dir.clone().map_or_else(|| find_bin_dir(None, &[]), Ok)?;
        let kind = format!("{} {self:?}", bin_dir.display());
        let seed = Arc::clone(SEEDS.lock().entry(kind).or_default());
        let make = || async {
            let cluster = Cluster::start(Options { bin_dir: Some(bin_dir), ..Options::default() }).await?;
            let team = self.install(&cluster).await?;
            anyhow::Ok((cluster.into_seed()?, team))
        };
        let (seed, team) = seed.get_or_try_init(make).await?;
        Ok((Cluster::start_copy(seed, options).await?, team.clone()))
    }

    /// Makes the roles and the databases. The server must not have them yet.
    pub async fn install(&self, cluster: &Cluster) -> anyhow::Result<Team> {
        let superuser = cluster.connect("postgres").await?;
        // Or the statistics would show the passwords, as they do for any server's admin.
        superuser.batch_execute("SET pg_stat_statements.track = 'none'").await?;
        superuser.batch_execute(AZURE_ROLES_SQL).await.context("making Azure's roles")?;
        let admin = LoginAccount::new("dbadmin")?;
        set_password(&superuser, &admin).await?;
        let mut services = Vec::new();
        for service in &self.services {
            let account = LoginAccount::new(&service.role)?;
            let make = "SELECT format('CREATE ROLE %I LOGIN; GRANT %1$I TO dbadmin', $1::text)";
            execute_formatted(&superuser, make, &[&service.role]).await?;
            set_password(&superuser, &account).await?;
            services.push((service.clone(), account));
        }
        self.make_template(cluster, &superuser).await?;
        try_join_all(self.services.iter().map(|service| self.make_database(cluster, service))).await?;
        superuser.batch_execute(&format!("DROP DATABASE {TEMPLATE}")).await?;
        let (mut maintainer, mut owner) = (None, None);
        if self.maintainer {
            maintainer = Some(self.make_maintainer(cluster, &admin).await?);
        }
        if self.owner {
            owner = Some(self.make_member(cluster, &admin, "countersign_owner").await?);
        }
        // One after another: two sessions that alter the same role at once disturb each other.
        for service in &self.services {
            let client = cluster.connect_as(admin.login(&service.database, "roles.sql")).await?;
            client.batch_execute(ROLES_SQL).await.context("running deploy/roles.sql")?;
        }
        let reader = LoginAccount::new("countersign_read")?;
        let operator = LoginAccount::new("countersign_act")?;
        for account in [&reader, &operator].into_iter().chain(&maintainer).chain(&owner) {
            set_password(&superuser, account).await?;
        }
        // The statements that made the sample are no workload.
        if let Some((service, _)) = services.first() {
            let client = cluster.connect(&service.database).await?;
            client.batch_execute("SELECT pg_stat_statements_reset()").await.context("forgetting how")?;
        }
        Ok(Team { services, admin, reader, operator, maintainer, owner })
    }

    /// The login that roles.sql knows, and gives its rights if it is there. Below 17 only a table's owner may maintain it.
    async fn make_maintainer(&self, cluster: &Cluster, admin: &LoginAccount) -> anyhow::Result<LoginAccount> {
        let account = self.make_member(cluster, admin, "countersign_maintain").await?;
        // A VACUUM that spares the disk, as a team has it where a table is large: so it lasts.
        let spare = "SELECT format('ALTER ROLE %1$I IN DATABASE %2$I SET vacuum_cost_delay = ''20ms''; \
                     ALTER ROLE %1$I IN DATABASE %2$I SET vacuum_cost_limit = 200', $1::text, $2::text)";
        let superuser = cluster.connect("postgres").await?;
        for service in self.services.iter().filter(|service| self.attempts_of(service) > 0) {
            execute_formatted(&superuser, spare, &[&account.user, &service.database]).await?;
        }
        Ok(account)
    }

    /// A login that is a member of every service's role.
    async fn make_member(
        &self,
        cluster: &Cluster,
        admin: &LoginAccount,
        name: &str,
    ) -> anyhow::Result<LoginAccount> {
        let client = cluster.connect_as(admin.login("postgres", "roles.sql")).await?;
        let make = "SELECT format('CREATE ROLE %I LOGIN CONNECTION LIMIT 8', $1::text)";
        execute_formatted(&client, make, &[name]).await?;
        let superuser = cluster.connect("postgres").await?;
        for service in &self.services {
            let join = "SELECT format('GRANT %I TO %I', $1::text, $2::text)";
            execute_formatted(&superuser, join, &[&service.role, name]).await?;
        }
        LoginAccount::new(name)
    }

    fn attempts_of(&self, service: &SampleService) -> u32 {
        if service.name == "auth-service" { self.attempts } else { 0 }
    }

    /// Copying a database is quicker than filling ten with the same.
    async fn make_template(&self, cluster: &Cluster, superuser: &Client) -> anyhow::Result<()> {
        superuser.batch_execute(&format!("CREATE DATABASE {TEMPLATE}")).await?;
        let template = cluster.connect(TEMPLATE).await?;
        let largest = self.services.iter().map(|service| service.size).max().unwrap_or(1);
        set(&template, "sample.rows", self.rows * largest).await?;
        template.batch_execute(TEMPLATE_SQL).await.context("filling the template")?;
        drop(template);
        // A database that somebody is connected to cannot be copied.
        let connected = "SELECT FROM pg_stat_activity WHERE datname = $1";
        while superuser.query_opt(connected, &[&TEMPLATE]).await?.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn make_database(&self, cluster: &Cluster, service: &SampleService) -> anyhow::Result<()> {
        let postgres = cluster.connect("postgres").await?;
        let make = "SELECT format('CREATE DATABASE %I OWNER dbadmin TEMPLATE %I', $1::text, $2::text)";
        execute_formatted(&postgres, make, &[&service.database, TEMPLATE]).await?;
        drop(postgres);

        let client = cluster.connect(&service.database).await?;
        set(&client, "sample.rows", self.rows * service.size).await?;
        let open = "SELECT format('GRANT CREATE ON SCHEMA public TO %1$I; GRANT CREATE ON DATABASE %2$I TO %1$I; \
                    SET ROLE %1$I', $1::text, $2::text)";
        execute_formatted(&client, open, &[&service.role, &service.database]).await?;
        let attempts = self.attempts_of(service);
        set(&client, "sample.attempts", attempts).await?;
        let lasting = (attempts > 0).then_some(ATTEMPTS_SQL);
        let tables = [COMMON_SQL, service.tables_sql].into_iter().chain(lasting);
        for sql in tables.chain(["RESET ROLE", FINISH_SQL]) {
            client.batch_execute(sql).await.with_context(|| format!("filling {}", service.database))?;
        }
        Ok(())
    }
}

/// A setting of the session, for the SQL files.
async fn set(client: &Client, name: &str, value: u32) -> anyhow::Result<()> {
    client.execute("SELECT set_config($1, $2, false)", &[&name, &value.to_string()]).await?;
    Ok(())
}

async fn set_password(superuser: &Client, account: &LoginAccount) -> anyhow::Result<()> {
    let alter = "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)";
    execute_formatted(superuser, alter, &[&account.user, &account.password]).await
}

/// Runs the statements that a query makes: names and literals are quoted by the server.
async fn execute_formatted(client: &Client, query: &str, names: &[&str]) -> anyhow::Result<()> {
    let row = client.query_one(query, &names.iter().map(|name| name as _).collect::<Vec<_>>()).await?;
    client.batch_execute(row.get(0)).await.with_context(|| format!("running what {query} makes"))
}

/// The ten services of the team's runbook, with its sizes: small 1, medium 2, large 6, very large 16.
fn creatorbridge() -> Vec<SampleService> {
    macro_rules! service {
        ($name:literal, $size:literal) => {
            SampleService {
                name: concat!($name, "-service").into(),
                database: concat!($name, "_service_db").into(),
                role: concat!($name, "_svc").into(),
                size: $size,
                tables_sql: include_str!(concat!($name, "_service.sql")),
                everyday_sql: include_str!(concat!($name, "_everyday.sql")).trim_end(),
            }
        };
    }
    vec![
        service!("auth", 1),
        service!("user", 2),
        service!("billing", 2),
        service!("campaign", 6),
        service!("creator", 2),
        service!("content", 6),
        service!("asset", 6),
        service!("rights", 2),
        service!("payout", 2),
        service!("analytics", 16),
    ]
}
