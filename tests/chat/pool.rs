//! `kill-idle`: exactly those that the card names, each by itself, and none that did anything since.

use crate::scene::{ANA, BEN, Scene, Servers, Twist, found};
use countersign::store::State;
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
    scene.clicks(BEN, &card.at(), "Approve").await;
    let told = scene.until(&card.at(), "3 of 5 sessions are gone; the others are below.").await.plain();
    assert!(told.contains("was used in between, left alone"), "{told}");
    assert!(told.contains("was gone already"), "{told}");
    let used = sessions.remove(1);
    assert!(scene.is_there(used.1).await && scene.is_there(active).await && scene.is_there(other).await);
    for (_, pid) in &sessions {
        assert!(!scene.is_there(*pid).await, "{pid} is still there");
    }
    assert!(superuser.query_one("SELECT 1", &[]).await.is_ok());
    let run = scene.only_run("kill-idle").await;
    assert_eq!(run.state, State::Partial);
    assert_eq!(run.event("partial").unwrap().facts, serde_json::json!({ "shown": 5, "ended": 3 }));
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
    scene.clicks(BEN, &card.at(), "Approve").await;
    let told = scene.until(&card.at(), "3 sessions are gone.").await.plain();
    assert!(!told.contains("what became of it"), "{told}");
    for (_, pid) in &sessions {
        assert!(!scene.is_there(*pid).await);
    }
    assert_eq!(scene.only_run("kill-idle").await.state, State::Succeeded);
    let nobody = scene.asks(ANA, "kill-idle --older-than 1s --env production").await.plain();
    assert!(nobody.contains("No session on main has done nothing for 1.0 s"), "{nobody}");
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
    scene.clicks(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), "None of them was still idle as it was shown. Nothing was done.").await;
    assert_eq!(scene.only_run("kill-idle").await.state, State::Voided);

    a_second_passes(&scene).await;
    let card = scene.card(ANA, ASK).await;
    let revoke = "REVOKE pg_signal_backend FROM countersign_act";
    scene.superuser().await.batch_execute(revoke).await.unwrap();
    scene.clicks(BEN, &card.at(), "Approve").await;
    let told = scene.until(&card.at(), "PostgreSQL refused it. Nothing was done.").await.plain();
    assert!(told.contains("SQLSTATE 42501"), "{told}");
    for (_, pid) in &sessions {
        assert!(scene.is_there(*pid).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_card_can_name_is_refused_with_how_to_narrow_it() {
    let scene = alone().await;
    let sessions = pool(&scene, 51).await;
    a_second_passes(&scene).await;
    let told = scene.asks(ANA, ASK).await;
    assert!(told.button("Approve").is_none(), "{}", told.plain());
    assert!(
        told.plain().contains("51 sessions on asset_service_db have done nothing for 1.0 s"),
        "{}",
        told.plain()
    );
    assert!(told.plain().contains("kill-idle <service> --older-than 2h"), "{}", told.plain());
    drop(sessions.into_iter().next());
    for wrong in
        ["kill-idle --older-than 0s --env production", "kill-idle --older-than soon --env production"]
    {
        let told = scene.asks(ANA, wrong).await;
        assert!(told.button("Approve").is_none() && told.plain().contains("older-than"), "{}", told.plain());
    }
    assert!(scene.runs_of("kill-idle").await.is_empty());
}
