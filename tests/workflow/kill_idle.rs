//! `kill-idle`: exactly those that the card names, each by itself, and none that did anything since.

use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use countersign::demo::sample::LoginAccount;
use countersign::model::{EventKind, Plan, RunState};
use futures::StreamExt;
use tokio_postgres::Client;

/// A server of its own: who is idle there is nobody else's business.
async fn alone() -> Scene {
    let servers = Servers::alone(100).await;
    Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await
}

/// Waits until every session that is idle in the asset service's database has been so for a second.
async fn a_second_passes(scene: &Scene) {
    let superuser = scene.superuser().await;
    let sql = "SELECT bool_and(clock_timestamp() - state_change > interval '1 s') FROM pg_stat_activity
               WHERE datname = 'asset_service_db' AND state = 'idle'";
    found("a second", async || superuser.query_one(sql, &[]).await.unwrap().get::<_, bool>(0).then_some(()))
        .await;
}

async fn pool(scene: &Scene, number: usize) -> Vec<(Client, i32)> {
    let mut sessions = Vec::new();
    for at in 1..=number {
        sessions.push(scene.session(&format!("pool-{at}")).await);
    }
    sessions
}

/// The line of a table that begins with that pid.
fn fate(told: &str, pid: i32) -> String {
    let pid = pid.to_string();
    let begins =
        |line: &&str| line.split(|c: char| !c.is_ascii_digit()).find(|word| !word.is_empty()) == Some(&pid);
    told.lines().find(begins).unwrap_or_default().to_owned()
}

const ASK: &str = "kill-idle asset-service --older-than 1s --env production";

#[tokio::test(flavor = "multi_thread")]
async fn those_on_the_card_end_and_one_that_works_again_is_left_alone_and_named() {
    let scene = alone().await;
    // The bot's own pool has a session there, too.
    scene.asks(ANA, "indexes asset-service --env production").await;
    let mut sessions = pool(&scene, 5).await;
    let superuser = scene.servers.cluster.connect("asset_service_db").await.unwrap();
    let (elsewhere, other) = scene.session_by(scene.servers.team.reader.login("postgres", "x")).await;
    a_second_passes(&scene).await;
    superuser.execute("SELECT 1", &[]).await.unwrap();
    let (_active, active) = scene.session("busy").await;
    a_second_passes(&scene).await;
    let busy = _active;
    let working = tokio::spawn(async move { busy.query("SELECT pg_sleep(600)", &[]).await });
    let sql = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
    let watcher = scene.superuser().await;
    found("the busy one to work", async || watcher.query_opt(sql, &[&active]).await.unwrap()).await;

    let card = scene.card(ANA, ASK).await;
    let told = card.plain();
    assert!(told.contains("Ends 5 sessions on asset_service_db of production"), "{told}");
    for (at, (_, pid)) in sessions.iter().enumerate() {
        assert!(told.contains(&pid.to_string()) && told.contains(&format!("pool-{}", at + 1)), "{told}");
    }
    assert!(!told.contains(&active.to_string()) && !told.contains(&other.to_string()), "{told}");
    // The superuser's, and the bot's own.
    assert!(told.contains(" idle sessions of superusers, replication or Countersign itself"), "{told}");

    sessions[1].0.query_one("SELECT 1", &[]).await.unwrap();
    let (gone, gone_pid) = sessions.remove(3);
    drop(gone);
    found("its end", async || (!scene.is_there(gone_pid).await).then_some(())).await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    let told = scene.until(&card.at(), "3 of 5 sessions ended; the others are below.").await.plain();
    assert!(told.contains("was used in between, left alone"), "{told}");
    assert!(told.contains("had ended already"), "{told}");
    let used = sessions.remove(1);
    assert!(scene.is_there(used.1).await && scene.is_there(active).await && scene.is_there(other).await);
    for (_, pid) in &sessions {
        assert!(!scene.is_there(*pid).await, "{pid} is still there");
    }
    assert!(superuser.query_one("SELECT 1", &[]).await.is_ok());
    let run = scene.only_run("kill-idle").await;
    assert_eq!(run.state, RunState::Partial);
    let facts = &run.event(EventKind::Partial).unwrap().facts;
    assert_eq!((&facts["shown"], &facts["ended"]), (&serde_json::json!(5), &serde_json::json!(3)));
    let ended: Vec<&str> = facts["pids"].as_array().unwrap().iter().filter_map(|pid| pid.as_str()).collect();
    assert_eq!(ended, sessions.iter().map(|(_, pid)| pid.to_string()).collect::<Vec<_>>());
    let shown = scene.asks(ANA, &format!("show {}", run.id)).await.plain();
    for (_, pid) in &sessions {
        for all in [&told, &shown] {
            assert!(fate(all, *pid).contains("ended"), "{pid}: {all}");
        }
    }
    assert!(fate(&shown, used.1).contains("was used in between, left alone"), "{shown}");
    assert!(fate(&shown, gone_pid).contains("had ended already"), "{shown}");
    // The bot's own pool still answers.
    assert!(scene.asks(ANA, "indexes asset-service --env production").await.plain().contains("index"));
    working.abort();
    drop(elsewhere);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_server_end_and_none_is_left_for_a_second_time() {
    let scene = alone().await;
    let sessions = pool(&scene, 3).await;
    a_second_passes(&scene).await;
    let card = scene.card(ANA, "kill-idle --older-than 1s --env production").await;
    assert!(card.plain().contains("Ends 3 sessions on main of production"), "{}", card.plain());
    scene.click_button(BEN, &card.at(), "Approve").await;
    let told = scene.until(&card.at(), "3 sessions ended.").await.plain();
    for (_, pid) in &sessions {
        assert!(fate(&told, *pid).contains("ended"), "{told}");
        assert!(!scene.is_there(*pid).await);
    }
    assert_eq!(scene.only_run("kill-idle").await.state, RunState::Succeeded);
    let nobody = scene.asks(ANA, "kill-idle --older-than 1s --env production").await.plain();
    assert!(nobody.contains("No session on main has been idle for 1.0 s"), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_of_them_were_used_nothing_is_done_and_refused_is_told() {
    let scene = alone().await;
    let sessions = pool(&scene, 2).await;
    a_second_passes(&scene).await;
    let card = scene.card(ANA, ASK).await;
    for (client, _) in &sessions {
        client.query_one("SELECT 1", &[]).await.unwrap();
    }
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), "None of the sessions is as it was shown. Nothing was done.").await;
    assert_eq!(scene.only_run("kill-idle").await.state, RunState::Invalidated);

    a_second_passes(&scene).await;
    let card = scene.card(ANA, ASK).await;
    let revoke = "REVOKE pg_signal_backend FROM countersign_act";
    scene.superuser().await.batch_execute(revoke).await.unwrap();
    scene.click_button(BEN, &card.at(), "Approve").await;
    let told = scene.until(&card.at(), "PostgreSQL refused it. Nothing was done.").await.plain();
    assert!(told.contains("SQLSTATE 42501"), "{told}");
    for (_, pid) in &sessions {
        assert!(scene.is_there(*pid).await);
    }
}

/// An exhausted server is what the command is for: the card sums them up, the plan names them all.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_card_can_list_are_summed_up_and_end() {
    let servers = Servers::alone(200).await;
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    let mut sessions = pool(&scene, 30).await;
    for _ in 0..90 {
        sessions.push(scene.session("").await);
    }
    a_second_passes(&scene).await;
    let card = scene.card(ANA, ASK).await;
    let told = card.plain();
    let role = &scene.servers.team.service("asset-service").expect("the service").1.user;
    assert!(told.contains("Ends 120 sessions on asset_service_db of production"), "{told}");
    assert!(
        told.contains("120 sessions to end, by application; the plan holds the identity of each"),
        "{told}"
    );
    assert!(told.contains(role.as_str()), "those without a name have their role's: {told}");
    assert!(told.contains("12 other applications"), "31 names, of which 19 are shown: {told}");
    let plan = scene.only_run("kill-idle").await.text("plan").and_then(Plan::from_json).expect("a plan");
    let mut planned: Vec<&str> =
        plan.target_identities.iter().map(|session| session["pid"].as_str()).collect();
    let mut pids: Vec<String> = sessions.iter().map(|(_, pid)| pid.to_string()).collect();
    planned.sort_unstable();
    pids.sort_unstable();
    assert_eq!(planned, pids);
    sessions[100].0.query_one("SELECT 1", &[]).await.unwrap();
    scene.click_button(BEN, &card.at(), "Approve").await;
    let told = scene.until(&card.at(), "119 of 120 sessions ended; the others are below.").await.plain();
    assert!(fate(&told, sessions[100].1).contains("was used in between, left alone"), "{told}");
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'asset_service_db' AND usename = $1";
    let left: i64 = scene.superuser().await.query_one(sql, &[role]).await.unwrap().get(0);
    assert_eq!(left, 1);
    for wrong in
        ["kill-idle --older-than 0s --env production", "kill-idle --older-than soon --env production"]
    {
        let told = scene.asks(ANA, wrong).await;
        assert!(told.button("Approve").is_none() && told.plain().contains("older-than"), "{}", told.plain());
    }
}

/// Nothing but its transaction can be seen of a session from outside, and its advisory locks.
#[tokio::test(flavor = "multi_thread")]
async fn the_cards_say_what_ends_with_a_session() {
    let scene = alone().await;
    let (listener, pid) = scene.session("").await;
    let setup = "LISTEN jobs; CREATE TEMP TABLE keep AS SELECT 1; SELECT pg_advisory_lock(4242)";
    for sql in setup.split("; ") {
        listener.batch_execute(sql).await.unwrap();
    }
    a_second_passes(&scene).await;
    let role = &scene.servers.team.service("asset-service").expect("the service").1.user;
    let lost = "1 advisory lock is released. Temporary tables, prepared statements and LISTEN are lost, too; they can't be seen from outside.";
    let told = scene.asks(ANA, &format!("{ASK} --dry-run")).await.plain();
    assert!(told.contains(lost) && !told.contains("nothing is lost"), "{told}");
    let told = scene.asks(ANA, &format!("kill {pid} --env production --dry-run")).await.plain();
    assert!(told.contains(&format!("{role} loses its connection. No transaction is open. {lost}")), "{told}");
    assert!(!told.contains("open for -") && !told.contains("Impact: -"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_active_or_a_superusers_is_left_alone_with_the_reason_and_stops_no_other() {
    let scene = alone().await;
    let superuser = scene.superuser().await;
    superuser.batch_execute("CREATE ROLE platform LOGIN PASSWORD 'platform'").await.unwrap();
    let platform = LoginAccount { user: "platform".to_owned(), password: "platform".to_owned() };
    let mut sessions = pool(&scene, 2).await;
    let (privileged, platforms) = scene.session_by(platform.login("asset_service_db", "azure")).await;
    let (last, ends) = scene.session("pool-last").await;
    a_second_passes(&scene).await;
    let card = scene.card(ANA, ASK).await;
    assert!(card.plain().contains("Ends 4 sessions on asset_service_db"), "{}", card.plain());

    let (worker, active) = sessions.remove(0);
    let working = tokio::spawn(async move { worker.query("SELECT pg_sleep(600)", &[]).await });
    let sql = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
    found("it to work", async || superuser.query_opt(sql, &[&active]).await.unwrap()).await;
    superuser.batch_execute("ALTER ROLE platform SUPERUSER").await.unwrap();
    scene.click_button(BEN, &card.at(), "Approve").await;
    let told = scene.until(&card.at(), "2 of 4 sessions ended; the others are below.").await.plain();
    for (pid, application, words) in [
        (active, "pool-1", "is active now, left alone"),
        (platforms, "azure", "is a superuser's now, left alone"),
        (sessions[0].1, "pool-2", "ended"),
        (ends, "pool-last", "ended"),
    ] {
        let fate = fate(&told, pid);
        assert!(fate.contains(application) && fate.contains(words), "{pid}: {told}");
        assert_eq!(scene.is_there(pid).await, words != "ended", "{pid}: {told}");
    }
    assert!(!working.is_finished());
    working.abort();
    assert!(privileged.query_one("SELECT 1", &[]).await.is_ok());

    // The same of one session alone.
    superuser.batch_execute("ALTER ROLE platform NOSUPERUSER").await.unwrap();
    let card = scene.kill_card(platforms).await;
    superuser.batch_execute("ALTER ROLE platform SUPERUSER").await.unwrap();
    scene.click_button(BEN, &card.at(), "Approve").await;
    let words = format!("Session {platforms} is a superuser's now, and was left alone. Nothing was done.");
    scene.until(&card.at(), &words).await;
    assert!(scene.is_there(platforms).await);
    drop(last);
}

/// Every connection of a server is taken, the emergency that the command is for: by so many clients at least, or by more under
/// `make soak`.
fn clients_of_a_full_server() -> u32 {
    let soak = std::env::var("COUNTERSIGN_TEST_SESSIONS").ok().and_then(|count| count.parse().ok());
    soak.unwrap_or(1_400)
}

/// Connections beyond the clients', for the bot, the superuser and PostgreSQL itself; clients take what is left of them.
const MORE_CONNECTIONS: u32 = 100;

/// How often our logins have run statements with that text, and of how many rows.
async fn statements(superuser: &Client, text: &str) -> (i64, i64) {
    let sql = "SELECT COALESCE(sum(calls), 0)::int8, COALESCE(sum(s.rows), 0)::int8 FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
               WHERE r.rolname LIKE 'countersign%' AND strpos(s.query, $1) > 0";
    let row = superuser.query_one(sql, &[&text]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_emptied_by_a_few_statements() {
    let clients = clients_of_a_full_server();
    let max_connections = clients + MORE_CONNECTIONS;
    let servers = Servers::alone(max_connections).await;
    let superuser = servers.cluster.connect("asset_service_db").await.unwrap();
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    // A reader and an operator for each of the two environments, which are one server here.
    let warm = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'countersign%'";
    found("the warm connections", async || {
        (superuser.query_one(warm, &[]).await.unwrap().get::<_, i64>(0) == 4).then_some(())
    })
    .await;
    let (service, account) = servers.team.service("asset-service").unwrap();
    let opens = |at: u32| {
        let login = account.login(&service.database, if at.is_multiple_of(2) { "web" } else { "worker" });
        servers.cluster.connect_as(login)
    };
    let opened: Vec<_> =
        futures::stream::iter(0..max_connections).map(opens).buffer_unordered(16).collect().await;
    let sessions: Vec<Client> = opened.into_iter().filter_map(Result::ok).collect();
    let number = sessions.len();
    assert!(number > clients as usize && number < max_connections as usize, "{number} are in");
    opens(0).await.expect_err("no slot is left");
    a_second_passes(&scene).await;

    let (asked, signalled) = ("AS idle_s", "pg_terminate_backend(t.pid)");
    let card = scene.card(ANA, ASK).await;
    let told = card.plain();
    assert!(told.contains(&format!("Ends {number} sessions on asset_service_db of production")), "{told}");
    assert!(told.contains("are in use"), "{told}");
    assert!(told.lines().count() < 40, "two applications are two lines: {told}");
    assert_eq!(statements(&superuser, asked).await.0, 1, "one statement for the card");
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("{number} sessions ended.")).await;
    let batches = number.div_ceil(1_000);
    assert_eq!(statements(&superuser, signalled).await, (batches as i64, number as i64));
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
    assert_eq!(superuser.query_one(left, &[&account.user]).await.unwrap().get::<_, i64>(0), 0);
    opens(0).await.expect("a slot");
}
