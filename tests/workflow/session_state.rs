//! A session that ran somebody else's SQL is nobody's afterwards: what it set, locked, created or prepared reaches no other command.

use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use crate::maintenance_harness::approves;
use countersign::model::RunState;
use std::collections::BTreeSet;
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

/// Kinds of state that outlive a transaction: what leaves it in a session, and what tells that this session has it.
const KINDS: [(&str, &str, &str); 8] = [
    ("setting", "EXECUTE 'SET SESSION work_mem = ''77MB'''", "current_setting('work_mem') = '77MB'"),
    (
        "setting by a function",
        "PERFORM set_config('app.left', 'x', false)",
        "current_setting('app.left', true) = 'x'",
    ),
    ("role", "EXECUTE 'SET SESSION ROLE asset_svc'", "current_user <> session_user"),
    (
        "advisory lock",
        "PERFORM pg_advisory_lock(31337)",
        "EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objid = 31337)",
    ),
    ("temporary table", "EXECUTE 'CREATE TEMP TABLE pg_class ()'", "pg_my_temp_schema() <> 0"),
    ("LISTEN", "EXECUTE 'LISTEN loot'", "EXISTS (SELECT FROM pg_listening_channels())"),
    (
        "prepared statement",
        "EXECUTE 'PREPARE left_over AS SELECT 1'",
        "EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'left_over')",
    ),
    (
        "cursor",
        "EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'",
        "EXISTS (SELECT FROM pg_cursors WHERE is_holdable)",
    ),
];

/// Functions of the application's: one leaves all kinds, one writes down which of them it finds. A trigger calls them, too.
fn functions() -> String {
    let leave: String = KINDS.iter().map(|(_, leave, _)| format!("{leave};\n")).collect();
    let look = |(kind, _, has): &(&str, &str, &str)| {
        format!("INSERT INTO public.seen SELECT '{kind}' WHERE {has};\n")
    };
    let look: String = KINDS.iter().map(look).collect();
    format!(
        "CREATE TABLE seen (kind text); CREATE TABLE looked (at timestamptz);
         CREATE FUNCTION leave() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {leave} END $$;
         CREATE FUNCTION look() RETURNS void LANGUAGE plpgsql AS
         $$ BEGIN {look} INSERT INTO public.looked VALUES (now()); END $$;
         CREATE FUNCTION calls() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF old.id = 1 THEN PERFORM public.leave(); ELSE PERFORM public.look(); END IF;
             RETURN old;
         END $$;
         CREATE TABLE kept (id int PRIMARY KEY, at timestamptz);
         CREATE TRIGGER calls BEFORE DELETE ON kept FOR EACH ROW EXECUTE FUNCTION calls();
         GRANT asset_svc TO countersign_act; GRANT ALL ON kept, seen, looked TO countersign_act, asset_svc"
    )
}

/// The commands that call code of the application's: in a reviewed file, and by a trigger.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    File,
    Trigger,
}

impl Way {
    /// Has that function called, by a command that a second person approves.
    async fn calls(self, scene: &Scene, superuser: &Client, function: &str) {
        let id = if function == "leave" { 1 } else { 2 };
        let row = format!("INSERT INTO kept VALUES ({id}, now() - interval '365 days')");
        let (command, arguments) = match self {
            Way::File => ("run-sql", format!("{function} asset-service")),
            Way::Trigger => ("purge", "asset-service kept --column at --older-than 90d".to_owned()),
        };
        if self == Way::Trigger {
            superuser.batch_execute(&row).await.unwrap();
        }
        let card = scene.card(ANA, &format!("{command} {arguments} --env production")).await;
        let told = approves(scene, card).await.plain();
        let run = scene.runs_of(command).await.into_iter().max_by_key(|run| run.id);
        assert_eq!(run.map(|run| run.state), Some(RunState::Succeeded), "{self:?} of {function}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_command_finds_nothing_of_any_kind() {
    let (scene, superuser) = scene().await;
    superuser.batch_execute(&functions()).await.unwrap();
    for name in ["leave", "look"] {
        let text = format!("/* summary = \"Calls the application\" */\nSELECT public.{name}()");
        std::fs::write(scene.directory.path().join(format!("sql/{name}.sql")), text).unwrap();
    }
    let seen = async || {
        let rows = superuser.query("DELETE FROM seen RETURNING kind", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<BTreeSet<String>>()
    };
    // Where a session is kept, all of them are found.
    let login = scene.servers.team.operator.login(DATABASE, "keeps its session");
    let kept = scene.servers.cluster.connect_as(login).await.unwrap();
    for function in ["leave", "look"] {
        kept.batch_execute(&format!("SELECT public.{function}()")).await.unwrap();
    }
    drop(kept);
    assert_eq!(seen().await, KINDS.iter().map(|(kind, ..)| (*kind).to_owned()).collect());
    superuser.batch_execute("DELETE FROM looked").await.unwrap();
    for leaves in [Way::File, Way::Trigger] {
        for looks in [Way::File, Way::Trigger] {
            leaves.calls(&scene, &superuser, "leave").await;
            looks.calls(&scene, &superuser, "look").await;
            assert_eq!(seen().await, BTreeSet::new(), "{leaves:?}, then {looks:?}");
            assert_eq!(superuser.execute("DELETE FROM looked", &[]).await.unwrap(), 1);
        }
    }
}
