//! Windows that run by themselves: what they do to PostgreSQL, what they wait for, and what people are told.

use crate::harness::{ANA, DAN, Scene, Servers, Twist, found};
use crate::maintenance_harness::{self, database, make, one};
use crate::schedule_year::replica;
use countersign::audit::{AuditLog, EventDetails};
use countersign::demo::fake_slack::Message;
use countersign::demo::harness::INCIDENT;
use countersign::model::{
    ActiveFreeze, Conversation, EventKind, Person, PlatformKind, Risk, Run, RunRequest, RunState,
};
use countersign::schedule::ScheduledStart;
use countersign::store::{FreezeChange, NewRun, OpenOutcome, Store};
use jiff::{Span, Timestamp, tz::TimeZone};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The pattern of a time of today in UTC, to the minute.
pub fn pattern(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%-M %-H %-d %-m *").to_string()
}

pub fn minutes_ago(minutes: i64) -> Timestamp {
    let now = Timestamp::now().as_second();
    Timestamp::from_second(now - now % 60 - 60 * minutes).unwrap()
}

/// A window of production that was due then, and is made up for.
pub fn window(name: &str, run: &str, due: Timestamp) -> String {
    let at = pattern(due);
    format!(
        "\n[[schedule]]\nname = \"{name}\"\nrun = \"{run}\"\nenvironments = [\"production\"]\nat = \"{at}\"\n\
         channel = \"{INCIDENT}\"\nnotify = [\"on-call\"]\ncatch_up = \"1d\"\n"
    )
}

async fn scene_with(more: &str) -> Scene {
    scene_on(maintenance_harness::shared().await, more).await
}

async fn scene_on(servers: &'static Servers, more: &str) -> Scene {
    Scene::without_bot(Twist { servers: Some(servers), more, ..Twist::default() }).await
}

/// The first message in the channel with these words.
pub async fn told(scene: &Scene, words: &str) -> Message {
    let found = scene.workspace().wait_for(words, |workspace| {
        workspace.visible_messages(DAN, INCIDENT).into_iter().find(|message| message.plain().contains(words))
    });
    found.await.unwrap_or_else(|why| panic!("{why}"))
}

async fn ended(scene: &Scene, command: &str) -> Run {
    found("the end of the run", async || {
        scene.runs_of(command).await.into_iter().find(|run| !run.state.is_open())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_window_is_made_up_for_when_the_bot_starts_and_acts_once() {
    let due = minutes_ago(3);
    let mut scene = scene_with(&window("Night", "vacuum user-service nightly", due)).await;
    let superuser = scene.servers.cluster.connect(&database("user-service")).await.unwrap();
    make(&superuser, "user-service", "nightly").await;
    scene.bot = Some(scene.stage.bot().await.unwrap());
    let message = told(&scene, "Window Night, due at ").await.plain();
    assert!(message.contains("schedule Night requested vacuum user-service nightly"), "{message}");
    assert!(message.contains("Countersign could not start it on time."), "{message}");
    assert!(message.contains("public.nightly is vacuumed and analyzed"), "{message}");
    assert!(!message.contains("did not go well"), "{message}");
    let run = ended(&scene, "vacuum").await;
    assert_eq!((run.state, run.request.requester.id.as_str()), (RunState::Succeeded, "schedule Night"));
    assert_eq!(ScheduledStart::of(&run).unwrap().due, due);
    let counted = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'nightly'";
    assert_eq!(one::<i64>(&superuser, counted).await, 1);
    // A second bot on the same audit log finds it there.
    replica(&scene).await.start_due_windows(Timestamp::now()).await;
    assert_eq!(scene.runs_of("vacuum").await.len(), 1);
    assert_eq!(one::<i64>(&superuser, counted).await, 1);
    let told = scene.asks(ANA, "schedule --env production").await.plain();
    assert!(told.contains("1 window is on time"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_needs_an_approval_waits_for_a_person() {
    let mut scene = scene_with(&window("Shrink", "vacuum-full creator-service shrunk", minutes_ago(3))).await;
    let superuser = scene.servers.cluster.connect(&database("creator-service")).await.unwrap();
    make(&superuser, "creator-service", "shrunk").await;
    let file = "SELECT pg_relation_filenode('shrunk')";
    let before: u32 = one(&superuser, file).await;
    scene.bot = Some(scene.stage.bot().await.unwrap());
    let card = told(&scene, "Needs approval from ").await;
    assert!(
        card.plain().contains("schedule Shrink requested vacuum-full creator-service shrunk"),
        "{}",
        card.plain()
    );
    // Who may request it may not approve it.
    let refused = scene.is_told(ANA, &card.at(), "Approve").await.plain();
    assert!(refused.contains("approve"), "{refused}");
    assert_eq!(one::<u32>(&superuser, file).await, before);
    maintenance_harness::approves(&scene, card).await;
    let run = ended(&scene, "vacuum-full").await;
    assert_eq!((run.state, run.request.sender.is_none()), (RunState::Succeeded, true));
    assert_ne!(one::<u32>(&superuser, file).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_well_is_told_in_the_channel_with_the_people_of_the_role() {
    let due = minutes_ago(0);
    let more = window("Frozen", "analyze asset-service audit_logs", due).replace("catch_up = \"1d\"\n", "")
        + &window("Look", "indexes content-service", due);
    let scene = scene_with(&more).await;
    let superuser = scene.servers.cluster.connect(&database("content-service")).await.unwrap();
    // An index that is redundant.
    make(&superuser, "content-service", "doubled").await;
    superuser.batch_execute("CREATE INDEX ON doubled (id)").await.unwrap();
    let store = scene.store();
    let frozen = ActiveFreeze { by: person("cara"), at: Timestamp::now(), reason: None };
    let change = FreezeChange { from: None, to: Some(frozen), while_executing: None };
    assert!(store.change_freeze(change).await.unwrap());
    replica(&scene).await.start_due_windows(due).await;
    let refused = told(&scene, "Not started. cara froze all changes").await.plain();
    for words in
        ["<@U0ANA> or <@U0CARA>: this window did not go well.", "schedule run Frozen --env production"]
    {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    assert_eq!(ended(&scene, "analyze").await.state, RunState::Failed);
    // Reading goes on, and a warning is told with its answer.
    let warned = told(&scene, "schedule Look requested indexes content-service").await.plain();
    assert!(warned.contains("redundant") && warned.contains("this window did not go well"), "{warned}");
    assert_eq!(ended(&scene, "indexes").await.state, RunState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_window_starts_nothing_until_it_is_resumed_and_its_starts_are_left_out() {
    let daily = window("Full backup", "analyze asset-service audit_logs", minutes_ago(0));
    let daily = daily.replace(&pattern(minutes_ago(0)), "0 2 * * *").replace("catch_up = \"1d\"\n", "");
    let mut scene = scene_with(&daily).await;
    scene.bot = Some(scene.stage.bot().await.unwrap());
    let simulated = replica(&scene).await;
    let day = |days: i64| {
        let now = Timestamp::now().to_zoned(TimeZone::UTC).date();
        let due = now.checked_add(Span::new().days(days)).unwrap().at(2, 0, 0, 0);
        due.to_zoned(TimeZone::UTC).unwrap().timestamp()
    };
    let refused = scene.asks(DAN, "schedule pause full --env production").await.plain();
    assert!(refused.contains("You may not run `schedule-pause` in production."), "{refused}");
    let unknown = scene.asks(ANA, "schedule pause nightly --env production").await.plain();
    assert!(
        unknown.contains("There is no window “nightly” in production.\nThere are: Full backup."),
        "{unknown}"
    );
    let paused = scene.asks(ANA, "schedule pause full --env production").await.plain();
    assert!(paused.contains("Full backup is paused in production."), "{paused}");
    simulated.start_due_windows(day(2)).await;
    assert!(scene.runs_of("analyze").await.is_empty());
    let shown = scene.asks(ANA, "schedule --env production").await.plain();
    assert!(shown.contains("Full backup (production) is paused by ana since "), "{shown}");
    let again = scene.asks(ANA, "schedule pause full --env production").await.plain();
    assert!(again.contains("ana has already paused Full backup in production"), "{again}");
    let resumed = scene.asks(ANA, "schedule resume full --env production").await.plain();
    assert!(resumed.contains("Full backup is no longer paused in production."), "{resumed}");
    // What was due before it was resumed stays left out.
    simulated.start_due_windows(day(-1)).await;
    assert!(scene.runs_of("analyze").await.is_empty());
    simulated.start_due_windows(day(3)).await;
    let run = ended(&scene, "analyze").await;
    assert_eq!(ScheduledStart::of(&run).unwrap().due, day(3));
    told(&scene, "schedule Full backup requested analyze").await;

    // To run it now is to type its command: with one's own roles, under one's own name.
    let dan = scene.asks(DAN, "schedule run full --env production").await.plain();
    assert!(dan.contains("You may not run `analyze` in production."), "{dan}");
    let ana = maintenance_harness::asks(&scene, "schedule run full").await.plain();
    assert!(ana.contains("ana requested analyze asset-service audit_logs"), "{ana}");
}

/// Opens a run that holds the lock on a table, as another replica would.
async fn holder(log: &AuditLog, table: &str) -> Run {
    let request = RunRequest {
        command: "reindex".to_owned(),
        arguments: BTreeMap::new(),
        risk: Risk::Write,
        environment: Some("production".to_owned()),
        requester: person("ana"),
        sender: None,
        conversation: Conversation::new(PlatformKind::Slack, "", INCIDENT.to_owned()),
        command_hash: String::new(),
        config_hash: String::new(),
        break_glass: false,
    };
    let new_run = NewRun {
        request,
        delivery_id: "holder".to_owned(),
        resource_locks: vec![format!("maintenance of {table}")],
        first_event: log.first_event(false, EventDetails::default()),
        late_event: None,
        cards: Vec::new(),
        unless_break_glass_within: None,
        unless_frozen: false,
    };
    match log.open(new_run).await.unwrap() {
        OpenOutcome::New(run) => *run,
        other => panic!("{other:?}"),
    }
}

fn person(name: &str) -> Person {
    Person { id: name.to_owned(), account: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_waits_for_the_run_that_works_on_the_same_and_says_so() {
    let mut scene = scene_with(&window("Behind", "analyze billing-service awaited", minutes_ago(3))).await;
    let superuser = scene.servers.cluster.connect(&database("billing-service")).await.unwrap();
    make(&superuser, "billing-service", "awaited").await;
    let log = AuditLog { store: Arc::new(scene.store()), approval: scene.stage.checked().unwrap().approval };
    let holder = holder(&log, "billing_service_db: public.awaited").await;
    scene.bot = Some(scene.stage.bot().await.unwrap());
    let shown = found("the wait", async || {
        let shown = scene.asks(ANA, "schedule --env production").await.plain();
        shown.contains("waits for #").then_some(shown)
    })
    .await;
    let lock = format!("Behind (production) waits for #{}, which holds the lock on", holder.id);
    assert!(shown.contains(&lock), "{shown}");
    assert!(scene.runs_of("analyze").await.is_empty());
    log.close(&holder, EventKind::Succeeded, EventDetails::default()).await;
    let message = told(&scene, "It waited for run #").await.plain();
    assert!(message.contains("public.awaited is analyzed"), "{message}");
    let run = ended(&scene, "analyze").await;
    assert_eq!(ScheduledStart::of(&run).unwrap().waited_for, Some(holder.id));
    let analyzed = "SELECT analyze_count FROM pg_stat_user_tables WHERE relname = 'awaited'";
    assert_eq!(one::<i64>(&superuser, analyzed).await, 1);
}

/// The windows of the runbook, as the example has them, in the night from Saturday to Sunday.
#[tokio::test(flavor = "multi_thread")]
async fn the_runbooks_windows_act_on_postgresql_each_at_its_time() {
    let example = include_str!("../../deploy/countersign.example.toml");
    let (_, rest) = example.split_once("[[schedule]]").unwrap();
    let (windows, _) = rest.split_once("# -----").unwrap();
    let more = format!("\n[[schedule]]{windows}").replace("C0EXAMPLE", INCIDENT);
    // They work on every database: those of other scenes would be locked meanwhile.
    let servers: &'static Servers = Box::leak(Box::new(maintenance_harness::start().await));
    let scene = scene_on(servers, &more).await;
    let superuser = scene.servers.cluster.connect(&database("analytics-service")).await.unwrap();
    make(&superuser, "analytics-service", "weekly").await;
    let wide = "INSERT INTO weekly SELECT id, repeat('x', 100) FROM generate_series(10001, 60000) id; \
                ANALYZE weekly; DELETE FROM weekly WHERE id > 10010";
    superuser.batch_execute(wide).await.unwrap();
    let index = "SELECT pg_relation_filenode('weekly_pkey')";
    let before: u32 = one(&superuser, index).await;
    let counts =
        "SELECT vacuum_count * 100 + analyze_count FROM pg_stat_user_tables WHERE relname = 'weekly'";
    let simulated = replica(&scene).await;
    let at = |time: &str| format!("2027-06-06T{time}:00Z").parse::<Timestamp>().unwrap();
    let mut counted: i64 = one(&superuser, counts).await;
    for (time, vacuums, analyzes) in
        [("01:30", 0, 1), ("02:00", 0, 0), ("02:30", 0, 1), ("03:00", 1, 1), ("03:30", 0, 1), ("04:00", 0, 0)]
    {
        assert_eq!(one::<u32>(&superuser, index).await, before, "before {time}");
        let backups = scene.runs_of("backup").await.len();
        simulated.start_due_windows(at(time)).await;
        let now: i64 = one(&superuser, counts).await;
        assert_eq!(now - counted, vacuums * 100 + analyzes, "at {time}");
        assert_eq!(scene.runs_of("backup").await.len() - backups, usize::from(time == "02:00"), "at {time}");
        counted = now;
    }
    assert_ne!(one::<u32>(&superuser, index).await, before, "the bloated index is rebuilt");
    for command in ["analyze", "backup", "vacuum", "reindex"] {
        let runs = scene.runs_of(command).await;
        assert!(runs.iter().all(|run| run.state == RunState::Succeeded), "{command}: {runs:#?}");
    }
    let dumps = std::fs::read_dir(scene.directory.path().join("backups/production")).map(Iterator::count);
    assert_eq!(dumps.unwrap_or_default(), 10);
    assert!(scene.workspace().visible_messages(DAN, INCIDENT).is_empty(), "all was well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_whose_time_was_changed_has_missed_nothing() {
    let daily = window("Look", "connect asset-service", minutes_ago(0))
        .replace(&pattern(minutes_ago(0)), "0 5 * * *")
        .replace("catch_up = \"1d\"", "catch_up = \"1h\"");
    let mut scene = scene_with(&daily).await;
    let at = |time: &str| format!("2027-06-{time}:00Z").parse::<Timestamp>().unwrap();
    let starts = async |scene: &Scene, time: &str| {
        replica(scene).await.start_due_windows(at(time)).await;
        let runs = scene.runs_of("connect").await;
        runs.iter().map(|run| (run.state, ScheduledStart::of(run).unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(starts(&scene, "06T05:00").await.len(), 1);
    scene.stage.config = scene.stage.config.replace("0 5 * * *", "0 2 * * *");
    assert_eq!(starts(&scene, "07T04:00").await.len(), 1, "it was not due at two");
    let second = starts(&scene, "08T02:00").await;
    assert_eq!((second.len(), second[0].0, second[0].1.missed), (2, RunState::Succeeded, 0));
    // At the same times as before, a start that was late is told.
    let third = starts(&scene, "10T04:00").await;
    assert_eq!((third.len(), third[0].0, third[0].1.missed), (3, RunState::Failed, 1));
}
