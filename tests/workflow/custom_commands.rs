//! A team's own command that changes rows: shown whole and counted, approved by a second person, and then exactly that or nothing.

use crate::harness::{ANA, BEN, Scene, Servers, Twist, servers};
use countersign::demo::fake_slack::Message;
use countersign::model::{EventKind, Plan, RunState};
use tokio_postgres::Client;

const TRIM: &str = include_str!("../../deploy/commands/trim-audit-log.sql");

/// An audit log of its own service, with nothing in it.
async fn audit_log(database: &str) -> Client {
    let superuser = servers().await.cluster.connect(database).await.expect("the superuser");
    let empty = "DELETE FROM audit_logs; GRANT DELETE ON audit_logs TO countersign_act";
    superuser.batch_execute(empty).await.expect("an empty table");
    superuser
}

/// Adds a row of each age; ages as PostgreSQL has intervals.
async fn log(client: &Client, action: &str, ages: &[&str]) {
    let sql = "INSERT INTO audit_logs (action, details, created_at)
               SELECT $1, '{\"ip\": \"10.1.2.3\"}', (now() AT TIME ZONE 'UTC') - age::interval FROM unnest($2::text[]) AS age";
    client.execute(sql, &[&action, &ages]).await.expect("rows");
}

async fn left(client: &Client) -> Vec<String> {
    let sql = "SELECT action || ' ' || count(*) FROM audit_logs GROUP BY action ORDER BY action";
    client.query(sql, &[]).await.expect("rows").iter().map(|row| row.get(0)).collect()
}

async fn with(commands: Vec<(&str, &str)>) -> Scene {
    Scene::with(Twist { commands, ..Twist::default() }).await
}

/// What became of a request that ben approved.
async fn approved(scene: &Scene, card: &Message, words: &str) -> String {
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), words).await.plain()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runbooks_clean_up_of_the_audit_log_deletes_exactly_what_its_card_counted() {
    let scene = with(vec![("trim-audit-log.sql", TRIM)]).await;
    let database = audit_log("rights_service_db").await;
    log(&database, "old", &["200 days"; 12]).await;
    log(&database, "just old", &["90 days 1 hour"]).await;
    log(&database, "young", &["89 days 23 hours", "10 days", "0"]).await;
    let card = scene.card(ANA, "trim-audit-log rights --env production --reason \"the disk\"").await;
    let shown = card.plain();
    let sql = TRIM.split("*/").nth(1).unwrap().trim();
    assert!(shown.contains(sql), "the SQL, word for word:\n{shown}");
    for words in [
        "Runs trim-audit-log on rights-service of production. 13 rows change.",
        "role countersign_act",
        "database rights_service_db",
        "login operator",
        "older-than 7776000 s (90 d)",
        "most 10000",
        "asked_at 20",
        "time limit 1 min in all, 2 s for a lock; then nothing is changed",
        "Runs only if it changes 15 rows at most.",
        "Changes by triggers and cascading foreign keys are not counted.",
        "5 of the 13 rows",
        "created_at",
        "the disk",
    ] {
        assert!(shown.contains(words), "{words} is missing:\n{shown}");
    }
    assert!(!shown.contains("10.1.2.3"), "no column that the file doesn't allow:\n{shown}");
    assert_eq!(left(&database).await, ["just old 1", "old 12", "young 3"], "nothing before the approval");
    let told = scene.is_told(ANA, &card.at(), "Approve").await.plain();
    assert!(told.contains("somebody else has to decide"), "{told}");

    // The line was drawn when it was asked for: what grows old while the card waits stays.
    let asked =
        Plan::from_json(scene.only_run("trim-audit-log").await.text("plan").unwrap()).unwrap().created_at;
    let line = asked.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let grown = "INSERT INTO audit_logs (action, details, created_at)
                 VALUES ('grown old', '{}', $1::text::timestamp - interval '90 days')";
    database.execute(grown, &[&line]).await.unwrap();
    let done = approved(&scene, &card, " ran on ").await;
    assert!(done.contains("13 rows changed, in one transaction; the card showed 13 rows."), "{done}");
    assert_eq!(left(&database).await, ["grown old 1", "young 3"]);
    let run = scene.only_run("trim-audit-log").await;
    assert_eq!(run.state, RunState::Succeeded);
    assert_eq!(run.event(EventKind::Succeeded).unwrap().facts["rows"], 13);
    scene
        .refused(
            ANA,
            "trim-audit-log rights --older-than 100d --env production",
            "No row matches on rights-service",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grew_beyond_a_fifth_is_voided_and_what_grew_less_is_done() {
    let scene = with(vec![("trim-audit-log.sql", TRIM)]).await;
    let database = audit_log("payout_service_db").await;
    log(&database, "old", &["200 days"; 10]).await;
    let ask = "trim-audit-log payout --env production";
    let card = scene.card(ANA, ask).await;
    log(&database, "late", &["300 days"; 3]).await;
    let why = "It would change 13 rows now; the card showed 10 rows, and 12 rows may change at most. Nothing was done.";
    approved(&scene, &card, why).await;
    assert_eq!(scene.only_run("trim-audit-log").await.state, RunState::Invalidated);
    assert_eq!(left(&database).await, ["late 3", "old 10"]);

    let card = scene.card(ANA, &format!("{ask} --most 10")).await;
    log(&database, "later", &["400 days"; 3]).await;
    let done = approved(&scene, &card, " ran on ").await;
    assert!(done.contains("10 rows changed"), "never more than asked for: {done}");
    assert_eq!(left(&database).await, ["old 6"], "the oldest first");

    let card = scene.card(ANA, ask).await;
    log(&database, "one more", &["200 days"]).await;
    let done = approved(&scene, &card, " ran on ").await;
    assert!(done.contains("7 rows changed, in one transaction; the card showed 6 rows."), "{done}");
    assert_eq!(left(&database).await, [""; 0]);
}

/// Tables of one test in the maintenance database.
async fn tables(name: &str) -> Client {
    let superuser = servers().await.cluster.connect("postgres").await.expect("the superuser");
    let make = format!(
        "CREATE TABLE {name} (id int PRIMARY KEY);
         CREATE TABLE {name}_child (id int REFERENCES {name} DEFERRABLE INITIALLY IMMEDIATE);
         INSERT INTO {name} SELECT generate_series(1, 5); INSERT INTO {name}_child VALUES (5);
         GRANT SELECT, INSERT, UPDATE, DELETE ON {name}, {name}_child TO countersign_act; GRANT SELECT ON {name} TO countersign_read"
    );
    superuser.batch_execute(&make).await.expect("tables");
    superuser
}

async fn ids(client: &Client, table: &str) -> Vec<i32> {
    let sql = format!("SELECT id FROM {table} ORDER BY id");
    client.query(&sql, &[]).await.expect("ids").iter().map(|row| row.get(0)).collect()
}

/// `act.sql`, which acts on the maintenance database.
fn act(preview: &str, statements: &[&str]) -> String {
    let titled: Vec<String> = statements.iter().map(|sql| format!("-- ## Then\n{sql};\n")).collect();
    format!(
        "/*\nsummary = \"Acts\"\ngroup = \"act\"\nrisk = \"danger\"\nscope = \"server\"\nlogin = \"operator\"\n\
         timeout = \"5s\"\nexample = \"act\"\n*/\n-- ## First [preview]\n{preview};\n{}",
        titled.concat()
    )
}

/// Asks, approves, and returns what the card says then and how the run ended.
async fn acts(file: &str, words: &str) -> (String, RunState) {
    let scene = with(vec![("act.sql", file)]).await;
    let card = scene.card(ANA, "act --env production").await;
    let said = approved(&scene, &card, words).await;
    (said, scene.only_run("act").await.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_its_statements_are_done_or_none() {
    let client = tables("team_all").await;
    let counted = "SELECT count(*) + 1 AS count FROM public.team_all WHERE id < 3";
    let delete = "DELETE FROM public.team_all WHERE id < 3";
    // A preview that tells less than the statements do: rows are counted where they change.
    let file = act("SELECT 1 AS count", &[delete]);
    let (_, state) =
        acts(&file, "It would change 2 rows now; the card showed 1 row, and 1 row may change at most").await;
    assert_eq!((state, ids(&client, "team_all").await), (RunState::Invalidated, vec![1, 2, 3, 4, 5]));
    let file = act("SELECT 3 AS count", &[delete, "INSERT INTO public.team_all VALUES (6), (7)"]);
    let (_, state) = acts(&file, "It would change 4 rows now").await;
    assert_eq!((state, ids(&client, "team_all").await), (RunState::Invalidated, vec![1, 2, 3, 4, 5]));
    // The second statement fails: the first is taken back.
    let broken = "DELETE FROM public.team_all WHERE id = 5";
    let (said, state) = acts(&act("SELECT 3 AS count", &[delete, broken]), "Nothing was changed").await;
    assert!(said.contains("violates foreign key") && said.contains("23503"), "{said}");
    assert_eq!((state, ids(&client, "team_all").await), (RunState::Failed, vec![1, 2, 3, 4, 5]));
    // It fails only when it commits.
    let defer =
        "ALTER TABLE team_all_child ALTER CONSTRAINT team_all_child_id_fkey DEFERRABLE INITIALLY DEFERRED";
    client.batch_execute(defer).await.unwrap();
    let (said, state) =
        acts(&act("SELECT 3 AS count", &[delete, broken]), "PostgreSQL rejected the commit").await;
    assert!(said.contains("23503") && said.contains("Nothing was changed"), "{said}");
    assert_eq!((state, ids(&client, "team_all").await), (RunState::Failed, vec![1, 2, 3, 4, 5]));
    // And it is done.
    let insert =
        "INSERT INTO public.team_all SELECT 6 WHERE NOT EXISTS (SELECT FROM public.team_all WHERE id < 3)";
    let (said, state) = acts(&act(counted, &["SELECT 1 AS one", delete, insert]), " ran on ").await;
    assert!(said.contains("3 rows changed, in one transaction; the card showed 3 rows."), "{said}");
    assert_eq!((state, ids(&client, "team_all").await), (RunState::Succeeded, vec![3, 4, 5, 6]));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_runs_out_for_a_lock_and_for_the_whole_and_a_missing_right_changes_nothing() {
    let client = tables("team_time").await;
    let delete = "DELETE FROM public.team_time WHERE id < 3";
    let holder = servers().await.cluster.connect("postgres").await.unwrap();
    let scene = with(vec![("act.sql", &act("SELECT 2 AS count", &[delete]))]).await;
    let card = scene.card(ANA, "act --env production").await;
    holder.batch_execute("BEGIN; LOCK TABLE team_time IN EXCLUSIVE MODE").await.unwrap();
    let said = approved(&scene, &card, "is locked by somebody else").await;
    assert!(said.contains("Nothing was changed."), "{said}");
    assert_eq!(scene.only_run("act").await.state, RunState::Failed);
    assert_eq!(ids(&client, "team_time").await, [1, 2, 3, 4, 5]);
    holder.batch_execute("ROLLBACK").await.unwrap();

    let endless = "DELETE FROM public.team_time WHERE id IN (SELECT count(*) FROM generate_series(1, 100000000000) AS n)";
    let file = act("SELECT 5 AS count", &[delete, endless]).replace("\"5s\"", "\"1s\"");
    let (said, state) = acts(&file, "was too slow and was cancelled").await;
    assert!(said.contains("Nothing was changed."), "{said}");
    assert_eq!((state, ids(&client, "team_time").await), (RunState::Failed, vec![1, 2, 3, 4, 5]));

    client.batch_execute("REVOKE DELETE ON team_time FROM countersign_act").await.unwrap();
    let (said, state) = acts(&act("SELECT 2 AS count", &[delete]), "is missing the privilege").await;
    assert!(said.contains("Nothing was changed."), "{said}");
    assert_eq!((state, ids(&client, "team_time").await), (RunState::Failed, vec![1, 2, 3, 4, 5]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_application_adds_after_the_approval_was_asked_is_not_run() {
    let client = tables("team_late").await;
    let file = act("SELECT 2 AS count", &["DELETE FROM public.team_late WHERE id < 3"]);
    let scene = with(vec![("act.sql", &file)]).await;
    let card = scene.card(ANA, "act --env production").await;
    let trigger = "CREATE SEQUENCE team_late_alarm;
        CREATE FUNCTION public.team_late_trigger() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN PERFORM pg_catalog.nextval('public.team_late_alarm'); RETURN OLD; END $$;
        CREATE TRIGGER late BEFORE DELETE ON team_late FOR EACH ROW EXECUTE FUNCTION public.team_late_trigger()";
    client.batch_execute(trigger).await.unwrap();
    let said = approved(&scene, &card, "it would call public.team_late_trigger()").await;
    assert!(
        said.contains("through the table public.team_late") && said.contains("Nothing was changed."),
        "{said}"
    );
    assert_eq!(scene.only_run("act").await.state, RunState::Failed);
    assert_eq!(ids(&client, "team_late").await, [1, 2, 3, 4, 5]);
    let called = client.query_one("SELECT is_called FROM team_late_alarm", &[]).await.unwrap();
    assert!(!called.get::<_, bool>(0), "the trigger was not called");
    let told = scene.asks(ANA, "act --env production").await.plain();
    for words in [
        "it would call public.team_late_trigger() through the table public.team_late",
        "public.team_late.late calls public.team_late_trigger(), owned by azuresu",
        "run-sql act <service> --env production",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_trigger_that_it_would_fire_is_named_and_a_reviewed_file_fires_them() {
    let servers = Servers::alone(60).await;
    let owner = servers.cluster.connect("asset_service_db").await.unwrap();
    let setup = "CREATE ROLE \"App\" NOLOGIN; CREATE SCHEMA shop; CREATE SEQUENCE shop.alarm;
        GRANT USAGE ON SCHEMA shop TO PUBLIC; GRANT USAGE ON SEQUENCE shop.alarm TO PUBLIC;
        CREATE TABLE shop.\"Orders\" (id int PRIMARY KEY);
        CREATE TABLE shop.lines (orders int REFERENCES shop.\"Orders\" ON DELETE CASCADE);
        INSERT INTO shop.\"Orders\" VALUES (1), (2); INSERT INTO shop.lines VALUES (1);
        CREATE FUNCTION shop.audit() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN PERFORM pg_catalog.nextval('shop.alarm'); RETURN OLD; END $$;
        CREATE FUNCTION shop.\"Tell\"() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN PERFORM pg_catalog.nextval('shop.alarm'); RETURN OLD; END $$;
        ALTER FUNCTION shop.\"Tell\"() OWNER TO \"App\";
        CREATE TRIGGER audit AFTER DELETE ON shop.\"Orders\" FOR EACH ROW EXECUTE FUNCTION shop.audit();
        CREATE TRIGGER \"Tell\" BEFORE DELETE ON shop.\"Orders\" FOR EACH ROW EXECUTE FUNCTION shop.\"Tell\"();
        CREATE TRIGGER fresh BEFORE INSERT ON shop.\"Orders\" FOR EACH ROW EXECUTE FUNCTION shop.audit();
        CREATE TRIGGER off BEFORE DELETE ON shop.\"Orders\" FOR EACH ROW EXECUTE FUNCTION shop.audit();
        ALTER TABLE shop.\"Orders\" DISABLE TRIGGER off;
        GRANT SELECT, DELETE ON shop.\"Orders\", shop.lines TO countersign_read, countersign_act";
    owner.batch_execute(setup).await.unwrap();
    let delete = "DELETE FROM shop.\"Orders\" WHERE id = 1";
    let arguments = "args = [{ name = \"service\", type = \"service\", positional = true, required = true, help = \"x\" }]\n";
    let file = act("SELECT 1 AS count", &[delete])
        .replace("scope = \"server\"", "scope = \"database\"")
        .replace("timeout", &format!("{arguments}timeout"))
        .replace("example = \"act\"", "example = \"act asset-service\"");
    let twist = Twist {
        servers: Some(servers),
        more: "\n[sql]\ndirectory = \"sql\"\n",
        commands: vec![("act.sql", &file)],
        ..Twist::default()
    };
    let mut scene = Scene::without_bot(twist).await;
    std::fs::create_dir(scene.directory.path().join("sql")).unwrap();
    scene.bot = Some(scene.stage.bot().await.expect("a bot"));
    let told = scene.asks(ANA, "act asset-service --env production").await.plain();
    let step = "run-sql act asset-service --env production";
    for words in [
        "shop.\"Orders\".\"Tell\" calls shop.\"Tell\"(), owned by \"App\"",
        "shop.\"Orders\".audit calls shop.audit(), owned by azuresu",
        step,
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains("fresh") && !told.contains("off calls"), "{told}");
    let alarm = async || {
        let row = owner.query_one("SELECT is_called FROM shop.alarm", &[]).await.unwrap();
        row.get::<_, bool>(0)
    };
    assert!(!alarm().await, "no trigger was called");

    // The step that it names, once the file is there.
    let reviewed = format!("/* summary = \"Deletes an order\"\nlogin = \"operator\" */\n{delete}");
    std::fs::write(scene.directory.path().join("sql/act.sql"), reviewed).unwrap();
    let card = scene.card(ANA, step).await;
    approved(&scene, &card, " ran on ").await;
    assert!(alarm().await);
    let left: i32 = owner.query_one("SELECT id FROM shop.\"Orders\"", &[]).await.unwrap().get(0);
    assert_eq!(left, 2);
}

/// Functions that stand in `public` under names of PostgreSQL's own, or are called like a column.
const HIJACK: &str = "
    CREATE TABLE team_hijacked (id int);
    GRANT SELECT, DELETE ON team_hijacked TO countersign_read, countersign_act;
    INSERT INTO team_hijacked VALUES (1);
    CREATE FUNCTION public.initcap(varchar) RETURNS text LANGUAGE sql AS $$ SELECT 'hijacked'::text $$;
    CREATE FUNCTION public.column_like(team_hijacked) RETURNS text LANGUAGE sql AS $$ SELECT 'hijacked'::text $$";

#[tokio::test(flavor = "multi_thread")]
async fn names_mean_postgresqls_own_whatever_stands_in_public() {
    let superuser = servers().await.cluster.connect("postgres").await.unwrap();
    superuser.batch_execute(HIJACK).await.unwrap();
    let plain = "SELECT initcap('mine'::varchar(4)) AS said FROM public.team_hijacked";
    let said: String = superuser.query_one(plain, &[]).await.unwrap().get(0);
    assert_eq!(said, "hijacked", "so it would be");
    let reads = |sql: &str| {
        format!(
            "/*\nsummary = \"Reads\"\ngroup = \"team\"\nrisk = \"read\"\nscope = \"server\"\nexample = \"look\"\n\
             verdict = \"It says {{said}}.\"\nverdict_empty = \"Nothing.\"\n*/\n{sql}\n"
        )
    };
    let column = "SELECT h.column_like AS said FROM public.team_hijacked AS h";
    let acting = act(
        "SELECT 1 AS count",
        &["DELETE FROM public.team_hijacked WHERE initcap('mine'::varchar(4)) = 'Mine'"],
    );
    let (look, peek) = (reads(plain), reads(column).replace("\"look\"", "\"peek\""));
    let scene = with(vec![("look.sql", &look), ("peek.sql", &peek), ("act.sql", &acting)]).await;
    let told = scene.asks(ANA, "look --env production").await.plain();
    assert!(told.contains("It says Mine."), "{told}");
    let told = scene.asks(ANA, "peek --env production").await.plain();
    assert!(told.contains("column h.column_like does not exist") && !told.contains("hijacked."), "{told}");
    let card = scene.card(ANA, "act --env production").await;
    approved(&scene, &card, "1 row changed").await;
    assert_eq!(ids(&superuser, "team_hijacked").await, [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_card_shows_the_sql_of_the_servers_version_and_that_runs() {
    let client = tables("team_version").await;
    let file = act("SELECT 1 AS count", &["DELETE FROM public.team_version WHERE id = 1"]);
    let variant =
        "-- ## First [preview]\nSELECT 1 AS count;\n-- ## Then\nDELETE FROM public.team_version WHERE id = 2";
    let scene = with(vec![("act.sql", &file), ("act@13.sql", variant), ("act@99.sql", variant)]).await;
    let card = scene.card(ANA, "act --env production").await;
    assert!(
        card.plain().contains("WHERE id = 2") && !card.plain().contains("WHERE id = 1"),
        "{}",
        card.plain()
    );
    approved(&scene, &card, " ran on ").await;
    assert_eq!(ids(&client, "team_version").await, [1, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_a_file_stops_the_start_with_its_place() {
    let sleeps = act("SELECT 1 AS count", &["DELETE FROM public.t WHERE pg_sleep(1) IS NULL"]);
    let twist = Twist { commands: vec![("act.sql", &sleeps), ("blocked.sql", TRIM)], ..Twist::default() };
    let scene = Scene::without_bot(twist).await;
    let Err(why) = scene.stage.bot().await else { panic!("it started") };
    let why = format!("{why:#}");
    assert!(why.contains("act.sql:13:28: `pg_sleep` is not among the functions"), "{why}");
    assert!(why.contains("`blocked` is a command already and can't be replaced"), "{why}");
}
