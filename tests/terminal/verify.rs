//! `countersign verify`: the check of the audit log; and a file of a newer version, which no command touches.

use crate::harness::World;
use countersign::store::Store;

#[tokio::test(flavor = "multi_thread")]
async fn an_intact_audit_log_is_told_from_a_changed_one() {
    let world = World::usual().await;
    let said = world.say(&["verify"]).await;
    assert!(said.status == 1 && said.err.contains("there is no audit log yet"), "{said:?}");
    assert!(!world.directory().join("record.db").exists());
    assert_eq!(world.runs("health --env staging").await.status, 0);
    // The secrets of chat and servers aren't needed.
    let said = world.say(&["verify"]).await;
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out.starts_with("OK: the hash chain has no gap"), "{}", said.out);
    assert!(said.out.contains("Checked: 2 events in 0"), "{}", said.out);
    let head = world.record().events(1, 1).await.unwrap()[0].hash.clone();
    let head: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(said.out.contains(&format!("Last hash: {head}\n")), "{}", said.out);

    let hand = rusqlite::Connection::open(world.directory().join("record.db")).unwrap();
    hand.execute_batch("UPDATE runs SET state = 'denied'").unwrap();
    let said = world.say(&["verify"]).await;
    let words = "CRITICAL: the audit log was changed or is damaged: run 1: its state was changed";
    assert!(said.status == 1 && said.out.starts_with(words), "{said:?}");

    hand.execute_batch("PRAGMA user_version = 77; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    for arguments in [&["verify"][..], &["check", "--only", "host"], &["run", "health", "--env", "staging"]] {
        let said = world.say(arguments).await;
        let told = format!("{} {}", said.flat(), said.err);
        assert!(
            said.status > 0 && told.contains("made by a newer Countersign (schema 77; this one"),
            "{told}"
        );
    }
}
