//! A server of its own, where a login maintains the tables, as in the demo: what every scene of `vacuum`, `reindex` and the
//! like needs.

use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use countersign::demo::fake_slack::Message;
use countersign::demo::postgres::Options;
use countersign::demo::sample::Sample;
use countersign::model::{Run, RunState};
use tokio::sync::OnceCell;
use tokio_postgres::Client;

/// How long a lock is waited for here: REINDEX waits 15 times as long.
pub const LOCK_TIMEOUT: (&str, &str) = ("connections = 12", "connections = 12\nlock_timeout = \"200ms\"");

/// The server that these scenes share: the newest installed one, or the one that `COUNTERSIGN_TEST_PG_BIN` names. Each has a database, one of the services', to itself: REINDEX waits for all of a
/// database.
pub async fn shared() -> &'static Servers {
    static SERVERS: OnceCell<Servers> = OnceCell::const_new();
    SERVERS.get_or_init(start).await
}

pub async fn start() -> Servers {
    let settings = vec![("max_connections".to_owned(), "200".to_owned())];
    let bin_dir = std::env::var_os("COUNTERSIGN_TEST_PG_BIN").map(Into::into);
    let sample = Sample { maintainer: true, ..Sample::light() };
    let (cluster, team) = sample.start(Options { settings, bin_dir, ..Options::default() }).await.unwrap();
    let superuser = cluster.connect("postgres").await.unwrap();
    for role in ["countersign_read", "countersign_act", "countersign_maintain"] {
        superuser.batch_execute(&format!("ALTER ROLE {role} CONNECTION LIMIT -1")).await.unwrap();
    }
    Servers { cluster, team }
}

/// A bot, and the superuser in that service's database.
pub async fn scene(service: &str, instead: Vec<(&str, &str)>) -> (Scene, Client) {
    let servers = shared().await;
    let scene = Scene::with(Twist { servers: Some(servers), instead, ..Twist::default() }).await;
    let superuser = servers.cluster.connect(&database(service)).await.unwrap();
    (scene, superuser)
}

/// Everything around a bot, and the superuser in that service's database.
pub async fn without_bot(service: &str) -> (Scene, Client) {
    let servers = shared().await;
    let scene = Scene::without_bot(Twist { servers: Some(servers), ..Twist::default() }).await;
    let superuser = servers.cluster.connect(&database(service)).await.unwrap();
    (scene, superuser)
}

pub fn database(service: &str) -> String {
    format!("{}_db", service.replace('-', "_"))
}

/// The service's own session there.
pub async fn session(scene: &Scene, service: &str, application: &str) -> (Client, i32) {
    let (found, account) = scene.servers.team.service(service).unwrap();
    scene.session_by(account.login(&found.database, application)).await
}

/// A table of the service's with rows, half of them dead, and an index besides its key.
pub async fn make(superuser: &Client, service: &str, table: &str) {
    let owner = service.replace("-service", "_svc");
    let sql = format!(
        "CREATE TABLE {table} (id int PRIMARY KEY, pad text) WITH (autovacuum_enabled = off);
         INSERT INTO {table} SELECT id, repeat('x', 200) FROM generate_series(1, 4000) id;
         CREATE INDEX ON {table} (pad, id); ALTER TABLE {table} OWNER TO {owner};
         DELETE FROM {table} WHERE id % 2 = 0"
    );
    superuser.batch_execute(&sql).await.unwrap();
}

/// Asks for what runs at once, and waits for its end.
pub async fn asks(scene: &Scene, line: &str) -> Message {
    let card = scene.asks(ANA, &format!("{line} --env production")).await;
    ended(scene, card).await
}

/// The card once nothing runs any more.
pub async fn ended(scene: &Scene, card: Message) -> Message {
    let ended = scene.workspace().wait_for("the end", |workspace| {
        workspace.message(&card.at()).filter(|card| !card.plain().contains("Running"))
    });
    ended.await.unwrap_or_else(|why| panic!("{why}"))
}

/// Asks, and a second person approves: the card of its end.
pub async fn approved(scene: &Scene, line: &str) -> Message {
    let card = scene.asks(ANA, &format!("{line} --env production")).await;
    approves(scene, card).await
}

pub async fn approves(scene: &Scene, card: Message) -> Message {
    scene.click_button(BEN, &card.at(), "Approve").await;
    let over = scene.workspace().wait_for("the end", |workspace| {
        workspace
            .message(&card.at())
            .filter(|card| card.button("Approve").is_none() && !card.plain().contains("Running"))
    });
    over.await.unwrap()
}

/// The last run of a command, once it is running.
pub async fn running(scene: &Scene, command: &str) -> Run {
    found("the run", async || {
        scene.runs_of(command).await.into_iter().find(|run| run.state == RunState::Running)
    })
    .await
}

/// Somebody stops the command that runs, and is told what became of it.
pub async fn stops(scene: &Scene, command: &str) {
    let run = running(scene, command).await;
    let told = scene.asks(BEN, &format!("stop {}", run.id)).await.plain();
    assert!(told.contains(&format!("Run #{} has ended: stopped.", run.id)), "{told}");
}

/// The resource's advisory lock, as another Countersign would hold it.
pub async fn holds(client: &Client, resource: &str) {
    let sql = "SELECT pg_advisory_lock(1129531214, ('x' || left(encode(sha256($1::text::bytea), 'hex'), 8))::bit(32)::int)";
    client.execute(sql, &[&resource]).await.unwrap();
}

pub async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(client: &Client, sql: &str) -> T {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Whoever samples the table's rows, or builds its indexes, waits until the gate opens: dropping it does that.
pub async fn gated(scene: &Scene, service: &str, table: &str) -> Client {
    let holder = scene.servers.cluster.connect(&database(service)).await.unwrap();
    let sql = format!(
        "CREATE FUNCTION gate(id int) RETURNS int IMMUTABLE LANGUAGE plpgsql SET lock_timeout = 0
         AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN id; END';
         CREATE INDEX ON {table} (gate(id)); SELECT pg_advisory_lock(4711)"
    );
    holder.batch_execute(&sql).await.unwrap();
    holder
}
