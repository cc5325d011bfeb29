//! The first scene in a client of Microsoft's own, its Agents Playground, in Chromium: no line of what shows the cards is ours.

mod relay;

use crate::bot_process::{Bot, PEOPLE, Twist, found};
use countersign::demo::sample::Incident;
use countersign::store::Store;
use relay::Relay;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_scene_is_played_in_microsofts_own_client() {
    let bot = Arc::new(Bot::start(Twist::default()).await);
    let incident = Incident::start(&bot.servers.cluster, &bot.servers.team).await.expect("an incident");
    let pids = incident.pids();
    let (_bystander, other) = bot.session("asset-worker-8").await;
    let playground = Playground::start(Arc::clone(&bot)).await;
    let midway = async || {
        assert!(bot.is_there(pids.head).await, "nothing may happen before the approval");
        assert_eq!(bot.events_of("kill").await, ["requested"]);
    };
    playground.plays(pids.head, midway).await;
    assert!(!bot.is_there(pids.head).await && bot.is_there(other).await);
    assert_eq!(bot.events_of("kill").await, ["requested", "approved", "started", "succeeded"]);
    assert_eq!(bot.runs(Some("kill")).await[0].text("reason"), Some("blocks the deploy"));
    assert_eq!(bot.store().verify().await.expect("the record").first_error, None);
}

/// The Playground's program, which `make tools` installs.
fn program() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/node/node_modules");
    let program = tools.join("@microsoft/m365agentsplayground/cli.js");
    assert!(program.is_file(), "no Playground is installed: run `make tools`");
    program
}

/// It runs as a program of its own.
struct Playground {
    port: u16,
    _world: tempfile::TempDir,
    _child: Child,
}

impl Playground {
    async fn start(bot: Arc<Bot>) -> Playground {
        let world = tempfile::tempdir().expect("a directory");
        // It wants six people.
        let people = relay::world(&[&PEOPLE[..], &["otto"]].concat());
        std::fs::write(world.path().join(".m365agentsplayground.yml"), people).expect("a world");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let relay = Relay::start(bot, port).await;
        let log = world.path().join("log");
        let mut child = Command::new("node")
            .arg(program())
            .args(["--app-endpoint", &format!("http://{relay}/api/messages"), "--channel-id", "msteams"])
            .args(["--port", &port.to_string(), "--disable-telemetry"])
            // It opens a browser of its own otherwise, and ends where there is none.
            .env("TEAMSAPPTESTER_BROWSER", "none")
            .env("M365_AGENTS_PLAYGROUND_LOGFILE", &log)
            .current_dir(world.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the Playground");
        // It says that it listens before it has looked at its world.
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let ready = format!("http://localhost:{port}/_internal/v1/config");
        found("the Playground", async || {
            let ended = child.try_wait().expect("a child");
            let why = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "the Playground ended: {why}");
            http.get(&ready).send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
        Playground { port, _world: world, _child: child }
    }

    /// The scene in the page. Between its parts `midway` looks at what has happened.
    async fn plays(&self, pid: i32, midway: impl AsyncFnOnce()) {
        let play = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/teams/playground/play.mjs");
        let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../pictures");
        std::fs::create_dir_all(&pictures).expect("a place for pictures");
        let mut played = Command::new("node")
            .arg(play)
            .args([&format!("http://localhost:{}/", self.port), &pid.to_string()])
            .arg(pictures)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node");
        let mut words = BufReader::new(played.stdout.take().expect("its words")).lines();
        let refused = words.next_line().await.expect("its words");
        assert_eq!(refused.as_deref(), Some("refused"), "the play ended early; why stands above");
        midway().await;
        drop(played.stdin.take());
        assert!(played.wait().await.expect("an end").success(), "the play failed; why stands above");
    }
}
