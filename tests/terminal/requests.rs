//! What acts: at once and recorded, dry, or asked of a second person, who is in chat.

use crate::harness::World;
use countersign::demo::fake_slack::{Fault, Message, Workspace};
use countersign::demo::harness::INCIDENT;
use countersign::model::RunState;
use countersign::store::Store;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Ana may act alone, in need.
const LAST_RESORT: (&str, &str) = ("roles = [\"on-call\"]", "roles = [\"on-call\", \"last-resort\"]");
const GLASS: (&str, &str) = ("[slack]\n", "[break_glass]\nrole = \"last-resort\"\n\n[slack]\n");

/// For what is awaited and must come: ample for a busy machine.
const SOON: Duration = Duration::from_secs(60);

const CHANNEL: (&str, &str) = ("signing_secrets =", "terminal_channel = \"C0INCIDENT\"\nsigning_secrets =");

async fn session(world: &World<'_>, application: &str) -> (Client, i32) {
    let (service, account) = world.servers.team.service("asset-service").unwrap();
    let login = account.login(&service.database, application);
    let client = world.servers.cluster.connect_as(login).await.unwrap();
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    (client, pid)
}

async fn is_there(world: &World<'_>, pid: i32) -> bool {
    let superuser = world.servers.cluster.connect("postgres").await.unwrap();
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
    superuser.query_one(sql, &[&pid]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_bound_to_an_environment_like_a_conversation() {
    let world = World::usual().await;
    let said = world.runs("use staging").await;
    assert_eq!(said.status, 0, "{said:?}");
    let said = world.runs("sizes").await;
    assert!(said.status == 0 && said.out.contains("ana requested sizes on staging"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_and_recorded() {
    let world = World::usual().await;
    let said = world.runs("backup auth-service --env staging").await;
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out.starts_with("OK: "), "{}", said.out);
    said.is_fit_for_a_terminal();
    let [run] = world.recorded().await.try_into().expect("one run");
    assert_eq!(run.state, RunState::Succeeded);
    let again = world.runs("show 1").await;
    assert!(again.status == 0 && again.out.contains("backup auth-service"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_the_plan_and_asks_nobody() {
    let world = World::with("U0ANA", &[CHANNEL]).await;
    let (_client, pid) = session(&world, "dry-worker").await;
    let said = world.say(&["run", "kill", &pid.to_string(), "--env", "staging", "--dry-run"]).await;
    assert_eq!(said.status, 0, "{said:?}");
    said.is_fit_for_a_terminal();
    assert!(
        said.out.starts_with("Dry run: nothing was executed and no approval was requested.\n"),
        "{}",
        said.out
    );
    assert!(said.out.contains("dry-worker") && said.out.contains("backend start"), "{}", said.out);
    assert_eq!(world.recorded().await, []);
    assert!(world.stage.workspace.payloads().is_empty(), "Slack was not spoken to");
    assert!(is_there(&world, pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_danger_without_a_place_for_its_card_is_refused() {
    let world = World::usual().await;
    let (_client, pid) = session(&world, "kept-worker").await;
    let line = format!("kill {pid} --env staging");
    let said = world.runs(&line).await;
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.flat().contains("no channel is set for its card"), "{}", said.out);
    assert!(said.out.contains("terminal_channel"), "{}", said.out);

    let world = World::with("U0ANA", &[CHANNEL]).await;
    world.stage.workspace.fault("", Fault::Status(503));
    let said = world.runs(&line).await;
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.flat().contains("The chat platform can't be reached"), "{}", said.out);
    assert_eq!(world.recorded().await, []);
    assert!(is_there(&world, pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_danger_is_asked_in_chat_and_done_by_the_bot_there() {
    let world = World::with("U0ANA", &[CHANNEL]).await;
    let _bot = world.stage.bot().await.unwrap();
    let (_client, pid) = session(&world, "doomed-worker").await;
    let pid_text = pid.to_string();
    let said = world.say(&["run", "kill", &pid_text, "--env", "staging", "--reason", "it's stuck"]).await;
    assert_eq!(said.status, 0, "{said:?}");
    said.is_fit_for_a_terminal();
    assert!(said.out.starts_with("WARNING: Needs approval from ben or cara within "), "{}", said.out);
    assert!(said.flat().contains("`withdraw 1` withdraws it"), "{}", said.out);
    assert!(is_there(&world, pid).await);
    let pending = world.runs("pending").await;
    assert!(pending.out.contains(&format!("kill {pid}")), "{}", pending.out);

    let workspace = &world.stage.workspace;
    let card = workspace
        .wait_for("the card", |workspace| {
            workspace.visible_messages("U0BEN", INCIDENT).into_iter().find(|m| m.button("Approve").is_some())
        })
        .await
        .unwrap();
    assert!(card.plain().contains("it's stuck"), "{}", card.plain());
    // Her own request, from whichever door.
    workspace.click_button("U0ANA", &card.at(), "Approve").await;
    let told = workspace.wait_for("a refusal", |workspace| {
        workspace.visible_messages("U0ANA", INCIDENT).into_iter().find(|m| m.ephemeral_to.is_some())
    });
    assert!(told.await.unwrap().plain().contains("You requested this, so somebody else has to decide."));
    assert!(is_there(&world, pid).await);

    workspace.click_button("U0BEN", &card.at(), "Approve").await;
    let done = workspace.wait_for("the end", |workspace| {
        workspace.message(&card.at()).filter(|message| message.plain().contains(" ended."))
    });
    done.await.unwrap();
    assert!(!is_there(&world, pid).await);
    let until = Instant::now() + SOON;
    let run = loop {
        let run = world.record().get(1).await.unwrap().expect("the run");
        if run.state == RunState::Succeeded {
            break run;
        }
        assert!(Instant::now() < until, "{run:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let kinds: Vec<&str> = run.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["requested", "approved", "started", "succeeded"]);
    direct(workspace, "U0ANA", " ended.").await;
    let history = world.runs("history").await;
    assert!(history.out.contains("ana") && history.out.contains(&format!("kill {pid}")), "{}", history.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_no_longer_ask_is_revoked_at_the_start() {
    let world = World::with("U0ANA", &[CHANNEL]).await;
    let (_client, pid) = session(&world, "spared-worker").await;
    assert_eq!(world.runs(&format!("kill {pid} --env staging")).await.status, 0);

    // The bot that serves the chat has a newer list of people.
    let listed = format!("terminal = [\"{}\"]", countersign::config::login_name());
    let stage = countersign::demo::harness::Stage {
        config: world.stage.config.replace(&listed, "terminal = []"),
        workspace: world.stage.workspace.clone(),
        secrets: world.stage.secrets.clone(),
        directory: world.stage.directory.clone(),
    };
    let _bot = stage.bot().await.unwrap();
    let card = world.stage.workspace.wait_for("the card", |workspace| {
        workspace.visible_messages("U0BEN", INCIDENT).into_iter().find(|m| m.button("Approve").is_some())
    });
    let card = card.await.unwrap();
    world.stage.workspace.click_button("U0BEN", &card.at(), "Approve").await;
    let told = world.stage.workspace.wait_for("the end", |workspace| {
        workspace.message(&card.at()).filter(|message| message.plain().contains("no longer accepted"))
    });
    told.await.unwrap();
    assert!(is_there(&world, pid).await);
}

/// Waits until somebody sees those words in a channel.
async fn seen(workspace: &Workspace, who: &str, (channel, words): (&str, &str)) -> Message {
    let found = workspace.wait_for(words, |workspace| {
        workspace.visible_messages(who, channel).into_iter().find(|message| message.plain().contains(words))
    });
    found.await.unwrap_or_else(|why| panic!("{who}: {why}"))
}

async fn direct(workspace: &Workspace, who: &str, words: &str) -> Message {
    seen(workspace, who, (&workspace.dm_channel(who), words)).await
}

/// Everyone whom it concerns hears in chat of what was done alone.
async fn all_hear_of_it(workspace: &Workspace, pid: i32) {
    let card = seen(workspace, "U0DAN", (INCIDENT, " ended.")).await.plain();
    for words in [&format!("break-glass kill {pid}"), "nobody is awake", "without approval", "review 1"] {
        assert!(card.contains(words), "{words} is missing: {card}");
    }
    for who in ["U0BEN", "U0CARA"] {
        let told = direct(workspace, who, " ended.").await.plain();
        assert!(told.contains("without approval"), "{told}");
    }
    direct(workspace, "U0ANA", " ended.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_alone_at_a_terminal_is_told_in_chat_at_once() {
    let world = World::with("U0ANA", &[CHANNEL, LAST_RESORT, GLASS]).await;
    let (_client, pid) = session(&world, "doomed-worker").await;
    let line = format!("break-glass kill {pid} --env production");
    let refused = world.runs(&line).await;
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.flat().contains("needs the environment's name and a reason"), "{}", refused.out);
    assert!(is_there(&world, pid).await);

    let pid_text = pid.to_string();
    let words =
        ["run", "break-glass", "kill", &pid_text, "--env", "production", "--reason", "nobody is awake"];
    let said = world.say(&words).await;
    assert_eq!(said.status, 0, "{said:?}");
    said.is_fit_for_a_terminal();
    assert!(said.flat().contains(" ended.") && said.flat().contains("review 1"), "{}", said.out);
    assert!(!is_there(&world, pid).await);
    all_hear_of_it(&world.stage.workspace, pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_slack_cannot_be_reached_it_is_done_all_the_same_and_told_later() {
    let world = World::with("U0ANA", &[CHANNEL, LAST_RESORT, GLASS]).await;
    let (_client, pid) = session(&world, "doomed-worker").await;
    let workspace = &world.stage.workspace;
    workspace.fault("", Fault::Status(503));
    let pid_text = pid.to_string();
    let words =
        ["run", "break-glass", "kill", &pid_text, "--env", "production", "--reason", "nobody is awake"];
    let said = world.say(&words).await;
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.flat().contains(" ended."), "{}", said.out);
    assert!(!is_there(&world, pid).await);
    let [run] = world.recorded().await.try_into().expect("one run");
    assert_eq!((run.state, run.request.break_glass), (RunState::Succeeded, true));
    assert!(workspace.visible_messages("U0BEN", INCIDENT).is_empty());

    let _bot = world.stage.bot().await.unwrap();
    workspace.fault("", Fault::Clear);
    all_hear_of_it(workspace, pid).await;
    for (who, channel) in [("U0BEN", INCIDENT.to_owned()), ("U0BEN", workspace.dm_channel("U0BEN"))] {
        assert_eq!(workspace.visible_messages(who, &channel).len(), 1, "once: {}", workspace.transcript());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_ends_when_every_copy_of_the_card_is_sent() {
    let world = World::with("U0ANA", &[CHANNEL]).await;
    let (_client, pid) = session(&world, "doomed-worker").await;
    let workspace = &world.stage.workspace;
    workspace.fault("chat.postMessage", Fault::Slow(Duration::from_millis(700)));
    let said = world.runs(&format!("kill {pid} --env staging")).await;
    assert_eq!(said.status, 0, "{said:?}");
    // No bot serves that would send them later.
    for (who, channel) in [
        ("U0BEN", INCIDENT.to_owned()),
        ("U0BEN", workspace.dm_channel("U0BEN")),
        ("U0CARA", workspace.dm_channel("U0CARA")),
    ] {
        let seen = workspace.visible_messages(who, &channel);
        assert!(matches!(&seen[..], [card] if card.button("Approve").is_some()), "{channel}: {seen:?}");
    }
    let cards = world.record().run_cards(1).await.unwrap();
    assert_eq!(cards.iter().filter(|card| card.message.is_some()).count(), 3, "{cards:#?}");
    assert!(is_there(&world, pid).await);
}
