//! Text is bytes in the encoding of whoever wrote it: one letter of one session must not blind the commands about all others.

use crate::harness::{SOON, World, words};
use countersign::config::Service;
use tokio_postgres::Client;

impl World {
    /// Creates a database in another encoding than the server's, as a service of the same name.
    async fn add_database(&mut self, name: &str, encoding: &str) -> Client {
        let superuser = self.cluster.connect("postgres").await.unwrap();
        let create = format!(
            "CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        );
        superuser.batch_execute(&create).await.unwrap();
        let mut service: Service = self.app.config.services[0].clone();
        (service.name, service.database) = (name.to_owned(), name.to_owned());
        self.change(|config| config.services.push(service)).await;
        let client = self.cluster.connect(name).await.unwrap();
        client.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
        client
    }
}

async fn pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_latin1_blinds_nobody() {
    let mut world = World::start().await;
    let owner = world.add_database("latin", "LATIN1").await;
    owner
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, v text); GRANT ALL ON t TO PUBLIC")
        .await
        .unwrap();
    owner.batch_execute("INSERT INTO t VALUES (1, 'x')").await.unwrap();
    let account = world.team.services[0].1.clone();
    let holder = world.cluster.connect_as(account.login("latin", "café")).await.unwrap();
    let waiter = world.cluster.connect_as(account.login("latin", "naïve")).await.unwrap();
    let (held, waiting) = (pid(&holder).await, pid(&waiter).await);
    holder.batch_execute("BEGIN").await.unwrap();
    holder.batch_execute("UPDATE t SET v = v || 'café crème' WHERE id = 1 -- é").await.unwrap();
    let waits =
        tokio::spawn(async move { waiter.execute("UPDATE t SET v = 'naïve' WHERE id = 1 -- é", &[]).await });

    let blocked = world.until("blocked", |answer| words(answer).contains(&waiting.to_string())).await;
    assert!(words(&blocked).contains(&held.to_string()), "{}", words(&blocked));
    world.until("long --over 1s", |answer| words(answer).contains(&waiting.to_string())).await;
    world.until("idle --over 1s", |answer| words(answer).contains(&held.to_string())).await;
    let locks = world.told(&format!("locks {held}")).await;
    assert!(locks.contains("UPDATE t SET v = v || '?' WHERE id = 1"), "{locks}");
    let long = world.told("long --over 1s").await;
    assert!(long.contains("UPDATE t SET v = '?' WHERE id = 1"), "{long}");

    for typed in [format!("kill {held}"), format!("cancel {waiting}")] {
        let plan = world.plan(&typed).await.unwrap_or_else(|error| panic!("{typed}: {error}"));
        let (_, code) = plan.code.unwrap_or_default();
        assert!(code.starts_with("UPDATE t SET v = "), "{typed}: {code}");
    }
    drop(holder);
    tokio::time::timeout(SOON, waits).await.unwrap().unwrap().unwrap();
}

/// The database from which sessions are looked at can't convert what others write.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_shown_whatever_the_encoding_of_the_maintenance_database() {
    let mut world = World::start().await;
    let superuser = world.cluster.connect("asset_service_db").await.unwrap();
    let create = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x'); GRANT ALL ON t TO PUBLIC";
    superuser.batch_execute(create).await.unwrap();
    let account = world.team.services[0].1.clone();
    let holder = world.cluster.connect_as(account.login("asset_service_db", "holds")).await.unwrap();
    let waiter = world.cluster.connect_as(account.login("asset_service_db", "waits")).await.unwrap();
    let (held, waiting) = (pid(&holder).await, pid(&waiter).await);
    holder.batch_execute("BEGIN").await.unwrap();
    holder.batch_execute("UPDATE t SET v = 'a' WHERE id = 1 -- 表 Ида é").await.unwrap();
    let waits = tokio::spawn(async move {
        waiter.execute("UPDATE t SET v = 'b' WHERE id = 1 -- 表 Ида é", &[]).await
    });
    for encoding in ["LATIN1", "WIN1251", "EUC_JP"] {
        let name = format!("in_{}", encoding.to_lowercase());
        drop(world.add_database(&name, encoding).await);
        world
            .change(|config| {
                for environment in &mut config.environments {
                    environment.maintenance_database.clone_from(&name);
                }
            })
            .await;
        let blocked = world.until("blocked", |answer| words(answer).contains(&waiting.to_string())).await;
        assert!(words(&blocked).contains(&held.to_string()), "{encoding}: {}", words(&blocked));
        world.until("long --over 1s", |answer| words(answer).contains(&waiting.to_string())).await;
        world.until("idle --over 1s", |answer| words(answer).contains(&held.to_string())).await;
        let locks = world.told(&format!("locks {held}")).await;
        assert!(locks.contains("UPDATE t SET v = '?' WHERE id = 1"), "{encoding}: {locks}");
        world.plan(&format!("kill {held}")).await.unwrap_or_else(|error| panic!("{encoding}: {error}"));
    }
    drop(holder);
    tokio::time::timeout(SOON, waits).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_is_no_utf_8_costs_nobody_the_statistics() {
    let mut world = World::start().await;
    let ascii = world.add_database("ascii", "SQL_ASCII").await;
    world.work().await;
    // A client that sends bytes as they are, as every client of an SQL_ASCII database may.
    let nested = r"SET pg_stat_statements.track = 'all';
        DO $$ BEGIN EXECUTE 'CREATE TABLE caf' || convert_from('\xe9', 'SQL_ASCII') || ' AS SELECT 1 AS r' || convert_from('\xe9', 'SQL_ASCII');
                    EXECUTE 'SELECT count(*) AS caf' || convert_from('\xe9', 'SQL_ASCII') || ' FROM pg_class'; END $$";
    ascii.batch_execute(nested).await.unwrap();

    // A database in UTF-8 that has nothing to do with it.
    let slow = world.told("slow asset-service").await;
    assert!(slow.starts_with("NEUTRAL: asset-service: one statement takes "), "{slow}");
    assert!(slow.contains("No text can be shown: that of one statement"), "{slow}");
    // The database itself has nothing to convert.
    let slow = world.told("slow ascii").await;
    assert!(slow.contains("CREATE EXTENSION pg_stat_statements"), "{slow}");
    let sizes = world.told("sizes ascii").await;
    assert!(sizes.contains("caf\u{fffd}"), "{sizes}");
    // The bad text is gone, and the texts are back.
    ascii.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    world.work().await;
    let slow = world.told("slow asset-service").await;
    assert!(slow.contains("SELECT ") && !slow.contains("No text can be shown"), "{slow}");
}
