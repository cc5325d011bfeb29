//! Debian's Prometheus beside a bot: it scrapes it and evaluates the alert rules of deploy/prometheus, both once a second.

use crate::harness::found;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// The alert rules that are delivered.
pub const RULES: &str = include_str!("../../deploy/prometheus/countersign.rules.yml");

/// Prometheus. Dropping it kills it.
pub struct Prometheus {
    url: String,
    client: reqwest::Client,
    _child: Child,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes a bot. Each replacement, an old and a new text, must be found in the rules.
    pub async fn start(metrics_url: &str, replacements: &[(&str, &str)]) -> Prometheus {
        let directory = tempfile::tempdir().expect("a directory");
        let mut rules = RULES.to_owned();
        for (old, new) in replacements {
            assert!(rules.contains(old), "the rules don't have {old}");
            rules = rules.replace(old, new);
        }
        write(directory.path().join("rules.yml"), &rules);
        let target = metrics_url.trim_start_matches("http://").trim_end_matches("/metrics");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [rules.yml]\nscrape_configs:\n\
             - job_name: countersign\n  static_configs: [{{ targets: ['{target}'] }}]\n"
        );
        write(directory.path().join("prometheus.yml"), &config);
        let (child, address) = serve(directory.path()).await;
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Prometheus { url: format!("http://{address}"), client, _child: child, _directory: directory }
    }

    /// The samples of an expression, now. An expression that isn't understood fails the test.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let url = format!("{}/api/v1/query", self.url);
        let url = url::Url::parse_with_params(&url, [("query", expression)]).expect("an address");
        let answer = self.client.get(url).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until an alert fires, or until it no longer does.
    pub async fn becomes(&self, alert: &str, is_firing: bool) {
        let firing = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}");
        let state = if is_firing { "to fire" } else { "to clear" };
        found(&format!("{alert} {state}"), async || {
            (self.query(&firing).await.is_empty() != is_firing).then_some(())
        })
        .await;
    }
}

fn write(path: PathBuf, text: &str) {
    std::fs::write(path, text).expect("a file");
}

/// The process, and the address that it chose.
async fn serve(directory: &Path) -> (Child, String) {
    let mut child = Command::new("prometheus")
        .current_dir(directory)
        .args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--web.listen-address=127.0.0.1:0",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("prometheus");
    let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
    let mut log = String::new();
    let address = loop {
        let line = lines.next_line().await.expect("its log");
        let line = line.unwrap_or_else(|| panic!("prometheus ended: {log}"));
        if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
            break address.to_owned();
        }
        log += &(line + "\n");
    };
    // Read to its end, so that it never waits for room.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, address)
}

/// Runs `promtool` with that standard input; its output if it has complaints.
pub async fn promtool(arguments: &[&str], input: &str) -> Result<(), String> {
    let mut child = Command::new("promtool")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input.as_bytes()).await.expect("its input");
    drop(stdin);
    let output = child.wait_with_output().await.expect("promtool");
    let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(()) } else { Err(words) }
}
