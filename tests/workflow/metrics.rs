//! What Prometheus reads of a bot: the page itself, every expression of the alerts and of the dashboard, and alerts that fire and clear.

use crate::harness::{ANA, BEN, DAN, Scene, Twist, found};
use crate::process::becomes;
use crate::prometheus::{Prometheus, RULES, promtool};
use countersign::demo::fake_slack::Fault;
use countersign::model::RunState;
use serde_json::Value;
use std::path::PathBuf;

const METRICS: &str = r#"
[metrics]
listen = "127.0.0.1:0"

[[schedule]]
name = "Watch"
run = "blocked"
environments = ["production"]
at = "* * * * *"
report = "changes"
"#;

const DASHBOARD: &str = include_str!("../../deploy/grafana/countersign.json");

async fn measured_scene() -> Scene {
    Scene::with(Twist { more: METRICS, ..Twist::default() }).await
}

fn metrics_url(scene: &Scene) -> String {
    scene.bot.as_ref().and_then(|bot| bot.metrics_url.clone()).expect("an address for metrics")
}

async fn get(url: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.get(url).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

async fn page(scene: &Scene) -> String {
    let (status, text) = get(&metrics_url(scene)).await;
    assert_eq!(status, 200, "{text}");
    text
}

/// Waits until the page has a line that begins so.
async fn page_with(scene: &Scene, beginning: &str) -> String {
    found(beginning, async || {
        let text = page(scene).await;
        text.lines().any(|line| line.starts_with(beginning)).then_some(text)
    })
    .await
}

/// The audit log's file, moved away. It is put back when this is dropped.
struct StoreAway([PathBuf; 2]);

impl StoreAway {
    fn of(scene: &Scene) -> StoreAway {
        let away = ["record.db", "away.db"].map(|name| scene.directory.path().join(name));
        std::fs::rename(&away[0], &away[1]).expect("the audit log");
        StoreAway(away)
    }
}

impl Drop for StoreAway {
    fn drop(&mut self) {
        std::fs::rename(&self.0[1], &self.0[0]).expect("the audit log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_read_by_prometheus_and_asks_the_store_once_for_all_who_read_it() {
    let scene = measured_scene().await;
    scene.asks(ANA, "sizes --env production").await;
    page_with(&scene, "countersign_runs_total{command=\"sizes\",outcome=\"succeeded\"} 1").await;
    let pages = futures::future::join_all((0..8).map(|_| page(&scene))).await;
    let text = pages.last().expect("a page");
    promtool(&["check", "metrics"], text).await.unwrap_or_else(|complaints| panic!("{complaints}\n{text}"));
    let lines = [
        "countersign_store_call_duration_seconds_count{call=\"status\"} 1",
        "countersign_open_runs{state=\"pending\"} 0",
        "countersign_connections_limit{environment=\"production\"} 12",
        "countersign_newest_backup_timestamp_seconds{environment=\"staging\",production=\"false\",service=\"asset-service\"} 0",
        "countersign_background_task_interval_seconds{task=\"warm-pools\"} 30",
    ];
    for line in lines {
        assert!(
            text.lines().any(|written| written.trim_end_matches(".0") == line),
            "{line} isn't in\n{text}"
        );
    }
    // The documentation describes each of them.
    let documented = include_str!("../../docs/operations.md");
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(documented.contains(&format!("`{name}")), "docs/operations.md doesn't describe {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_an_address_of_its_own() {
    let scene = measured_scene().await;
    let chat = &scene.bot.as_ref().expect("a bot").url;
    assert_eq!(get(&format!("{chat}/metrics")).await.0, 404);
    let metrics = metrics_url(&scene);
    for path in ["healthz", "readyz", "slack/commands", ""] {
        assert_eq!(get(&metrics.replace("metrics", path)).await.0, 404, "/{path}");
    }
    let usual = Scene::usual().await;
    assert_eq!(usual.bot.as_ref().expect("a bot").metrics_url, None);
}

/// The expressions of the alerts, each without the comparison at its end.
fn alert_expressions() -> Vec<String> {
    let expressions = RULES.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let value = |expression: &str| {
        let (value, limit) = expression.rsplit_once([' ', '=', '>']).expect("a comparison");
        limit.parse::<f64>().expect("a limit");
        value.trim_end_matches(['=', '>', ' ']).to_owned()
    };
    expressions.map(value).collect()
}

/// The expressions of the dashboard's panels, over as much time as a test has.
fn panel_expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let expressions = targets.map(|target| target["expr"].as_str().expect("an expression"));
    expressions.map(|expression| expression.replace("$__rate_interval", "1m")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_expression_of_an_alert_and_of_a_panel_has_a_sample() {
    let scene = measured_scene().await;
    let prometheus = Prometheus::start(&metrics_url(&scene), &[]).await;
    scene.asks(ANA, "sizes --env production").await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("{}/slack/commands", scene.bot.as_ref().expect("a bot").url);
    assert_eq!(client.post(url).body("text=x").send().await.expect("an answer").status(), 401);
    scene.workspace().fault("users.info U0DAN", Fault::Error("something_that_slack_made_up"));
    scene.say(DAN, "sizes --env production").await;
    page_with(
        &scene,
        "countersign_platform_errors_total{platform=\"slack\",method=\"users.info\",code=\"other\"}",
    )
    .await;
    let away = StoreAway::of(&scene);
    page_with(&scene, "countersign_store_errors_total{call=\"check_instance\",reason=\"unusable\"}").await;
    drop(away);
    let expressions = [alert_expressions(), panel_expressions()].concat();
    assert!(expressions.len() > 30, "{expressions:#?}");
    for expression in &expressions {
        found(expression, async || (!prometheus.query(expression).await.is_empty()).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_fire_and_clear() {
    let scene = measured_scene().await;
    // Within seconds in place of minutes.
    let soon = [("{state=\"pending\"}) > 900", "{state=\"pending\"}) > 2"), ("for: 1m", "for: 1s")];
    let prometheus = Prometheus::start(&metrics_url(&scene), &soon).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.asks(ANA, &format!("kill {pid} --env production")).await;
    prometheus.becomes("CountersignRequestsWaiting", true).await;
    let away = StoreAway::of(&scene);
    prometheus.becomes("CountersignStoreUnavailable", true).await;
    drop(away);
    prometheus.becomes("CountersignStoreUnavailable", false).await;
    scene.click_button(BEN, &card.at(), "Deny").await;
    becomes(&scene.store(), "kill", RunState::Denied).await;
    prometheus.becomes("CountersignRequestsWaiting", false).await;
    assert!(scene.is_there(pid).await);
}

#[tokio::test]
async fn every_alert_fires_and_clears_by_its_rule() {
    promtool(&["check", "rules", "deploy/prometheus/countersign.rules.yml"], "").await.unwrap();
    promtool(&["test", "rules", "tests/prometheus/alerts.test.yml"], "").await.unwrap();
    let tested = include_str!("../prometheus/alerts.test.yml");
    for alert in RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tested.contains(&format!("alertname=\"{alert}\"")), "{alert} isn't tested");
    }
}
