//! HAProxy with the configuration of deploy/, in front of replicas of the real program.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// Time until HAProxy answers, or its probes have found what is looked for.
const LIMIT: Duration = Duration::from_secs(60);

/// The balancer's own groups of servers: those that are ready, and those that live.
const GROUPS: [&str; 2] = ["ready", "alive"];

/// What the balancer does with a request that a replica leaves without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retries {
    /// It sends the request to another replica.
    AsInExample,
    /// The request fails: nothing hides that it went to a replica which serves no more.
    Never,
}

/// A balancer. Dropping it kills it.
pub struct Balancer {
    /// `http://127.0.0.1:4711`.
    pub url: String,
    /// Of its commands.
    socket: PathBuf,
    _child: Child,
}

impl Balancer {
    /// Starts with so many places for replicas, which have no address yet. Its files are in `directory`.
    pub async fn start(directory: &Path, count: usize, retries: Retries) -> Balancer {
        let (config, socket) = (directory.join("haproxy.cfg"), directory.join("haproxy.socket"));
        std::fs::write(&config, configuration(&socket, count, retries)).expect("the configuration");
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let child = Command::new(program())
            .arg("-db")
            .arg("-f")
            .arg(&config)
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("haproxy.log")).expect("its log"))
            .kill_on_drop(true)
            .spawn()
            .expect("HAProxy");
        let balancer = Balancer { url: format!("http://{address}"), socket, _child: child };
        until("HAProxy", async || balancer.command("show info").await.is_ok()).await;
        balancer
    }

    /// Gives a replica's place another address, and waits until its probes succeed.
    pub async fn sends_to(&self, number: usize, url: &str) {
        let (host, port) = url.trim_start_matches("http://").rsplit_once(':').expect("an address");
        for group in GROUPS {
            let server = format!("{group}/replica-{}", number + 1);
            let commands =
                format!("set server {server} addr {host} port {port}; set server {server} state ready");
            self.command(&commands).await.expect("HAProxy");
        }
        self.finds(number, true).await;
    }

    /// Waits until its probes say of a replica whether it is ready.
    pub async fn finds(&self, number: usize, is_ready: bool) {
        let row = format!("ready,replica-{},", number + 1);
        // A place is up before its first probe.
        let words = if is_ready { [",UP,", ",L7OK,200,"] } else { [",DOWN,", ","] };
        until("HAProxy's probes", async || {
            let table = self.command("show stat").await.unwrap_or_default();
            let place = table.lines().find(|line| line.starts_with(&row));
            place.is_some_and(|place| words.iter().all(|words| place.contains(words)))
        })
        .await;
    }

    async fn command(&self, command: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

/// Debian puts it where only root looks.
fn program() -> &'static str {
    let debian = "/usr/sbin/haproxy";
    if Path::new(debian).exists() { debian } else { "haproxy" }
}

/// The example for a team, with an address that the test has open, and with places for the replicas.
fn configuration(socket: &Path, count: usize, retries: Retries) -> String {
    let example = include_str!("../../deploy/haproxy.cfg");
    let mut config = String::new();
    for line in example.lines() {
        match line.split_whitespace().next() {
            Some("bind") => config += "    bind fd@0",
            Some("server") => continue,
            Some("retry-on") if retries == Retries::Never => continue,
            Some("retries") if retries == Retries::Never => config += "    retries 0",
            Some("global") => {
                write!(config, "global\n    stats socket {} level admin", socket.display()).expect("text");
            }
            Some("default-server") => {
                config += "    default-server check inter 200ms fall 1 rise 2";
                for number in 1..=count {
                    write!(config, "\n    server replica-{number} 127.0.0.1:1 disabled").expect("text");
                }
            }
            _ => config += line,
        }
        config.push('\n');
    }
    config
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so().await {
        assert!(Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
