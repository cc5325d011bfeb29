//! The section `[teams]`: what is wrong is told with its place, and no secret goes where nobody may read it.

use super::{MINIMAL, all_set, problems};
use countersign::config::Config;
use std::path::Path;

const TEAMS: &str = r#"[teams]
app_id = "11111111-1111-1111-1111-111111111111"
tenants = ["22222222-2222-2222-2222-222222222222"]
"#;

#[test]
fn the_public_cloud_and_the_managed_identity_are_the_default() {
    let config = Config::parse("x.toml", &format!("{MINIMAL}{TEAMS}"), &all_set)
        .unwrap_or_else(|problems| panic!("{problems}"));
    let teams = config.chat.teams.expect("Teams");
    assert!(teams.client_secret.is_none());
    assert_eq!(teams.service_url, "https://smba.trafficmanager.net/teams/");
    assert_eq!(teams.service_hosts, ["smba.trafficmanager.net"]);
    assert_eq!(teams.issuer, "https://api.botframework.com");
    assert!(teams.openid_url.starts_with("https://login.botframework.com/"));
}

#[test]
fn what_is_wrong_is_told() {
    for (old, new, says) in [
        ("\"11111111-", "\"X1111111-", "the bot's application (client) id"),
        ("[\"22222222-2222-2222-2222-222222222222\"]", "[]", "only those get an answer"),
        ("[\"22222222-2222-2222-2222-222222222222\"]", "[\"contoso\"]", "is no tenant's id"),
        ("tenants", "service_url = \"http://elsewhere.example/\"\ntenants", "an https URL"),
        ("tenants", "openid_url = \"http://elsewhere.example/\"\ntenants", "an https URL"),
        ("tenants", "login_url = \"http://elsewhere.example/\"\ntenants", "an https URL"),
        ("tenants", "client_secret = \"hush\"\ntenants", "a secret kept outside this file"),
        ("tenants", "terminal_channel = \"general\"\ntenants", "19:…@thread.tacv2"),
        ("tenants", "groups = { nobody = \"19:x@thread.tacv2\" }\ntenants", "no [[access]] names a role"),
        ("tenants", "groups = { on-call = \"S0GROUP\" }\ntenants", "is no conversation's id"),
        ("tenants", "webhook = \"x\"\ntenants", "webhook"),
    ] {
        let wrong = problems(&format!("{MINIMAL}{}", TEAMS.replacen(old, new, 1)));
        assert!(wrong.iter().any(|problem| problem.contains(says)), "{new}: {wrong:#?}");
    }
}

#[test]
fn the_examples_section_works_once_it_is_no_comment() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/countersign.example.toml");
    let text = std::fs::read_to_string(&path).expect("the example");
    let (before, section) = text.split_once("# [teams]\n").expect("the section");
    let (section, after) = section.split_once("\n\n").expect("its end");
    let section: Vec<&str> =
        section.lines().map(|line| line.strip_prefix("# ").expect("a comment")).collect();
    let text = format!("{before}[teams]\n{}\n\n{after}", section.join("\n"));
    let config = Config::parse(&path.to_string_lossy(), &text, &all_set)
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert!(config.chat.teams.expect("Teams").groups.contains_key("approver"));
}
