//! Files of other versions: an older one is brought up with all that it holds, a newer one is refused untouched.

use crate::samples::{append, conversation, done, new_run, opened};
use crate::{a_ledger, file_in, other_hand, store};
use countersign::model::{CardKind, RunState};
use countersign::store::sqlite::{SqliteStore, StoreLimits};
use countersign::store::{Filter, NewRun};
use jiff::Timestamp;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// The steps from the first version on, as they were released.
const STEPS: [&str; 3] = [
    include_str!("../../src/store/sqlite/migrations/0001_init.sql"),
    include_str!("../../src/store/sqlite/migrations/0002_suspended_locks.sql"),
    include_str!("../../src/store/sqlite/migrations/0003_indexes.sql"),
];

/// Copies a record into a new file of an older version, of whose tables it has the columns.
fn copy_as_version(version: usize, from: &Path, to: &Path) {
    let hand = other_hand(to);
    hand.execute_batch("PRAGMA journal_mode = WAL; PRAGMA application_id = 0x4353474e").unwrap();
    for step in &STEPS[..version] {
        hand.execute_batch(step).unwrap();
    }
    // The program of version 1 made this table, too, without counting it.
    hand.execute_batch(STEPS[1]).unwrap();
    hand.pragma_update(None, "user_version", version as i64).unwrap();
    hand.execute("ATTACH ?1 AS new", [from.to_str().unwrap()]).unwrap();
    let cards = "id, run, place, message, shown_version, abandoned, kind, claimed_until, claimed_by";
    let cards = if version < 3 { cards.to_owned() } else { format!("{cards}, is_outdated") };
    for (table, columns) in [
        ("runs", "id, version, state, opened_at, changed_at, deadline, owner, delivery_id, request"),
        ("events", "seq, run, bytes, hash"),
        ("event_texts", "seq, name, key, text"),
        ("resource_locks", "environment, resource, run"),
        ("suspended_locks", "environment, resource, run"),
        ("tokens", "token, purpose, place, created_at"),
        ("cards", &cards),
        ("bindings", "platform, workspace, conversation, environment"),
        ("settings", "name, value"),
    ] {
        let sql =
            format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table} ORDER BY 1");
        hand.execute(&sql, []).unwrap();
    }
}

#[tokio::test]
async fn a_file_of_an_older_version_is_brought_up() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let runs = a_ledger(&path).await;
    let new = store(&path);
    let shown = new.add_card(runs[0].id, conversation("C1"), CardKind::Primary).await.unwrap();
    let mut card = new.card(shown).await.unwrap().unwrap();
    (card.shown_version, card.message) = (runs[0].version, Some("1.1".into()));
    assert!(new.update_card(card).await.unwrap());
    new.add_card(runs[1].id, conversation("C1"), CardKind::Primary).await.unwrap();
    let held = opened(&new, NewRun { resource_locks: vec!["x".into()], ..new_run("held") }).await;
    let lost = done(&new, append(&held, "interrupted", RunState::Interrupted)).await;
    let (verified, all) = (new.verify().await.unwrap(), new.list(Filter::default()).await.unwrap().runs);
    let outdated = new.outdated_cards().await.unwrap();
    assert_eq!((verified.first_error.as_ref(), outdated.len()), (None, 1));

    for version in 1..=STEPS.len() {
        let older = directory.path().join(format!("version-{version}.db"));
        copy_as_version(version, &path, &older);
        let limited = "INSERT INTO settings VALUES ('rate_limit slack', '9000000000000000')";
        other_hand(&older).execute(limited, []).unwrap();
        assert!(SqliteStore::check_writable(&older).unwrap());
        // Two processes at once.
        let [a, b] = [(); 2].map(|()| {
            let older = older.clone();
            std::thread::spawn(move || store(&older))
        });
        let (a, b) = (a.join().unwrap(), b.join().unwrap());
        assert_eq!(a.verify().await.unwrap(), verified, "{version}");
        assert_eq!(b.list(Filter::default()).await.unwrap().runs, all, "{version}");
        assert_eq!(b.outdated_cards().await.unwrap(), outdated, "{version}");
        let until = Timestamp::from_microsecond(9_000_000_000_000_000).unwrap();
        assert_eq!(a.rate_limits().await.unwrap(), [("slack".to_owned(), until)], "{version}");
        for (text, found) in
            [("REASON 2", vec![runs[2].id]), ("kill 47", vec![4, 3, 2, 1]), ("nothing", vec![])]
        {
            let filter = Filter { text: Some(text.into()), ..Filter::default() };
            let ids: Vec<_> = a.list(filter).await.unwrap().runs.iter().map(|run| run.id).collect();
            assert_eq!(ids, found, "{version}: {text}");
        }
        let resumed = done(&b, append(&lost, "resumed", RunState::Running)).await;
        done(&a, append(&resumed, "succeeded", RunState::Succeeded)).await;
        assert_eq!(b.erase(runs[2].id, "reason").await.unwrap(), 1);
        assert_eq!(a.verify().await.unwrap().first_error, None);
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_untouched() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    a_ledger(&path).await;
    let hand = other_hand(&path);
    hand.execute_batch("PRAGMA user_version = 77; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let content = || {
        let (file, log) = (fs::read(&path).unwrap(), directory.path().join("record.db-wal"));
        (file, fs::read(log).unwrap_or_default())
    };
    let before = content();
    let refused = "made by a newer Countersign (schema 77; this one knows 7)";
    let checked = SqliteStore::check_writable(&path).unwrap_err();
    let started = SqliteStore::open(&path, StoreLimits::default()).err().unwrap();
    for error in [checked, started] {
        assert!(format!("{error:#}").contains(refused), "{error:#}");
    }
    assert!(content() == before, "the file was changed");
}
