//! Lists of runs, the search in their texts, and pages of events.

use crate::samples::{append, conversation, done, new_run, opened, person};
use countersign::metrics::Waiting;
use countersign::model::{Card, CardKind, Risk, RunState};
use countersign::store::{Filter, NewRun, Store};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub async fn lists_are_filtered([a, b]: &[Arc<dyn Store>; 2]) {
    let kill = opened(a, new_run("d1")).await;
    let mut other = new_run("d2");
    other.request.command = "backup".into();
    other.request.environment = Some("production".into());
    other.request.requester = person("ben");
    let backup = opened(b, other).await;
    let mut read = new_run("d3");
    read.request.risk = Risk::Read;
    read.first_event.state = RunState::Succeeded;
    let read = opened(a, read).await;

    let list = async |filter: Filter| {
        let listed = b.list(filter).await.unwrap();
        (listed.runs.iter().map(|run| run.id).collect::<Vec<_>>(), listed.total)
    };
    let all = Filter { include_reads: true, ..Filter::default() };
    assert_eq!(list(all.clone()).await, (vec![read.id, backup.id, kill.id], 3));
    assert_eq!(list(Filter::default()).await, (vec![backup.id, kill.id], 2));
    assert_eq!(list(Filter { limit: 1, ..all.clone() }).await, (vec![read.id], 3));
    assert_eq!(
        list(Filter { environment: Some("production".into()), ..all.clone() }).await,
        (vec![backup.id], 1)
    );
    assert_eq!(list(Filter { requester: Some("ben".into()), ..all.clone() }).await, (vec![backup.id], 1));
    assert_eq!(
        list(Filter { command: Some("kill".into()), ..all.clone() }).await,
        (vec![read.id, kill.id], 2)
    );
    assert_eq!(list(Filter { since: Some(backup.opened_at), ..all.clone() }).await.1, 2);
    let states = vec![RunState::Succeeded, RunState::Interrupted];
    assert_eq!(list(Filter { states, ..all.clone() }).await, (vec![read.id], 1));
    assert_eq!(list(Filter { requester: Some("' OR 1=1 --".into()), ..all.clone() }).await, (vec![], 0));
    assert_eq!(b.list(all).await.unwrap().runs[2], kill);

    for n in 0..51 {
        opened(a, new_run(&format!("more-{n}"))).await;
    }
    let (ids, total) = list(Filter::default()).await;
    assert_eq!((ids.len(), total), (50, 53));
}

pub async fn finding_knows_capitals([a, b]: &[Arc<dyn Store>; 2]) {
    let mut new = new_run("d1");
    new.first_event.texts = BTreeMap::from([("reason".into(), "Die ÄNDERUNG von 100%_ist da".into())]);
    let run = opened(a, new).await;
    let mut other = new_run("d2");
    other.request.arguments = BTreeMap::from([("service".into(), "asset_service".into())]);
    let other = opened(a, other).await;
    let find = async |find: &str| {
        let listed = b.list(Filter { text: Some(find.into()), ..Filter::default() }).await.unwrap();
        assert_eq!(listed.total, listed.runs.len());
        listed.runs.iter().map(|run| run.id).collect::<Vec<_>>()
    };
    assert_eq!(find("änderung").await, [run.id]);
    assert_eq!(find("100%_I").await, [run.id]);
    assert_eq!(find("kill 4711").await, [run.id]);
    assert_eq!(find("ASSET_s").await, [other.id]);
    assert_eq!(find("Kill").await, [other.id, run.id]);
    assert!(find("100_%").await.is_empty());
    assert!(find("staging").await.is_empty());
}

/// Whatever is searched for, as a comparison of the texts finds it.
pub async fn finding_is_containing([a, b]: &[Arc<dyn Store>; 2]) {
    const LETTERS: [&str; 14] = ["a", "B", "ä", "Ä", "ß", "İ", "Σ", "ς", "\"", "'", "%", " ", "🙂", "\\"];
    let mut seed = 7_u64;
    let mut letters = |count: usize| -> String {
        (0..count)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                LETTERS[(seed >> 33) as usize % LETTERS.len()]
            })
            .collect()
    };
    let mut texts = Vec::new();
    for n in 0..30 {
        let (mut new, text) = (new_run(&format!("d{n}")), letters(40));
        new.request.command = "x".into();
        new.request.arguments.clear();
        new.first_event.texts = BTreeMap::from([("reason".into(), text.clone())]);
        texts.push((opened(a, new).await.id, text.to_lowercase()));
    }
    for n in 0..120 {
        let sought = if n % 3 == 0 {
            letters(1 + n % 5)
        } else {
            texts[n % 30].1.chars().skip(n % 20).take(1 + n % 12).collect()
        };
        let contains = |(_, text): &&(i64, String)| text.contains(&sought.to_lowercase());
        let expected: Vec<i64> = texts.iter().rev().filter(contains).map(|(id, _)| *id).collect();
        let page = b.list(Filter { text: Some(sought.clone()), ..Filter::default() }).await.unwrap();
        let found: Vec<i64> = page.runs.iter().map(|run| run.id).collect();
        assert_eq!((found, page.unsearched_from), (expected, None), "{sought:?}");
    }
}

pub async fn a_list_has_pages([a, b]: &[Arc<dyn Store>; 2]) {
    for n in 0..7 {
        opened(a, new_run(&format!("d{n}"))).await;
    }
    let (mut before, mut pages) = (None, Vec::new());
    loop {
        let page = b.list(Filter { limit: 3, before, ..Filter::default() }).await.unwrap();
        let Some(last) = page.runs.last() else { break };
        before = Some(last.id);
        pages.push((page.runs.iter().map(|run| run.id).collect::<Vec<_>>(), page.total, page.has_more));
    }
    let expected = [(vec![7, 6, 5], 7, false), (vec![4, 3, 2], 4, false), (vec![1], 1, false)];
    assert_eq!(pages, expected);
    let text = Some("kill".to_owned());
    let found = b.list(Filter { limit: 1, before: Some(3), text, ..Filter::default() }).await.unwrap();
    assert_eq!((found.runs[0].id, found.total), (2, 2));
}

pub async fn events_are_read_in_pages([a, b]: &[Arc<dyn Store>; 2]) {
    let mut new = new_run("d1");
    new.first_event.texts = BTreeMap::from([("reason".into(), "why".into()), ("line".into(), "kill".into())]);
    let run = opened(a, new).await;
    let approved = done(a, append(&run, "approved", RunState::Approved)).await;
    opened(a, new_run("d2")).await;
    let page = b.events(0, 2).await.unwrap();
    let read: Vec<(i64, i64)> = page.iter().map(|event| (event.seq, event.run)).collect();
    assert_eq!(read, [(1, run.id), (2, run.id)]);
    assert!(page[0].bytes.starts_with("{\"seq\":1,") && page[0].hash.len() == 32, "{page:?}");
    let texts: Vec<(&str, &str, usize)> =
        page[0].texts.iter().map(|text| (text.name.as_str(), text.text.as_str(), text.key.len())).collect();
    assert_eq!(texts, [("line", "kill", 32), ("reason", "why", 32)]);
    let rest = b.events(approved.events[1].seq, usize::MAX).await.unwrap();
    assert_eq!((rest.len(), rest[0].seq), (1, 3));
    assert_eq!(hex(&rest[0].hash), b.verify().await.unwrap().head);
    assert_eq!(b.events(3, 10).await.unwrap(), []);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub async fn erased_text_is_not_found([a, b]: &[Arc<dyn Store>; 2]) {
    let personal = |id: &str| {
        let mut new = new_run(id);
        new.first_event.texts =
            BTreeMap::from([("query".into(), "Jane Doe".into()), ("reason".into(), "it blocks".into())]);
        new
    };
    let (run, other) = (opened(a, personal("d1")).await, opened(a, personal("d2")).await);
    let mut more = append(&run, "checkpoint", RunState::Pending);
    more.event.texts = BTreeMap::from([("query".into(), "jane again".into())]);
    done(a, more).await;
    let find = async |text: &str| -> Vec<i64> {
        let page = b.list(Filter { text: Some(text.into()), ..Filter::default() }).await.unwrap();
        page.runs.iter().map(|run| run.id).collect()
    };
    let before = a.verify().await.unwrap();
    assert_eq!(find("jane").await, [other.id, run.id]);
    assert_eq!((b.erase(run.id, "query").await.unwrap(), b.erase(run.id, "query").await.unwrap()), (2, 0));
    assert_eq!((find("jane").await, find("blocks").await), (vec![other.id], vec![other.id, run.id]));
    let erased = a.get(run.id).await.unwrap().unwrap();
    assert_eq!((erased.text("query"), erased.text("reason")), (None, Some("it blocks")));
    assert_eq!(a.verify().await.unwrap(), before);
}

pub async fn the_status_counts_what_is_open([a, b]: &[Arc<dyn Store>; 2]) {
    let empty = b.status().await.unwrap();
    let nothing = Waiting::default();
    assert_eq!([empty.pending, empty.approved, empty.running, empty.undelivered_cards], [nothing; 4]);
    assert!(empty.schema_version > 0);

    let cards = vec![(conversation("C1"), CardKind::Primary)];
    let first = opened(a, NewRun { cards, ..new_run("d1") }).await;
    let age = loop {
        let status = b.status().await.unwrap();
        assert_eq!((status.pending.count, status.undelivered_cards.count), (1, 1));
        if status.pending.oldest_age > Duration::from_millis(50) {
            break status.pending.oldest_age;
        }
    };
    opened(a, new_run("d2")).await;
    let status = b.status().await.unwrap();
    assert_eq!(status.pending.count, 2);
    assert!(status.pending.oldest_age >= age && status.undelivered_cards.oldest_age >= age, "{status:?}");

    let card = b.run_cards(first.id).await.unwrap().remove(0);
    a.update_card(Card { message: Some("171.2".into()), shown_version: 1, ..card.clone() }).await.unwrap();
    assert_eq!(b.status().await.unwrap().undelivered_cards, nothing);
    let approved = done(a, append(&first, "approved", RunState::Approved)).await;
    // Since the approval, not since the request.
    let status = b.status().await.unwrap();
    assert_eq!([status.pending, status.approved].map(|runs| runs.count), [1, 1]);
    assert!(status.undelivered_cards.oldest_age < status.approved.oldest_age, "{status:?}");
    let running = done(a, append(&approved, "started", RunState::Running)).await;
    assert_eq!(b.status().await.unwrap().running.count, 1);
    done(a, append(&running, "succeeded", RunState::Succeeded)).await;
    let status = b.status().await.unwrap();
    assert_eq!([status.pending, status.approved, status.running].map(|runs| runs.count), [1, 0, 0]);
}
