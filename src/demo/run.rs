//! `countersign demo`: two throwaway PostgreSQL servers with the sample team, traffic and a running incident, the bot with
//! its embedded store, and the pretend workspace on one local page. In production one table is large, so that work on it lasts.

use super::fake_slack::{GuideStep, Settings};
use super::files;
use super::harness::{Bot, Chats, INCIDENT, Setup, Site, Stage};
use super::postgres::{Cluster, Options};
use super::sample::{Incident, Sample, Team, Traffic};
use anyhow::Context;
use futures::FutureExt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A server with its sample and the traffic on it.
struct Sampled {
    cluster: Cluster,
    team: Team,
    _traffic: Traffic,
}

/// A running demo; it ends, and removes its servers and files, when it is dropped.
pub struct Demo {
    pub page: String,
    _bot: Bot,
    _stage: Stage,
    _incident: Arc<Mutex<Incident>>,
    _production: Arc<Sampled>,
    _staging: Arc<Sampled>,
    _directory: Directory,
}

/// Removed with everything in it.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// In production two must approve what ends many sessions; and ana may act alone, in need.
const STRICT: &str = "[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"kill-idle\"]\napprovers = 2\n\n\
                      [break_glass]\nrole = \"last-resort\"\n\n";

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
        let token = crate::model::random_token().context("asking the system for randomness")?;
        let directory = Directory(std::env::temp_dir().join(format!("countersign-demo-{token}")));
        std::fs::create_dir(&directory.0).context("making the demo's directory")?;
        let (production, staging) = tokio::try_join!(sampled(Sample::full(scale)), sampled(Sample::small()))?;
        let (production, staging) = (Arc::new(production), Arc::new(staging));
        let incident = Incident::start(&production.cluster, &production.team).await?;
        let incident = Arc::new(Mutex::new(incident));
        let files = files::write(&directory.0, &production.cluster, &production.team)?;
        let last_resort =
            ("roles = [\"on-call\"]".to_owned(), "roles = [\"on-call\", \"last-resort\"]".to_owned());
        let stage = Stage::set(Setup {
            sites: vec![
                Site {
                    name: "production",
                    production: true,
                    cluster: &production.cluster,
                    team: &production.team,
                },
                Site { name: "staging", production: false, cluster: &staging.cluster, team: &staging.team },
            ],
            workspace: Settings { listen: page, guide: guide(), ..Settings::default() },
            chats: Chats::Slack,
            listen: ([127, 0, 0, 1], 0).into(),
            directory: &directory.0,
            more: &format!("{STRICT}{}", files.more),
            instead: files.instead.into_iter().chain([last_resort]).collect(),
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
                    .map_err(|why| format!("{why:#}"))
            }
            .boxed()
        });
        let bot = stage.bot().await?;
        Ok(Demo {
            page: stage.workspace.page_url(),
            _bot: bot,
            _stage: stage,
            _incident: incident,
            _production: production,
            _staging: staging,
            _directory: directory,
        })
    }
}

async fn sampled(sample: Sample) -> anyhow::Result<Sampled> {
    let cluster = Cluster::start(Options::default()).await?;
    let team = sample.install(&cluster).await.context("installing the sample")?;
    let traffic = Traffic::start(&cluster, &team);
    Ok(Sampled { cluster, team, _traffic: traffic })
}

fn guide() -> Vec<GuideStep> {
    let step = |who: &str, type_this: &str, why: &str| GuideStep {
        who: who.to_owned(),
        channel: INCIDENT.to_owned(),
        type_this: type_this.to_owned(),
        why: why.to_owned(),
    };
    vec![
        step(
            "U0ANA",
            "/db health --env production",
            "The verdict comes first: sessions are blocked in production.",
        ),
        step("U0ANA", "/db blocked --env production", "The root blocker comes first. Click Kill beside it."),
        step("U0ANA", "", "Now try to approve your own request: click Approve on the card as ana."),
        step(
            "U0BEN",
            "",
            "Switch to ben, an approver, and click Approve. The session ends and the card says so.",
        ),
        step("U0ANA", "/db blocked --env production", "No session is blocked any more."),
        step(
            "U0ANA",
            "/db slow --env production asset-service",
            "The most expensive statements, without literal values.",
        ),
        step(
            "U0ANA",
            "/db backup asset-service --env production",
            "A verified dump, with progress in one message.",
        ),
        step(
            "U0ANA",
            "/db vacuum auth-service login_attempts --env production",
            "A long run: watch its progress. /db stop with its number ends it and reports what was done.",
        ),
        step(
            "U0ANA",
            "/db reindex auth-service login_attempts_device_idx --env production",
            "Rebuilds an invalid index, without blocking. /db indexes shows it before.",
        ),
        step(
            "U0ANA",
            "/db purge auth-service login_attempts --column attempted_at --older-than 90d --env production",
            "Needs ben's approval. If you stop it, it reports how many rows are deleted and how to continue.",
        ),
        step(
            "U0ANA",
            "/db migrate auth-service --env production",
            "Needs ben's approval. Five migrations, counted from Prisma's migration table.",
        ),
        step(
            "U0ANA",
            "/db run-sql drop-new-field auth-service --env production",
            "A reviewed file, shown word for word on its card: it drops what a migration added.",
        ),
        step(
            "U0ANA",
            "/db kill-idle --env production --older-than 1s",
            "It ends many sessions, so it needs two approvals: ben, then cara.",
        ),
        step("U0BEN", "/db history", "The history that the next shift reads at handoff."),
    ]
}
