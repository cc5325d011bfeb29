//! `run-sql`: a reviewed file, shown whole and run whole or not at all, and only as it was shown.

use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use crate::process::{Counter, PATIENT};
use countersign::demo::fake_slack::Message;
use countersign::model::RunState;
use tokio_postgres::Client;

const DROP: &str = "/* summary = \"Drops a field that a migration left\"\ntimeout = \"10s\" */\n\
    ALTER TABLE public.assets DROP COLUMN IF EXISTS new_field;\n\
    UPDATE public.assets SET description = 'none; nothing' WHERE id = 'x';\n\
    COMMENT ON TABLE public.assets IS 'tidied';";

/// A server of its own, and a directory with these files.
async fn scene(files: &[(&str, &str)]) -> (Scene, Client) {
    let servers = Servers::alone(60).await;
    let twist = Twist { servers: Some(servers), more: "\n[sql]\ndirectory = \"sql\"\n", ..Twist::default() };
    let mut scene = Scene::without_bot(twist).await;
    std::fs::create_dir(scene.directory.path().join("sql")).unwrap();
    for (name, text) in files {
        write(&scene, name, text);
    }
    scene.bot = Some(scene.stage.bot().await.expect("a bot"));
    let client = servers.cluster.connect("asset_service_db").await.unwrap();
    client
        .batch_execute("GRANT asset_svc TO countersign_act; ALTER TABLE assets ADD COLUMN new_field int")
        .await
        .unwrap();
    (scene, client)
}

fn write(scene: &Scene, name: &str, text: &str) {
    std::fs::write(scene.directory.path().join("sql").join(name), text).unwrap();
}

async fn has_field(client: &Client) -> bool {
    let sql = "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'assets'::regclass AND attname = 'new_field')";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn comment(client: &Client) -> Option<String> {
    client.query_one("SELECT obj_description('assets'::regclass)", &[]).await.unwrap().get(0)
}

async fn card(scene: &Scene, file: &str) -> Message {
    scene.card(ANA, &format!("run-sql {file} asset-service --env production --reason \"rolled back\"")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_shown_whole_and_run_in_one_transaction() {
    let broken =
        "/* summary = \"Breaks at its end\" */\nALTER TABLE public.assets DROP COLUMN new_field; SELECT 1/0";
    let (scene, client) = scene(&[("drop-new-field.sql", DROP), ("breaks.sql", broken)]).await;
    let shown = card(&scene, "breaks").await;
    scene.click_button(BEN, &shown.at(), "Approve").await;
    let told = scene.until(&shown.at(), "Nothing was changed.").await.plain();
    assert!(told.contains("division by zero"), "{told}");
    assert!(has_field(&client).await);

    let shown = card(&scene, "drop-new-field.sql").await;
    let said = shown.plain();
    for words in [
        DROP.split("*/").nth(1).unwrap().trim(),
        "Drops a field that a migration left",
        "Runs drop-new-field on asset-service of production.",
        "role countersign_act",
        "login owner",
        "time limit 10 s in all",
        "file drop-new-field",
    ] {
        assert!(said.contains(words), "{words} is missing: {said}");
    }
    assert!(has_field(&client).await, "nothing before the approval");
    scene.click_button(BEN, &shown.at(), "Approve").await;
    scene.until(&shown.at(), " ran on ").await;
    assert_eq!((has_field(&client).await, comment(&client).await.as_deref()), (false, Some("tidied")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_edited_since_its_card_is_not_run() {
    let (scene, client) = scene(&[("drop-new-field.sql", DROP)]).await;
    for edited in [Some(DROP.replace("tidied", "edited")), Some("no SQL file".to_owned()), None] {
        write(&scene, "drop-new-field.sql", DROP);
        let shown = card(&scene, "drop-new-field").await;
        match edited {
            Some(edited) => write(&scene, "drop-new-field.sql", &edited),
            None => std::fs::remove_file(scene.directory.path().join("sql/drop-new-field.sql")).unwrap(),
        }
        scene.click_button(BEN, &shown.at(), "Approve").await;
        scene.until(&shown.at(), "Nothing was done.").await;
        assert_eq!(scene.runs_of("run-sql").await[0].state, RunState::Invalidated);
        assert_eq!((has_field(&client).await, comment(&client).await), (true, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_files_of_the_directory_are_run() {
    let (scene, client) = scene(&[("drop-new-field.sql", DROP)]).await;
    let outside = scene.directory.path().join("outside.sql");
    std::fs::write(&outside, DROP).unwrap();
    std::os::unix::fs::symlink(&outside, scene.directory.path().join("sql/linked.sql")).unwrap();
    // More than any platform's message holds.
    let long = format!("{DROP}\nSELECT '{}';", "x".repeat(50_000));
    write(&scene, "long.sql", &long);
    write(&scene, "commits.sql", "/* summary = \"Commits\" */\nDROP TABLE public.assets; COMMIT; SELECT 1");
    for (typed, words) in [
        ("../outside", "There is no SQL file “../outside”"),
        ("/etc/passwd", "There is no SQL file “/etc/passwd”"),
        ("./drop-new-field", "There is no SQL file"),
        ("..", "There is no SQL file"),
        ("linked", "is a link that leads out of the directory"),
        ("drop-new-feild", "Did you mean drop-new-field"),
        ("long", "The plan doesn't fit into one message"),
        ("commits", "`COMMIT` can't be run here"),
    ] {
        let told = scene.asks(ANA, &format!("run-sql {typed} asset-service --env production")).await.plain();
        assert!(told.contains(words) || told.contains(&words.replace('`', "")), "{typed}: {told}");
    }
    scene
        .refused(ANA, "run-sql drop-new-field all --env production", "one service's database at a time")
        .await;
    assert_eq!(scene.runs_in_all().await, 0);
    assert_eq!((has_field(&client).await, comment(&client).await), (true, None));
    // A start finds what is wrong with them, all at once.
    let why = scene.stage.bot().await.err().expect("mistakes").to_string();
    assert!(why.contains("commits.sql:2:27: `COMMIT` can't be run here"), "{why}");
    assert!(why.contains("linked.sql:1:1: is a link that leads out of the directory"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_takes_all_of_it_back_and_says_so() {
    let slow = DROP.replace("timeout = \"10s\"", "timeout = \"30m\"");
    let slow = slow.replace("COMMENT ON", "SELECT pg_sleep(1500);\nCOMMENT ON");
    let (scene, client) = scene(&[("drop-slowly.sql", &slow)]).await;
    let shown = card(&scene, "drop-slowly").await;
    scene.click_button(BEN, &shown.at(), "Approve").await;
    scene.until(&shown.at(), "statement 3 of 4").await;
    let sleeps =
        "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(1500)%' AND state = 'active'";
    assert!(client.query_opt(sleeps, &[]).await.unwrap().is_some());
    let run = scene.only_run("run-sql").await.id;
    let jobs = scene.asks(ANA, "jobs").await.plain();
    assert!(jobs.contains("statement 3 of 4"), "{jobs}");
    let dry = scene.asks(BEN, &format!("stop {run} --dry-run")).await.plain();
    assert!(dry.contains("rolls back all that it has done") && !dry.contains("stays"), "{dry}");

    let told = scene.asks(BEN, &format!("stop {run}")).await.plain();
    let words = "Stopped and rolled back: nothing was changed.";
    assert!(told.contains(&format!("Run #{run} has ended: stopped. {words}")), "{told}");
    scene.until(&shown.at(), words).await;
    assert_eq!(scene.only_run("run-sql").await.state, RunState::Stopped);
    assert!(client.query_opt(sleeps, &[]).await.unwrap().is_none(), "nobody works on it any more");
    assert_eq!((has_field(&client).await, comment(&client).await), (true, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teams_own_command_is_stopped_like_a_file() {
    let counter = Counter::new("stopped").await;
    let acts = counter.acts();
    let commands = vec![("count.sql", acts.as_str())];
    let scene = Scene::with(Twist { commands, instead: vec![PATIENT], ..Twist::default() }).await;
    let shown = scene.card(ANA, "count --env production").await;
    let holder = counter.held().await;
    scene.click_button(BEN, &shown.at(), "Approve").await;
    counter.is_waited_for().await;
    let run = scene.only_run("count").await.id;
    let told = scene.asks(BEN, &format!("stop {run}")).await.plain();
    assert!(told.contains("has ended: stopped.") && told.contains("nothing was changed"), "{told}");
    holder.batch_execute("COMMIT").await.unwrap();
    found("nobody to count", async || counter.is_quiet().await.then_some(())).await;
    assert_eq!((counter.rows().await, scene.only_run("count").await.state), (0, RunState::Stopped));
}
