//! One replica: `countersign serve` on an address of its own, which can be killed, started again, paused and resumed.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// Time until a replica answers: the audit log's server may be away.
const START_LIMIT: Duration = Duration::from_secs(90);

pub struct Replica {
    pub url: String,
    config: PathBuf,
    log: PathBuf,
    secrets: BTreeMap<String, String>,
    child: Option<Child>,
}

impl Replica {
    /// A replica that listens on that port, once it is started. Its configuration and its log are in `directory`.
    pub fn new(number: usize, port: u16, directory: &Path, secrets: &BTreeMap<String, String>) -> Replica {
        let file = |extension: &str| directory.join(format!("replica-{number}.{extension}"));
        Replica {
            url: format!("http://127.0.0.1:{port}"),
            config: file("toml"),
            log: file("log"),
            secrets: secrets.clone(),
            child: None,
        }
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Starts it, and waits until it answers. A start that fails, as without the audit log, is repeated.
    pub async fn start(&mut self) {
        let health = format!("{}/healthz", self.url);
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build();
        let client = client.expect("a client");
        let until = Instant::now() + START_LIMIT;
        while Instant::now() < until {
            let has_ended = match &mut self.child {
                Some(child) => child.try_wait().expect("its status").is_some(),
                None => true,
            };
            if has_ended {
                self.child = Some(self.spawn());
            }
            if client.get(&health).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} doesn't start: see {}", self.url, self.log.display());
    }

    fn spawn(&self) -> Child {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).expect("a log");
        Command::new(env!("CARGO_BIN_EXE_countersign"))
            .arg("serve")
            .arg("--config")
            .arg(&self.config)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.secrets)
            .env("RUST_LOG", "warn,countersign=info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the program")
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("its end");
        }
    }

    /// SIGSTOP: it does nothing until it is resumed, and its connections stay open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(Child::id).and_then(|id| Pid::from_raw(id.try_into().ok()?));
        kill_process(pid.expect("a process that lives"), signal).expect("the signal");
    }
}
