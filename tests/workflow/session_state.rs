//! A session that ran somebody else's SQL is nobody's afterwards: what it set, locked, created or prepared reaches no other command.

use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use tokio_postgres::Client;

const DATABASE: &str = "asset_service_db";

/// Calls a function of the application's, as an innocent file may.
const CALL: &str = "/* summary = \"Recounts the assets\" */\nSELECT public.recount()";

/// Everything that outlives a transaction.
const POISON: &str = "
    CREATE FUNCTION public.recount() RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE 'SET SESSION search_path = public, pg_catalog';
        EXECUTE 'SET SESSION statement_timeout = 1';
        EXECUTE 'SET SESSION default_transaction_isolation = serializable';
        PERFORM pg_catalog.set_config('TimeZone', 'Asia/Tokyo', false);
        PERFORM pg_catalog.pg_advisory_lock(31337);
        EXECUTE 'CREATE TEMPORARY TABLE pg_stat_activity AS SELECT * FROM pg_catalog.pg_stat_activity LIMIT 0';
        EXECUTE 'LISTEN loot';
        EXECUTE 'PREPARE recount AS SELECT 1';
    END $$;
    CREATE TABLE old_rows (id int PRIMARY KEY, at timestamptz);
    INSERT INTO old_rows VALUES (1, now() - interval '365 days');
    GRANT SELECT, DELETE ON old_rows TO countersign_act";

async fn scene() -> (Scene, Client) {
    let servers = Servers::alone(60).await;
    let read = "/* summary = \"Counts assets\"\ngroup = \"databases\"\nrisk = \"read\"\nscope = \"database\"\n\
        args = [{ name = \"service\", type = \"service\", positional = true, required = true, help = \"one\" }]\n\
        example = \"count-assets asset-service\" */\nSELECT 1 AS one";
    let twist = Twist {
        servers: Some(servers),
        more: "\n[sql]\ndirectory = \"sql\"\n",
        commands: vec![("count-assets.sql", read)],
        ..Twist::default()
    };
    let mut scene = Scene::without_bot(twist).await;
    std::fs::create_dir(scene.directory.path().join("sql")).unwrap();
    std::fs::write(scene.directory.path().join("sql/recount.sql"), CALL).unwrap();
    scene.bot = Some(scene.stage.bot().await.expect("a bot"));
    let superuser = servers.cluster.connect(DATABASE).await.unwrap();
    superuser.batch_execute(POISON).await.unwrap();
    (scene, superuser)
}

async fn none(superuser: &Client, what: &str, sql: &str) {
    found(what, async || superuser.query(sql, &[]).await.unwrap().is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reviewed_file_left_in_its_session_ends_with_it() {
    let (scene, superuser) = scene().await;
    let before = scene
        .asks(ANA, "purge asset-service old_rows --column at --older-than 90d --dry-run --env production");
    let before = before.await.plain();
    assert!(before.contains("1 row"), "{before}");
    let card = scene.card(ANA, "run-sql recount asset-service --env production").await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ran on ").await;
    // A session that is kept would be the next command's.
    for login in ["countersign_act", "countersign_read"] {
        let sessions = format!(
            "SELECT FROM pg_stat_activity WHERE usename = '{login}' AND datname = '{DATABASE}' AND query ~ 'COMMIT|ROLLBACK|recount'"
        );
        none(&superuser, "the end of the session", &sessions).await;
    }
    none(
        &superuser,
        "the lock's release",
        "SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 31337",
    )
    .await;
    let temporary = "SELECT FROM pg_class WHERE relname = 'pg_stat_activity' AND relpersistence = 't'";
    none(&superuser, "the temporary table's end", temporary).await;
    let card =
        scene.card(ANA, "purge asset-service old_rows --column at --older-than 90d --env production").await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    let done = scene.until(&card.at(), "1 row").await.plain();
    none(&superuser, "the row's end", "SELECT FROM old_rows").await;
    assert!(!done.contains("statement timeout"), "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_command_that_reads_ends_its_session() {
    let (scene, superuser) = scene().await;
    let told = scene.asks(ANA, "count-assets asset-service --env production").await.plain();
    assert!(told.contains('1'), "{told}");
    let sessions =
        format!("SELECT FROM pg_stat_activity WHERE usename = 'countersign_read' AND datname = '{DATABASE}'");
    none(&superuser, "the end of the session", &sessions).await;
}
