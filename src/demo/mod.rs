//! The demo, and the surroundings of the tests: a fake Slack workspace, a fake Teams, throwaway PostgreSQL servers, the sample team on
//! them, and a stage that joins all that with a bot. Only the command line imports from here.

mod changes;
pub mod fake_slack;
pub mod fake_teams;
pub mod harness;
mod hints;
mod page;
mod port;
pub mod postgres;
pub mod sample;

pub use port::free_port;

use crate::catalog::Catalog;
use anyhow::Context;
use fake_slack::{Settings, Situation, Workspace};
use fake_teams::{ConversationKind, Tenant, TenantSettings, TenantUser};
use futures::FutureExt;
use harness::{PEOPLE, Setup, Site, Stage};
use postgres::{Cluster, Options, TemporaryDirectory};
use sample::{Sample, SampleIncident, Team, Traffic};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

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

/// Between two looks at the incident.
const LOOK_AT_INCIDENT: Duration = Duration::from_secs(2);

const WAIT: &str = "-- As long as this would take on a table of a business's size.\nSELECT pg_sleep(3);\n";

/// A server with its sample and the traffic on it.
struct SampleServer {
    cluster: Cluster,
    team: Team,
    _traffic: Traffic,
}

impl SampleServer {
    async fn start(sample: Sample) -> anyhow::Result<SampleServer> {
        let cluster = Cluster::start(Options::default()).await?;
        let team = sample.install(&cluster).await.context("installing the sample")?;
        cluster.protect().await.context("making the server safe in a crash")?;
        let traffic = Traffic::start(&cluster, &team);
        Ok(SampleServer { cluster, team, _traffic: traffic })
    }
}

/// `countersign demo`: two throwaway PostgreSQL servers with the sample team, traffic and a running incident, the bot with
/// its embedded store, and the fake Slack and the fake Teams on one local page, whose address it prints. In production one table is large, so
/// that work on it lasts. When it is interrupted, it ends and removes its servers and files.
///
/// # Errors
/// When PostgreSQL isn't installed, or an address is in use.
pub async fn show(page: SocketAddr) -> anyhow::Result<()> {
    let directory = TemporaryDirectory::new("countersign-demo")?;
    let (production, staging) =
        tokio::try_join!(SampleServer::start(Sample::full()), SampleServer::start(Sample::small()))?;
    let incident = Arc::new(Mutex::new(SampleIncident::start(&production.cluster, &production.team).await?));
    write_files(directory.path())?;
    let guide = serde_json::from_str(include_str!("files/guide.json")).context("reading the guide")?;
    // The server's own psql first.
    let bin_dir = production.cluster.bin_dir().display().to_string();
    let sites = [("production", &production), ("staging", &staging)].map(|(name, server)| Site {
        name,
        production: name == "production",
        cluster: &server.cluster,
        team: &server.team,
    });
    let tenant = tenant().await?;
    let teams_view = Some(fake_teams::page_routes(tenant.clone()));
    // A managed identity would be the whole process': the bot, which runs in this one, is an application with a secret.
    let login = format!(
        "[teams]\nlogin_url = \"{}\"\nclient_secret = {{ env = \"TEAMS_CLIENT_SECRET\" }}\n",
        tenant.login_url()
    );
    let mut stage = Stage::set(Setup {
        sites: sites.into(),
        workspace: Settings { listen: page, guide, teams_view, ..Settings::default() },
        slack: true,
        teams: Some(tenant.clone()),
        listen: ([127, 0, 0, 1], 0).into(),
        directory: directory.path(),
        extra_config: &include_str!("files/extra.toml").replace("@bin_dir@", &bin_dir),
        replacements: [replacements(&production.team), vec![("[teams]\n".to_owned(), login)]].concat(),
        socket_mode: false,
    })
    .await?;
    stage.secrets.insert("TEAMS_CLIENT_SECRET".to_owned(), tenant.client_secret().to_owned());
    stage.workspace.set_commands(hints::commands(&Catalog::built_in()?, &stage.checked()?));
    let watch = watch_incident(stage.workspace.clone(), Arc::clone(&incident));
    let _watch = AbortOnDropHandle::new(tokio::spawn(watch));
    stage.workspace.on_restart(move || {
        let incident = Arc::clone(&incident);
        async move {
            let restarted = incident.lock().await.restart().await;
            restarted
                .map(|()| "The incident has been started again.".to_owned())
                .map_err(|error| format!("{error:#}"))
        }
        .boxed()
    });
    let bot = stage.bot().await?;
    tenant.connect_bot(&bot.url);
    let mut signals = crate::http::ShutdownSignals::listen()?;
    println!("Countersign demo: {}  (press Ctrl-C to stop)", stage.workspace.page_url());
    signals.next().await;
    Ok(())
}

/// Starts the fake Teams with the people of the sample, a channel of the incident, and another one.
async fn tenant() -> anyhow::Result<Tenant> {
    let tenant = Tenant::start(TenantSettings::default()).await.context("starting the fake Teams")?;
    let strangers = [("nora", "not in the configuration")];
    let people = PEOPLE.map(|(_, name, label, _)| (name, label)).into_iter().chain(strangers);
    for (name, label) in people.clone() {
        tenant.add_person(TenantUser { role_label: label.to_owned(), ..TenantUser::new(name) });
    }
    let members: Vec<&str> = people.map(|(name, _)| name).collect();
    for channel in ["19:incident-42@thread.tacv2", "19:database@thread.tacv2"] {
        tenant.add_conversation(ConversationKind::Channel, channel, &members);
    }
    Ok(tenant)
}

/// Keeps the page's sentence about the incident true.
async fn watch_incident(workspace: Workspace, incident: Arc<Mutex<SampleIncident>>) {
    loop {
        let stuck = incident.lock().await.stuck().await;
        workspace.set_situation(stuck.ok().map(situation));
        tokio::time::sleep(LOOK_AT_INCIDENT).await;
    }
}

/// The incident in a sentence: the time for which the migration is stuck, and the number of blocked users.
fn situation(stuck: Option<(Duration, usize)>) -> Situation {
    let Some((blocked, readers)) = stuck else {
        let text = "The incident is over: the migration is no longer stuck, and users are served.";
        return Situation { text: text.to_owned(), trouble: false };
    };
    // Whole minutes, or else tens of seconds: the sentence is read, not watched.
    let blocked = match (blocked.as_secs() / 60, blocked.as_secs() / 10 * 10) {
        (0, 0) => "some seconds".to_owned(),
        (0, seconds) => format!("{seconds} seconds"),
        (1, _) => "1 minute".to_owned(),
        (minutes, _) => format!("{minutes} minutes"),
    };
    let users = if readers > 0 { "; users see time-outs" } else { "" };
    let text = format!("Production: a migration has been stuck for {blocked}{users}.");
    Situation { text, trouble: true }
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

/// Gives every service its migrations, and ana the role for break-glass. Outcomes are read in the channel, where all sit.
fn replacements(team: &Team) -> Vec<(String, String)> {
    let mut replacements = vec![
        ("roles = [\"on-call\"]".to_owned(), "roles = [\"on-call\", \"last-resort\"]".to_owned()),
        ("notify = \"direct\"\n".to_owned(), String::new()),
    ];
    for (service, _) in &team.services {
        let database = format!("database = \"{}\"\n", service.database);
        replacements.push((database.clone(), format!("{database}migrations = \"{MIGRATIONS}\"\n")));
    }
    replacements
}
