//! What the commands' headers need, taken away: `check` names each need with its mend, the command refuses in the same words, and the
//! mends that `check` shows are enough for both.

use crate::harness::{Said, Servers, World};
use countersign::catalog::{Catalog, Command, Need, Scope};
use countersign::model::{LoginKind, Risk};
use regex::Regex;
use serde_json::Value;
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
        Need::BackupDirectory => "backup storage can't be written",
        Need::MigrateProgram => "is not installed where Countersign runs",
        Need::SqlDirectory => "No directory of SQL files is configured.",
    }
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
    let instead = vec![
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

/// Runs each statement that `check` shows, in each database that it is shown for, as a DBA would paste it.
async fn run_mends(servers: &Servers, said: &Said) -> usize {
    let statement = Regex::new("([^`]*)`([^`]+;)`").unwrap();
    let place = Regex::new(r"main(?:/(\w+)| as \w+)").unwrap();
    let mut count = 0;
    let (production, _) = said.out.split_once("\nstaging\n").expect("two environments");
    for paragraph in production.split("\n\n").filter(|paragraph| !paragraph.contains('─')) {
        let flat = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        for found in statement.captures_iter(&flat) {
            for place in place.captures_iter(&found[1]) {
                servers.does(place.get(1).map_or("postgres", |name| name.as_str()), &found[2]).await;
                count += 1;
            }
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
    let said = world.say(&["check"]).await;
    assert_eq!(said.status, 1, "{said:?}");
    let told = texts(&world.say(&["check", "--json"]).await);
    for need in Need::iter().filter(|need| need.login().is_some()) {
        assert!(told.contains(words(need)), "{need:?} is not named: {told}");
        let declared = commands.iter().any(|command| command.header.needs.contains(&need));
        assert!(declared, "no command declares {need:?}");
    }

    assert!(run_mends(&servers, &said).await > 20, "{}", said.out);
    // Where the extension was missing, its functions need grants of their own.
    run_mends(&servers, &world.say(&["check"]).await).await;
    let said = world.say(&["check", "--json"]).await;
    assert!(said.status == 0 && !texts(&said).contains("doesn't let"), "{}", texts(&said));
    for command in &commands {
        let told = world.runs(&line(command)).await.flat();
        assert!(!told.contains("doesn't let"), "{}: {told}", line(command));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_and_directories_that_are_not_there_are_named_in_the_same_words() {
    let people = "[[people]]\nname = \"ana\"";
    let migrate = |program: &str| {
        format!(
            "[migrate]\ndeploy = [\"{program}\"]\nresolve = [\"{program}\", \"{{migration}}\", \"{{as}}\"]\ndirectory = \"here\"\n\n{people}"
        )
    };
    for (program, directory, problem, mend) in [
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
        assert_eq!(checked.matches(mend).count(), 1, "once for all services: {checked}");
        let migrate = world.runs("migrate asset-service --env staging --dry-run").await.flat();
        for told in [checked, migrate] {
            assert!(told.contains(problem) && told.contains(mend), "{problem}: {told}");
        }
    }
    let world = World::usual().await;
    let refused = world.runs("run-sql x asset-service --env staging --dry-run").await.flat();
    let said = world.say(&["check", "--only", "host", "--json"]).await;
    for told in [texts(&said), refused] {
        assert!(
            told.contains(words(Need::SqlDirectory)) && told.contains("Set `directory` in `[sql]`"),
            "{told}"
        );
    }
}
