//! What a bot sent to the fake Teams, for the schema checks.

use countersign::demo::fake_teams::Tenant;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Keeps every message for the schema checks, which others wrote; fails where Teams refused what the bot sent.
pub fn keep(tenant: &Tenant) {
    static SCENES: AtomicUsize = AtomicUsize::new(0);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../payloads");
    let name = format!("teams-{}-{}.jsonl", std::process::id(), SCENES.fetch_add(1, Ordering::Relaxed));
    let mut messages = tenant.payloads();
    messages.retain(|payload| payload.status < 300 && payload.body["type"] == "message");
    let line = |body| serde_json::json!({ "method": "teams.activity", "body": body }).to_string() + "\n";
    let lines: String = messages.iter().map(|payload| line(&payload.body)).collect();
    if std::fs::create_dir_all(&target).is_ok() {
        let _ = std::fs::write(target.join(name), lines);
    }
    let refused = tenant.take_refusals();
    assert!(refused.is_empty() || std::thread::panicking(), "Teams refused: {refused:#?}");
}
