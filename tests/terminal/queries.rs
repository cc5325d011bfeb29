//! Questions: answered, refused, recorded, as in chat.

use crate::harness::{Servers, World};
use countersign::config::login_name;
use countersign::demo::free_port;
use countersign::model::{PlatformKind, RunState};

#[tokio::test(flavor = "multi_thread")]
async fn health_is_answered_and_recorded() {
    let world = World::usual().await;
    let said = world.runs("health --env staging").await;
    assert_eq!(said.status, 0, "{said:?}");
    said.is_fit_for_a_terminal();
    assert!(said.out.contains("\nana requested health on staging · #1\n"), "{}", said.out);
    assert_eq!(said.out.lines().filter(|line| line.starts_with("asset-service ")).count(), 1, "{}", said.out);
    assert_eq!(said.err, "");

    let [run] = world.recorded().await.try_into().expect("one run");
    assert_eq!((run.state, run.request.requester.id.as_str()), (RunState::Succeeded, "ana"));
    let sender = run.request.sender.expect("an account");
    assert_eq!((sender.platform, sender.account), (PlatformKind::Terminal, login_name()));

    let history = world.runs("history --reads --who ana").await;
    assert!(history.out.contains("health"), "{}", history.out);
    // The question itself is no answer to it.
    assert!(history.out.contains("1 run.") && !history.out.contains("running"), "{}", history.out);
    let said = world.say(&["run", "health", "asset", "--env", "production"]).await;
    assert!(said.out.contains("health asset-service on PRODUCTION"), "{}", said.out);
}

/// The verdict, the exit status, the JSON and the audit log agree on how much was answered.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_whole_has_a_status_of_its_own() {
    let closed = free_port().unwrap();
    let servers = Servers::shared().await;
    let production = format!(
        "[[environments.servers]]\nname = \"main\"\nhost = \"{}\"\nport = {}\n[environments.logins.reader]\nuser = \"countersign_read\"\npassword = {{ env = \"PRODUCTION_READER_PASSWORD\" }}",
        servers.cluster.host(),
        servers.cluster.port()
    );
    let dead = production.replace(&format!("port = {}", servers.cluster.port()), &format!("port = {closed}"));
    let lost = ("database = \"payout_service_db\"", "database = \"lost\"");
    let world = World::with("U0ANA", &[(&production, &dead), lost]).await;
    for (line, status, coverage, state, words) in [
        ("health asset --env staging", 0, "whole", RunState::Succeeded, "asset-service: no backup"),
        (
            "health --env staging",
            3,
            "partial",
            RunState::Partial,
            "CRITICAL: No whole answer from payout-service.",
        ),
        (
            "sizes payout-service --env staging",
            1,
            "none",
            RunState::Failed,
            "CRITICAL: No result from payout-service.",
        ),
        ("health --env production", 1, "none", RunState::Failed, "CRITICAL: No server answered."),
        ("sizes asset --env production", 1, "none", RunState::Failed, "CRITICAL: No server answered."),
        (
            "environments --env production",
            1,
            "none",
            RunState::Failed,
            "CRITICAL: No answer from production/main.",
        ),
        ("environments", 3, "partial", RunState::Partial, "CRITICAL: No answer from production/main."),
        ("services", 3, "partial", RunState::Partial, "CRITICAL: No answer from production/main."),
    ] {
        let said = world.runs(line).await;
        assert!(said.status == status && said.flat().contains(words), "{line}: {said:?}");
        assert_eq!(world.recorded().await[0].state, state, "{line}: {said:?}");
        let json = world.runs(&format!("{line} --json")).await;
        assert_eq!((json.status, json.json()["coverage"].as_str()), (status, Some(coverage)), "{line}");
    }
    let history = world.runs("history --reads --failed").await;
    assert!(history.out.contains("!! failed") && history.out.contains("!! partial"), "{}", history.out);
    assert!(!history.out.contains("succeeded"), "{}", history.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_say_what_to_type_and_change_nothing() {
    let world = World::usual().await;
    for (line, words) in [
        ("helth --env staging", "WARNING: There is no command “helth”."),
        ("helth --env staging", "Did you mean `countersign run health`?"),
        (
            "health",
            "Type `countersign run health --env production` or `countersign run health --env staging`, or set one with `countersign run use <environment>`.",
        ),
        ("health --env stagin", "Did you mean `--env staging`?"),
        ("health --dry-run --env staging", "it has no dry run"),
        ("kill 0 --env staging", "pid"),
        ("sizes asset-service surplus --env staging", "“surplus”"),
    ] {
        let said = world.runs(line).await;
        assert!(said.status == 1 && said.flat().contains(words), "{line}: {said:?}");
        said.is_fit_for_a_terminal();
        let json = world.runs(&format!("{line} --json")).await;
        assert_eq!((json.status, json.json()["verdict"]["tone"].as_str()), (1, Some("warning")), "{json:?}");
    }
    assert_eq!(world.recorded().await, []);
}

/// Who logged in, or else whom the process belongs to, as `id` names them.
#[test]
fn the_system_says_who_it_is() {
    let id = |arguments: &[&str]| {
        let output = std::process::Command::new("id").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let logged_in = std::fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    let uid = Some(logged_in.trim()).filter(|uid| !uid.is_empty() && *uid != "4294967295");
    let uid = uid.map_or_else(|| id(&["-u"]), str::to_owned);
    assert_eq!(login_name(), id(&["-un", "--", &uid]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_at_the_terminal_gets_nothing() {
    let mut world = World::usual().await;
    // Anybody can say these of themselves.
    for variable in ["USER", "LOGNAME", "SUDO_USER"] {
        world.stage.secrets.insert(variable.to_owned(), "somebody-else".to_owned());
    }
    let strange = world.stage.config.replace("terminal = [", "terminal = [\"somebody-else\"] #");
    std::fs::write(world.directory().join("other.toml"), strange).unwrap();
    for line in ["health --env staging", "help", "freeze", ""] {
        let said = world.runs(&format!("{line} --config other.toml")).await;
        assert_eq!(said.status, 1, "{said:?}");
        assert!(said.out.starts_with("WARNING: You are not in Countersign's list of people"), "{}", said.out);
        assert!(said.flat().contains(&format!("`{}`", login_name())), "{}", said.out);
    }
    assert_eq!(world.recorded().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_the_chat_hold_here() {
    let dan = World::with("U0DAN", &[]).await;
    for line in ["kill 4711 --env staging", "kill 4711 --env staging --dry-run", "freeze", "use staging"] {
        let said = dan.runs(line).await;
        assert_eq!(said.status, 1, "{said:?}");
        assert!(said.out.starts_with("WARNING: You may not run `"), "{}", said.out);
    }
    assert_eq!(dan.runs("sizes --env staging").await.status, 0);
    let help = dan.runs("help").await;
    assert!(help.status == 0 && !help.out.contains("kill"), "{}", help.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_the_shape_that_is_promised() {
    let world = World::usual().await;
    let said = world.say(&["run", "--json", "sizes", "asset-service", "--env", "production"]).await;
    assert_eq!(said.status, 0, "{said:?}");
    let json = said.json();
    assert_eq!(json["version"], 1);
    assert_eq!((&json["requester"], &json["command"]), (&"ana".into(), &"sizes asset-service".into()));
    assert_eq!(json["environment"], serde_json::json!({ "name": "production", "production": true }));
    assert_eq!(json["run"], 1);
    assert_eq!(json["blocks"][0]["kind"], "verdict");
    let blocks = json["blocks"].as_array().unwrap();
    let tables = blocks.iter().find(|block| block["title"] == "Tables").expect("the tables");
    assert_eq!(tables["columns"][1], serde_json::json!({ "title": "size", "align": "right" }));
    let names = tables["rows"].as_array().unwrap().iter().map(|row| row["cells"][0]["text"].as_str());
    assert!(names.flatten().any(|name| name == "asset_versions"), "{tables}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_to_terminals_arrives_escaped() {
    let world = World::usual().await;
    let table = "evil\u{1b}[31m\u{9b}2J\u{202e}\n\u{7}x";
    world.servers.does("rights_service_db", &format!("CREATE TABLE \"{table}\" (id int)")).await;
    let said = world.runs("sizes rights-service --env staging").await;
    said.is_fit_for_a_terminal();
    assert!(said.out.contains(r"evil\x1b[31m"), "{}", said.out);
    let said = world.runs("sizes rights-service --env staging --json").await;
    said.is_inert();
    assert!(said.out.contains(r"evil\u001b[31m\u009b2J\u202e"), "{}", said.out);
    let blocks = said.json()["blocks"].to_string();
    assert!(blocks.contains("evil\\u001b[31m\u{9b}2J"), "the same name for whoever reads it: {blocks}");
    // What a person types comes back, too.
    let said = world.say(&["run", "health\u{1b}[2J", "--env", "staging\u{1b}[2J"]).await;
    assert_eq!(said.status, 1);
    said.is_fit_for_a_terminal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_keeps_the_quotes_that_the_shell_left() {
    let world = World::usual().await;
    world.servers.does("asset_service_db", "CREATE TABLE \"quo\"\"ted one\" (id int)").await;
    for name in ["quo\"ted one", "\"quo\"\"ted one\"", "QUO\"TED one"] {
        let said =
            world.say(&["run", "vacuum", "asset-service", name, "--env", "staging", "--dry-run"]).await;
        let told = said.flat();
        assert!(
            told.contains("public.\"quo\"\"ted one\"") && !told.contains("has no table"),
            "{name}: {told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_countersign_has_another_status() {
    let world = World::usual().await;
    let said = world.say(&["run", "health", "--config", "nowhere.toml"]).await;
    assert_eq!(said.status, 2);
    assert!(said.err.contains("nowhere.toml: the configuration can't be read"), "{said:?}");
    let wrong = world.stage.config.replace("production = true", "prodution = true");
    std::fs::write(world.directory().join("wrong.toml"), wrong).unwrap();
    let said = world.say(&["run", "health", "--config", "wrong.toml"]).await;
    assert!(said.status == 2 && said.err.contains("did you mean `production`?"), "{said:?}");
}
