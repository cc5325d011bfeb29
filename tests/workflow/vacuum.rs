//! `vacuum` and `analyze`: done is what PostgreSQL's own times say, not what it answers.

use crate::harness::{ANA, Scene, Servers, Twist, found};
use crate::maintenance_harness::{self, asks};
use countersign::model::RunState;
use tokio_postgres::Client;

const DATABASE: &str = "asset_service_db";

/// A server of its own, where the operator is a member of the tables' owner.
async fn scene() -> (Scene, Client) {
    let servers = Servers::alone(60).await;
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    let superuser = servers.cluster.connect(DATABASE).await.unwrap();
    superuser
        .batch_execute(
            "ALTER TABLE audit_logs SET (autovacuum_enabled = off); GRANT asset_svc TO countersign_act",
        )
        .await
        .unwrap();
    (scene, superuser)
}

async fn last(client: &Client, column: &str, relation: &str) -> Option<String> {
    let sql = format!("SELECT {column}::text FROM pg_stat_all_tables WHERE relid = $1::text::regclass");
    client.query_one(&sql, &[&relation]).await.unwrap().get(0)
}

async fn dead(client: &Client, relation: &str) -> i64 {
    let sql = "SELECT pg_stat_get_dead_tuples($1::text::regclass)";
    client.query_one(sql, &[&relation]).await.unwrap().get(0)
}

/// Deletes rows, and waits until PostgreSQL counts them as dead.
async fn leaves_dead_rows(client: &Client) -> i64 {
    client.batch_execute("ANALYZE audit_logs").await.unwrap();
    let before = dead(client, "audit_logs").await;
    let deleted = client.execute("DELETE FROM audit_logs WHERE id % 3 = 0", &[]).await.unwrap() as i64;
    assert!(deleted > 0);
    found("dead rows", async || (dead(client, "audit_logs").await >= before + deleted).then_some(())).await;
    deleted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_is_told_so_before_anything_is_called_done() {
    let servers = Servers::alone(60).await;
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    let superuser = servers.cluster.connect(DATABASE).await.unwrap();
    for (line, words) in [
        (
            "vacuum asset-service audit_logs",
            "doesn't let countersign_act maintain its tables, such as public.audit_logs, which belongs to asset_svc",
        ),
        (
            "vacuum asset-service",
            "which belongs to asset_svc.\nA role that may do so runs GRANT asset_svc TO countersign_act",
        ),
        (
            "analyze asset-service audit_logs",
            "doesn't let countersign_act maintain its tables, such as public.audit_logs",
        ),
    ] {
        let told = asks(&scene, line).await.plain();
        assert!(told.contains(words) && told.contains("maintain"), "{line}: {told}");
    }
    assert_eq!(last(&superuser, "last_vacuum", "audit_logs").await, None);
    assert!(scene.runs_of("vacuum").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_between_the_card_and_the_click_is_told_afterwards() {
    let servers = Servers::alone(60).await;
    let more = "[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"vacuum\"]\nsecond_person = true\n";
    let scene = Scene::with(Twist { servers: Some(servers), more, ..Twist::default() }).await;
    let superuser = servers.cluster.connect(DATABASE).await.unwrap();
    superuser.batch_execute("GRANT asset_svc TO countersign_act").await.unwrap();
    let card = scene.card(ANA, "vacuum asset-service audit_logs --env production").await;
    superuser.batch_execute("REVOKE asset_svc FROM countersign_act").await.unwrap();
    let told = maintenance_harness::approves(&scene, card).await.plain();
    assert!(told.contains("public.audit_logs was not vacuumed and analyzed."), "{told}");
    // In the words of its version.
    let warns = ["permission denied to vacuum", "only table or database owner can vacuum it"];
    assert!(
        told.contains("PostgreSQL skipped it: ") && warns.iter().any(|words| told.contains(words)),
        "{told}"
    );
    assert_eq!(last(&superuser, "last_vacuum", "audit_logs").await, None);
    assert_eq!(scene.only_run("vacuum").await.state, RunState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_others_are_left_out_and_the_answer_says_so() {
    let (scene, superuser) = scene().await;
    let others = "CREATE TABLE foreign_one (id int); CREATE ROLE elsewhere; ALTER TABLE foreign_one OWNER TO elsewhere";
    superuser.batch_execute(others).await.unwrap();
    for (command, past) in [("vacuum", "vacuumed and analyzed"), ("analyze", "analyzed")] {
        let dry =
            scene.asks(ANA, &format!("{command} asset-service --env production --dry-run")).await.plain();
        for words in ["1 table is left out: ", "left out public.foreign_one (elsewhere)"] {
            assert!(dry.contains(words), "{words}: {dry}");
        }
        let told = asks(&scene, &format!("{command} asset-service")).await.plain();
        assert!(told.contains(&format!(" tables are {past}, in ")), "{told}");
        assert!(told.contains(" may not maintain them: public.foreign_one (elsewhere)."), "{told}");
        assert_eq!(last(&superuser, &format!("last_{command}"), "foreign_one").await, None);
        // Each table of the others' list stands in the answer with its fate.
        for table in ["public.assets", "public.audit_logs", "public.\"User\""] {
            assert!(
                told.lines().any(|line| line.contains(table) && line.contains("done")),
                "{table}: {told}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_vacuum_back_is_said_first() {
    let (scene, superuser) = scene().await;
    let dry = "vacuum asset-service audit_logs --env production --dry-run";
    let told = scene.asks(ANA, dry).await.plain();
    assert!(!told.contains("VACUUM can't remove"), "{told}");
    let (reader, pid) = scene.session("asset-report").await;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM assets").await.unwrap();
    let old = format!(
        "SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND clock_timestamp() - xact_start > interval '1 s'"
    );
    found("an old transaction", async || superuser.query_opt(&old, &[]).await.unwrap()).await;
    let words = format!(
        "VACUUM can't remove dead rows that are newer than session {pid} (asset-report, idle in transaction), open for "
    );
    let told = scene.asks(ANA, dry).await.plain();
    assert!(told.contains(&words), "{told}");
    let told = scene.asks(ANA, "analyze asset-service audit_logs --env production --dry-run").await.plain();
    assert!(!told.contains("VACUUM can't remove"), "{told}");

    // Before it begins, where it is asked for.
    let (owner, _) = scene.session("asset-worker-7").await;
    owner.batch_execute("BEGIN; LOCK TABLE audit_logs IN SHARE MODE").await.unwrap();
    let card = scene.asks(ANA, "vacuum asset-service audit_logs --env production").await;
    assert!(
        card.plain().contains(&format!(
            "Running: Vacuums and analyzes public.audit_logs of {DATABASE} in production. {words}"
        )),
        "{}",
        card.plain()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_vacuumed_when_postgresql_says_so_and_what_is_held_back_is_told() {
    let (scene, superuser) = scene().await;
    leaves_dead_rows(&superuser).await;
    let told = asks(&scene, "vacuum asset-service audit_logs").await.plain();
    assert!(told.contains("public.audit_logs is vacuumed and analyzed, in "), "{told}");
    assert!(told.contains(" before, 0 now."), "{told}");
    assert_eq!(dead(&superuser, "audit_logs").await, 0);
    let first = last(&superuser, "last_vacuum", "audit_logs").await.expect("a vacuum");
    assert!(last(&superuser, "last_analyze", "audit_logs").await.is_some());
    assert_eq!(scene.only_run("vacuum").await.state, RunState::Succeeded);

    // A snapshot from before keeps them.
    let (reader, pid) = scene.session("asset-report").await;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM assets").await.unwrap();
    let deleted = superuser.execute("DELETE FROM audit_logs WHERE id % 3 = 1", &[]).await.unwrap();
    let told = asks(&scene, "vacuum asset-service audit_logs").await.plain();
    assert!(told.contains("is vacuumed and analyzed"), "{told}");
    assert!(
        told.contains(&format!(
            "The remaining dead rows are newer than session {pid} (asset-report, idle in transaction)"
        )),
        "{told}"
    );
    assert!(dead(&superuser, "audit_logs").await >= deleted as i64);
    assert!(last(&superuser, "last_vacuum", "audit_logs").await.expect("a vacuum") > first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_skipped_and_not_called_done() {
    let (scene, superuser) = scene().await;
    let (owner, _) = scene.session("asset-worker-7").await;
    owner.batch_execute("BEGIN; LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let told = asks(&scene, "vacuum asset-service audit_logs").await.plain();
    assert!(told.contains("public.audit_logs was not vacuumed and analyzed."), "{told}");
    assert!(told.contains("PostgreSQL skipped it: ") && told.contains("lock not available"), "{told}");
    assert_eq!(last(&superuser, "last_vacuum", "audit_logs").await, None);
    let told = asks(&scene, "analyze asset-service audit_logs").await.plain();
    assert!(told.contains("public.audit_logs was not analyzed."), "{told}");

    let told = asks(&scene, "vacuum asset-service").await.plain();
    assert!(
        told.contains(" tables are vacuumed and analyzed, in ") && told.contains("the others are below"),
        "{told}"
    );
    assert!(told.contains("public.audit_logs") && told.contains("lock not available"), "{told}");
    assert!(last(&superuser, "last_vacuum", "assets").await.is_some());
    assert_eq!(scene.runs_of("vacuum").await[0].state, RunState::Partial);
    owner.batch_execute("ROLLBACK").await.unwrap();
    let told = asks(&scene, "analyze asset-service").await.plain();
    assert!(told.contains(" tables are analyzed, in ") && !told.contains("below"), "{told}");
    assert!(last(&superuser, "last_analyze", "audit_logs").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_every_kind_find_their_table_or_what_to_type() {
    let (scene, superuser) = scene().await;
    superuser
        .batch_execute(
            "CREATE SCHEMA \"Analytics\" AUTHORIZATION asset_svc;
             CREATE TABLE \"Analytics\".assets (id int); ALTER TABLE \"Analytics\".assets OWNER TO asset_svc;
             CREATE TABLE \"odd.name\" (id int); ALTER TABLE \"odd.name\" OWNER TO asset_svc;
             CREATE TABLE parted (id int) PARTITION BY RANGE (id); ALTER TABLE parted OWNER TO asset_svc;
             CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (9); ALTER TABLE parted_1 OWNER TO asset_svc;
             INSERT INTO parted SELECT generate_series(1, 8)",
        )
        .await
        .unwrap();
    for (typed, words) in [
        ("assets", "“assets” can be \"Analytics\".assets or public.assets."),
        ("asets", "asset_service_db has no table “asets”."),
        ("\"x; DROP TABLE assets\"", "has no table “x; DROP TABLE assets”."),
    ] {
        let told = asks(&scene, &format!("vacuum asset-service {typed}")).await.plain();
        assert!(told.contains(words), "{typed}: {told}");
    }
    assert!(scene.runs_of("vacuum").await.is_empty());
    for (typed, relation) in [
        ("public.assets", "public.assets"),
        ("Analytics.assets", "\"Analytics\".assets"),
        ("user", "public.\"User\""),
        ("odd.name", "public.\"odd.name\""),
    ] {
        let told = asks(&scene, &format!("vacuum asset-service {typed}")).await.plain();
        assert!(told.contains(&format!("{relation} is vacuumed and analyzed")), "{typed}: {told}");
        assert!(last(&superuser, "last_vacuum", relation).await.is_some(), "{typed}");
    }
    let told = asks(&scene, "vacuum asset-service parted").await.plain();
    assert!(told.contains("public.parted is vacuumed and analyzed"), "{told}");
    assert!(last(&superuser, "last_vacuum", "parted_1").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_a_second_one_is_refused_and_a_cancelled_one_is_not_done() {
    let (scene, superuser) = scene().await;
    let slow = "ALTER ROLE countersign_act SET vacuum_cost_delay = '100ms'; ALTER ROLE countersign_act SET vacuum_cost_limit = 1";
    superuser.batch_execute(slow).await.unwrap();
    superuser
        .batch_execute(
            "CREATE TABLE big WITH (autovacuum_enabled = off) AS SELECT id, repeat('x', 900) AS pad FROM generate_series(1, 9000) id;
             ALTER TABLE big OWNER TO asset_svc; DELETE FROM big WHERE id % 2 = 0",
        )
        .await
        .unwrap();
    let card = scene.asks(ANA, "vacuum asset-service big --env production").await;
    scene.until(&card.at(), "public.big: scanning heap").await;
    let second = scene.asks(ANA, "vacuum asset-service big --env production").await.plain();
    assert!(
        second.contains("already holds the lock on maintenance of asset_service_db: public.big"),
        "{second}"
    );
    let sql = "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum";
    assert!(superuser.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
    let told = scene.until(&card.at(), "public.big was not vacuumed and analyzed.").await.plain();
    assert!(told.contains("PostgreSQL refused: ") && told.contains("57014"), "{told}");
    assert_eq!(last(&superuser, "last_vacuum", "big").await, None);
    assert_eq!(scene.only_run("vacuum").await.state, RunState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_keeps_the_tables_that_are_done_and_begins_no_other() {
    let (scene, superuser) = maintenance_harness::scene("analytics-service", Vec::new()).await;
    let slow =
        "ALTER ROLE countersign_maintain IN DATABASE analytics_service_db SET vacuum_cost_delay = '100ms';
                ALTER ROLE countersign_maintain IN DATABASE analytics_service_db SET vacuum_cost_limit = 1";
    superuser.batch_execute(slow).await.unwrap();
    superuser
        .batch_execute(
            "CREATE TABLE aaa WITH (autovacuum_enabled = off) AS SELECT 1 AS id; ALTER TABLE aaa OWNER TO analytics_svc;
             CREATE TABLE aab WITH (autovacuum_enabled = off) AS SELECT id, repeat('x', 900) AS pad FROM generate_series(1, 9000) id;
             ALTER TABLE aab OWNER TO analytics_svc; DELETE FROM aab WHERE id % 2 = 0;
             DROP SCHEMA \"Analytics\" CASCADE",
        )
        .await
        .unwrap();
    for (command, past, phase) in [
        ("vacuum", "vacuumed and analyzed", "scanning heap"),
        ("analyze", "analyzed", "acquiring sample rows"),
    ] {
        let column = format!("last_{command}");
        let rest = last(&superuser, &column, "audit_logs").await;
        let card = scene.asks(ANA, &format!("{command} analytics-service --env production")).await;
        scene.until(&card.at(), &format!("public.aab, table 5 of 6: {phase}")).await;
        maintenance_harness::stops(&scene, command).await;
        let words = format!("Stopped: 4 of 6 tables {past}, public.aab was interrupted, 1 not started.");
        let told = scene.until(&card.at(), &words).await.plain();
        let kept = told.contains("Dead rows removed before the stop stay removed");
        assert_eq!(kept, command == "vacuum", "{told}");
        assert_eq!(scene.runs_of(command).await[0].state, RunState::Stopped);
        assert!(last(&superuser, &column, "aaa").await.is_some());
        assert_eq!(last(&superuser, &column, "aab").await, None);
        assert_eq!(last(&superuser, &column, "audit_logs").await, rest);
    }
    maintenance_harness::holds(&superuser, "maintenance of analytics_service_db: public.aaa").await;
    let told = asks(&scene, "analyze analytics-service aaa").await.plain();
    assert!(
        told.contains("public.aaa was not analyzed.")
            && told.contains("Another Countersign instance holds the lock"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_and_quotes_of_every_kind_are_found_as_they_are_typed() {
    let (scene, superuser) = scene().await;
    for name in ["Über", "Grün", "we\"ird", "Old \"stuff\" it's"] {
        let quoted = name.replace('"', "\"\"");
        let sql = format!("CREATE TABLE \"{quoted}\" (id int); ALTER TABLE \"{quoted}\" OWNER TO asset_svc");
        superuser.batch_execute(&sql).await.unwrap();
    }
    superuser.batch_execute("CREATE VIEW seen AS SELECT 1").await.unwrap();
    for (typed, relation) in [
        ("Über", "public.\"Über\""),
        ("public.Über", "public.\"Über\""),
        ("Grün", "public.\"Grün\""),
        ("we\"ird", "public.\"we\"\"ird\""),
        ("\"we\"\"ird\"", "public.\"we\"\"ird\""),
        ("\"old stuff it's\"", "public.\"Old \"\"stuff\"\" it's\""),
    ] {
        let told = asks(&scene, &format!("vacuum asset-service {typed}")).await.plain();
        assert!(told.contains(&format!("{relation} is vacuumed and analyzed")), "{typed}: {told}");
        assert!(last(&superuser, "last_vacuum", relation).await.is_some(), "{typed}");
    }
    let told = asks(&scene, "vacuum asset-service we\"irt").await.plain();
    assert!(told.contains("Did you mean we\"ird?"), "{told}");
    // The owner of a table chooses its name, and no button.
    superuser.batch_execute("CREATE TABLE \"zed`blocked`\" (id int)").await.unwrap();
    let told = asks(&scene, "vacuum asset-service zedblocket").await;
    assert!(told.plain().contains("Did you mean zedblocked?"), "{}", told.plain());
    assert!(told.button("Approve").is_none(), "{}", told.plain());
    let told = asks(&scene, "vacuum asset-service seen").await.plain();
    assert!(told.contains("public.seen of asset_service_db is a view, not a table."), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_beside_work_that_is_done_is_advice() {
    let (scene, superuser) = scene().await;
    // PostgreSQL warns so while it samples the rows of an index's expression, as it does near a wraparound.
    let sql = "CREATE FUNCTION warns(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql
           AS 'BEGIN RAISE WARNING ''oldest xmin is far in the past''; RETURN n; END';
         CREATE TABLE warned (id int); ALTER TABLE warned OWNER TO asset_svc; INSERT INTO warned SELECT generate_series(1, 20);
         CREATE INDEX ON warned (warns(id))";
    superuser.batch_execute(sql).await.unwrap();
    let told = asks(&scene, "vacuum asset-service warned").await.plain();
    assert!(told.contains("public.warned is vacuumed and analyzed, in "), "{told}");
    assert!(told.contains("PostgreSQL warns: oldest xmin is far in the past"), "{told}");
    assert!(last(&superuser, "last_analyze", "warned").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_many_tables_is_listed_within_a_short_statement_timeout() {
    let servers = Servers::alone(60).await;
    // A join of every table with every relation takes longer.
    let instead = vec![("connections = 12", "connections = 12\nstatement_timeout = \"2s\"")];
    let scene = Scene::with(Twist { servers: Some(servers), instead, ..Twist::default() }).await;
    let superuser = servers.cluster.connect(DATABASE).await.unwrap();
    let sql = "GRANT asset_svc TO countersign_act; CREATE SCHEMA many AUTHORIZATION asset_svc; SET ROLE asset_svc;
         DO $$ BEGIN FOR n IN 1..1500 LOOP EXECUTE format('CREATE TABLE many.t%s (id serial PRIMARY KEY, a int UNIQUE, b int UNIQUE)', n); END LOOP; END $$";
    superuser.batch_execute(sql).await.unwrap();
    let told = scene.asks(ANA, "vacuum asset-service --env production --dry-run").await.plain();
    assert!(told.contains("Vacuums and analyzes 15"), "{told}");
    let told = scene.asks(ANA, "vacuum asset-service nosuch --env production").await.plain();
    assert!(told.contains("asset_service_db has no table “nosuch”."), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_table_is_analyzed_where_it_is_named() {
    let (scene, superuser) = scene().await;
    let sql = "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
         CREATE FOREIGN TABLE remote (line text) SERVER files OPTIONS (filename '/etc/passwd'); ALTER FOREIGN TABLE remote OWNER TO asset_svc";
    superuser.batch_execute(sql).await.unwrap();
    let told = asks(&scene, "analyze asset-service remote").await.plain();
    assert!(told.contains("public.remote is analyzed, in "), "{told}");
    let told = asks(&scene, "vacuum asset-service remote").await.plain();
    assert!(told.contains("public.remote of asset_service_db is a foreign table, not a table."), "{told}");
}

/// A database in SQL_ASCII may have names that are no UTF-8, which no statement of ours can have.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_name_is_no_utf_8_is_told_as_what_it_is() {
    let servers = Servers::alone(60).await;
    let superuser = servers.cluster.connect("postgres").await.unwrap();
    let create = "CREATE DATABASE asset_service_db ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0 OWNER asset_svc";
    for sql in ["DROP DATABASE asset_service_db WITH (FORCE)", create] {
        superuser.batch_execute(sql).await.unwrap();
    }
    superuser.batch_execute("GRANT asset_svc TO countersign_act").await.unwrap();
    let ascii = servers.cluster.connect(DATABASE).await.unwrap();
    let tables = r"SET ROLE asset_svc; CREATE TABLE plain (id int);
        DO $$ BEGIN EXECUTE 'CREATE TABLE caf' || convert_from('\xe9', 'SQL_ASCII') || ' (id int PRIMARY KEY)';
                    EXECUTE 'CREATE INDEX caf' || convert_from('\xe9', 'SQL_ASCII') || '_plain ON plain (id)'; END $$";
    ascii.batch_execute(tables).await.unwrap();
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    for (command, past) in [("vacuum", "vacuumed and analyzed"), ("analyze", "analyzed")] {
        let plan = asks(&scene, &format!("{command} asset-service --dry-run")).await.plain();
        let kept = "1 table won't be touched, since its name has bytes that aren't UTF-8: ";
        assert!(plan.contains(kept) && plan.contains("caf\u{fffd}"), "{plan}");
        let told = asks(&scene, &format!("{command} asset-service")).await.plain();
        assert!(told.contains(&format!("1 of 2 tables are {past}, in ")), "{told}");
        let why = "its name has bytes that aren't UTF-8, so Countersign can't name it: not touched.";
        assert!(told.lines().any(|line| line.contains("caf\u{fffd}") && line.contains(why)), "{told}");
        let told =
            scene.asks(ANA, &format!("{command} asset-service caf\u{fffd} --env production")).await.plain();
        let why = "The name of caf\u{fffd} in asset_service_db has bytes that aren't UTF-8, so Countersign can't name it.";
        assert!(told.contains(why) && told.contains("Rename it with psql"), "{told}");
    }
    let plan = asks(&scene, "reindex asset-service plain --dry-run").await.plain();
    assert!(
        plan.contains("1 index won't be touched, since its name has bytes that aren't UTF-8: "),
        "{plan}"
    );
    let told = asks(&scene, "reindex asset-service plain").await.plain();
    let why = "Its name has bytes that aren't UTF-8, so Countersign can't name it: not touched.";
    assert!(told.contains(why), "{told}");
    assert!(last(&ascii, "last_vacuum", "plain").await.is_some());
    let touched = "SELECT count(*) FROM pg_stat_user_tables WHERE relname <> 'plain' AND (last_vacuum IS NOT NULL OR last_analyze IS NOT NULL)";
    assert_eq!(ascii.query_one(touched, &[]).await.unwrap().get::<_, i64>(0), 0);
}
