//! Secrets come from outside, and no report holds one.

use super::{MINIMAL, all_set, problems, reports, with};
use countersign::config::Config;
use secrecy::ExposeSecret;

#[test]
fn secrets_are_named_never_written() {
    let like = "a secret kept outside this file, { env = \"VARIABLE\" } or { file = \"path\" }";
    reports(
        r#"bot_token = { env = "BOT" }"#,
        r#"bot_token = "hush-literal""#,
        &[&format!("deploy/x.toml:31:13: `bot_token` must be {like}, not a string")],
    );
    reports(
        r#"signing_secrets = [{ env = "SIGNING" }]"#,
        r#"signing_secrets = ["hush-literal"]"#,
        &[&format!("deploy/x.toml:32:20: each of `signing_secrets` must be {like}, not a string")],
    );
    reports(
        r#"bot_token = { env = "BOT" }"#,
        r#"bot_token = { env = "hush-literal-in-the-wrong-place" }"#,
        &["deploy/x.toml:31:21: `env` must be the name of a variable: letters, digits and `_`"],
    );
    reports(
        r#"password = { env = "READER" }"#,
        r#"password = { env = "READER", file = "reader" }"#,
        &["deploy/x.toml:14:12: a secret is named either by `env` or by `file`"],
    );
    reports(
        r#"bot_token = { env = "BOT" }"#,
        "",
        &[&format!("deploy/x.toml:29:1: missing key `bot_token`: {like}")],
    );
}

#[test]
fn a_variable_that_is_unset_empty_or_many_lines_is_named() {
    let env = |name: &str| match name {
        "BOT" => Some("\n".into()),
        "READER" => None,
        "OPERATOR" => Some("hush\nhush".into()),
        other => all_set(other),
    };
    let report = Config::parse("x.toml", MINIMAL, &env).expect_err("three mistakes").to_string();
    assert_eq!(
        report.lines().collect::<Vec<_>>(),
        [
            "x.toml:14:12: the variable `READER` is not set",
            "x.toml:17:12: the secret has several lines or control characters in it",
            "x.toml:31:13: the variable `BOT` is empty",
        ]
    );
}

#[test]
fn a_secret_file_stands_beside_the_configuration_and_loses_its_last_newline() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("a file");
    file("token", "hush-in-a-file\r\n");
    file("void", "\n");
    let text = with(r#"{ env = "BOT" }"#, r#"{ file = "token" }"#);
    file("countersign.toml", &text);
    let config = Config::load(&directory.path().join("countersign.toml"), &all_set);
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let token = config.chat.slack.as_ref().map(|slack| slack.bot_token.expose_secret().to_owned());
    assert_eq!(token.as_deref(), Some("hush-in-a-file"));
    assert_eq!(config.store.file(), Some(&directory.path().join("countersign.db")));
    assert!(!format!("{config:?}").contains("hush"));

    file(
        "countersign.toml",
        &text.replace("token\" }", "void\" }").replace("{ env = \"READER\" }", "{ file = \"no\" }"),
    );
    let report =
        Config::load(&directory.path().join("countersign.toml"), &all_set).expect_err("two").to_string();
    let found: Vec<_> = report.lines().map(|line| line.split(".toml:").nth(1).unwrap_or_default()).collect();
    assert_eq!(found, ["14:12: the file `no` doesn't exist", "31:13: the file `void` is empty"]);
}

#[test]
fn signing_secrets_are_one_or_two() {
    let line = r#"signing_secrets = [{ env = "SIGNING" }]"#;
    let none = "`signing_secrets` must name at least one: without it no request can be trusted";
    reports(line, "signing_secrets = []", &[&format!("deploy/x.toml:32:19: {none}")]);
    reports(line, "", &[&format!("deploy/x.toml:29:1: {none}")]);
    let many = r#"signing_secrets = [{ env = "A" }, { env = "B" }, { env = "C" }]"#;
    let found = problems(&with(line, many));
    assert!(found[0].starts_with("deploy/x.toml:32:19: `signing_secrets` are two at most"), "{found:?}");

    let second = with(line, r#"signing_secrets = [{ env = "SIGNING" }, { env = "NEXT", optional = true }]"#);
    let config = Config::parse("x.toml", &second, &|name| all_set(name).filter(|_| name != "NEXT"));
    assert_eq!(
        config.expect("an absent successor is fine").chat.slack.expect("slack").signing_secrets.len(),
        1
    );
    let only = with(line, r#"signing_secrets = [{ env = "NEXT", optional = true }]"#);
    let report = Config::parse("x.toml", &only, &|name| all_set(name).filter(|_| name != "NEXT"));
    assert_eq!(
        report.expect_err("none").to_string(),
        "x.toml:32:19: `signing_secrets` needs at least one that exists"
    );
}
