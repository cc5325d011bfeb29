//! `countersign init`: the configuration that it writes is accepted by `check` and answers; it never overwrites one.

use crate::harness::World;
use countersign::config::Config;
use std::os::unix::fs::PermissionsExt;

/// The options for one of the servers of the tests.
fn options(world: &World<'_>, platform: &str) -> Vec<String> {
    let server = format!("127.0.0.1:{}", world.servers.cluster.port());
    let options = ["init", "--config", "mine.toml", "--platform", platform, "--environment", "staging"];
    let more =
        ["--service", "auth-service=auth_service_db", "--person", "ana", "--directory", ".", "--server"];
    let options = options.into_iter().chain(more).map(str::to_owned);
    options.chain([server]).collect()
}

async fn init(world: &World<'_>, platform: &str) -> String {
    let options = options(world, platform);
    let said = world.say(&options.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.err.is_empty(), "all was answered beforehand: {}", said.err);
    said.out
}

/// The arguments of the line that the program says to type next.
fn next(out: &str) -> Vec<&str> {
    let line = out.lines().find_map(|line| line.strip_prefix("Next: countersign "));
    line.unwrap_or_else(|| panic!("a next step: {out}")).split(' ').collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_works_as_it_is_written() {
    let world = World::usual().await;
    let out = init(&world, "none").await;
    assert_eq!(next(&out), ["check", "--only", "servers", "--config", "mine.toml"]);
    assert!(out.contains("STAGING_READER_PASSWORD and\nSTAGING_OPERATOR_PASSWORD"), "{out}");
    let said = world.say(&next(&out)).await;
    assert!(said.status == 0 && said.out.starts_with("OK: All checks of the servers passed."), "{said:?}");
    let said = world.say(&["check", "--config", "mine.toml"]).await;
    assert!(said.status == 0 && said.out.starts_with("OK: All checks passed."), "{said:?}");
    let said =
        world.say(&["run", "--config", "mine.toml", "sizes", "auth-service", "--env", "staging"]).await;
    assert!(said.status == 0 && said.out.contains("ana requested sizes auth-service on staging"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_are_checked_before_the_chat_is_set_up() {
    for (platform, missing) in [("slack", "SLACK_BOT_TOKEN"), ("teams", "TEAMS_CLIENT_SECRET")] {
        let mut world = World::usual().await;
        world.stage.secrets.retain(|name, _| name.starts_with("STAGING_"));
        let out = init(&world, platform).await;
        let said = world.say(&next(&out)).await;
        assert!(said.status == 0 && said.out.starts_with("OK: "), "{platform}: {said:?}");
        let said = world.say(&["check", "--config", "mine.toml"]).await;
        assert!(said.status == 1 && said.err.contains(missing), "{platform}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_there_is_never_overwritten() {
    let world = World::usual().await;
    let path = world.directory().join("mine.toml");
    std::fs::write(&path, "kept").unwrap();
    let options = options(&world, "none");
    let said = world.say(&options.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(said.status == 1 && said.err.contains("never overwritten"), "{said:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    let said = world.say(&["init"]).await;
    assert!(said.status == 1 && said.err.contains("countersign.toml is there already"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn six_questions_are_asked_and_a_wrong_answer_again() {
    let world = World::usual().await;
    let server = format!("127.0.0.1:{}\n", world.servers.cluster.port());
    let typed = ["irc\nnone\n", "Prod 1\nproduction\n", "db:99999\nuser@host\n", &server, "auth-service\n"];
    let typed = typed.concat() + "auth-service=auth_service_db\n\n.\n";
    let said = world.say_typing(&typed, &["init", "--config", "mine.toml"]).await;
    assert_eq!(said.status, 0, "{said:?}");
    let asked = |text: &str| said.err.matches(text).count();
    assert_eq!(
        ["Chat platform", "first environment", "server, host", "A service", "Your name", "Directory"]
            .map(asked),
        [2, 2, 3, 2, 1, 1],
        "{}",
        said.err
    );
    for complaint in [
        "the chat platform is slack, teams or none",
        "`name` must be 1 to 63 lower-case letters",
        "\"99999\" is no port",
        "`host` must be a host's name or IP address",
        "are written like asset-service=asset_service_db",
    ] {
        assert_eq!(asked(complaint), 1, "{complaint}: {}", said.err);
    }
    let said = world.say(&["check", "--config", "mine.toml", "--only", "servers"]).await;
    assert_eq!(said.status, 0, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_missing_or_wrong_writes_nothing() {
    let world = World::usual().await;
    for (arguments, words) in [
        (vec!["init", "--config", "mine.toml"], "give --server"),
        (vec!["init", "--config", "mine.toml", "--server", "db.example.com"], "give --service"),
        (vec!["init", "--config", "mine.toml", "--server", "db.example.com:x"], "--server can't be"),
        (vec!["init", "--config", "mine.toml", "--platform", "irc"], "--platform can't be \"irc\""),
        (vec!["init", "--config", "mine.toml", "--environment", "a b"], "--environment can't be \"a b\""),
    ] {
        let said = world.say(&arguments).await;
        assert!(said.status == 1 && said.err.contains(words), "{arguments:?}: {said:?}");
        assert!(!world.directory().join("mine.toml").exists(), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_clearly_something_else_is_no_production() {
    let world = World::usual().await;
    for (index, (environment, server, production, tls)) in [
        ("production", "db.example.com", true, "verified"),
        ("prod-eu", "db.example.com:5433", true, "verified"),
        ("live", "10.0.0.7", true, "verified"),
        ("main", "localhost:5433", true, "off"),
        ("staging", "::1", false, "off"),
        ("dev-2", "[::1]:5433", false, "off"),
        ("1st-test", "db.example.com", false, "verified"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = format!("{index}.toml");
        let path = world.directory().join(&file);
        let arguments = ["init", "--config", &file, "--environment", environment, "--server", server];
        for umask in ["022", "077"] {
            let _ = std::fs::remove_file(&path);
            let said = world.say_under(umask, &[&arguments[..], &["--service", "a=b"]].concat()).await;
            assert_eq!(said.status, 0, "{said:?}");
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o640,
                "umask {umask}"
            );
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("\ntls = \"{tls}\"\n")), "{environment}: {text}");
        let config =
            Config::load(&path, &|_| Some("set".to_owned())).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(config.environments[0].production, production, "{environment}");
    }
}
