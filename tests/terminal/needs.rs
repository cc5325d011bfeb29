//! What the commands' headers need, taken away: `check` names each need with its fix, the command refuses in the same words, and the
//! fixes that `check` shows are enough for both.

use crate::harness::{Said, Servers, World};
use crate::rights::{TAKEN_AWAY, TakenAway};
use countersign::catalog::{Catalog, Command, Need, Scope};
use countersign::model::{LoginKind, Risk};
use regex::{Captures, Regex};
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use strum::IntoEnumIterator;

pub const DATABASE: &str = "asset_service_db";

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
