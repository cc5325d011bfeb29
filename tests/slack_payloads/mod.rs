//! What a bot sent to the fake Slack, for the schema checks.

use countersign::demo::fake_slack::{ApiError, Workspace};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Keeps every payload for the schema checks, which others wrote; fails where Slack refused blocks.
pub fn keep(workspace: &Workspace) {
    static SCENES: AtomicUsize = AtomicUsize::new(0);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../payloads");
    let name = format!("chat-{}-{}.jsonl", std::process::id(), SCENES.fetch_add(1, Ordering::Relaxed));
    let payloads = workspace.payloads();
    let line = |method: &str, body| serde_json::json!({ "method": method, "body": body }).to_string() + "\n";
    let lines: String = payloads.iter().map(|payload| line(&payload.method, &payload.body)).collect();
    if !lines.is_empty() && std::fs::create_dir_all(&target).is_ok() {
        let _ = std::fs::write(target.join(name), lines);
    }
    let has_faults = |error: &ApiError| !error.messages.is_empty();
    let refused: Vec<_> =
        payloads.iter().filter(|payload| payload.error.as_ref().is_some_and(has_faults)).collect();
    assert!(refused.is_empty() || std::thread::panicking(), "Slack refused blocks: {refused:?}");
}
