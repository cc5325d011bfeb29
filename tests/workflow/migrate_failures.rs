//! A migration command that hangs, prints secrets or a megabyte, or lies: told in time, redacted, cut, and by the ledger.

use crate::harness::{ANA, found};
use crate::migrate_harness::{ENCODED, PASSWORD, Shop, TOKEN};
use crate::process::Process;
use countersign::demo::harness::INCIDENT;
use countersign::model::{EventKind, RunState};
use countersign::store::Store;

const FIRST: &str = "20250101000000_init";
const SECOND: &str = "20250202000000_slow";

/// The first is quick, the second sleeps for an hour.
async fn slow(stand_in: &str, more: &str) -> Shop {
    let shop = Shop::open(stand_in, more).await;
    shop.writes(FIRST, "CREATE TABLE items (name text);");
    shop.writes(SECOND, "CREATE TABLE orders (id int); SELECT pg_sleep(3600);");
    shop
}

async fn quick(stand_in: &str) -> Shop {
    let shop = Shop::open(stand_in, "").await;
    shop.writes(FIRST, "CREATE TABLE items (name text);");
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_stopped_is_gone_and_what_was_done_is_told() {
    let shop = slow("", "").await;
    let card = shop.runs("migrate shop").await;
    shop.scene.until(&card, "1 of 2 applied").await;
    found("the sleep", async || (shop.ledger().await.len() == 2).then_some(())).await;
    assert!(shop.sessions().await >= 1 && !shop.processes().is_empty());
    let asked = shop.running().await;
    let jobs = shop.scene.asks(ANA, "jobs").await.plain();
    assert!(jobs.contains("migrate shop") && jobs.contains("1 of 2 applied"), "{jobs}");
    shop.scene.say(ANA, &format!("stop {asked}")).await;
    let (run, told) = shop.ended(&card, "migrate").await;
    assert_eq!(run.state, RunState::Stopped, "{told}");
    found("the stopper's answer", async || {
        let seen = shop.scene.workspace().visible_messages(ANA, INCIDENT);
        let answer = format!("Run #{asked} has ended: stopped. 1 of 2 migrations applied to ");
        seen.iter().any(|message| message.plain().contains(&answer)).then_some(())
    })
    .await;
    for words in [
        "1 of 2 migrations applied to shop_",
        "when it was stopped",
        &format!("applied now {FIRST}"),
        &format!("started, not finished {SECOND}"),
        "uncommitted changes were rolled back",
        &format!("migrate-resolve shop {SECOND} --as rolled-back"),
    ] {
        assert!(told.contains(words), "{words} is missing:\n{told}");
    }
    assert_eq!(shop.ledger().await, [format!("{FIRST} applied"), format!("{SECOND} open")]);
    assert_eq!((shop.sessions().await, shop.processes()), (0, Vec::new()));
    assert!(shop.has("items").await && !shop.has("orders").await, "rolled back");
    shop.refuses("migrate shop", &[&format!("{SECOND} was started and never finished")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_countersign_left_behind_is_seen_ended_and_told_by_the_ledger() {
    let mut shop = slow("", "").await;
    drop(shop.scene.bot.take());
    let process = Process::start(&shop.scene).await;
    let card = shop.runs("migrate shop").await;
    shop.scene.until(&card, "1 of 2 applied").await;
    found("the sleep", async || (shop.ledger().await.len() == 2).then_some(())).await;
    let asked = shop.running().await;
    process.kill().await;
    let _again = Process::start(&shop.scene).await;
    shop.scene.until(&card, "it is being watched and will not be repeated").await;
    assert_eq!(shop.ledger().await, [format!("{FIRST} applied"), format!("{SECOND} open")]);
    shop.refuses("migrate shop", &["Prisma's lock on shop_", &format!("(countersign #{asked} migration)")])
        .await;
    let jobs = shop.scene.asks(ANA, "jobs").await.plain();
    assert!(jobs.contains(&format!("#{asked}")) && jobs.contains("interrupted"), "it goes on: {jobs}");
    let stopped = shop.scene.asks(ANA, &format!("stop {asked}")).await.plain();
    assert!(stopped.contains("got the signal to end"), "{stopped}");
    let told = shop.scene.until(&card, "1 of 2 migrations applied to ").await.plain();
    assert!(told.contains(&format!("{SECOND} was started and never finished")), "{told}");
    assert!(told.contains("Countersign was interrupted and can't tell how the command ended."), "{told}");
    let run = shop.scene.store().get(asked).await.unwrap().unwrap();
    let started = run.events.iter().filter(|event| event.kind == EventKind::Started).count();
    assert_eq!((run.state, started), (RunState::Partial, 1), "never tried again");
    assert!(!shop.has("orders").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_hears_nothing_is_ended_at_its_time_limit() {
    let shop = slow("deaf", "within = \"3s\"").await;
    let (run, told) = shop.migrates().await;
    assert_eq!(run.state, RunState::Partial, "{told}");
    assert!(
        told.contains("1 of 2 migrations applied to ")
            && told.contains("it was ended at its time limit of 3.0 s"),
        "{told}"
    );
    assert_eq!(shop.ledger().await, [format!("{FIRST} applied"), format!("{SECOND} open")]);
    assert_eq!((shop.sessions().await, shop.processes()), (0, Vec::new()));
    assert!(!shop.has("orders").await);
    let begun = run.events.iter().filter(|event| event.kind == EventKind::Started).count();
    assert_eq!(begun, 1, "never tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_command_prints_of_its_secrets_stays_hidden() {
    let mut shop = quick("leak").await;
    drop(shop.scene.bot.take());
    let process = Process::start(&shop.scene).await;
    let (run, told) = shop.migrates().await;
    assert_eq!(run.state, RunState::Succeeded, "{told}");
    let log = process.log();
    assert!(
        log.contains("listening") && ![PASSWORD, ENCODED, TOKEN].iter().any(|secret| log.contains(secret)),
        "{log}"
    );
    assert!(told.contains("connecting to …") && told.contains("All migrations have been"), "{told}");
    for secret in [PASSWORD, ENCODED, TOKEN, "\u{1b}", "[31m"] {
        assert!(!told.contains(secret), "{secret}: {told}");
    }
    shop.keeps_secrets();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_is_cut_to_its_beginning_and_its_end() {
    let shop = quick("flood").await;
    let (run, told) = shop.migrates().await;
    assert_eq!(run.state, RunState::Succeeded, "{told}");
    assert!(told.contains("x1y2 x1y2 ") && told.contains("MiB left out]"), "{told}");
    assert!(
        told.contains("line 99999") && told.contains("All migrations have been successfully applied."),
        "{told}"
    );
    assert!(told.chars().count() < 5_000, "{} characters", told.chars().count());
    let stored: usize = run.events.iter().flat_map(|event| event.texts.values()).map(String::len).sum();
    assert!(stored < 20_000, "{stored} bytes in the record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_ending_that_did_nothing_is_no_success_and_a_bad_one_that_did_all_says_so() {
    let idle = quick("idle").await;
    let (run, told) = idle.migrates().await;
    assert_eq!(run.state, RunState::Failed, "{told}");
    assert!(
        told.contains("No migration was applied to ")
            && told.contains("Prisma's migration history says otherwise"),
        "{told}"
    );
    assert!(told.contains(&format!("not started {FIRST}")), "{told}");
    assert!(!idle.has("items").await);

    let grumpy = quick("grumpy").await;
    let (run, told) = grumpy.migrates().await;
    assert_eq!(run.state, RunState::Partial, "{told}");
    assert!(told.contains("all that were pending, but the command ended with code 3"), "{told}");
    assert_eq!(grumpy.ledger().await, [format!("{FIRST} applied")]);
}
