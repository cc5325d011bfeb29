//! What the configuration says of commands is checked against them: grants, limits and windows.

use super::{MINIMAL, all_set, reports};
use countersign::config::Config;

pub fn wrong(more: &str) -> String {
    let config = Config::parse("x.toml", &format!("{MINIMAL}{more}"), &all_set)
        .unwrap_or_else(|problems| panic!("{problems}"));
    match countersign::bootstrap::rules(&config) {
        Ok(_) => panic!("{more} passes"),
        Err(wrong) => wrong.to_string(),
    }
}

fn window(run: &str) -> String {
    format!(
        "[[schedule]]\nname = \"Dump\"\nrun = \"{run}\"\nenvironments = [\"production\"]\nat = \"0 2 * * *\"\n"
    )
}

#[test]
fn a_grant_names_risks_and_commands() {
    let grant = "[[access]]\nrole = \"on-call\"\nenvironments = [\"*\"]\nrun = [\"raed\"]\n";
    assert_eq!(
        wrong(grant),
        "the grant of role `on-call` names `raed`, which is neither a risk nor a command"
    );
}

#[test]
fn a_window_runs_a_command_with_values_that_fit() {
    for (run, says) in [
        ("bakcup all", "There is no command “bakcup”. Did you mean `backup <service>`?"),
        ("backup asset-servise", "There is no service “asset-servise”. Did you mean `asset-service`?"),
        ("backup", "Missing <service>: a service, or `all`. Type `backup <service>`."),
        (
            "backup all --env production",
            "`run` holds `backup` and its arguments only; `environments` says where",
        ),
        ("break-glass kill 4711", "`run` holds `kill` and its arguments only; `environments` says where"),
        ("help", "`help` concerns no environment"),
        (" ", "`run` is empty: name a command, as in \"backup all\""),
    ] {
        assert_eq!(wrong(&window(run)), format!("the window `Dump`: {says}"));
    }
    let changes = window("backup all") + "report = \"changes\"\n";
    let rule = "the window `Dump`: `report = \"changes\"` is for a command that reads, and `backup` acts";
    assert_eq!(wrong(&changes), rule);
    // All of them at once.
    let two = window("bakcup all") + &window("help").replace("Dump", "Help");
    assert_eq!(wrong(&two).lines().count(), 2);
}

#[test]
fn a_window_is_due_when_cron_says_so_in_an_environment_that_there_is() {
    let windows = |at: &str| {
        format!(
            "[[schedule]]\nname = \"Dump\"\nrun = \"backup all\"\nenvironments = [\"prod\"]\nat = \"{at}\"\n[slack]"
        )
    };
    for at in ["0 25 * * *", "0 2 * *", "* * * * * *", "0 0 30 2 *", "tomorrow"] {
        let rule = format!(
            "deploy/x.toml:33:6: `at` must be cron's five fields (\"0 2 * * *\" is 02:00 every day), not `{at}`"
        );
        reports(
            "[slack]",
            &windows(at),
            &["deploy/x.toml:32:17: there is no environment `prod`; did you mean `production`?", &rule],
        );
    }
}
