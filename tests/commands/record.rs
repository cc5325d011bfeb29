//! `pending`, `history` and `show`: reads over the record, for those who may look there.

use crate::harness::{World, conversation, words};
use countersign::audit::EventDetails;
use countersign::model::{EventKind, Person, Plan, Risk, Run, RunRequest};
use countersign::store::{AppendOutcome, NewRun, OpenOutcome};
use std::collections::BTreeMap;

fn person(id: &str) -> Person {
    Person { id: id.into(), account: None }
}

/// Opens a run as `flow` does.
pub async fn open(world: &World, asked: &str, (environment, risk): (Option<&str>, Risk)) -> Run {
    let command = asked.split(' ').next().unwrap();
    let request = RunRequest {
        command: command.into(),
        arguments: BTreeMap::new(),
        risk,
        environment: environment.map(str::to_owned),
        requester: person("Ana Example"),
        sender: None,
        conversation: conversation(),
        command_hash: world.app.catalog.find(command).unwrap().hash.clone(),
        config_hash: world.app.config.hash.clone(),
        break_glass: false,
    };
    let mut plan = Plan::of(format!("Does {asked}."));
    plan.identity.insert("pid".into(), "4711".into());
    let (access, command) = (&world.app.access, world.app.catalog.find(command).unwrap());
    let policy = access.policy(command, environment);
    let approvers = access.approvers(command, environment, &request.requester);
    let needs_approval = risk == Risk::Danger;
    let mut details = EventDetails::by_person(&request.requester);
    details = details.with_text("asked", asked).with_text("reason", "the deploy is stuck");
    if needs_approval {
        details = details.with_plan(&plan).with_policy(&policy, &approvers);
    }
    let new_run = NewRun {
        request,
        delivery_id: asked.into(),
        resource_locks: Vec::new(),
        first_event: world.app.audit.first_event(needs_approval, details),
        late_event: None,
        cards: Vec::new(),
        unless_break_glass_within: None,
        unless_frozen: risk != Risk::Read,
    };
    match world.app.audit.open(new_run).await.unwrap() {
        OpenOutcome::New(run) => *run,
        other => panic!("{other:?}"),
    }
}

async fn append(world: &World, run: &Run, (happening, told): (EventKind, EventDetails)) -> Run {
    match world.app.audit.append(run, happening, told).await.unwrap() {
        AppendOutcome::Done(run) => *run,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_tells_who_did_what() {
    let world = World::start().await;
    assert_eq!(world.told("pending").await, "OK: No requests are waiting.\n");
    assert!(world.told("history").await.starts_with("NEUTRAL: No run matches.\n"));

    let kill = open(&world, "kill 4711", (Some("production"), Risk::Danger)).await;
    let read = open(&world, "blocked", (Some("production"), Risk::Read)).await;
    append(&world, &read, (EventKind::Succeeded, EventDetails::default())).await;
    let cancel = open(&world, "cancel 12", (Some("staging"), Risk::Write)).await;
    append(
        &world,
        &cancel,
        (EventKind::Failed, EventDetails::default().with_text("verdict", "It was stuck.")),
    )
    .await;

    let pending = world.told("pending").await;
    assert!(pending.starts_with("WARNING: 1 request is waiting for approval.\n"), "{pending}");
    assert!(pending.contains("#1 | kill 4711 | production | Ana Example | 0."), "{pending}");
    assert!(pending.contains("| 29 min ") && pending.contains("| Ben Example\n"), "{pending}");
    let eli = words(&world.ask("Eli Sample", "pending").await.unwrap());
    assert_eq!(eli, "OK: No requests are waiting.\n", "production is not Eli's to see");

    let told = EventDetails::by_person(&person("Ben Example"));
    let kill = append(&world, &kill, (EventKind::Approved, told)).await;
    let kill = append(&world, &kill, (EventKind::Started, EventDetails::default())).await;
    let outcome = EventDetails::default().with_text("verdict", "Session 4711 ended.");
    append(&world, &kill, (EventKind::Succeeded, outcome)).await;

    let history = world.told("history").await;
    assert!(history.starts_with("NEUTRAL: 2 runs, 1 failed, stopped or interrupted.\n"), "{history}");
    let lines: Vec<&str> = history.lines().filter(|line| line.contains(" | #")).collect();
    assert!(lines[0].starts_with("failed | cancel 12 | Ana Example | - | "), "{history}");
    assert!(lines[0].ends_with(" UTC | #3 | staging | the deploy is stuck"), "{history}");
    assert!(lines[1].starts_with("succeeded | kill 4711 | Ana Example | Ben Example | "), "{history}");
    for (typed, ids) in [
        ("history --reads", vec!["#3", "#2", "#1"]),
        ("history --failed", vec!["#3"]),
        ("history --env production", vec!["#1"]),
        ("history --command kill --who ana --since 1h", vec!["#1"]),
        ("history --find DEPLOY", vec!["#3", "#1"]),
        ("history --before 3", vec!["#1"]),
        ("history --reads --before #3", vec!["#2", "#1"]),
        ("history --before 1", vec![]),
        ("history --who ben", vec![]),
    ] {
        let told = world.told(typed).await;
        let id = |line: &'_ str| line.split(" | ").find(|cell| cell.starts_with('#')).map(str::to_owned);
        let found: Vec<String> = told.lines().filter_map(id).collect();
        assert_eq!(found, ids, "{typed}: {told}");
    }
    let unknown = world.ask("Ana Example", "history --who bert").await.unwrap_err().to_string();
    assert!(unknown.contains("no person “bert”"), "{unknown}");
    let two = world.ask("Ana Example", "history --who example").await.unwrap_err().to_string();
    assert!(two.contains("Ana Example or Ben Example"), "{two}");

    let show = world.told("show #1").await;
    let story = [
        "OK: #1 kill 4711: succeeded. Session 4711 ended.\n",
        "requested by: Ana Example\napproved by: Ben Example\n",
        "waited: 0.",
        "ran: 0.",
        "reason: the deploy is stuck\n",
        "Plan: Does kill 4711.\n",
        "pid: 4711\n",
        "\nrequested | Ana Example | ",
        "\napproved | Ben Example | ",
        "\nstarted | Countersign | ",
        " UTC | Session 4711 ended.\n",
    ];
    let mut rest = show.as_str();
    for part in story {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part} in order in {show}"));
        rest = &rest[at..];
    }
    for (who, typed) in [("Ana Example", "show 99"), ("Eli Sample", "show 1")] {
        let refused = world.ask(who, typed).await.unwrap_err().to_string();
        assert!(refused.starts_with("There is no run #"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_has_pages() {
    let world = World::start().await;
    for n in 1..=45 {
        open(&world, &format!("cancel {n}"), (Some("staging"), Risk::Write)).await;
    }
    let (mut line, mut pages) = ("history --env staging --find cancel".to_owned(), Vec::new());
    loop {
        let told = world.told(&line).await;
        let id = |line: &str| line.split(" | ").find_map(|cell| cell.strip_prefix('#')?.parse::<i64>().ok());
        pages.push((
            told.lines().next().unwrap_or_default().to_owned(),
            told.lines().filter_map(id).collect::<Vec<_>>(),
        ));
        let Some((_, rest)) = told.split_once("Older runs: ") else { break };
        line = rest.lines().next().unwrap().trim_end_matches('.').trim_matches('`').to_owned();
    }
    let runs = |newest: i64, oldest: i64| (oldest..=newest).rev().collect::<Vec<_>>();
    let expected = [
        ("NEUTRAL: The newest 20 of 45 runs.", runs(45, 26)),
        ("NEUTRAL: The newest 20 of 25 runs before #26.", runs(25, 6)),
        ("NEUTRAL: 5 runs before #6.", runs(5, 1)),
    ];
    assert_eq!(pages, expected.map(|(verdict, runs)| (verdict.to_owned(), runs)));
}
