//! `countersign store copy`: an audit log that moves to a server and back, and a copy that is killed in the middle.

use crate::harness::World;
use countersign::demo::postgres::{Cluster, Options};
use countersign::store::Store;
use tokio_postgres::Client;

const TO_SERVER: [&str; 6] = ["store", "copy", "--from", "countersign.toml", "--to", "server.toml"];
const TO_FILE: [&str; 6] = ["store", "copy", "--from", "server.toml", "--to", "back.toml"];

/// A server for audit logs.
pub async fn server() -> Cluster {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let superuser = cluster.connect("postgres").await.unwrap();
    for sql in ["CREATE ROLE recorder LOGIN PASSWORD 'recorder'", "CREATE DATABASE audit OWNER recorder"] {
        superuser.batch_execute(sql).await.unwrap();
    }
    cluster
}

/// The place of an audit log on that server, in a configuration.
pub fn on_server(server: &Cluster) -> String {
    format!(
        "[store.postgres]\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"audit\"\nuser = \"recorder\"\n\
         password = {{ env = \"RECORDER\" }}\ntls = \"off\"\n",
        server.port()
    )
}

/// An audit log in a file with one run, and the configurations of the other two places.
async fn world(server: &Cluster) -> World<'static> {
    let mut world = World::usual().await;
    world.stage.secrets.insert("RECORDER".into(), "recorder".into());
    for (name, place) in [("server.toml", on_server(server).as_str()), ("back.toml", "path = \"back.db\"")] {
        let config = world.stage.config.replace("path = \"record.db\"", place);
        std::fs::write(world.directory().join(name), config).unwrap();
    }
    assert_eq!(world.runs("pending").await.status, 0);
    world
}

async fn is_true(client: &Client, condition: &str) -> bool {
    client.query_one(&format!("SELECT {condition}"), &[]).await.unwrap().get(0)
}

async fn until(client: &Client, condition: &str) {
    while !is_true(client, condition).await {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

const WAITS: &str = "EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND application_name = 'countersign')";
const GONE: &str = "NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'countersign')";

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_log_moves_to_a_server_and_back() {
    let server = server().await;
    let world = world(&server).await;
    let head = world.record().verify().await.unwrap().head;
    for (arguments, config) in [(&TO_SERVER, "server.toml"), (&TO_FILE, "back.toml")] {
        let copied = world.say(arguments).await;
        assert_eq!((copied.status, copied.err.as_str()), (0, ""), "{copied:?}");
        assert!(copied.out.starts_with("OK: the audit log was copied, and the hash chain of both sides is"));
        for words in
            ["Runs: 1. Events: 2. ", &format!("Last hash: {head}\n"), &format!("serve --config {config}`")]
        {
            assert!(copied.out.contains(words), "{words}: {}", copied.out);
        }
        let verified = world.say(&["verify", "--config", config]).await;
        assert!(verified.out.contains(&format!("Last hash: {head}\n")), "{verified:?}");
        let again = world.say(arguments).await;
        assert!(
            again.status == 0 && again.out.starts_with("OK: the target already has this audit log"),
            "{again:?}"
        );
    }
    let same = world.say(&["store", "copy", "--from", "countersign.toml", "--to", "countersign.toml"]).await;
    assert!(same.status == 1 && same.err.contains("name the same audit log"), "{same:?}");
    let history = world.say(&["run", "--config", "back.toml", "history", "--reads"]).await;
    assert!(history.status == 0 && history.flat().contains("pending"), "{history:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_killed_leaves_an_empty_audit_log() {
    let server = server().await;
    let world = world(&server).await;
    let [hand, look] = [server.connect("audit").await.unwrap(), server.connect("audit").await.unwrap()];
    // Makes the tables, so that one of them can be locked.
    assert_eq!(world.say(&["verify", "--config", "server.toml"]).await.status, 0);

    hand.batch_execute("BEGIN; LOCK TABLE countersign.event_texts IN SHARE MODE").await.unwrap();
    let mut copy = world.starts(&TO_SERVER);
    until(&look, WAITS).await;
    copy.kill().await.unwrap();
    hand.batch_execute("ROLLBACK").await.unwrap();
    until(&look, GONE).await;
    assert!(is_true(&look, "NOT EXISTS (SELECT FROM countersign.runs)").await);
    assert_eq!(world.say(&TO_SERVER).await.status, 0);

    // Its last table can be counted at once, and read only when this lock is free.
    hand.batch_execute(
        "INSERT INTO countersign.rate_limits VALUES ('slack', '2100-01-01');
         ALTER TABLE countersign.rate_limits RENAME TO kept;
         CREATE FUNCTION countersign.wait() RETURNS text STABLE LANGUAGE plpgsql
             AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN ''''; END';
         CREATE VIEW countersign.rate_limits AS SELECT name || countersign.wait() AS name, ends_at FROM countersign.kept;
         GRANT SELECT ON countersign.rate_limits TO recorder;
         SELECT pg_advisory_lock(1)",
    )
    .await
    .unwrap();
    let mut copy = world.starts(&TO_FILE);
    until(&look, WAITS).await;
    while !world.directory().join("back.db").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    copy.kill().await.unwrap();
    hand.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    until(&look, GONE).await;
    let restored = "DROP VIEW countersign.rate_limits; DROP FUNCTION countersign.wait(); ALTER TABLE countersign.kept RENAME TO rate_limits";
    hand.batch_execute(restored).await.unwrap();
    let verified = world.say(&["verify", "--config", "back.toml"]).await;
    assert!(verified.status == 0 && verified.out.contains("Checked: 0 events"), "{verified:?}");
    let copied = world.say(&TO_FILE).await;
    assert!(copied.status == 0 && copied.out.starts_with("OK: the audit log was copied"), "{copied:?}");
}
