//! The configuration's loader: what is right loads, and every mistake is reported with its place.

use countersign::config::Config;
use std::path::Path;
use std::time::Duration;

mod approval;
mod example;
mod links;
mod migrate;
mod reference;
mod rules;
mod secrets;
mod teams;
mod values;

/// The smallest good configuration; `with` replaces a line of it.
const MINIMAL: &str = r#"listen = "127.0.0.1:8080"
[store]
path = "countersign.db"
[backups]
directory = "backups"
[[environments]]
name = "production"
production = true
[[environments.servers]]
name = "primary"
host = "db.example.com"
[environments.logins.reader]
user = "looker"
password = { env = "READER" }
[environments.logins.operator]
user = "doer"
password = { env = "OPERATOR" }
[[services]]
name = "asset-service"
database = "asset_service_db"
[[people]]
name = "Ana"
slack = ["U0ANA"]
roles = ["on-call"]
[[access]]
role = "on-call"
environments = ["*"]
run = ["read"]
[slack]
workspaces = ["T0TEAM"]
bot_token = { env = "BOT" }
signing_secrets = [{ env = "SIGNING" }]
"#;

/// Every variable holds a secret that is easy to find in a report.
fn all_set(name: &str) -> Option<String> {
    Some(format!("hush-{}", name.to_lowercase()))
}

fn with(line: &str, instead: &str) -> String {
    assert!(MINIMAL.contains(line), "{line} is no line of the minimal configuration");
    MINIMAL.replacen(line, instead, 1)
}

fn problems(text: &str) -> Vec<String> {
    let report = Config::parse("deploy/x.toml", text, &all_set).expect_err("a mistake").to_string();
    assert!(!report.contains("hush"), "a secret in {report}");
    report.lines().map(String::from).collect()
}

/// One replaced line, and all that is reported of it.
#[track_caller]
fn reports(line: &str, instead: &str, expected: &[&str]) {
    assert_eq!(problems(&with(line, instead)), expected);
}

#[test]
fn the_minimal_configuration_has_the_defaults() {
    let config =
        Config::parse("deploy/x.toml", MINIMAL, &all_set).unwrap_or_else(|problems| panic!("{problems}"));
    let environment = &config.environments[0];
    assert_eq!(environment.maintenance_database, "postgres");
    assert_eq!((environment.connections, environment.servers[0].port), (12, 5432));
    assert_eq!(environment.connect_timeout, Duration::from_secs(3));
    assert_eq!(environment.lock_timeout, Duration::from_secs(2));
    assert_eq!(config.approval.start_within, Duration::from_secs(600));
    assert_eq!(config.store.file().unwrap(), Path::new("deploy/countersign.db"));
    assert_eq!(config.backups.directory, Path::new("deploy/backups"));
    assert_eq!(config.commands, None);
    assert_eq!(config.hash.len(), 64);
}

#[test]
fn an_empty_file_lacks_everything_at_once() {
    assert_eq!(
        problems(""),
        [
            "deploy/x.toml:1:1: at least one environment is needed: [[environments]]",
            "deploy/x.toml:1:1: at least one service is needed: [[services]]",
            "deploy/x.toml:1:1: missing key `store`",
            "deploy/x.toml:1:1: missing key `listen`",
            "deploy/x.toml:1:1: missing key `backups`",
        ]
    );
}

#[test]
fn a_file_with_windows_line_ends_loads_and_its_mistakes_keep_their_places() {
    let config = Config::parse("x.toml", &MINIMAL.replace('\n', "\r\n"), &all_set);
    assert!(config.is_ok(), "{}", config.expect_err("problems"));
    let broken = with(r#"role = "on-call""#, r#"rolle = "on-call""#);
    assert_eq!(problems(&broken.replace('\n', "\r\n")), problems(&broken));
}

#[test]
fn a_byte_order_mark_is_no_mistake_and_moves_nothing() {
    assert!(Config::parse("x.toml", &format!("\u{feff}{MINIMAL}"), &all_set).is_ok());
    let broken = format!("\u{feff}{}", with("listen =", "lissten ="));
    assert!(problems(&broken)[1].starts_with("deploy/x.toml:1:1: unknown key `lissten`"));
}

#[test]
fn several_mistakes_come_in_one_report_in_the_order_of_the_file() {
    let text = with("production = true\n", "")
        .replace("[[services]]", "[[servics]]")
        .replace(r#"name = "Ana""#, "name = 7")
        .replace(r#"listen = "127.0.0.1:8080""#, "listen = true");
    assert_eq!(
        problems(&text),
        [
            "deploy/x.toml:1:1: at least one service is needed: [[services]]",
            "deploy/x.toml:1:10: `listen` must be a string, not a boolean",
            "deploy/x.toml:6:1: missing key `production` of `environments`",
            "deploy/x.toml:17:3: unknown key `servics`; did you mean `services`?",
            "deploy/x.toml:21:8: `name` must be a string, not a whole number",
        ]
    );
}

#[test]
fn unknown_keys_and_wrong_types() {
    reports(
        r#"database = "asset_service_db""#,
        "database = [\"asset_service_db\"]\nsise = \"small\"",
        &[
            "deploy/x.toml:20:12: `database` must be a string, not an array",
            "deploy/x.toml:21:1: unknown key `sise`; did you mean `size`?",
        ],
    );
    reports(
        "[environments.logins.operator]",
        "[environments.logins.operatr]",
        &[
            "deploy/x.toml:12:15: missing key `operator` of `environments.logins`",
            "deploy/x.toml:15:22: unknown key `operatr`; did you mean `operator`?",
        ],
    );
    reports(
        r#"roles = ["on-call"]"#,
        r#"roles = ["on-call", 7]"#,
        &["deploy/x.toml:24:21: `roles` must hold strings only, not a whole number"],
    );
    reports(
        "[slack]",
        "[approval]\nwait = 30\n[slack]",
        &["deploy/x.toml:30:8: `wait` must be a duration like \"30s\", not a whole number"],
    );
}

#[test]
fn what_is_no_toml_is_reported_alone() {
    let found = problems(&with("[store]", "[store"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("deploy/x.toml:2:7: "), "{found:?}");
    let found = problems(&with(r#"{ env = "BOT" }"#, "\"hush-without-an-end"));
    assert!(found[0].starts_with("deploy/x.toml:31:"), "{found:?}");
    let found = problems(&with("production = true", "production = true\nproduction = false"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("deploy/x.toml:9:1: duplicate key: set each key once"), "{found:?}");
}

#[test]
fn mistakes_of_syntax_say_what_to_write_instead() {
    let listen = r#"listen = "127.0.0.1:8080""#;
    let quoted = "straight double quotes";
    for (old, new, line, advice) in [
        (listen, "listen = 127.0.0.1:8080", 1, quoted),
        (listen, "listen = “127.0.0.1:8080”", 1, quoted),
        (listen, "listen = localhost", 1, quoted),
        (listen, "listen = \"127.0.0.1:8080", 1, "text begins and ends with a straight double quote"),
        (listen, r#"listen = "C:\data""#, 1, "a backslash is written twice"),
        (listen, "listen: \"127.0.0.1:8080\"", 1, "a line is `key = value`"),
        (listen, "listen\u{a0}= \"127.0.0.1:8080\"", 1, "a line is `key = value`"),
        (listen, "{\"listen\": \"127.0.0.1:8080\"}", 1, "a line is `key = value`"),
        (r#"roles = ["on-call"]"#, r#"roles = ["on-call" "dba"]"#, 24, "separate the values by commas"),
        (r#"{ env = "BOT" }"#, r#"{ env = "BOT""#, 32, "end `{` with `}` on the same line"),
        ("[[services]]", "[environments]", 18, "begin each with double brackets"),
    ] {
        let found = problems(&with(old, new));
        let start = format!("deploy/x.toml:{line}:");
        assert!(found[0].starts_with(&start) && found[0].contains(advice), "{new}: {found:?}");
        assert!(found.len() <= 5, "{new}: {found:?}");
    }
    let found = problems(&with(listen, listen).replace('\n', "\r"));
    assert!(found.len() == 1 && found[0].contains("line ends of Unix or Windows"), "{found:?}");
}

#[test]
fn mistakes_are_told_without_a_backtrace() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    std::fs::write(&path, with("listen =", "lissten =")).expect("a file");
    let (mistaken, missing) =
        (path.display().to_string(), directory.path().join("y.toml").display().to_string());
    for (arguments, status, expected) in [
        (["serve", "--config", mistaken.as_str()], 1, "unknown key `lissten`"),
        (["check", "--config", mistaken.as_str()], 1, "unknown key `lissten`"),
        (["check", "--config", missing.as_str()], 1, "the configuration can't be read"),
        (["run", "--config", missing.as_str()], 2, "the configuration can't be read"),
    ] {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_countersign"));
        program.env_clear().env("RUST_BACKTRACE", "full").env("RUST_LIB_BACKTRACE", "1").args(arguments);
        let output = program.output().expect("the program");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(text.starts_with("Error: configuring\n\nCaused by:\n    "), "{text}");
        assert!(text.contains(expected), "{text}");
        let lower = text.to_lowercase();
        assert!(
            !lower.contains("backtrace") && !lower.contains("anyhow") && !text.contains(".rs:"),
            "{text}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    let report = Config::load(&path, &all_set).expect_err("no file").to_string();
    assert!(
        report.starts_with(&format!("{}: the configuration can't be read: ", path.display())),
        "{report}"
    );
    std::fs::write(&path, b"listen = \"\xff\"\n").expect("a file");
    let report = Config::load(&path, &all_set).expect_err("no text").to_string();
    assert_eq!(report, format!("{}:1:11: this is not UTF-8 text", path.display()));
}
