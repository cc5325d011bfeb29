//! What somebody does to the embedded store's file with SQL of their own.

use crate::{a_ledger, file_in, other_hand, store};
use tempfile::TempDir;

const UNFENCED: &str = "PRAGMA foreign_keys = OFF;
    DROP TRIGGER events_are_not_changed; DROP TRIGGER events_are_not_removed; DROP TRIGGER events_are_appended;
    DROP TRIGGER event_texts_are_not_changed; DROP TRIGGER runs_are_not_removed; DROP TRIGGER requests_are_not_changed;";

#[tokio::test]
async fn tampering_is_found() {
    let cases = [
        ("UPDATE events SET bytes = replace(bytes, '4711', '4712') WHERE seq = 2", "event 2 was changed"),
        ("UPDATE events SET hash = zeroblob(32) WHERE seq = 3", "event 3 was changed"),
        ("UPDATE events SET run = 3 WHERE seq = 4", "event 4 was moved"),
        ("DELETE FROM events WHERE seq = 1", "event 1 is missing"),
        ("DELETE FROM events WHERE seq = 3", "event 3 is missing"),
        (
            "DELETE FROM events WHERE seq = 3; UPDATE events SET seq = seq - 1 WHERE seq > 3",
            "event 3 was changed",
        ),
        ("DELETE FROM events WHERE seq = 5", "run 1 has 2 events and says 3"),
        ("UPDATE runs SET state = 'succeeded' WHERE id = 1", "run 1: its state was changed"),
        ("UPDATE runs SET state = 'perhaps' WHERE id = 1", "run 1: its row can't be read"),
        ("UPDATE runs SET version = 9 WHERE id = 2", "run 2 has 1 events and says 9"),
        ("UPDATE runs SET deadline = 5 WHERE id = 2", "run 2: its times were changed"),
        ("UPDATE runs SET opened_at = 5 WHERE id = 2", "run 2: its times were changed"),
        ("UPDATE runs SET changed_at = 5 WHERE id = 2", "run 2: its times were changed"),
        (
            "UPDATE runs SET request = replace(request, '4711', '1') WHERE id = 2",
            "run 2: its request was changed",
        ),
        (
            "UPDATE runs SET request = replace(request, 'U-ana', 'U-ben') WHERE id = 3",
            "run 3: its request was changed",
        ),
        ("DELETE FROM runs WHERE id = 3", "run 3 was removed"),
        (
            "INSERT INTO runs (version, state, request, delivery_id, opened_at, changed_at)
             SELECT 1, state, request, 'forged', opened_at, changed_at FROM runs WHERE id = 2",
            "run 4 has no events",
        ),
        ("UPDATE event_texts SET text = 'another' WHERE seq = 2", "event 2: its text was changed"),
        ("UPDATE event_texts SET key = zeroblob(32) WHERE seq = 2", "event 2: its text was changed"),
        ("INSERT INTO event_texts VALUES (2, 'more', zeroblob(32), 'x')", "event 2: a text was added"),
        ("INSERT INTO event_texts VALUES (9, 'more', zeroblob(32), 'x')", "texts of events that don't exist"),
    ];
    for (tampering, found) in cases {
        let directory = TempDir::new().unwrap();
        let path = file_in(&directory);
        a_ledger(&path).await;
        let a = store(&path);
        assert_eq!(a.verify().await.unwrap().first_error, None);
        let hand = other_hand(&path);
        hand.execute_batch(UNFENCED).unwrap();
        assert_eq!(a.verify().await.unwrap().first_error, None);
        hand.execute_batch(tampering).unwrap();
        let broken = a.verify().await.unwrap().first_error.unwrap_or_default();
        assert!(broken.contains(found), "{tampering}: {broken:?}");
    }
}

#[tokio::test]
async fn events_are_fenced() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    a_ledger(&path).await;
    let hand = other_hand(&path);
    for sql in [
        "UPDATE events SET bytes = ''",
        "DELETE FROM events WHERE seq = 5",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 5",
        "INSERT INTO events VALUES (7, 1, '{}', x'')",
        "UPDATE event_texts SET text = ''",
        "DELETE FROM runs",
        "UPDATE runs SET request = '{}'",
    ] {
        let refused = hand.execute(sql, []).unwrap_err();
        assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::ConstraintViolation), "{sql}");
    }
    assert_eq!(store(&path).verify().await.unwrap().first_error, None);
}
