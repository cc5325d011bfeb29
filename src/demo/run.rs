//! `countersign demo`: two throwaway PostgreSQL servers with the sample team, traffic and a running incident, the bot with
//! its embedded store, and the fake Slack on one local page. In production one table is large, so that work on it lasts.

use super::fake_slack::Settings;
use super::harness::{Bot, Setup, Site, Stage};
use super::postgres::{Cluster, Options, TemporaryDirectory};
use super::sample::{Incident, Sample, Team, Traffic};
use anyhow::Context;
use futures::FutureExt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Mutex;

const MIGRATIONS: &str = "app/prisma/migrations";

/// Migrations that every service's ledger has already: their scripts are their names.
const APPLIED: [&str; 3] =
    ["20250110090000_init", "20250402110000_audit_logs", "20250915140000_email_unique"];

/// Pending migrations: each waits first, since the sample is small, and then changes tables that every service has.
const PENDING: [(&str, &str); 5] = [
    ("20260105090000_audit_source", "ALTER TABLE audit_logs ADD COLUMN source text;"),
    ("20260107100000_audit_source_index", "CREATE INDEX audit_logs_source_idx ON audit_logs (source);"),
    ("20260112090000_new_field", "ALTER TABLE \"User\" ADD COLUMN new_field text;"),
    ("20260114150000_user_locale", "ALTER TABLE \"User\" ADD COLUMN locale text NOT NULL DEFAULT 'en';"),
    ("20260119080000_audit_action_index", "CREATE INDEX audit_logs_action_idx ON audit_logs (action);"),
];

const WAIT: &str = "-- As long as this would take on a table of a business's size.\nSELECT pg_sleep(3);\n";

/// A server with its sample and the traffic on it.
struct SampleServer {
    cluster: Cluster,
    team: Team,
    _traffic: Traffic,
}

impl SampleServer {
    fn site<'a>(&'a self, name: &'a str) -> Site<'a> {
        Site { name, production: name == "production", cluster: &self.cluster, team: &self.team }
    }
}

/// A running demo; it ends, and removes its servers and files, when it is dropped.
pub struct Demo {
    pub page: String,
    _bot: Bot,
    _stage: Stage,
    _incident: Arc<Mutex<Incident>>,
    _servers: (SampleServer, SampleServer),
    _directory: TemporaryDirectory,
}

impl Demo {
    /// Starts everything, prints the one address to open, and waits to be interrupted.
    ///
    /// # Errors
    /// As [`Demo::start`].
    pub async fn show(page: SocketAddr) -> anyhow::Result<()> {
        let demo = Demo::start(page, 1).await?;
        println!("Countersign demo: {}  (press Ctrl-C to stop)", demo.page);
        crate::http::shutdown_signal().await;
        Ok(())
    }

    /// Starts everything; `scale` multiplies the sample's rows.
    ///
    /// # Errors
    /// When PostgreSQL isn't installed, or an address is in use.
    pub async fn start(page: SocketAddr, scale: u32) -> anyhow::Result<Demo> {
        let directory = TemporaryDirectory::new("countersign-demo")?;
        let (production, staging) =
            tokio::try_join!(sample_server(Sample::full(scale)), sample_server(Sample::small()))?;
        let incident = Incident::start(&production.cluster, &production.team).await?;
        let incident = Arc::new(Mutex::new(incident));
        write_files(directory.path())?;
        let guide = serde_json::from_str(include_str!("files/guide.json")).context("reading the guide")?;
        // The server's own psql first.
        let bin_dir = production.cluster.bin_dir().display().to_string();
        let stage = Stage::set(Setup {
            sites: vec![production.site("production"), staging.site("staging")],
            workspace: Settings { listen: page, guide, ..Settings::default() },
            slack: true,
            teams: None,
            listen: ([127, 0, 0, 1], 0).into(),
            directory: directory.path(),
            extra_config: &include_str!("files/extra.toml").replace("@bin_dir@", &bin_dir),
            replacements: replacements(&production.team),
            socket_mode: false,
        })
        .await?;
        let again = Arc::clone(&incident);
        stage.workspace.on_restart(move || {
            let again = Arc::clone(&again);
            async move {
                let restarted = again.lock().await.restart().await;
                restarted
                    .map(|()| "The incident has been started again.".to_owned())
                    .map_err(|error| format!("{error:#}"))
            }
            .boxed()
        });
        Ok(Demo {
            page: stage.workspace.page_url(),
            _bot: stage.bot().await?,
            _stage: stage,
            _incident: incident,
            _servers: (production, staging),
            _directory: directory,
        })
    }
}

async fn sample_server(sample: Sample) -> anyhow::Result<SampleServer> {
    let cluster = Cluster::start(Options::default()).await?;
    let team = sample.install(&cluster).await.context("installing the sample")?;
    let traffic = Traffic::start(&cluster, &team);
    Ok(SampleServer { cluster, team, _traffic: traffic })
}

/// Writes the team's files beside its configuration: migrations, the stand-in for Prisma, and a reviewed SQL file.
fn write_files(directory: &Path) -> anyhow::Result<()> {
    let write = |name: &str, text: &str| -> anyhow::Result<()> {
        let path = directory.join(name);
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        std::fs::write(&path, text).with_context(|| format!("writing {name}"))
    };
    for name in APPLIED {
        write(&format!("{MIGRATIONS}/{name}/migration.sql"), &format!("-- {name}\n"))?;
    }
    for (name, sql) in PENDING {
        write(&format!("{MIGRATIONS}/{name}/migration.sql"), &format!("{WAIT}{sql}\n"))?;
    }
    write("app/prisma.sh", include_str!("files/prisma.sh"))?;
    write("sql/drop-new-field.sql", include_str!("files/drop-new-field.sql"))
}

/// Gives every service its migrations, and ana the role for break-glass.
fn replacements(team: &Team) -> Vec<(String, String)> {
    let mut replacements =
        vec![("roles = [\"on-call\"]".to_owned(), "roles = [\"on-call\", \"last-resort\"]".to_owned())];
    for (service, _) in &team.services {
        let database = format!("database = \"{}\"\n", service.database);
        replacements.push((database.clone(), format!("{database}migrations = \"{MIGRATIONS}\"\n")));
    }
    replacements
}
