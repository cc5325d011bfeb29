//! A migration and the end of the Countersign that began it: watched when it goes on, ended and told when it can't.

use crate::harness::{ANA, found};
use crate::migrate_harness::Shop;
use crate::process::{Process, kinds};
use countersign::model::RunState;
use countersign::store::Store;

const FIRST: &str = "20250101000000_init";
const SECOND: &str = "20250202000000_slow";
const THIRD: &str = "20250303000000_slower";

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_after_a_crash_is_watched_until_the_ledger_tells_its_end() {
    let mut shop = Shop::open("mute", "within = \"4s\"").await;
    shop.writes(FIRST, "CREATE TABLE items (name text);");
    shop.writes(SECOND, "CREATE TABLE orders (id int); SELECT pg_advisory_xact_lock(1);");
    shop.writes(THIRD, "SELECT pg_advisory_xact_lock(2);");
    let (api, pid) = shop.application().await;
    api.batch_execute("SELECT pg_advisory_lock(1), pg_advisory_lock(2)").await.unwrap();
    drop(shop.scene.bot.take());
    let process = Process::start(&shop.scene).await;
    let card = shop.runs("migrate shop").await;
    shop.scene.until(&card, "1 of 3 applied").await;
    let asked = shop.running().await;
    process.kill().await;

    let _again = Process::start(&shop.scene).await;
    let told = shop.scene.until(&card, "1 of 3 applied · its session is pid ").await.plain();
    for words in [
        "What it started may still be running: it is being watched and will not be repeated.",
        &format!("stop {asked} ends it for good"),
        &format!(" for pid {pid} (shop-api, idle for "),
    ] {
        assert!(told.contains(words), "{words} is missing:\n{told}");
    }
    let jobs = shop.scene.asks(ANA, "jobs").await.plain();
    assert!(jobs.contains("interrupted: 1 of 3 applied · its session is pid "), "{jobs}");
    api.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    let told = shop.scene.until(&card, "2 of 3 applied").await.plain();
    assert!(told.contains("66 %"), "{told}");
    shop.scene.until(&card, "Its time limit of 4.0 s passed ").await;
    let told =
        shop.scene.until(&card, &format!("it is no longer ended automatically: type stop {asked}.")).await;
    assert!(told.plain().contains("2 of 3 applied"), "{}", told.plain());
    api.batch_execute("SELECT pg_advisory_unlock(2)").await.unwrap();
    let told = shop.scene.until(&card, "3 of 3 migrations applied to ").await.plain();
    assert!(!told.contains("may still be running") && !told.contains("its session is"), "{told}");
    let run = shop.scene.store().get(asked).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Succeeded, "{told}");
    assert_eq!(kinds(&run), ["requested", "approved", "started", "interrupted", "succeeded"]);
    assert_eq!(shop.ledger().await, [FIRST, SECOND, THIRD].map(|name| format!("{name} applied")));
    let jobs = shop.scene.asks(ANA, "jobs").await.plain();
    assert!(jobs.contains("No runs are in progress."), "{jobs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_told_to_end_ends_a_migration_that_takes_longer_and_says_so() {
    for stand_in in ["", "deaf"] {
        let mut shop = Shop::open(stand_in, "").await;
        shop.writes(FIRST, "CREATE TABLE items (name text);");
        shop.writes(SECOND, "CREATE TABLE orders (id int); SELECT pg_sleep(3600);");
        drop(shop.scene.bot.take());
        let process = Process::start(&shop.scene).await;
        let card = shop.runs("migrate shop").await;
        shop.scene.until(&card, "1 of 2 applied").await;
        found("the sleep", async || (shop.ledger().await.len() == 2).then_some(())).await;
        process.terminate();
        process.ended().await;
        let asked = shop.running().await;
        let run = shop.scene.store().get(asked).await.unwrap().unwrap();
        let verdict = run.text("verdict").unwrap_or_default().to_owned();
        assert_eq!(run.state, RunState::Stopped, "{stand_in}: {verdict}");
        assert!(
            verdict.starts_with("1 of 2 migrations applied to shop_")
                && verdict.ends_with(" when Countersign shut down and ended the command."),
            "{verdict}"
        );
        assert_eq!((shop.sessions().await, shop.processes()), (0, Vec::new()));
        assert!(!shop.has("orders").await, "rolled back");
        let _again = Process::start(&shop.scene).await;
        let told = shop.scene.until(&card, &verdict).await.plain();
        assert!(told.contains(&format!("migrate-resolve shop {SECOND} --as rolled-back")), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_it_waited_for_is_told_when_it_is_ended_at_its_time_limit() {
    let shop = Shop::open("", "within = \"3s\"").await;
    let make = format!("SET ROLE \"{}\"; CREATE TABLE busy (id int); RESET ROLE", shop.owner);
    shop.client.batch_execute(&make).await.unwrap();
    shop.writes(FIRST, "ALTER TABLE busy ADD COLUMN name text;");
    let (api, pid) = shop.application().await;
    api.batch_execute("BEGIN; SELECT * FROM busy").await.unwrap();
    let (run, told) = shop.migrates().await;
    assert_eq!(run.state, RunState::Failed, "{told}");
    for words in [
        "it was ended at its time limit of 3.0 s",
        "Before it ended, it had waited ",
        &format!(" for pid {pid} (shop-api, idle in transaction for "),
        &format!("locks {pid}"),
        &format!("kill {pid}"),
    ] {
        assert!(told.contains(words), "{words} is missing:\n{told}");
    }
    api.batch_execute("COMMIT").await.unwrap();
}
