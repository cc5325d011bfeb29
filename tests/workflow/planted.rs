//! Our own SQL is resolved by PostgreSQL's own names alone. Databases are full of better and of equal matches, which other roles
//! created; each writes a line into the server's log when a login of ours calls it, and no command, check or dump does.

use crate::harness::{ANA, Scene, Servers, Twist};
use crate::installed::servers;
use crate::maintenance_harness::{approves, ended};
use countersign::catalog::Catalog;
use countersign::demo::postgres::{Cluster, Options};
use countersign::demo::sample::{Sample, Team};
use countersign::model::{Risk, RunState};
use countersign::postgres::Environments;
use countersign::preflight::{CheckContext, check};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tokio_postgres::{Client, NoTls};

const DATABASES: [&str; 2] = ["asset_service_db", "postgres"];

/// Each has a schema of its own name, which the usual search_path has first.
const LOGINS: [&str; 4] =
    ["countersign_read", "countersign_act", "countersign_maintain", "countersign_owner"];

/// Names in the schemas that have a login's name.
const FEW: &str = "= || count current_setting format lower now pg_class pg_has_role pg_roles pg_stat_activity quote_ident set_config";

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Names, and operators in SQL files, of all files below a directory.
fn words(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("demo") {
            words(&path, found);
            continue;
        }
        let is_sql = path.extension().is_some_and(|extension| extension == "sql");
        if !is_sql && path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        found.extend(text.split(|c| !is_name(c)).filter(|word| !word.is_empty()).map(str::to_owned));
        let is_operator = |c: char| "-+*/<>=~!@#%^&|?".contains(c);
        let operators = text.split(|c| !is_operator(c)).filter(|word| is_sql && !word.is_empty());
        let is_comment = |word: &&str| word.contains("--") || word.contains("/*");
        found.extend(operators.filter(|word| !is_comment(word)).map(str::to_owned));
    }
}

async fn plant(client: &Client, schema: &str, words: &str) -> i32 {
    client.execute("SELECT set_config('planted.schema', $1, false)", &[&schema]).await.unwrap();
    client.execute("SELECT set_config('planted.words', $1, false)", &[&words]).await.unwrap();
    client.batch_execute(include_str!("planted.sql")).await.unwrap();
    let made = "SELECT current_setting('planted.made')::int";
    client.query_one(made, &[]).await.unwrap().get(0)
}

/// Functions with the names of an extension's, in its schema.
const BESIDE_THE_EXTENSION: &str = "DO $$ DECLARE wanted record; BEGIN
    FOR wanted IN SELECT * FROM (VALUES
        ('pg_stat_statements', 'text', 'TABLE (queryid int8, calls int8, query text, shared_blks_read int8, dbid oid, userid oid)'),
        ('pg_stat_statements_reset', 'int, oid, int', 'void'), ('pg_stat_statements_reset', 'int, oid, int8', 'void'),
        ('pg_stat_statements_reset', 'oid, oid, int', 'void'), ('pg_stat_statements_reset', 'int8, oid, int8', 'void'),
        -- The extension's own until 16; with its fourth argument's default it is a worse match since.
        ('pg_stat_statements_reset', 'oid, oid, int8', 'void')) AS functions (name, arguments, result)
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN RAISE LOG ''PLANTED %% called by %%'', %L, session_user; END $f$',
                           wanted.name, wanted.arguments, wanted.result, wanted.name);
        EXCEPTION WHEN duplicate_function THEN NULL;
        END;
    END LOOP;
END $$";

/// As the databases' owner, who is no superuser; and where sessions are ended from, as any role could before PostgreSQL 15.
async fn plant_everywhere(servers: &Servers) {
    let mut found = BTreeSet::new();
    words(&Path::new(ROOT).join("src"), &mut found);
    words(&Path::new(ROOT).join("commands"), &mut found);
    let words = found.into_iter().collect::<Vec<_>>().join(" ");
    let owner = &servers.team.admin;
    let all = DATABASES.map(async |database| {
        let superuser = servers.cluster.connect(database).await.unwrap();
        superuser.batch_execute("GRANT CREATE ON SCHEMA public TO dbadmin").await.unwrap();
        for login in LOGINS {
            let schema = format!(
                "CREATE SCHEMA {login} AUTHORIZATION dbadmin; GRANT USAGE ON SCHEMA {login} TO PUBLIC"
            );
            superuser.batch_execute(&schema).await.unwrap();
        }
        let client = servers.cluster.connect_as(owner.login(database, "plants")).await.unwrap();
        assert!(plant(&client, "public", &words).await > 5_000);
        client.batch_execute(BESIDE_THE_EXTENSION).await.unwrap();
        let may_reset = "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO countersign_maintain";
        superuser.batch_execute(may_reset).await.unwrap();
        for login in LOGINS {
            assert!(plant(&client, login, FEW).await > 100);
        }
        let first = format!("ALTER DATABASE {database} SET search_path = \"$user\", public, pg_catalog");
        superuser.batch_execute(&first).await.unwrap();
    });
    futures::future::join_all(all).await;
    let superuser = servers.cluster.connect("postgres").await.unwrap();
    for login in LOGINS {
        let first = format!("ALTER ROLE {login} SET search_path = \"$user\", public, pg_catalog");
        superuser.batch_execute(&first).await.unwrap();
    }
}

/// The calls of what was planted by logins of ours, from that offset of the server's log on.
fn calls(servers: &Servers, offset: usize) -> BTreeSet<String> {
    let log = std::fs::read(servers.cluster.log_path()).unwrap();
    let log = String::from_utf8_lossy(&log[offset..]).into_owned();
    let calls = log.lines().filter_map(|line| line.split_once("PLANTED ").map(|(_, call)| call.to_owned()));
    calls.filter(|call| call.contains("called by countersign_")).collect()
}

fn log_size(servers: &Servers) -> usize {
    usize::try_from(std::fs::metadata(servers.cluster.log_path()).unwrap().len()).unwrap()
}

/// One service, and every login that the sample knows.
async fn server(bin_dir: PathBuf) -> &'static Servers {
    let settings = vec![("max_connections".to_owned(), "100".to_owned())];
    let cluster =
        Cluster::start(Options { bin_dir: Some(bin_dir), settings, ..Options::default() }).await.unwrap();
    let mut sample = Sample { maintainer: true, owner: true, ..Sample::light() };
    sample.services.retain(|service| service.name == "asset-service");
    let team: Team = sample.install(&cluster).await.unwrap();
    Box::leak(Box::new(Servers { cluster, team }))
}

const READ: &str = "/* summary = \"Counts assets\"\ngroup = \"databases\"\nrisk = \"read\"\nscope = \"database\"\n\
    args = [{ name = \"service\", type = \"service\", positional = true, required = true, help = \"one\" }]\n\
    example = \"count-assets asset-service\" */\nSELECT count(*) AS assets, lower('A') AS low FROM pg_class";

const FILE: &str =
    "/* summary = \"Tidies\" */\nUPDATE public.assets SET description = lower(description) WHERE id = 'x'";

async fn scene(servers: &'static Servers) -> Scene {
    let more = "\n[sql]\ndirectory = \"sql\"\n\
        [migrate]\ndeploy = [\"/bin/true\"]\nresolve = [\"/bin/true\", \"{as}\", \"{migration}\"]\ndirectory = \"/\"\n";
    let clients =
        format!("[backups]\ntools = [\"{ROOT}/.tools/clients/17/bin\", \"{ROOT}/.tools/clients/18/bin\"]");
    let twist = Twist {
        servers: Some(servers),
        more,
        instead: vec![("[backups]", &clients)],
        commands: vec![("count-assets.sql", READ)],
        ..Twist::default()
    };
    let mut scene = Scene::without_bot(twist).await;
    std::fs::create_dir(scene.directory.path().join("sql")).unwrap();
    std::fs::write(scene.directory.path().join("sql/tidy.sql"), FILE).unwrap();
    scene.bot = Some(scene.stage.bot().await.expect("a bot"));
    scene
}

/// Commands that change something about a server, each with a line and the end of its run: `None` where it may be refused.
fn changes(victim: i32, busy: i32) -> Vec<(&'static str, String, Option<RunState>)> {
    let succeeds = Some(RunState::Succeeded);
    vec![
        // The first, since others would wait for that session's transaction.
        ("cancel", format!("cancel {busy}"), succeeds),
        ("kill", format!("kill {victim}"), succeeds),
        ("vacuum", "vacuum asset-service assets".into(), succeeds),
        ("analyze", "analyze asset-service assets".into(), succeeds),
        ("reindex", "reindex asset-service assets".into(), succeeds),
        ("vacuum-full", "vacuum-full asset-service assets".into(), succeeds),
        ("purge", "purge asset-service audit_logs --column created_at --older-than 1d".into(), succeeds),
        ("backup", "backup asset-service".into(), succeeds),
        ("run-sql", "run-sql tidy asset-service".into(), succeeds),
        ("kill-idle", "kill-idle asset-service --older-than 1s".into(), None),
        ("migrate", "migrate asset-service".into(), None),
        (
            "migrate-resolve",
            "migrate-resolve asset-service 20250915140000_email_unique --as rolled-back".into(),
            None,
        ),
        ("reset-stats", "reset-stats asset-service".into(), succeeds),
        ("enable-stats", "enable-stats asset-service".into(), None),
    ]
}

/// They are about requests, and ask no server.
const ABOUT_REQUESTS: [&str; 7] = ["deny", "freeze", "review", "stop", "unfreeze", "use", "withdraw"];

async fn ask_every_question(scene: &Scene, catalog: &Catalog) {
    let read = catalog.iter().filter(|command| command.header.risk == Risk::Read);
    for line in
        read.map(|command| command.header.example.clone()).chain(["count-assets asset-service".to_owned()])
    {
        let line = line.replace("--env staging", "--env production");
        let line = if line.contains("--env") { line } else { format!("{line} --env production") };
        let answer = scene.asks(ANA, &line).await.plain();
        for failure in ["No server answered", "SQLSTATE", "No whole answer"] {
            assert!(!answer.contains(failure), "{line}: {answer}");
        }
    }
}

/// A session of the service's, and its pid.
async fn session(scene: &Scene) -> (Client, i32) {
    let (service, account) = scene.servers.team.service("asset-service").unwrap();
    let mut config = scene.servers.cluster.config(account.login(&service.database, "asset-worker"));
    let (client, connection) = config.options("-c search_path=pg_catalog").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    (client, pid)
}

async fn carry_out_every_change(scene: &Scene, catalog: &Catalog) {
    let (_victim, victim) = session(scene).await;
    let (sleeper, busy) = session(scene).await;
    let sleep = tokio::spawn(async move { sleeper.batch_execute("SELECT pg_catalog.pg_sleep(600)").await });
    let changes = changes(victim, busy);
    for command in catalog.iter().filter(|command| command.header.risk != Risk::Read) {
        let is_here = changes.iter().any(|(name, ..)| *name == command.name);
        assert!(
            is_here || ABOUT_REQUESTS.contains(&command.name.as_str()),
            "{} is missing here",
            command.name
        );
    }
    for (name, line, end) in changes {
        scene.asks(ANA, &format!("{line} --dry-run --env production")).await;
        let message = scene.asks(ANA, &format!("{line} --env production")).await;
        let message = match message.button("Approve") {
            Some(_) => approves(scene, message).await,
            None => ended(scene, message).await,
        };
        if let Some(end) = end {
            let run = scene.runs_of(name).await.into_iter().max_by_key(|run| run.id);
            assert_eq!(run.map(|run| run.state), Some(end), "{line}: {}", message.plain());
        }
    }
    sleep.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_planted_name_is_called() {
    for bin_dir in servers() {
        let servers = server(bin_dir).await;
        let sql = "GRANT asset_svc TO countersign_act, countersign_owner, countersign_maintain";
        servers.cluster.connect("postgres").await.unwrap().batch_execute(sql).await.unwrap();
        plant_everywhere(servers).await;
        let major = servers.cluster.version_num() / 10_000;

        // A session that pins nothing would call them.
        let offset = log_size(servers);
        for database in DATABASES {
            let reader = servers.team.reader.login(database, "pins nothing");
            let reader = servers.cluster.connect_as(reader).await.unwrap();
            drop(
                reader
                    .simple_query("SELECT quote_ident(relname) FROM pg_class WHERE relname = 'pg_type'::name")
                    .await,
            );
        }
        assert!(calls(servers, offset).len() > 1, "PostgreSQL {major}: nothing is heard");

        let offset = log_size(servers);
        let scene = scene(servers).await;
        let catalog = Catalog::built_in().unwrap();
        ask_every_question(&scene, &catalog).await;
        assert_eq!(calls(servers, offset), BTreeSet::new(), "PostgreSQL {major}, commands that read");
        carry_out_every_change(&scene, &catalog).await;
        assert_eq!(calls(servers, offset), BTreeSet::new(), "PostgreSQL {major}, commands that change");
        let config = scene.stage.checked().unwrap();
        let environments = Environments::new(&config).unwrap();
        let context = CheckContext { config: &config, catalog: &catalog, environments: &environments };
        check(&context, &["production", "staging"]).await;
        assert_eq!(calls(servers, offset), BTreeSet::new(), "PostgreSQL {major}, the check");
    }
}
