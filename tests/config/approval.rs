//! `[approval]`, `[break_glass]`, `[webhook]` and Slack's `groups`: who must agree, and in what time.

use super::rules::wrong;
use super::{MINIMAL, all_set, problems, reports, with};
use countersign::access::Policy;
use countersign::config::Config;
use countersign::model::{ChatAccount, Person, PlatformKind, Risk};
use std::time::Duration;

#[test]
fn what_nobody_sets_is_half_an_hour_ten_minutes_and_a_reminder_after_five() {
    let config = Config::parse("x.toml", MINIMAL, &all_set).unwrap_or_else(|problems| panic!("{problems}"));
    let approval = &config.approval;
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    assert_eq!(
        (approval.wait, approval.start_within, approval.remind_after),
        (minutes(30), minutes(10), minutes(5))
    );
    assert_eq!((approval.approvers, approval.rules.len()), (1, 0));
    assert!(config.break_glass.is_none() && config.webhook.is_none());
}

#[test]
fn mistakes_of_the_rules_are_told_with_their_lines() {
    let rules = |text: &str| problems(&format!("{MINIMAL}{text}"));
    assert_eq!(
        rules("[approval]\nwait = \"2d\"\nstart_within = 5\napprovers = 0\nremind_after = \"soon\"\n"),
        [
            "deploy/x.toml:34:8: `wait` must be more than 0s and at most 1d, not 2d",
            "deploy/x.toml:35:16: `start_within` must be a duration like \"30s\", not a whole number",
            "deploy/x.toml:36:13: `approvers` must be 1 to 5, not 0",
            "deploy/x.toml:37:16: `remind_after` is `soon`, but a duration is a whole number and a unit: 500ms, 30s, 15 min, 1h30m, 12h or 7d",
        ]
    );
    assert_eq!(
        rules("[[approval.rules]]\n"),
        [
            "deploy/x.toml:33:1: a rule must say for which `environments`; \"*\" is all of them",
            "deploy/x.toml:33:1: a rule must say for which `commands`: risks or names; \"*\" is all of them",
            "deploy/x.toml:33:1: a rule must ask for something: `approvers`, `wait`, `start_within`, `reason = \"required\"`, or `second_person = true`",
        ]
    );
    assert_eq!(
        rules(
            "[[approval.rules]]\nenvironments = []\ncommands = []\napprovers = 6\nsecond_person = true\n\
             [[approval.rules]]\nenvironments = [\"prod\"]\ncommands = [\" kill\"]\nwait = \"0s\"\nsecond = true\n"
        ),
        [
            "deploy/x.toml:34:16: a rule must say for which `environments`; \"*\" is all of them",
            "deploy/x.toml:35:12: a rule must say for which `commands`: risks or names; \"*\" is all of them",
            "deploy/x.toml:36:13: `approvers` must be 1 to 5, not 6",
            "deploy/x.toml:39:17: there is no environment `prod`; did you mean `production`?",
            "deploy/x.toml:40:13: `commands` must hold risks or command names, not ` kill`",
            "deploy/x.toml:41:8: `wait` must be more than 0s and at most 1d, not 0s",
            "deploy/x.toml:42:1: unknown key `second`; did you mean `second_person`?",
        ]
    );
}

#[test]
fn rules_name_commands_that_there_are_and_that_can_wait() {
    let rule = |command: &str| {
        wrong(&format!(
            "[[approval.rules]]\nenvironments = [\"*\"]\ncommands = [\"{command}\"]\nsecond_person = true\n"
        ))
    };
    assert_eq!(
        rule("kil"),
        "the approval rule at line 33 names `kil`, which is neither a risk nor a command"
    );
    for (command, why) in
        [("blocked", "it only looks"), ("kill", "it does anyway"), ("freeze", "it touches no server")]
    {
        let told =
            format!("the approval rule at line 33 lets `{command}` wait for a second person, and {why}");
        assert_eq!(rule(command), told);
    }
}

#[test]
fn mistakes_of_acting_alone_are_told_with_their_lines() {
    reports(
        "[slack]",
        "[break_glass]\ncommands = [\"kill \"]\nevery = \"31d\"\nrol = \"x\"\n[slack]",
        &[
            "deploy/x.toml:29:1: missing key `role` of `break_glass`",
            "deploy/x.toml:30:13: `commands` must hold risks or command names, not `kill `",
            "deploy/x.toml:31:9: `every` must be more than 0s and at most 30d, not 31d",
            "deploy/x.toml:32:1: unknown key `rol`; did you mean `role`?",
        ],
    );
    for command in ["kil", "blocked"] {
        let glass = format!("[break_glass]\nrole = \"last-resort\"\ncommands = [\"kill\", \"{command}\"]\n");
        assert_eq!(wrong(&glass), format!("[break_glass] names `{command}`, which is no command that acts"));
    }
}

#[test]
fn a_webhook_is_an_address_that_is_encrypted_and_not_told() {
    let url = |value: &str| {
        let variable =
            |name: &str| Some(if name == "WEBHOOK" { value.to_owned() } else { format!("hush-{name}") });
        let text = with("[slack]", "[webhook]\nurl = { env = \"WEBHOOK\" }\n[slack]");
        Config::parse("deploy/x.toml", &text, &variable).map(drop).map_err(|problems| problems.to_string())
    };
    assert_eq!(url("https://events.example.com/hush"), Ok(()));
    assert_eq!(url("http://127.0.0.1:9000/hush"), Ok(()));
    for wrong in ["http://events.example.com/hush", "hush", "file:///hush"] {
        let told = "deploy/x.toml:30:7: `url` must hold an https URL (http to this machine only)";
        assert_eq!(url(wrong), Err(told.to_owned()), "the address itself is secret");
    }
    let lacks = "deploy/x.toml:29:1: missing key `url`: a secret kept outside this file, { env = \"VARIABLE\" } or { file = \"path\" }";
    reports("[slack]", "[webhook]\n[slack]", &[lacks]);
}

#[test]
fn a_group_narrows_a_role_that_there_is() {
    reports(
        "[slack]",
        "[slack]\ngroups = { on-cal = \"S0ONCALL\", on-call = \"@oncall\" }",
        &[
            "deploy/x.toml:30:12: no [[access]] names a role `on-cal`; did you mean `on-call`?",
            "deploy/x.toml:30:43: `@oncall` is no user group's id, which looks like S012AB3CD",
        ],
    );
}

#[test]
fn a_rules_own_times_and_numbers_count_where_it_does_and_the_strictest_of_several() {
    let text = format!(
        "{MINIMAL}[approval]\nwait = \"20m\"\n\
         [[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"kill\"]\nwait = \"5m\"\napprovers = 2\n\
         [[approval.rules]]\nenvironments = [\"*\"]\ncommands = [\"danger\"]\nstart_within = \"1m\"\nwait = \"1h\"\n\
         [[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"backup\"]\nsecond_person = true\n"
    );
    let config = Config::parse("x.toml", &text, &all_set).unwrap_or_else(|problems| panic!("{problems}"));
    let rules = countersign::bootstrap::rules(&config).unwrap_or_else(|wrong| panic!("{wrong}"));
    let policy = |command: &str, place| rules.access.policy(rules.catalog.find(command).unwrap(), place);
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let usual = Policy {
        risk: Risk::Danger,
        approvers: 1,
        wait: minutes(20),
        start_within: minutes(1),
        reason_required: false,
    };
    assert_eq!(policy("purge", Some("production")), usual);
    assert_eq!(policy("kill", Some("production")), Policy { approvers: 2, wait: minutes(5), ..usual });
    assert_eq!(policy("kill", Some("staging")), usual);
    let free = Policy { risk: Risk::Write, start_within: minutes(10), ..usual };
    assert_eq!(policy("backup", Some("staging")), free);
    assert_eq!(policy("backup", Some("production")), Policy { risk: Risk::Danger, ..free });
}

#[test]
fn a_grant_of_a_command_is_of_that_command_only() {
    let text = MINIMAL.replace("run = [\"read\"]", "run = [\"kill\"]\napprove = [\"purge\"]");
    let config = Config::parse("x.toml", &text, &all_set).unwrap_or_else(|problems| panic!("{problems}"));
    let rules = countersign::bootstrap::rules(&config).unwrap_or_else(|wrong| panic!("{wrong}"));
    let sender = ChatAccount {
        platform: PlatformKind::Slack,
        workspace: "T0TEAM".to_owned(),
        account: "U0ANA".to_owned(),
        name: "ana".to_owned(),
    };
    let ana: Person = rules.access.person(&sender).expect("a person");
    let (mut run, mut approve) = (Vec::new(), Vec::new());
    for command in rules.catalog.iter().filter(|command| !command.header.allow_any_operator) {
        if rules.access.may_run(&ana, command, Some("production")) {
            run.push(command.name.as_str());
        }
        if rules.access.may_approve(&ana, command, Some("production")) {
            approve.push(command.name.as_str());
        }
    }
    assert_eq!((run, approve), (vec!["kill"], vec!["purge"]));
}
