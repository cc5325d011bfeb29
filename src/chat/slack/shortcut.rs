//! The message shortcut "Ask about this session": a pid in somebody's message becomes the question for its locks. A message without one,
//! or with several, opens the form of that question. Source:
//! <https://docs.slack.dev/reference/interaction-payloads/shortcuts-interaction-payload>.

use super::parse::{Id, InteractionUser};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// The `callback_id` of the shortcut in the manifest.
const CALLBACK: &str = "cs:session";

/// The command that tells of one session.
const COMMAND: &str = "locks";

/// Words before a process id, in alerts and in PostgreSQL's own messages.
const BEFORE_PID: [&str; 5] = ["pid", "process", "session", "backend", "kill"];

#[derive(Deserialize)]
pub(super) struct MessageShortcut {
    callback_id: Option<String>,
    pub trigger_id: Option<String>,
    pub team: Option<Id>,
    pub enterprise: Option<Id>,
    pub user: Option<InteractionUser>,
    pub channel: Option<Id>,
    #[serde(default)]
    message: Value,
    pub response_url: Option<String>,
}

impl MessageShortcut {
    pub fn is_ours(&self) -> bool {
        self.callback_id.as_deref() == Some(CALLBACK)
    }

    /// The line that the message asks for: "locks 4711", or the command alone.
    pub fn line(&self) -> String {
        let mut pids = BTreeSet::new();
        collect(&self.message, &mut pids);
        match pids.first() {
            Some(pid) if pids.len() == 1 => format!("{COMMAND} {pid}"),
            _ => COMMAND.to_owned(),
        }
    }

    /// The thread that the message belongs to, if it doesn't begin it.
    pub fn thread(&self) -> Option<String> {
        let text = |key: &str| self.message[key].as_str();
        text("thread_ts").filter(|thread| Some(*thread) != text("ts")).map(str::to_owned)
    }
}

/// Collects the pids in every text of a message: its own, its blocks' and its attachments'.
fn collect(value: &Value, pids: &mut BTreeSet<i32>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, pids)),
        Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    Value::String(text)
                        if matches!(key.as_str(), "text" | "fallback" | "pretext" | "value") =>
                    {
                        pids.extend(pids_of(text));
                    }
                    field => collect(field, pids),
                }
            }
        }
        _ => {}
    }
}

/// The numbers behind a word for a process: "pid 4711", "process=4711", "pid: `4711`".
fn pids_of(text: &str) -> Vec<i32> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(str::to_lowercase).collect();
    let pid = |pair: &[String]| match pair {
        [before, number] if BEFORE_PID.contains(&before.as_str()) => {
            number.parse().ok().filter(|pid| *pid > 0)
        }
        _ => None,
    };
    words.windows(2).filter_map(pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(message: Value) -> String {
        let shortcut = json!({ "callback_id": CALLBACK, "message": message });
        serde_json::from_value::<MessageShortcut>(shortcut).unwrap().line()
    }

    #[test]
    fn a_pid_is_found_behind_its_word_and_nothing_is_guessed() {
        for text in [
            "5 sessions are blocked by pid 4711 (asset-worker-7)",
            "DETAIL:  Process 4711 waits for ShareLock",
            "deadlock, PID=4711, after 1000 ms",
            "session *4711*: idle in transaction; kill 4711?",
        ] {
            assert_eq!(line(json!({ "text": text })), "locks 4711", "{text}");
        }
        let attached = json!({ "text": "", "attachments": [{ "fields": [{ "value": "backend 4711" }] }] });
        assert_eq!(line(attached), "locks 4711");
        for text in
            ["", "port 5432 is down since 4711 s", "pid 4711 waits for pid 4712", "pid 0", "pid 99999999999"]
        {
            assert_eq!(line(json!({ "text": text })), "locks", "{text}");
        }
    }
}
