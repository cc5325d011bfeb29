//! Every command that asks a server, and every command that changes something about one, each carried out once: for tests that
//! prepare a server and look at what it did.

use crate::harness::{ANA, Scene, Servers, Twist, found};
use crate::maintenance_harness::{approves, ended};
use countersign::catalog::Catalog;
use countersign::demo::fake_slack::Message;
use countersign::demo::harness::INCIDENT;
use countersign::demo::postgres::{Cluster, Options};
use countersign::demo::sample::{ROLES_SQL, Sample, Team};
use countersign::model::{Risk, RunState};
use std::path::PathBuf;
use tokio_postgres::{Client, NoTls};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where the logins of a configuration end, so that others can be put before it.
const OPERATOR: &str = "[environments.logins.operator]\n";

/// One service, and every login that the sample knows.
pub async fn server(bin_dir: PathBuf) -> &'static Servers {
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

pub async fn scene(servers: &'static Servers, logins: &str) -> Scene {
    let more = "\n[sql]\ndirectory = \"sql\"\n\
        [migrate]\ndeploy = [\"/bin/true\"]\nresolve = [\"/bin/true\", \"{as}\", \"{migration}\"]\ndirectory = \"/\"\n";
    let clients =
        format!("[backups]\ntools = [\"{ROOT}/.tools/clients/17/bin\", \"{ROOT}/.tools/clients/18/bin\"]");
    let with_operator = format!("{logins}{OPERATOR}");
    let twist = Twist {
        servers: Some(servers),
        more,
        instead: vec![("[backups]", &clients), (OPERATOR, &with_operator)],
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
        ("purge", "purge asset-service old_rows --column at --older-than 1d".into(), succeeds),
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

/// Something to purge, each time.
const OLD_ROWS: &str = "CREATE TABLE IF NOT EXISTS public.old_rows (id serial PRIMARY KEY, at timestamptz);
    ALTER TABLE public.old_rows OWNER TO asset_svc;
    GRANT SELECT ON SEQUENCE public.old_rows_id_seq TO countersign_read;
    INSERT INTO public.old_rows (at) VALUES (now() - interval '90 days')";

/// They are about requests and windows, and ask no server.
const ABOUT_REQUESTS: [&str; 10] = [
    "deny",
    "freeze",
    "quiet",
    "review",
    "schedule-pause",
    "schedule-resume",
    "stop",
    "unfreeze",
    "use",
    "withdraw",
];

/// The answer to a line, which has its command's name: what was asked before may be answered later.
async fn asks(scene: &Scene, line: &str) -> Message {
    let before = scene.count(ANA);
    scene.say(ANA, line).await;
    let heading = format!("requested {}", line.split(' ').next().unwrap());
    let answer = scene.workspace().wait_for(line, |workspace| {
        let messages = workspace.visible_messages(ANA, INCIDENT);
        messages.into_iter().skip(before).find(|message| message.plain().contains(&heading))
    });
    answer.await.unwrap_or_else(|why| panic!("{why}"))
}

pub async fn ask_every_question(scene: &Scene, catalog: &Catalog) {
    let read = catalog.iter().filter(|command| command.header.risk == Risk::Read);
    for line in
        read.map(|command| command.header.example.clone()).chain(["count-assets asset-service".to_owned()])
    {
        let line = line.replace("--env staging", "--env production");
        let line = if line.contains("--env") { line } else { format!("{line} --env production") };
        let answer = asks(scene, &line).await.plain();
        for failure in ["No server answered", "SQLSTATE", "No whole answer", "Not checked on"] {
            assert!(!answer.contains(failure), "{line}: {answer}");
        }
    }
}

/// A session of the service's, and its pid.
pub async fn session(scene: &Scene) -> (Client, i32) {
    let (service, account) = scene.servers.team.service("asset-service").unwrap();
    let mut config = scene.servers.cluster.config(account.login(&service.database, "asset-worker"));
    let (client, connection) = config.options("-c search_path=pg_catalog").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    (client, pid)
}

pub async fn carry_out_every_change(scene: &Scene, catalog: &Catalog) {
    let superuser = scene.servers.cluster.superuser_config("asset_service_db");
    let (superuser, connection) =
        superuser.clone().options("-c search_path=pg_catalog").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    superuser.batch_execute(OLD_ROWS).await.unwrap();
    let (_victim, victim) = session(scene).await;
    let (sleeper, busy) = session(scene).await;
    let sleep = tokio::spawn(async move { sleeper.batch_execute("SELECT pg_catalog.pg_sleep(600)").await });
    let is_active = "SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
    found("a statement to cancel", async || superuser.query_opt(is_active, &[&busy]).await.unwrap()).await;
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
        asks(scene, &format!("{line} --dry-run --env production")).await;
        let message = asks(scene, &format!("{line} --env production")).await;
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

/// The lines of finer logins, whose password is the operator's: the configuration's and the statements that create them, for each of
/// the databases.
pub async fn finer_logins(servers: &Servers, databases: &[&str]) -> String {
    let password = &servers.team.operator.password;
    for database in databases {
        let admin = servers.team.admin.login(database, "roles.sql");
        let admin = servers.cluster.connect_as(admin).await.unwrap();
        let finer = format!("SET countersign.logins = 'finer'; {ROLES_SQL}");
        admin.batch_execute(&finer).await.unwrap();
    }
    let superuser = servers.cluster.connect("postgres").await.unwrap();
    let login = async |login: &str| {
        let role = format!("countersign_{login}");
        superuser.batch_execute(&format!("ALTER ROLE {role} PASSWORD '{password}'")).await.unwrap();
        format!(
            "[environments.logins.{login}]\nuser = \"{role}\"\npassword = {{ env = \"PRODUCTION_OPERATOR_PASSWORD\" }}\n"
        )
    };
    login("signal").await + &login("dump").await
}
