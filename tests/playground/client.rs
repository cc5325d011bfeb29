//! The Playground, which runs as a program of its own, and the plays in its page.

use crate::bot::{Bot, PEOPLE};
use crate::relay::{self, Relay};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Whoever sets it has the Playground and Chromium installed, as `make` does: without it, and without them, nothing is played.
const ASKED: &str = "COUNTERSIGN_TEST_PLAYGROUND";

/// The Playground's program.
pub fn installed() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/playground/node_modules");
    let program = tools.join("@microsoft/m365agentsplayground/cli.js");
    assert!(
        program.is_file() || std::env::var(ASKED).is_err(),
        "{ASKED} is set, and `make tools` has installed no Playground"
    );
    program.is_file().then_some(program)
}

pub struct Playground {
    port: u16,
    _world: tempfile::TempDir,
    _child: Child,
}

impl Playground {
    pub async fn start(program: &Path, bot: Arc<Bot>) -> Playground {
        let world = tempfile::tempdir().expect("a directory");
        std::fs::write(world.path().join(".m365agentsplayground.yml"), relay::world(&PEOPLE))
            .expect("a world");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let relay = Relay::start(bot, port).await;
        let mut child = Command::new("node")
            .arg(program)
            .args(["--app-endpoint", &format!("http://{relay}/api/messages"), "--channel-id", "msteams"])
            .args(["--port", &port.to_string(), "--disable-telemetry"])
            // It opens a browser of its own otherwise, and ends where there is none.
            .env("TEAMSAPPTESTER_BROWSER", "none")
            .current_dir(world.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("the Playground");
        let mut lines = BufReader::new(child.stdout.take().expect("its words")).lines();
        loop {
            let line = lines.next_line().await.expect("its words").expect("the Playground to listen");
            if line.contains("Listening on") {
                assert!(line.contains(&port.to_string()), "{line}");
                break;
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Playground { port, _world: world, _child: child }
    }

    /// The scene in the page. Between its parts `midway` looks at what has happened.
    pub async fn plays(&self, pid: i32, midway: impl AsyncFnOnce()) {
        let play = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/playground/play.mjs");
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
