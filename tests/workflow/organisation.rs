//! An organisation of several Slack workspaces (Enterprise Grid): a member counts whatever their home workspace, by either of their
//! ids, and a click counts where the payload names no team. Whoever is in none of our workspaces stays outside.

use crate::harness::{ANA, Scene, Twist};
use countersign::demo::fake_slack::{Account, Kind, Message, ORGANISATION, Organisation, TEAM, Workspace};
use countersign::demo::harness::INCIDENT;
use countersign::model::random_token;
use serde_json::{Value, json};

/// The home workspace of all of them, which the bot doesn't listen to.
const HOME: &str = "T0HOME";

/// The ways in which a line comes in.
const DOORS: [&str; 2] = ["/slack/commands", "/slack/events"];

fn account(id: &str, name: &str, other_id: &str, workspaces: &[&str]) -> Account {
    let workspaces = workspaces.iter().map(|team| (*team).to_owned()).collect();
    let organisation = Organisation { other_id: other_id.to_owned(), home: HOME.to_owned(), workspaces };
    Account { organisation: Some(organisation), ..Account::new(id, name, Kind::Member) }
}

/// Cara is known by her `W…` id, ben by both of his, and so is eve, whose workspaces are all others.
async fn organisation(instead: &[(&str, &str)]) -> Scene {
    let eve = "[[people]]\nname = \"eve\"\nslack = [\"W0EVE\"]\nroles = [\"on-call\", \"approver\"]\n\n";
    let mut changes = vec![
        ("slack = [\"U0CARA\"]", "slack = [\"W0CARA\"]"),
        ("slack = [\"U0BEN\"]", "slack = [\"U0BEN\", \"W0BEN\"]"),
    ];
    changes.extend(instead);
    let scene = Scene::with(Twist { more: eve, instead: changes, ..Twist::default() }).await;
    scene.workspace().add_person(account("W0CARA", "cara", "U0CARA", &[HOME, TEAM]));
    scene.workspace().add_person(account("U0BEN", "ben", "W0BEN", &[HOME, TEAM]));
    scene.workspace().add_person(account("W0EVE", "eve", "U0EVE", &[HOME, "T0OTHER01"]));
    scene
}

fn unique() -> String {
    random_token().expect("randomness")
}

/// The new message that this person sees.
async fn told(scene: &Scene, who: &str, before: usize, what: &str) -> Message {
    scene.next(who, before, what).await
}

/// Types a line at a door, as somebody of the home workspace.
async fn types(scene: &Scene, door: &str, who: &str, line: &str) -> Message {
    let (before, unique) = (scene.count(who), unique());
    let body = match door {
        "/slack/commands" => {
            let fields = [
                ("team_id", TEAM),
                ("enterprise_id", ORGANISATION),
                ("channel_id", INCIDENT),
                ("user_id", who),
                ("text", line),
                ("trigger_id", &unique),
            ];
            serde_urlencoded::to_string(fields).expect("a form")
        }
        _ => json!({
            "type": "event_callback", "team_id": TEAM, "enterprise_id": ORGANISATION, "event_id": unique,
            "event": {
                "type": "app_mention", "user": who, "text": format!("<@UBOT> {line}"), "channel": INCIDENT,
                "ts": scene.workspace().visible_messages(who, INCIDENT).last().map(|message| message.ts.clone()),
                "team": HOME, "user_team": HOME,
            },
            "authorizations": [{ "user_id": "UBOT", "team_id": TEAM, "enterprise_id": ORGANISATION, "is_bot": true }],
        })
        .to_string(),
    };
    let ack = scene.sends(door, body).await;
    assert!(ack.ok(), "{door} {who} {line}: {ack:?}");
    told(scene, who, before, line).await
}

/// Clicks as somebody of the home workspace; `team` is as the payload has it.
async fn clicks(scene: &Scene, who: &str, card: &Message, team: Value) {
    let payload = json!({
        "type": "block_actions", "team": team, "enterprise": { "id": ORGANISATION, "name": "x" },
        "is_enterprise_install": true, "trigger_id": unique(), "response_url": null,
        "user": { "id": who, "name": who, "team_id": HOME }, "channel": { "id": INCIDENT },
        "container": { "type": "message", "message_ts": card.ts, "channel_id": INCIDENT },
        "actions": [{ "type": "button", "action_id": "cs:0", "value": Scene::token(card, "Approve"), "action_ts": "1.1" }],
    });
    let body = serde_urlencoded::to_string([("payload", payload.to_string())]).expect("a form");
    let ack = scene.sends("/slack/interactions", body).await;
    assert!(ack.ok(), "{who}: {ack:?}");
}

async fn is_refused(scene: &Scene, who: &str, (card, team): (&Message, Value), words: &str) {
    let before = scene.count(who);
    clicks(scene, who, card, team).await;
    let told = told(scene, who, before, words).await.plain();
    assert!(told.contains(words), "{who}: {words} is missing:\n{told}");
}

fn team() -> Value {
    json!({ "id": TEAM, "domain": "d" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_counts_at_every_door_whatever_their_home_workspace() {
    let scene = organisation(&[]).await;
    scene.workspace().say(ANA, INCIDENT, "what a day").await;
    for door in DOORS {
        let told = types(&scene, door, "W0CARA", "sizes --env staging").await.plain();
        assert!(told.contains("cara requested sizes") && told.contains("databases take"), "{door}: {told}");
        let told = types(&scene, door, "W0EVE", "sizes --env staging").await.plain();
        assert!(told.contains("accounts of other organisations"), "{door}: {told}");
    }
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    is_refused(&scene, "W0EVE", (&card, team()), "accounts of other organisations").await;
    assert!(scene.is_there(pid).await);
    clicks(&scene, "W0CARA", &card, team()).await;
    let done = scene.until(&card.at(), &format!("Session {pid} ended")).await.plain();
    assert!(done.contains("approved by cara") && !scene.is_there(pid).await, "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_without_a_team_counts_in_its_conversation() {
    for workspaces in [format!("workspaces = [\"{TEAM}\"]"), format!("workspaces = [\"{TEAM}\", \"{HOME}\"]")]
    {
        let own = format!("workspaces = [\"{TEAM}\"]");
        let scene = organisation(&[(&own, &workspaces)]).await;
        let (_victim, pid) = scene.session("asset-worker-7").await;
        let card = scene.kill_card(pid).await;
        // Eve is a member of the second workspace where that is listened to.
        if !workspaces.contains(HOME) {
            let words = "accounts of other organisations";
            is_refused(&scene, "W0EVE", (&card, Value::Null), words).await;
        }
        assert!(scene.is_there(pid).await);
        clicks(&scene, "W0CARA", &card, Value::Null).await;
        let done = scene.until(&card.at(), &format!("Session {pid} ended")).await.plain();
        assert!(done.contains("approved by cara") && !scene.is_there(pid).await, "{done}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ids_are_one_person_who_approves_by_either_and_never_their_own_request() {
    let groups = "groups = { approver = \"S0APP\" }\nsigning_secrets = [{ env";
    let roles = ("roles = [\"approver\"]", "roles = [\"approver\", \"on-call\"]");
    let scene = organisation(&[("signing_secrets = [{ env", groups), roles]).await;
    // The group holds the other id.
    scene.workspace().set_group("S0APP", &["U0BEN", "U0CARA"]);
    for id in ["W0BEN", "U0BEN"] {
        let told = types(&scene, "/slack/commands", id, "sizes --env staging").await.plain();
        assert!(told.contains("ben requested sizes") && told.contains("databases take"), "{id}: {told}");
        let (_victim, pid) = scene.session("asset-worker-7").await;
        let card = scene.kill_card(pid).await;
        assert!(card.plain().contains("from ben or cara"), "ben is asked: {}", card.plain());
        clicks(&scene, id, &card, team()).await;
        let done = scene.until(&card.at(), &format!("Session {pid} ended")).await.plain();
        assert!(done.contains("approved by ben"), "{id}: {done}");
    }
    for (own, other) in [("U0BEN", "W0BEN"), ("W0BEN", "U0BEN")] {
        let (_victim, pid) = scene.session("asset-worker-7").await;
        let card = types(&scene, "/slack/commands", own, &format!("kill {pid} --env production")).await;
        scene.until_noted(&card).await;
        for id in [own, other] {
            is_refused(&scene, id, (&card, team()), "somebody else has to decide").await;
        }
        assert!(scene.is_there(pid).await);
        clicks(&scene, "W0CARA", &card, team()).await;
        scene.until(&card.at(), &format!("Session {pid} ended")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_ids_belong_to_two_people_is_of_neither() {
    let scene = organisation(&[]).await;
    // Slack says that ana's account is ben's other id.
    let mixed = |workspace: &Workspace| {
        workspace.add_person(Account::new("U0BEN", "ben", Kind::Member));
        workspace.add_person(account(ANA, "ana", "W0BEN", &[HOME, TEAM]));
    };
    mixed(scene.workspace());
    for id in ["W0BEN", ANA] {
        let told = types(&scene, "/slack/commands", id, "sizes --env staging").await.plain();
        assert!(told.contains("accounts of other organisations"), "{id}: {told}");
    }
}
