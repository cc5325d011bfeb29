//! A server whose messages are in German: each failure is decided and told as on a server that speaks English, and nothing of the
//! server's own words, which hold customers' values, is shown.

use crate::harness::{ANA, BEN, Scene, Servers, Twist};
use countersign::demo::postgres::{Cluster, Options, find_bin_dir};
use countersign::demo::sample::Sample;
use countersign::model::RunState;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const LOCALE: &str = "de_DE.UTF-8";
/// A customer's value in each failure.
const SECRET: &str = "geheim-4711";

/// The directory of a server's programs, in which `postgres` finds the German locale in the same directory.
fn german_programs(directory: &Path) -> std::path::PathBuf {
    let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o755)).expect("permissions");
    open(directory);
    let made =
        Command::new("localedef").args(["-i", "de_DE", "-f", "UTF-8"]).arg(directory.join(LOCALE)).output();
    let made = made.expect("localedef, which .ci/install-tools installs");
    assert!(made.status.success(), "localedef: {}", String::from_utf8_lossy(&made.stderr));
    let installed = find_bin_dir(None, &[]).expect("a PostgreSQL server");
    let programs = directory.join("bin");
    fs::create_dir(&programs).expect("a directory");
    for entry in fs::read_dir(&installed).expect("the programs").flatten() {
        symlink(entry.path(), programs.join(entry.file_name())).expect("a link");
    }
    let server = programs.join("postgres");
    fs::remove_file(&server).expect("the link");
    let real = installed.join("postgres");
    let script = format!("#!/bin/sh\nLOCPATH={} exec {} \"$@\"\n", directory.display(), real.display());
    fs::write(&server, script).expect("the script");
    open(&server);
    programs
}

/// A server that speaks German, for as long as the process lives.
async fn german_server(directory: &Path) -> &'static Servers {
    let settings = [("lc_messages", LOCALE), ("shared_preload_libraries", "pg_stat_statements")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let bin_dir = Some(german_programs(directory));
    let cluster =
        Cluster::start(Options { bin_dir, settings, ..Options::default() }).await.expect("a server");
    let team = Sample::light().install(&cluster).await.expect("the sample");
    let client = cluster.connect("asset_service_db").await.expect("the superuser");
    let error = client.batch_execute("SELECT 1/0").await.expect_err("a failure");
    let german = error.as_db_error().expect("the server's").message();
    assert_eq!(
        german, "Division durch Null",
        "PostgreSQL's German catalogue, which .ci/install-tools installs"
    );
    let setup = format!(
        "GRANT asset_svc TO countersign_act; CREATE TABLE kunden (id text PRIMARY KEY); INSERT INTO kunden VALUES ('{SECRET}'); \
         ALTER TABLE kunden OWNER TO asset_svc; GRANT SELECT ON kunden TO countersign_read; CREATE TABLE gesperrt (id int); \
         CREATE FUNCTION meldet() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'Kunde gesperrt, password={SECRET}'; END $$"
    );
    client.batch_execute(&setup).await.expect("the tables");
    Box::leak(Box::new(Servers { cluster, team }))
}

/// A command that fails, and the words of its answer in each of the languages.
struct Failure {
    line: &'static str,
    english: &'static str,
    german: &'static str,
    state: Option<RunState>,
}

const FAILURES: [Failure; 7] = [
    Failure {
        line: "run-sql doppelt asset-service",
        english: "duplicate key value violates unique constraint",
        german: "a unique constraint is violated (constraint kunden_pkey, table public.kunden)",
        state: Some(RunState::Failed),
    },
    Failure {
        line: "run-sql verboten asset-service",
        english: "login is missing the privilege",
        german: "login is missing the privilege",
        state: Some(RunState::Failed),
    },
    Failure {
        line: "run-sql wartet asset-service",
        english: "lock",
        german: "lock",
        state: Some(RunState::Failed),
    },
    Failure {
        line: "run-sql meldet asset-service",
        english: "Kunde gesperrt",
        german: "Kunde gesperrt",
        state: Some(RunState::Failed),
    },
    Failure {
        line: "kunden asset-service",
        english: "invalid input syntax for type integer",
        german: "a text isn't a value of the type",
        state: None,
    },
    Failure { line: "gesperrt asset-service", english: "gesperrt", german: "gesperrt", state: None },
    Failure { line: "kill 999999", english: "no session", german: "no session", state: None },
];

/// Words of the server's German messages for these failures.
const GERMAN_WORDS: [&str; 6] =
    ["verletzt", "keine Berechtigung", "wegen", "ungültig", "Zeitüberschreitung", "FEHLER"];

async fn scene(servers: &'static Servers) -> Scene {
    let commands = vec![
        (
            "kunden.sql",
            "/*\nsummary = \"Customers by number\"\nrisk = \"read\"\ngroup = \"databases\"\nscope = \"database\"\nargs = [{ name = \"service\", type = \"service\", positional = true, required = true, help = \"the service\" }]\nexample = \"kunden asset-service\"\n*/\nSELECT id::int AS number FROM public.kunden",
        ),
        (
            "gesperrt.sql",
            "/*\nsummary = \"Customers who are locked\"\nrisk = \"read\"\ngroup = \"databases\"\nscope = \"database\"\nargs = [{ name = \"service\", type = \"service\", positional = true, required = true, help = \"the service\" }]\nexample = \"gesperrt asset-service\"\n*/\nSELECT id FROM public.gesperrt",
        ),
    ];
    let more = "\n[sql]\ndirectory = \"sql\"\n";
    let mut scene =
        Scene::without_bot(Twist { servers: Some(servers), more, commands, ..Twist::default() }).await;
    let directory = scene.directory.path().join("sql");
    fs::create_dir(&directory).expect("a directory");
    for (name, sql) in [
        ("doppelt", "INSERT INTO public.kunden SELECT id FROM public.kunden".to_owned()),
        ("verboten", "INSERT INTO public.gesperrt VALUES (1)".to_owned()),
        ("wartet", "ALTER TABLE public.assets ADD COLUMN neu int".to_owned()),
        ("meldet", "SELECT public.meldet()".to_owned()),
    ] {
        let text = format!("/* summary = \"Fails\"\ntimeout = \"5s\" */\n{sql};");
        fs::write(directory.join(name).with_extension("sql"), text).expect("a file");
    }
    scene.bot = Some(scene.stage.bot().await.expect("a bot"));
    scene
}

/// The answer to a command that fails, after its approval where it needs one, and the run's state.
async fn outcome(scene: &Scene, failure: &Failure) -> (String, Option<RunState>) {
    let line = format!("{} --env production --reason \"a drill\"", failure.line);
    if failure.state.is_none() {
        return (scene.asks(ANA, &line.replace(" --reason \"a drill\"", "")).await.plain(), None);
    }
    let card = scene.card(ANA, &line).await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    let told = scene.until(&card.at(), "Nothing was").await.plain();
    (told, Some(scene.runs_of("run-sql").await[0].state))
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_decided_and_told_as_on_a_server_that_speaks_english() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = german_server(directory.path()).await;
    let superuser = servers.cluster.connect("asset_service_db").await.expect("the superuser");
    superuser.batch_execute("BEGIN; LOCK TABLE assets").await.expect("a lock");
    let mut wrong = Vec::new();
    for is_german in [true, false] {
        if !is_german {
            let admin = servers.cluster.connect("postgres").await.expect("the superuser");
            admin.batch_execute("ALTER SYSTEM SET lc_messages = 'C'").await.expect("English");
            admin.query("SELECT pg_reload_conf()", &[]).await.expect("a reload");
        }
        let scene = scene(servers).await;
        for failure in &FAILURES {
            let (told, state) = outcome(&scene, failure).await;
            let words = if is_german { failure.german } else { failure.english };
            let foreign = GERMAN_WORDS.iter().find(|word| told.contains(**word));
            let is_right = told.contains(words) && state == failure.state && foreign.is_none();
            if !is_right || told.contains(SECRET) {
                wrong.push(format!("{}, {state:?}: {told}", failure.line));
            }
        }
        let log: String = scene.runs_of("run-sql").await.iter().map(|run| format!("{run:?}")).collect();
        assert!(!log.contains(SECRET), "{log}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
