//! A pid that belongs to another session by the time of the click. The pid is really reused: Linux gives the next process
//! the number after `ns_last_pid`, which root may write.

use crate::harness::{ANA, BEN, Scene, found};
use countersign::demo::fake_slack::Message;
use countersign::model::{EventKind, RunState};
use tokio::sync::Mutex;
use tokio_postgres::Client;

const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// Other processes of the machine take numbers too, so one may have to try again; each try takes milliseconds.
const TRIES: usize = 500;

/// The number is the whole machine's: one test at a time.
static LAST: Mutex<()> = Mutex::const_new(());

/// A session that others wait for: its client, kept busy by nothing, and its pid. Another session waits behind it.
pub async fn holds_up(scene: &Scene, name: &str) -> (Client, i32) {
    let (holder, pid) = scene.session(&format!("{name}-holder")).await;
    let key = i64::from(pid);
    holder.batch_execute("BEGIN").await.expect("a transaction");
    holder.execute("SELECT pg_advisory_xact_lock($1)", &[&key]).await.expect("a lock");
    let (waiter, waiting) = scene.session(&format!("{name}-waiter")).await;
    tokio::spawn(async move { waiter.execute("SELECT pg_advisory_lock($1)", &[&key]).await });
    let superuser = scene.superuser().await;
    found("a session that waits", async || {
        let sql = "SELECT $1 = ANY (pg_blocking_pids($2))";
        superuser.query_one(sql, &[&pid, &waiting]).await.expect("an answer").get::<_, bool>(0).then_some(())
    })
    .await;
    (holder, pid)
}

/// The action id of the button on the row of that pid.
pub fn button_of(listing: &Message, pid: i32) -> String {
    let label = format!("kill {pid}");
    let buttons = listing.buttons();
    let found = buttons.iter().find(|button| button.label.to_lowercase().contains(&label));
    found.unwrap_or_else(|| panic!("no button for {pid} on:\n{}", listing.plain())).action_id.clone()
}

/// Ends the session, and opens another one that has its pid.
async fn another_with(scene: &Scene, (client, pid): (Client, i32)) -> Client {
    let _alone = LAST.lock().await;
    drop(client);
    let process = std::path::PathBuf::from(format!("/proc/{pid}"));
    found("the session's end", async || (!process.exists()).then_some(())).await;
    for _ in 0..TRIES {
        if let Err(why) = std::fs::write(LAST_PID, (pid - 1).to_string()) {
            panic!(
                "{LAST_PID} can't be written ({why}), so no pid can be reused: run this test on Linux as root"
            );
        }
        let (another, given) = scene.session("somebody-else").await;
        if given == pid {
            return another;
        }
    }
    panic!("pid {pid} was not given to a session in {TRIES} tries");
}

async fn answers(session: &Client) {
    let pid: i32 = session.query_one("SELECT pg_backend_pid()", &[]).await.expect("it lives").get(0);
    assert!(pid > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_listing_and_the_click_nobody_is_asked() {
    let scene = Scene::usual().await;
    let (holder, pid) = holds_up(&scene, "listed").await;
    let listing = scene.asks(ANA, "blocked --env production").await;
    let button = button_of(&listing, pid);
    let another = another_with(&scene, (holder, pid)).await;

    let told = scene.is_told(ANA, &listing.at(), &button).await;
    let words = format!("That session is gone: pid {pid} belongs to another session now. Nothing was done.");
    assert!(told.plain().contains(&words), "{}", told.plain());
    assert_eq!(told.ephemeral_to.as_deref(), Some(ANA));
    assert!(scene.runs_of("kill").await.is_empty());
    answers(&another).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_listing_and_the_click_a_pid_of_nobody_is_gone_too() {
    let scene = Scene::usual().await;
    let (holder, pid) = holds_up(&scene, "left").await;
    let listing = scene.asks(ANA, "blocked --env production").await;
    let button = button_of(&listing, pid);
    drop(holder);
    found("the session's end", async || (!scene.is_there(pid).await).then_some(())).await;
    let told = scene.is_told(ANA, &listing.at(), &button).await;
    assert!(told.plain().contains("That session is gone. Nothing was done."), "{}", told.plain());
    assert!(scene.runs_of("kill").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_card_and_the_approval_the_other_session_lives() {
    let scene = Scene::usual().await;
    let (victim, pid) = scene.session("shown").await;
    let card = scene.asks(ANA, &format!("kill {pid} --env production")).await;
    assert!(card.button("Approve").is_some(), "{}", card.plain());
    let another = another_with(&scene, (victim, pid)).await;

    scene.click_button(BEN, &card.at(), "Approve").await;
    let words = format!(
        "The session that was shown is gone: pid {pid} belongs to another session now, which was left alone. \
         Nothing was done."
    );
    let voided = scene.until(&card.at(), &words).await;
    assert!(voided.button("Approve").is_none(), "{}", voided.plain());
    answers(&another).await;
    let run = scene.runs_of("kill").await.remove(0);
    assert_eq!(run.state, RunState::Invalidated);
    assert_eq!(run.event(EventKind::Invalidated).expect("an end").facts["signalled"], false);
}
