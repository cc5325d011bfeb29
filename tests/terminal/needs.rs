//! What the commands' headers need, taken away: `check` names each need with its fix, the command refuses in the same words, and the
//! fixes that `check` shows are enough for both.

use crate::harness::{Said, Servers, World};
use countersign::catalog::{Catalog, Command, Need, Scope};
use countersign::model::{LoginKind, Risk};
use regex::{Captures, Regex};
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use strum::IntoEnumIterator;

const DATABASE: &str = "asset_service_db";

/// The words in which `check` and every command say that a need isn't met.
fn words(need: Need) -> &'static str {
    match need {
        Need::Sessions => "see other roles' sessions",
        Need::Settings => "see every setting",
        Need::DiskUse => "see the sizes of WAL and temporary files",
        Need::Sequences => "read every sequence",
        Need::MigrationHistory => "read Prisma's migration table",
        Need::Statements => "use pg_stat_statements",
        Need::Signal => "end other roles' sessions",
        Need::AllTables => "read every table",
        Need::Maintenance => "maintain its tables",
        Need::StatementsReset => "reset pg_stat_statements",
        Need::StatementsCreation => "create pg_stat_statements",
        Need::MigrationRecord => "write Prisma's migration table",
        Need::RowDeletion => "delete rows of",
        Need::DumpProgram => "needs pg_dump",
        Need::BackupDirectory => "can't be written: backups is no directory",
        Need::MigrateProgram => "is not installed where Countersign runs",
        Need::SqlDirectory => "No directory of SQL files is configured.",
    }
}

/// True if a text says that a login of [`bare`] doesn't meet a need.
fn denies(text: &str, need: Need) -> bool {
    let logins = ["reader", "signal", "dump", "maintain", "owner"].into_iter();
    logins.map(|login| format!("let need_{login} {}", words(need))).any(|words| text.contains(&words))
}

/// The command's own example, in production and without asking anyone.
fn line(command: &Command) -> String {
    let example = command.header.example.split(" --reason").next().unwrap_or_default();
    let example = example.replace(" --env staging", "");
    let example = if command.name == "enable-stats" { "enable-stats auth-service" } else { &example };
    let dry = if command.header.risk == Risk::Read { "" } else { " --dry-run" };
    format!("{example} --env production{dry}")
}

/// The commands that touch an environment.
fn commands() -> Vec<Command> {
    let catalog = Catalog::built_in().unwrap_or_else(|wrong| panic!("{wrong}"));
    catalog.iter().filter(|command| command.header.scope != Scope::None).cloned().collect()
}

fn privileges(command: &Command) -> Vec<Need> {
    command.header.needs.iter().copied().filter(|need| need.login().is_some()).collect()
}

/// A server where each purpose has a login that may do nothing.
async fn bare() -> (Servers, Vec<(String, String)>) {
    let servers = Servers::start().await;
    let (reader, operator) = (&servers.team.reader.password, &servers.team.operator.password);
    let mut logins = String::new();
    servers.does("postgres", &format!("CREATE ROLE need_reader LOGIN PASSWORD '{reader}'")).await;
    for purpose in [LoginKind::Signal, LoginKind::Dump, LoginKind::Maintain, LoginKind::Owner] {
        let name = purpose.name();
        servers.does("postgres", &format!("CREATE ROLE need_{name} LOGIN PASSWORD '{operator}'")).await;
        logins += &format!(
            "[environments.logins.{name}]\nuser = \"need_{name}\"\npassword = {{ env = \"PRODUCTION_OPERATOR_PASSWORD\" }}\n"
        );
    }
    let functions = "REVOKE EXECUTE ON FUNCTION pg_stat_statements, pg_stat_statements_reset FROM PUBLIC";
    servers.does(DATABASE, functions).await;
    servers.does("auth_service_db", "DROP EXTENSION pg_stat_statements").await;
    let operator = "[environments.logins.operator]\n";
    let people = "[[people]]\nname = \"ana\"";
    let migrate = "[migrate]\ndeploy = [\"/bin/true\"]\nresolve = [\"/bin/true\", \"{migration}\", \"{as}\"]\ndirectory = \"here\"\n\n";
    let clients = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/clients");
    let tools = format!("[backups]\ntools = [\"{clients}/17/bin\", \"{clients}/18/bin\"]\n");
    let instead = vec![
        ("[backups]\n".to_owned(), tools),
        ("user = \"countersign_read\"".to_owned(), "user = \"need_reader\"".to_owned()),
        (operator.to_owned(), format!("{logins}{operator}")),
        (people.to_owned(), format!("{migrate}{people}")),
    ];
    (servers, instead)
}

/// All texts of an answer in JSON, one after another: nothing in them is wrapped.
fn texts(said: &Said) -> String {
    fn add(value: &Value, all: &mut String) {
        match value {
            Value::String(text) => *all += &format!("{text} "),
            Value::Array(values) => values.iter().for_each(|value| add(value, all)),
            Value::Object(values) => values.values().for_each(|value| add(value, all)),
            _ => {}
        }
    }
    let mut all = String::new();
    add(&said.json(), &mut all);
    all
}

/// Runs each statement that `check --json` shows for production, in each database that it is shown for, as a DBA would paste it.
async fn run_fixes(servers: &Servers, said: &Said) -> usize {
    let json = said.json();
    let blocks = json["blocks"].as_array().expect("blocks").iter();
    let mut count = 0;
    for block in blocks.take_while(|block| block["title"] != "staging") {
        let text = block["text"].as_str().filter(|text| block["kind"] == "text" && text.ends_with(';'));
        let Some((places, statement)) = text.and_then(|text| text.split_once(": ")) else { continue };
        for place in places.split(", ") {
            let database = place.strip_prefix("main/").unwrap_or("postgres");
            servers.does(database, statement).await;
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_needs_is_named_by_check_and_by_the_command_in_the_same_words() {
    let (servers, instead) = bare().await;
    let instead: Vec<(&str, &str)> = instead.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
    let world = World::on(&servers, "U0ANA", &instead).await;
    std::fs::create_dir(world.directory().join("here")).unwrap();
    let commands = commands();

    for command in &commands {
        let (line, needs) = (line(command), privileges(command));
        let told = world.runs(&line).await.flat();
        let named = needs.iter().any(|need| told.contains(&format!(" {}", words(*need))));
        assert_eq!(named, !needs.is_empty(), "{line}: {needs:?}: {told}");
        // What bloat can't see, it counts: a team may decide not to show rows to the reader.
        let undeclared = ["may not", "missing the privilege", "permission denied", "doesn't let"];
        let undeclared = undeclared.iter().find(|words| told.contains(**words));
        assert!(named || undeclared.is_none() || command.name == "bloat", "{line} needs more: {told}");
    }
    let said = world.say(&["check", "--json"]).await;
    assert_eq!(said.status, 1, "{said:?}");
    let told = texts(&said);
    for need in Need::iter().filter(|need| need.login().is_some()) {
        assert!(told.contains(words(need)), "{need:?} is not named: {told}");
        let declared = commands.iter().any(|command| command.header.needs.contains(&need));
        assert!(declared, "no command declares {need:?}");
    }

    assert!(run_fixes(&servers, &said).await > 20, "{}", said.out);
    // Where the extension was missing, its functions need grants of their own.
    run_fixes(&servers, &world.say(&["check", "--json"]).await).await;
    let said = world.say(&["check", "--json"]).await;
    assert!(said.status == 0 && !texts(&said).contains("doesn't let"), "{}", texts(&said));
    for command in &commands {
        let told = world.runs(&line(command)).await.flat();
        assert!(!told.contains("doesn't let"), "{}: {told}", line(command));
    }
    each_right_that_is_taken_away(&servers, &instead).await;
}

/// A right that is taken away by a statement in a database.
struct TakenAway {
    /// The versions of PostgreSQL that have it, the last one excluded.
    majors: (u32, u32),
    database: &'static str,
    statement: &'static str,
    /// All that `check` names then: several needs can rest on one right.
    needs: &'static [Need],
    /// A command that rests on it.
    command: &'static str,
    /// The words in which both tell, where they aren't the first need's.
    words: &'static str,
}

const fn taken(
    place: (&'static str, &'static str),
    needs: &'static [Need],
    command: &'static str,
) -> TakenAway {
    let (database, statement) = place;
    TakenAway { majors: (13, 99), database, statement, needs, command, words: "" }
}

const fn of_majors(majors: (u32, u32), taken: TakenAway) -> TakenAway {
    TakenAway { majors, ..taken }
}

const fn told_as(words: &'static str, taken: TakenAway) -> TakenAway {
    TakenAway { words, ..taken }
}

/// The database of the service that `enable-stats` is asked for.
const OTHER_DATABASE: &str = "auth_service_db";
const SERVER: &str = "postgres";
const OWN_SCHEMA: (&str, &str) = (
    DATABASE,
    "CREATE SCHEMA own AUTHORIZATION asset_svc; CREATE TABLE own._prisma_migrations (LIKE public._prisma_migrations INCLUDING ALL);
     ALTER TABLE own._prisma_migrations OWNER TO asset_svc",
);
const OF_MONITOR: &[Need] = &[Need::Sessions, Need::Settings, Need::DiskUse];

/// Each need of a login, by each kind of right that it rests on. One line's fixes are the next line's beginning.
const TAKEN_AWAY: &[TakenAway] = &[
    taken((SERVER, "REVOKE pg_monitor FROM need_reader"), OF_MONITOR, "blocked"),
    of_majors((13, 16), taken((SERVER, "ALTER ROLE need_reader NOINHERIT"), OF_MONITOR, "long")),
    of_majors(
        (16, 99),
        taken((SERVER, "GRANT pg_monitor TO need_reader WITH INHERIT FALSE"), OF_MONITOR, "long"),
    ),
    taken(
        (SERVER, "REVOKE EXECUTE ON FUNCTION pg_ls_waldir(), pg_ls_tmpdir(oid) FROM pg_monitor"),
        &[Need::DiskUse],
        "storage",
    ),
    taken(
        (SERVER, "REVOKE pg_monitor FROM need_reader; GRANT pg_read_all_stats TO need_reader"),
        &[Need::Settings],
        "settings",
    ),
    taken(
        (SERVER, "REVOKE pg_read_all_stats FROM pg_monitor, need_reader"),
        &[Need::Sessions, Need::DiskUse],
        "idle",
    ),
    taken(
        (DATABASE, "REVOKE SELECT ON SEQUENCE audit_logs_id_seq FROM need_reader"),
        &[Need::Sequences],
        "sequences",
    ),
    taken(
        (DATABASE, "REVOKE SELECT ON _prisma_migrations FROM need_reader"),
        &[Need::MigrationHistory],
        "migrations",
    ),
    taken(
        (DATABASE, "REVOKE EXECUTE ON FUNCTION pg_stat_statements(boolean) FROM need_reader"),
        &[Need::Statements],
        "slow",
    ),
    // A library that isn't loaded takes a restart: tests/workflow/missing_privileges.rs has one.
    told_as(
        "has no pg_stat_statements",
        taken((DATABASE, "DROP EXTENSION pg_stat_statements"), &[Need::StatementsCreation], "slow"),
    ),
    taken(
        (DATABASE, "REVOKE EXECUTE ON FUNCTION pg_stat_statements(boolean) FROM PUBLIC"),
        &[Need::Statements],
        "slow",
    ),
    // The right to create it is a superuser's, which no GRANT gives: the fix is what the command would have done.
    taken((OTHER_DATABASE, "DROP EXTENSION pg_stat_statements"), &[Need::StatementsCreation], "enable-stats"),
    taken(
        (DATABASE, "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM need_maintain"),
        &[Need::StatementsReset],
        "reset-stats",
    ),
    taken((SERVER, "REVOKE pg_signal_backend FROM need_signal"), &[Need::Signal], "kill"),
    taken((SERVER, "REVOKE pg_monitor, pg_read_all_stats FROM need_signal"), &[Need::Sessions], "cancel"),
    taken(
        (SERVER, "REVOKE asset_svc, auth_svc FROM need_owner"),
        &[Need::MigrationRecord, Need::RowDeletion],
        "migrate",
    ),
    taken(
        (DATABASE, "REVOKE INSERT ON _prisma_migrations FROM asset_svc"),
        &[Need::MigrationRecord],
        "migrate",
    ),
    of_majors(
        (13, 14),
        taken((DATABASE, "REVOKE SELECT ON audit_logs FROM need_dump"), &[Need::AllTables], "backup"),
    ),
    of_majors(
        (14, 99),
        taken((SERVER, "REVOKE pg_read_all_data FROM need_dump"), &[Need::AllTables], "backup"),
    ),
    of_majors(
        (13, 17),
        taken((SERVER, "REVOKE asset_svc FROM need_maintain"), &[Need::Maintenance], "vacuum"),
    ),
    of_majors(
        (17, 99),
        taken((SERVER, "REVOKE pg_maintain FROM need_maintain"), &[Need::Maintenance], "vacuum"),
    ),
    // By default it is everybody's; after these fixes each login has its own.
    of_majors(
        (13, 14),
        taken(
            (DATABASE, "REVOKE USAGE ON SCHEMA public FROM PUBLIC"),
            &[
                Need::MigrationHistory,
                Need::Statements,
                Need::AllTables,
                Need::Maintenance,
                Need::StatementsReset,
                Need::MigrationRecord,
                Need::RowDeletion,
            ],
            "migrations",
        ),
    ),
    of_majors(
        (14, 99),
        taken(
            (DATABASE, "REVOKE USAGE ON SCHEMA public FROM PUBLIC"),
            &[
                Need::MigrationHistory,
                Need::Statements,
                Need::Maintenance,
                Need::StatementsReset,
                Need::MigrationRecord,
                Need::RowDeletion,
            ],
            "migrations",
        ),
    ),
    taken(
        (DATABASE, "REVOKE USAGE ON SCHEMA public FROM need_reader"),
        &[Need::MigrationHistory, Need::Statements],
        "migrations",
    ),
    of_majors(
        (13, 14),
        taken((DATABASE, "REVOKE USAGE ON SCHEMA public FROM need_dump"), &[Need::AllTables], "backup"),
    ),
    taken(
        (DATABASE, "REVOKE USAGE ON SCHEMA public FROM need_maintain"),
        &[Need::Maintenance, Need::StatementsReset],
        "vacuum",
    ),
    told_as(
        "let need_owner delete rows of",
        taken(
            (DATABASE, "REVOKE USAGE ON SCHEMA public FROM need_owner"),
            &[Need::MigrationRecord, Need::RowDeletion],
            "purge",
        ),
    ),
    // A schema of the service's own.
    of_majors((13, 14), taken(OWN_SCHEMA, &[Need::MigrationHistory, Need::AllTables], "migrations")),
    of_majors((14, 17), taken(OWN_SCHEMA, &[Need::MigrationHistory], "migrations")),
    of_majors((17, 99), taken(OWN_SCHEMA, &[Need::MigrationHistory, Need::Maintenance], "migrations")),
    told_as(
        "no CONNECT privilege",
        taken((DATABASE, "REVOKE CONNECT ON DATABASE asset_service_db FROM PUBLIC"), &[], "sizes"),
    ),
    told_as(
        "no CONNECT privilege",
        taken((SERVER, "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC"), &[], "kill-idle"),
    ),
];

/// The configuration with one environment and two services: what is looked at for each of ten is the same.
fn smaller(config: &str) -> String {
    let (before, staging) = config.split_once("[[environments]]\nname = \"staging\"").expect("staging");
    let (_, services) = staging.split_once("[[services]]").expect("services");
    let config = format!("{before}[[services]]{services}");
    let service = Regex::new("\\[\\[services\\]\\]\nname = \"([^\"]+)\"\ndatabase = \"[^\"]+\"\n\n").unwrap();
    let kept = |found: &Captures<'_>| match &found[1] {
        "asset-service" | "auth-service" => found[0].to_owned(),
        _ => String::new(),
    };
    service.replace_all(&config, kept).into_owned()
}

/// Takes each right away by itself: `check` names all that rests on it, a command that needs it refuses in the same words, and both are
/// good again after the fixes that `check` shows.
async fn each_right_that_is_taken_away(servers: &Servers, instead: &[(&str, &str)]) {
    let world = World::on(servers, "U0ANA", instead).await;
    std::fs::create_dir(world.directory().join("here")).unwrap();
    std::fs::write(world.directory().join("countersign.toml"), smaller(&world.stage.config)).unwrap();
    let major = servers.cluster.version_num() / 10_000;
    let commands = commands();
    let check = async || world.say(&["check", "--only", "servers", "--json"]).await;
    let of_logins = || Need::iter().filter(|need| need.login().is_some());
    let is_of_version = |taken: &&TakenAway| (taken.majors.0..taken.majors.1).contains(&major);
    for need in of_logins() {
        assert!(TAKEN_AWAY.iter().any(|taken| taken.needs.contains(&need)), "{need:?} is never taken away");
    }
    for taken in TAKEN_AWAY.iter().filter(is_of_version) {
        let TakenAway { database, statement, needs, .. } = taken;
        servers.does(database, statement).await;
        let command = commands.iter().find(|command| command.name == taken.command).expect("a command");
        let line = line(command);
        let is_told = |text: &str| {
            if taken.words.is_empty() { denies(text, needs[0]) } else { text.contains(taken.words) }
        };

        let said = check().await;
        let checked = texts(&said);
        let named: Vec<Need> = of_logins().filter(|need| denies(&checked, *need)).collect();
        assert_eq!(&named, needs, "{statement}: {checked}");
        let refused = world.runs(&line).await.flat();
        for told in [&checked, &refused] {
            assert!(is_told(told), "{statement}: {line}: {told}");
        }
        assert!(run_fixes(servers, &said).await > 0, "{statement}: {checked}");
        // An extension that was missing brings functions whose grants are shown when it is there.
        run_fixes(servers, &check().await).await;
        let told = world.runs(&line).await.flat();
        assert!(!is_told(&told), "{statement}: {line}: {told}");
    }
    let said = check().await;
    assert!(said.status == 0 && !texts(&said).contains("doesn't let"), "{}", texts(&said));
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_and_directories_that_are_not_there_are_named_in_the_same_words() {
    let people = "[[people]]\nname = \"ana\"";
    let migrate = |program: &str| {
        format!(
            "[migrate]\ndeploy = [\"{program}\"]\nresolve = [\"{program}\", \"{{migration}}\", \"{{as}}\"]\ndirectory = \"here\"\n\n{people}"
        )
    };
    for (program, directory, problem, fix) in [
        (
            "/bin/no-such-program",
            true,
            "The program /bin/no-such-program is not installed where Countersign runs.",
            "Install it",
        ),
        (
            "/bin/true",
            false,
            "The command's working directory here doesn't exist.",
            "Create it, or correct `directory`",
        ),
    ] {
        let world = World::with(
            "U0ANA",
            &[(people, &migrate(program)), ("user = \"countersign_act\"", "user = \"azuresu\"")],
        )
        .await;
        let mut world = world;
        let password = world.servers.cluster.superuser_password().to_owned();
        for environment in ["PRODUCTION", "STAGING"] {
            world.stage.secrets.insert(format!("{environment}_OPERATOR_PASSWORD"), password.clone());
        }
        if directory {
            std::fs::create_dir(world.directory().join("here")).unwrap();
        }
        let said = world.say(&["check", "--only", "host", "--json"]).await;
        assert_eq!(said.status, 1, "{said:?}");
        let checked = texts(&said);
        assert_eq!(checked.matches(fix).count(), 1, "once for all services: {checked}");
        let migrate = world.runs("migrate asset-service --env staging --dry-run").await.flat();
        for told in [checked, migrate] {
            assert!(told.contains(problem) && told.contains(fix), "{problem}: {told}");
        }
    }
    let world = World::usual().await;
    std::fs::write(world.directory().join("backups"), "a file").unwrap();
    // The same words as `backup`'s: tests/workflow/backup.rs.
    let told = texts(&world.say(&["check", "--only", "host", "--json"]).await);
    assert!(
        told.contains(words(Need::BackupDirectory)) && told.contains("write to `directory` of `[backups]`"),
        "{told}"
    );
    std::fs::remove_file(world.directory().join("backups")).unwrap();
    let told = texts(&world.say(&["check", "--only", "host", "--json"]).await);
    assert!(!told.contains(words(Need::BackupDirectory)), "{told}");
    let refused = world.runs("run-sql x asset-service --env staging --dry-run").await.flat();
    let said = world.say(&["check", "--only", "host", "--json"]).await;
    for told in [texts(&said), refused] {
        assert!(
            told.contains(words(Need::SqlDirectory)) && told.contains("Set `directory` in `[sql]`"),
            "{told}"
        );
    }
}

/// Something that the account of the program may not use.
struct Closed<'a> {
    path: &'a str,
    /// While it is closed.
    mode: u32,
    /// A command that needs it.
    line: &'a str,
    words: &'a str,
    fix: &'a str,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_modes_keep_out_of_reach_is_named_in_the_same_words() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().display();
    for directory in ["here", "migrations", "backups"] {
        std::fs::create_dir(files.path().join(directory)).unwrap();
    }
    std::fs::write(files.path().join("deploy"), "#!/bin/sh\n").unwrap();
    let migrate = format!(
        "[migrate]\ndeploy = [\"{path}/deploy\"]\ndirectory = \"{path}/here\"\n\n[[people]]\nname = \"ana\""
    );
    let service = format!("database = \"{DATABASE}\"\nmigrations = \"{path}/migrations\"\n");
    let mut world = World::with(
        "U0ANA",
        &[
            ("[[people]]\nname = \"ana\"", &migrate),
            (&format!("database = \"{DATABASE}\"\n"), &service),
            ("directory = \"backups\"", &format!("directory = \"{path}/backups\"")),
            ("user = \"countersign_act\"", "user = \"azuresu\""),
        ],
    )
    .await;
    let password = world.servers.cluster.superuser_password().to_owned();
    world.stage.secrets.insert("STAGING_OPERATOR_PASSWORD".to_owned(), password.clone());
    world.stage.secrets.insert("PRODUCTION_OPERATOR_PASSWORD".to_owned(), password);
    let set_mode = |path: &str, mode: u32| {
        std::fs::set_permissions(files.path().join(path), Permissions::from_mode(mode)).unwrap();
    };
    let told = async |line: &str| {
        let check = world.say_bound_by_modes(&["check", "--only", "host", "--json"]).await;
        let words: Vec<&str> = ["run"].into_iter().chain(line.split(' ')).collect();
        [texts(&check), world.say_bound_by_modes(&words).await.flat()]
    };
    ["here", "migrations", "backups", "deploy"].iter().for_each(|path| set_mode(path, 0o700));
    for closed in [
        Closed {
            path: "here",
            mode: 0o600,
            line: "migrate asset-service --env staging --dry-run",
            words: "can't be entered: Permission denied",
            fix: "Let the account that Countersign runs as enter it, or correct `directory` in `[migrate]`",
        },
        Closed {
            path: "deploy",
            mode: 0o600,
            line: "migrate asset-service --env staging --dry-run",
            words: "can't be started: Permission denied",
            fix: "Make it executable for the account that Countersign runs as",
        },
        Closed {
            path: "backups",
            mode: 0o500,
            line: "backup asset-service --env staging --dry-run",
            words: "can't be written: ",
            fix: "Let the account that Countersign runs as write to `directory` of `[backups]`",
        },
        Closed {
            path: "migrations",
            mode: 0o000,
            line: "migrations asset-service --env staging",
            words: "the migrations directory can't be read (permission denied): pending migrations are unknown",
            fix: "",
        },
    ] {
        let Closed { path, mode, line, words, fix } = closed;
        set_mode(path, mode);
        for told in told(line).await {
            assert!(told.contains(words) && told.contains(fix), "{path}: {line}: {words}: {fix}: {told}");
        }
        set_mode(path, 0o700);
        for told in told(line).await {
            assert!(!told.contains(words), "{path}: {line}: {told}");
        }
    }
}
