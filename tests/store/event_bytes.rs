//! An event's bytes: what PostgreSQL composes is what the program writes, and what the embedded store keeps of the same event.

use crate::postgres::{databases, store};
use crate::samples::{append, change, done, new_run, opened, person};
use countersign::model::{ChatAccount, Person, PlatformKind, Risk, RunState};
use countersign::store::sqlite::{SqliteStore, StoreLimits};
use countersign::store::{Append, Deadline, EventRow, NewEvent, NewRun, Store};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Texts of every kind that JSON or a database could write in another way.
fn texts() -> Vec<String> {
    // Every character that JSON escapes in one form or another, but for NUL, which no store takes.
    let controls = (1..=0x20).chain([0x22, 0x2f, 0x5c, 0x7f, 0x80, 0x85, 0x9f]);
    let controls = controls.map(|code| char::from_u32(code).unwrap()).collect();
    let mut texts = vec![String::new(), " ".into(), controls];
    let samples = [
        "'; DROP TABLE events; --",
        "$1 $$ %s \\u0000 \\n \\x00 {} [] \"quoted\"",
        "<script>&amp;</script>",
        "ß ẞ ı İ ÅÅ é é",
        "\u{a0}\u{ad}\u{200b}\u{200d}\u{2028}\u{2029}\u{202e}\u{2066}\u{feff}",
        "עברית العربية ไทย 日本語 한국어 ⰰⰱ",
        "👩‍👩‍👧‍👦 🇩🇪 \u{1f512}",
        "\u{d7ff}\u{e000}\u{f8ff}\u{fffd}\u{fffe}\u{ffff}\u{10000}\u{1fffe}\u{10ffff}",
        "line\r\nline\tend\n",
    ];
    texts.extend(samples.map(str::to_owned));
    texts.push("long ".repeat(20_000));
    texts
}

fn facts() -> Vec<Value> {
    let strings = texts();
    let keys: BTreeMap<String, usize> = strings.iter().cloned().zip(0..).collect();
    vec![
        Value::Null,
        json!({}),
        json!([]),
        json!("text"),
        json!(true),
        json!({"z": 1, "a": {"c": [{"b": 1, "a": 2}, []], "B": null, "ä": false}, "": "empty"}),
        json!([0, -0.0, 1.0, 1.5, 0.1, 1e300, 5e-324, 1e16, 123_456_789.125, u64::MAX, i64::MIN, -1]),
        json!(strings),
        json!(keys),
    ]
}

/// Requests with and without each optional field.
fn requests() -> Vec<NewRun> {
    let texts = texts();
    let mut all: Vec<NewRun> = (0..3).map(|n| new_run(&format!("d{n}"))).collect();
    all[0].request.environment = None;
    all[0].request.sender = None;
    all[0].request.requester = Person { id: "ana".into(), account: None };
    all[1].request.arguments = texts.iter().map(|text| (text.clone(), text.clone())).collect();
    all[1].request.environment = Some("Grün \"1\"".into());
    all[1].request.break_glass = true;
    all[1].request.conversation.thread = Some("171.1".into());
    for (new, risk) in all.iter_mut().zip([Risk::Read, Risk::Danger, Risk::Danger]) {
        new.request.risk = risk;
    }
    all[2].request.sender = Some(ChatAccount {
        platform: PlatformKind::Teams,
        workspace: texts[2].clone(),
        account: "29:1".into(),
        name: texts[7].clone(),
    });
    all
}

/// Events with every kind of facts, texts, deadline and person.
fn events() -> Vec<NewEvent> {
    let texts = texts();
    let deadlines = [
        Deadline::After(Duration::from_secs(3_600)),
        Deadline::Unchanged,
        Deadline::After(Duration::from_nanos(1_500_000_001_999)),
        Deadline::None,
        Deadline::After(Duration::ZERO),
        Deadline::After(Duration::MAX),
    ];
    let people = [None, Some(Person { id: texts[6].clone(), account: None }), Some(person("ben"))];
    let every = facts().into_iter().enumerate().map(|(n, facts)| NewEvent {
        by: people[n % people.len()].clone(),
        facts,
        texts: texts.iter().take(n * 2).map(|text| (format!("name {text:.9}"), text.clone())).collect(),
        deadline: deadlines[n % deadlines.len()],
        ..change("checkpoint", RunState::Pending)
    });
    every.collect()
}

/// Records runs and events of every kind, and returns them as they are stored.
pub async fn record(store: &Arc<dyn Store>) -> Vec<EventRow> {
    for new in requests() {
        let mut run = opened(store, new.clone()).await;
        assert_eq!((&run.request, &run.events[0].facts), (&new.request, &new.first_event.facts));
        for event in events() {
            run =
                done(store, Append { event: event.clone(), ..append(&run, "checkpoint", RunState::Pending) })
                    .await;
            let kept = run.events.last().unwrap();
            assert_eq!((&kept.by, &kept.facts, &kept.texts), (&event.by, &event.facts, &event.texts));
        }
    }
    assert_eq!(store.verify().await.unwrap().first_error, None);
    store.events(0, 1_000).await.unwrap()
}

/// An event's bytes without its times and HMACs, of which each store has its own. The times are as the program writes them.
fn comparable(row: &EventRow) -> String {
    let event: Value = serde_json::from_str(&row.bytes).unwrap();
    let mut bytes = row.bytes.clone();
    for (name, moment) in [("at", &event["at"]), ("deadline", &event["deadline"])] {
        let Some(moment) = moment.as_str() else { continue };
        assert_eq!(moment.parse::<Timestamp>().unwrap().to_string(), moment);
        bytes = bytes.replacen(&format!("\"{name}\":\"{moment}\""), &format!("\"{name}\":\"a time\""), 1);
    }
    for hmac in event["texts"].as_object().unwrap().values() {
        let hmac = hmac.as_str().unwrap();
        assert_eq!(hmac.len(), 64);
        bytes = bytes.replacen(hmac, "an HMAC", 1);
    }
    bytes
}

#[tokio::test]
async fn an_events_bytes_are_the_same_in_each_store() {
    let directory = TempDir::new().unwrap();
    let file = SqliteStore::open(&directory.path().join("record.db"), StoreLimits::default()).unwrap();
    let expected: Vec<String> =
        record(&(Arc::new(file) as Arc<dyn Store>)).await.iter().map(comparable).collect();
    for (cluster, settings) in databases().await {
        let rows = record(&store(&settings).await).await;
        let composed: Vec<String> = rows.iter().map(comparable).collect();
        assert!(composed == expected, "{:?}", composed.iter().zip(&expected).find(|(a, b)| a != b));

        // With and without a fraction, whatever the session's time zone.
        let hand = cluster.connect(&settings.database).await.unwrap();
        hand.batch_execute("SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'German'").await.unwrap();
        for moment in [
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:50Z",
            "2026-01-02T03:04:05.1Z",
            "2026-01-02T03:00:00.12Z",
            "2026-01-02T03:04:05.000001Z",
            "2026-01-02T03:04:05.123456Z",
            "2026-01-02T03:04:05.99999Z",
            "2000-02-29T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "9999-12-30T20:00:00.5Z",
        ] {
            let time: Timestamp = moment.parse().unwrap();
            let sql = "SELECT countersign.json_time($1), countersign.microseconds($1)";
            let row = hand.query_one(sql, &[&time]).await.unwrap();
            assert_eq!((row.get(0), row.get(1)), (moment, time.as_microsecond()));
            assert_eq!(time.to_string(), moment);
        }
    }
}
