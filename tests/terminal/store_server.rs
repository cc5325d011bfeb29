//! The audit log on a PostgreSQL server, as `check` and a start look at it: never one of the targets, and complete.

use crate::harness::{Said, Servers, World};
use crate::store_copy::{on_server, server};
use countersign::demo::free_port;
use countersign::demo::postgres::Cluster;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};

const EXCLUDED: &str = "has the audit log, and Countersign runs no command on that server";

/// A configuration whose audit log is on that server, under another name of its host than the targets'.
async fn world<'s>(targets: &'s Servers, instead: &[(&str, &str)], server: &Cluster) -> World<'s> {
    let place = on_server(server).replace("127.0.0.1", "localhost");
    let instead = [instead, &[("path = \"record.db\"", &place)]].concat();
    let mut world = World::on(targets, "U0ANA", &instead).await;
    world.stage.secrets.insert("RECORDER".into(), "recorder".into());
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_targets_server_is_refused_whatever_its_name() {
    // A database more would be seen by the other tests.
    let servers = Servers::start().await;
    servers.does("postgres", "CREATE ROLE recorder LOGIN PASSWORD 'recorder'").await;
    servers.does("postgres", "CREATE DATABASE audit OWNER recorder").await;
    let same = world(&servers, &[], &servers.cluster).await;
    let started = same.say(&["serve"]).await;
    assert!(started.status == 1 && started.err.contains(EXCLUDED), "{started:?}");
    let checked = same.say(&["check"]).await;
    assert!(checked.status == 1 && checked.flat().contains("has the audit log"), "{checked:?}");
    assert!(checked.flat().contains("Name another server in `[store.postgres]`"), "{checked:?}");
    // Compared at the first connection, too.
    let health = same.runs("health --env staging").await;
    assert!(health.status == 1 && health.flat().contains("has the audit log"), "{health:?}");

    let server = server().await;
    let other = world(&servers, &[], &server).await;
    let health = other.runs("health --env staging").await;
    assert_eq!(health.status, 0, "{health:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_be_reached_stops_no_start() {
    let server = server().await;
    let targets = Servers::shared().await.cluster.port();
    let closed = free_port().unwrap();
    let port = |port: u16| format!("port = {port}");
    let world = world(Servers::shared().await, &[(&port(targets), &port(closed))], &server).await;
    let mut bot = world.program(&["serve"]);
    let mut bot =
        bot.env("RUST_LOG", "countersign=info").stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(bot.stderr.take().unwrap()).lines();
    let listening = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("\"listening\"") {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), listening).await.unwrap());
}

/// What `check` says of this host.
async fn checked(world: &World<'_>) -> Said {
    let said = world.say(&["check", "--only", "host"]).await;
    assert!(!said.out.contains("recorder'"), "{said:?}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn check_looks_at_the_server_and_makes_nothing() {
    let server = server().await;
    let world = world(Servers::shared().await, &[], &server).await;
    let before = checked(&world).await;
    assert!(before.flat().contains("its tables can be created by its user, as `serve` does"), "{before:?}");
    for warning in
        ["there is one copy (synchronous_standby_names is empty)", "fsync is off", "full_page_writes is off"]
    {
        assert!(before.flat().contains(warning), "{warning}: {before:?}");
    }
    let superuser = server.connect("audit").await.unwrap();
    let schema = superuser.query_one("SELECT to_regnamespace('countersign') IS NULL", &[]).await.unwrap();
    assert!(schema.get::<_, bool>(0), "check made the schema");
    assert_eq!(world.say(&["verify"]).await.status, 0);
    let complete = checked(&world).await;
    assert!(complete.status == 0 && complete.flat().contains("can be written by its user"), "{complete:?}");

    superuser.batch_execute("REVOKE UPDATE ON countersign.head FROM recorder").await.unwrap();
    let missing = checked(&world).await;
    assert!(
        missing.status == 1 && missing.flat().contains("misses a privilege: UPDATE ON countersign.head"),
        "{missing:?}"
    );
    assert!(missing.flat().contains("GRANT UPDATE ON countersign.head TO recorder;"), "{missing:?}");
    superuser.batch_execute("ALTER ROLE recorder PASSWORD 'another'").await.unwrap();
    let locked_out = checked(&world).await;
    assert!(locked_out.status == 1 && locked_out.flat().contains("the password is wrong"), "{locked_out:?}");
}
