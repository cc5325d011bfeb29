//! Every question's answer fits a terminal and leads with its verdict. The list is the catalog's: a command that is new is
//! covered at once. How each looks is pictured in `tests/commands/golden.rs`.

use crate::harness::{Servers, World};
use countersign::catalog::Catalog;
use countersign::demo::sample::SampleIncident;
use countersign::model::Risk;

async fn asks(world: &World<'_>, example: &str) {
    // The runs of an example are somebody else's: the first one here is there.
    let line = match example.split_once(' ') {
        Some(("show", _)) => "show 1",
        _ => example,
    };
    let said = world.runs(line).await;
    assert_ne!(said.status, 2, "{line}: {said:?}");
    said.is_fit_for_a_terminal();
    let heading = said.out.find("ana requested ").unwrap_or_else(|| panic!("{line}: no heading: {said:?}"));
    assert!(heading > 0 && said.out[..heading].ends_with('\n'), "{line}: the verdict comes first: {said:?}");
    let json = world.runs(&format!("{line} --json")).await;
    assert_eq!(
        (json.status, json.json()["blocks"][0]["kind"].as_str()),
        (said.status, Some("verdict")),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_fits_and_leads_with_its_verdict() {
    let servers = Servers::start().await;
    let world = World::on(&servers, "U0ANA", &[]).await;
    assert_eq!(world.runs("use production").await.status, 0);
    let catalog = Catalog::built_in().unwrap_or_else(|wrong| panic!("{wrong:?}"));
    for command in catalog.iter().filter(|command| command.header.risk == Risk::Read) {
        asks(&world, &command.header.example).await;
    }
}

/// `script` gives the program a terminal.
#[tokio::test(flavor = "multi_thread")]
async fn colours_are_for_terminals_and_for_who_wants_them() {
    let mut world = World::usual().await;
    let at_a_terminal = async |world: &World<'_>| {
        let line = format!("stty cols 60; {} run help --env staging", env!("CARGO_BIN_EXE_countersign"));
        let output = tokio::process::Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .current_dir(world.directory())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(&world.stage.secrets)
            .stdin(std::process::Stdio::null())
            .output();
        let output = output.await.expect("script, of Debian's bsdutils");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let coloured = at_a_terminal(&world).await;
    assert!(coloured.contains("\u{1b}[36m`"), "{coloured}");
    world.stage.secrets.insert("NO_COLOR".to_owned(), "1".to_owned());
    let plain = at_a_terminal(&world).await;
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let widest = plain.lines().map(|line| line.trim_end().chars().count()).max();
    assert!(widest.is_some_and(|widest| widest > 40 && widest <= 60), "{widest:?}: {plain}");
    assert!(!world.runs("help --env staging").await.out.contains('\u{1b}'));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_incident_the_line_to_type_stands_below_the_rows() {
    let servers = Servers::start().await;
    let world = World::on(&servers, "U0ANA", &[]).await;
    let incident = SampleIncident::start(&servers.cluster, &servers.team).await.unwrap();
    let head = incident.pids().head;
    let said = world.runs("blocked --env production").await;
    said.is_fit_for_a_terminal();
    assert!(
        said.out.starts_with(&format!("CRITICAL: 5 sessions are blocked by pid {head} ")),
        "{}",
        said.out
    );
    assert!(
        said.flat().contains(&format!("unblock them: `countersign run kill {head} --env production`")),
        "{}",
        said.out
    );
    assert_eq!(world.runs("use production").await.status, 0);
    let bound = world.runs("blocked").await;
    assert!(bound.flat().contains(&format!("unblock them: `countersign run kill {head}`")), "{}", bound.out);
    let line = format!("countersign run kill {head} --server main --env production");
    assert!(said.out.lines().any(|shown| shown == line), "{}", said.out);
    let words: Vec<&str> = line.split(' ').skip(1).chain(["--dry-run"]).collect();
    let dry = world.say(&words).await;
    assert!(dry.status == 0 && dry.out.contains("5 waiting sessions"), "{dry:?}");
    dry.is_fit_for_a_terminal();
    for line in ["health", "long --over 0s", "connections", "slow", "sizes"] {
        world.runs(&format!("{line} --env production")).await.is_fit_for_a_terminal();
    }
}
