//! Windows that report changes: an incident is one message, edited while it lasts, with what follows in its thread.

use crate::harness::{ANA, DAN, Scene, Servers, Twist, found};
use crate::maintenance_harness;
use crate::schedule_year::replica;
use crate::scheduled_windows::{minutes_ago, pattern, told, window};
use crate::webhook;
use countersign::demo::fake_slack::Message;
use countersign::demo::harness::INCIDENT;
use countersign::demo::sample::SampleIncident;
use countersign::model::{EventKind, RunState};
use countersign::store::Store;
use jiff::SignedDuration;
use tokio_postgres::Client;

const QUEUE: &str = "/*\nsummary = \"Jobs that wait\"\ngroup = \"team\"\nrisk = \"read\"\nscope = \"server\"\nexample = \"queue\"\n\
                     verdict = \"{waiting_jobs} jobs wait.\"\n[thresholds]\n\
                     waiting_jobs = { warning = 5, critical = 50, message = \"{target}: {value} jobs wait.\" }\n*/\n\
                     SELECT count(*) AS waiting_jobs FROM public.jobs_of_the_queue\n";

/// A window that looks each minute at a queue of so many jobs and reports changes, and the superuser.
async fn watched_queue(servers: &'static Servers, jobs: usize) -> (Scene, Client) {
    let now = minutes_ago(0);
    let window = window("Queue", "queue", now).replace(&pattern(now), "* * * * *");
    let window = window.replace("catch_up = \"1d\"", "report = \"changes\"");
    let commands = vec![("queue.sql", QUEUE)];
    let twist = Twist { servers: Some(servers), more: &window, commands, ..Twist::default() };
    let scene = Scene::without_bot(twist).await;
    let superuser = servers.cluster.connect("postgres").await.unwrap();
    let table = format!(
        "CREATE TABLE jobs_of_the_queue AS SELECT FROM generate_series(1, {jobs});
         GRANT SELECT ON jobs_of_the_queue TO countersign_read"
    );
    superuser.batch_execute(&table).await.unwrap();
    (scene, superuser)
}

/// The messages of the window in the channel: those outside of threads, and those in threads.
fn reports(scene: &Scene) -> (Vec<Message>, Vec<Message>) {
    let messages = scene.workspace().visible_messages(DAN, INCIDENT).into_iter();
    let messages = messages.filter(|message| message.plain().contains("schedule Queue requested queue"));
    messages.partition(|message| message.thread_ts.is_none())
}

fn added(number: usize) -> String {
    format!("INSERT INTO jobs_of_the_queue SELECT FROM generate_series(1, {number})")
}

const EMPTIED: &str = "TRUNCATE jobs_of_the_queue";

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_one_message_that_follows_it_to_its_end() {
    let servers = maintenance_harness::shared().await;
    let (scene, superuser) = watched_queue(servers, 3).await;
    let start = minutes_ago(0);
    let minute = |number: usize| start + SignedDuration::from_secs(60 * i64::try_from(number).unwrap());
    let mut bots = [replica(&scene).await, replica(&scene).await];

    // What is done before each minute's look, what the message says then, and what is added to its thread.
    let looks = [
        (String::new(), None, None),
        (added(10), Some("main: waiting jobs (warning)."), None),
        (added(1), Some("main: waiting jobs (warning)."), None),
        (
            added(90),
            Some("main: waiting jobs (critical)."),
            Some("New or changed: main: waiting jobs (critical)."),
        ),
        // Gone in one look alone: it isn't over.
        (EMPTIED.to_owned(), Some("main: waiting jobs (critical)."), None),
        (added(90), Some("main: waiting jobs (critical)."), None),
        (EMPTIED.to_owned(), Some("main: waiting jobs (critical)."), None),
        // Its last message is too new for another one.
        (String::new(), Some("after 6 min 0 s."), None),
        (String::new(), Some("after 6 min 0 s."), Some("Over: main: waiting jobs, after 6 min 0 s.")),
        (String::new(), Some("after 6 min 0 s."), None),
    ];
    let mut in_thread = 0;
    for (number, (change, card, message)) in looks.into_iter().enumerate() {
        superuser.batch_execute(&change).await.unwrap();
        // Two bots are due at the same time, and another one each minute is the first. One of them has been restarted.
        if number == 5 {
            bots[1] = replica(&scene).await;
        }
        bots[number % 2].start_due_windows(minute(number)).await;
        bots[(number + 1) % 2].start_due_windows(minute(number)).await;
        let runs = scene.runs_of("queue").await;
        assert_eq!(runs.len(), usize::from(card.is_some()), "look {number}: {runs:#?}");
        if let Some(words) = card {
            let card = told(&scene, words).await;
            let is_over = words.starts_with("after");
            assert_eq!(card.plain().contains("please look at this"), !is_over, "{}", card.plain());
            assert_eq!(card.plain().contains("jobs wait"), !is_over, "{}", card.plain());
        }
        if let Some(words) = message {
            in_thread += 1;
            let message = told(&scene, words).await;
            assert_eq!(message.thread_ts, Some(reports(&scene).0[0].ts.clone()));
            let is_called = message.plain().contains("please look at this");
            assert_eq!(is_called, words.contains("critical"), "{}", message.plain());
        }
        let (cards, messages) = reports(&scene);
        assert_eq!((cards.len(), messages.len()), (usize::from(card.is_some()), in_thread), "look {number}");
    }
    let run = scene.runs_of("queue").await.remove(0);
    let kinds = run.events.iter().map(|event| event.kind).collect::<Vec<_>>();
    let updated = EventKind::Updated;
    assert_eq!(kinds, [EventKind::Started, EventKind::Succeeded, updated, updated, updated]);
    assert_eq!(run.state, RunState::Succeeded);
    assert_eq!(scene.store().verify().await.unwrap().first_error, None);
    superuser.batch_execute("DROP TABLE jobs_of_the_queue").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_told_and_ends_no_other_finding() {
    let servers: &'static Servers = Box::leak(Box::new(maintenance_harness::start().await));
    let (scene, _) = watched_queue(servers, 9).await;
    let bot = replica(&scene).await;
    let start = minutes_ago(0);
    let looks = async |numbers: std::ops::Range<i64>| {
        for number in numbers {
            bot.start_due_windows(start + SignedDuration::from_secs(60 * number)).await;
        }
    };
    looks(0..1).await;
    told(&scene, "main: waiting jobs (warning).").await;
    let frozen = servers.cluster.freeze().unwrap();
    looks(1..4).await;
    told(&scene, "New or changed: main: no answer (critical).").await;
    let card = told(&scene, "No server answered.").await.plain();
    assert!(card.contains("main: waiting jobs (warning).") && card.contains("main: no answer"), "{card}");
    drop(frozen);
    looks(4..6).await;
    let over = told(&scene, "Over: main: no answer, after ").await.plain();
    assert!(over.contains("9 jobs wait"), "what began before still lasts: {over}");
    looks(6..7).await;
    let messages = found("the message that it is over", async || {
        let (cards, messages) = reports(&scene);
        assert_eq!(cards.len(), 1);
        (messages.len() == 2).then_some(messages)
    });
    assert!(messages.await[1].plain().contains("Over: main: no answer, after 4 min 0 s."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_that_flaps_is_told_once_in_five_minutes() {
    let servers: &'static Servers = Box::leak(Box::new(maintenance_harness::start().await));
    let (scene, superuser) = watched_queue(servers, 9).await;
    let bot = replica(&scene).await;
    let start = minutes_ago(0);
    let mut told_at: Vec<usize> = Vec::new();
    for number in 0..20_usize {
        // Two looks without it end it.
        let change = if number % 3 == 0 { added(9) } else { EMPTIED.to_owned() };
        superuser.batch_execute(&change).await.unwrap();
        bot.start_due_windows(start + SignedDuration::from_secs(60 * i64::try_from(number).unwrap())).await;
        let messages = found("the message that is due", async || {
            let run = scene.runs_of("queue").await.remove(0);
            let later = run.events.iter().filter(|event| {
                let changes = &event.facts["incident_message"]["changes"];
                changes.as_array().is_some_and(|changes| !changes.is_empty())
            });
            let (cards, messages) = reports(&scene);
            let is_complete = cards.len() + messages.len() == later.count();
            is_complete.then_some(cards.len() + messages.len())
        })
        .await;
        if messages > told_at.len() {
            told_at.push(number);
        }
        assert_eq!(messages, told_at.len(), "one message at a time");
    }
    assert_eq!(reports(&scene).0.len(), 1, "it is one incident");
    assert!(told_at.len() > 2 && told_at.windows(2).all(|pair| pair[1] - pair[0] >= 5), "{told_at:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_card_of_an_incident_offers_what_ends_it() {
    let servers: &'static Servers = Box::leak(Box::new(maintenance_harness::start().await));
    let (url, heard) = webhook::listen(0).await;
    let now = minutes_ago(0);
    let window = window("Blocked", "blocked", now).replace(&pattern(now), "* * * * *");
    let more = webhook::SECTION.to_owned() + &window.replace("catch_up = \"1d\"", "report = \"changes\"");
    let mut scene =
        Scene::without_bot(Twist { servers: Some(servers), more: &more, ..Twist::default() }).await;
    scene.stage.secrets.insert("WEBHOOK_URL".to_owned(), url);
    let first = replica(&scene).await;
    let look = async |number: i64| {
        first.start_due_windows(now + SignedDuration::from_secs(60 * number)).await;
    };
    look(0).await;
    let incident = SampleIncident::start(&servers.cluster, &servers.team).await.unwrap();
    look(1).await;
    let card = told(&scene, "blocked (critical).").await;
    let root = incident.pids().head;
    let kill =
        card.buttons().into_iter().find(|button| button.label.starts_with(&format!("Kill {root}"))).unwrap();
    // Of the people who read it, each clicks as who they are.
    scene.bot = Some(scene.stage.bot().await.unwrap());
    scene.click_button(ANA, &card.at(), &kill.label).await;
    let request = told(&scene, "Needs approval from ").await;
    assert!(request.plain().contains(&format!("ana requested kill {root}")), "{}", request.plain());
    maintenance_harness::approves(&scene, request).await;
    for number in 2..4 {
        look(number).await;
    }
    let over = told(&scene, "Over since ").await;
    assert!(over.at() == card.at() && over.buttons().is_empty(), "{}", over.plain());
    let page = webhook::pages(&heard, 2).await;
    let critical: Vec<_> = page.iter().filter(|page| page["event"] == "critical").collect();
    assert_eq!(critical.len(), 1, "{page:#?}");
    assert_eq!(critical[0]["findings"], serde_json::json!(["blocked"]));
    assert_eq!(
        (&critical[0]["environment"], &critical[0]["production"]),
        (&"production".into(), &true.into())
    );
    incident.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_a_finding_that_is_quiet() {
    let servers: &'static Servers = Box::leak(Box::new(maintenance_harness::start().await));
    let (mut scene, superuser) = watched_queue(servers, 9).await;
    scene.bot = Some(scene.stage.bot().await.unwrap());
    let bot = replica(&scene).await;
    let start = minutes_ago(0);
    let look = async |number: i64, change: &str| {
        superuser.batch_execute(change).await.unwrap();
        bot.start_due_windows(start + SignedDuration::from_secs(60 * number)).await;
    };
    // Before there is one, and one that there isn't.
    let none = scene.asks(ANA, "quiet \"main: waiting jobs\" --env production").await.plain();
    assert!(none.contains("No finding lasts in production."), "{none}");
    look(1, "").await;
    let card = told(&scene, "main: waiting jobs (warning).").await;
    let other = scene.asks(ANA, "quiet \"main: waiting jobz\" --env production").await.plain();
    assert!(other.contains("Did you mean") && other.contains("quiet \"main: waiting jobs\""), "{other}");
    let long = scene.asks(ANA, "quiet main 8d --env production").await.plain();
    assert!(long.contains("7d at most"), "{long}");
    // By the card's own button.
    let button = card.buttons().into_iter().find(|button| button.label.starts_with("Quiet")).unwrap();
    scene.click_button(ANA, &card.at(), &button.label).await;
    told(&scene, "“main: waiting jobs” in production is quiet until ").await;
    look(2, &added(90)).await;
    told(&scene, "main: waiting jobs (critical).").await;
    look(3, EMPTIED).await;
    look(4, "").await;
    told(&scene, "Over since ").await;
    // It comes back, and after the two hours it is told.
    look(20, &added(90)).await;
    assert_eq!(scene.runs_of("queue").await.len(), 1);
    look(125, "").await;
    let is_told = async || {
        let (cards, messages) = reports(&scene);
        assert!(messages.is_empty(), "{messages:#?}");
        (cards.len() == 2).then_some(())
    };
    found("the message of another incident", is_told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_half_a_day_later_has_a_message_of_its_own() {
    let servers: &'static Servers = Box::leak(Box::new(maintenance_harness::start().await));
    let (scene, superuser) = watched_queue(servers, 9).await;
    let bot = replica(&scene).await;
    let start = minutes_ago(0);
    for (minutes, change, words) in [
        (0, String::new(), "main: waiting jobs (warning)."),
        (13 * 60, added(90), "main: waiting jobs (critical)."),
    ] {
        superuser.batch_execute(&change).await.unwrap();
        bot.start_due_windows(start + SignedDuration::from_secs(60 * minutes)).await;
        told(&scene, words).await;
    }
    told(&scene, "What lasts is told with #2 now: ").await;
    for minutes in [13 * 60 + 1, 13 * 60 + 2] {
        superuser.batch_execute(EMPTIED).await.unwrap();
        bot.start_due_windows(start + SignedDuration::from_secs(60 * minutes)).await;
    }
    // It has lasted since it began, whichever message tells it.
    let over = told(&scene, "after 13 h 2 min.").await;
    let (cards, messages) = reports(&scene);
    assert!(cards.len() == 2 && messages.is_empty(), "{messages:#?}");
    assert_eq!((cards[1].ts.as_str(), scene.runs_of("queue").await.len()), (over.ts.as_str(), 2));
    assert!(!cards[0].plain().contains("please look at this"), "{}", cards[0].plain());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_overtaken_look_saw_is_not_told() {
    let servers: &'static Servers = Box::leak(Box::new(maintenance_harness::start().await));
    let (scene, _) = watched_queue(servers, 9).await;
    let bot = replica(&scene).await;
    let start = minutes_ago(0);
    let frozen = servers.cluster.freeze().unwrap();
    let look = tokio::spawn(async move { bot.start_due_windows(start).await });
    let begun = async || {
        let states = scene.store().watch_states().await.unwrap();
        states.iter().any(|state| state.newest_look == start).then_some(())
    };
    found("the look", begun).await;
    let next = start + SignedDuration::from_secs(60);
    assert!(scene.store().begin_look("production", "Queue", next).await.unwrap().is_some());
    look.await.unwrap();
    drop(frozen);
    assert!(scene.runs_of("queue").await.is_empty());
}
