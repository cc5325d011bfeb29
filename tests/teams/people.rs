//! Who is listened to in Teams: listed people of the tenant with an account of their own, and members of their group.

use crate::bot_process::{Bot, INCIDENT, PEOPLE, Twist};
use countersign::demo::fake_teams::{ConversationKind, TenantUser, UserRole, object_id};
use serde_json::json;

/// Everyone of the sample and those who are no members of the tenant, all listed with every role.
const OUTSIDERS: [&str; 4] = ["gil", "eve", "dex", "rob"];

fn listed() -> String {
    let entry = |name: &&str| {
        let account = object_id(name);
        format!(
            "[[people]]\nname = \"{name}\"\nteams = [\"{account}\"]\nroles = [\"on-call\", \"approver\"]\n\n"
        )
    };
    OUTSIDERS.iter().map(entry).collect()
}

async fn with_outsiders() -> Bot {
    let listed = listed();
    let bot = Bot::start(Twist { more: &listed, ..Twist::default() }).await;
    bot.teams.add_person(TenantUser { role: UserRole::Guest, ..TenantUser::new("gil") });
    bot.teams.add_person(TenantUser { tenant: "another".to_owned(), ..TenantUser::new("eve") });
    bot.teams.add_person(TenantUser { deactivated: true, ..TenantUser::new("dex") });
    bot.teams.add_person(TenantUser { role: UserRole::Bot, ..TenantUser::new("rob") });
    bot
}

/// All of them come into the incident's channel.
fn come_in(bot: &Bot) {
    let all: Vec<&str> = PEOPLE.into_iter().chain(OUTSIDERS).collect();
    bot.teams.add_conversation(ConversationKind::Channel, INCIDENT, &all);
}

#[tokio::test(flavor = "multi_thread")]
async fn outsiders_get_nothing_by_typing_or_by_clicking() {
    let bot = with_outsiders().await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let seen = bot.sees("ben", &card, "[Approve]").await;
    come_in(&bot);
    let runs = bot.runs(None).await.len();
    for who in OUTSIDERS {
        for line in ["health --env production".to_owned(), format!("kill {pid} --env production")] {
            let mut activity = bot.teams.activity(who, INCIDENT);
            activity["id"] = json!(format!("{who}-{}", line.len()));
            activity["text"] = json!(format!("<at>Countersign</at> {line}"));
            let bot_itself = activity["recipient"].clone();
            activity["entities"] =
                json!([{ "type": "mention", "text": "<at>Countersign</at>", "mentioned": bot_itself }]);
            assert!(bot.teams.deliver(activity).await.ok());
        }
        let click = seen.button("Approve").expect("a button").action;
        let ack = bot.teams.execute(who, &seen, &click, "manual").await;
        assert!(ack.ok(), "{who}: {ack:?}");
    }
    bot.refused("ana", "bloked", "Did you mean").await;
    assert_eq!(bot.runs(None).await.len(), runs, "no outsider may leave a run");
    assert_eq!(bot.events_of("kill").await, ["requested"]);
    assert!(bot.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_listed_is_told_so_alone() {
    let bot = Bot::start(Twist::default()).await;
    let words = "not in Countersign's list";
    for line in ["", "nonsense", "health --env production"] {
        bot.refused("nora", line, words).await;
    }
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let seen = bot.sees("ben", &card, "[Approve]").await;
    for button in ["Approve", "Deny"] {
        let ack = bot.teams.click_stale_button("nora", &seen, button).await;
        assert!(ack.ok() && ack.body.to_string().contains(words), "{button}: {ack:?}");
    }
    assert_eq!(bot.events_of("kill").await, ["requested"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_private_where_another_tenant_is() {
    let bot = with_outsiders().await;
    come_in(&bot);
    let told = bot.asks("ana", "health --env production").await;
    assert_eq!(told.only_to.as_deref(), Some("ana"), "{}", told.plain());
    assert!(bot.answers("eve", INCIDENT).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_left_meanwhile_decides_and_asks_nothing() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    // The requester's account is asked about anew when the run starts.
    bot.teams.add_person(TenantUser { deactivated: true, ..TenantUser::new("ana") });
    assert!(bot.teams.click_button("ben", &card, "Approve").await.ok());
    bot.sees("ben", &card, "was revoked").await;
    assert_eq!(bot.events_of("kill").await, ["requested", "approved", "revoked"]);
    assert!(bot.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_left_a_moment_ago_decides_nothing_and_the_request_waits_for_others() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    // Teams' report on the account is a moment old.
    bot.asks("ben", "health --env production").await;
    let seen = bot.sees("ben", &card, "[Approve]").await;
    bot.teams.add_person(TenantUser { deactivated: true, ..TenantUser::new("ben") });
    for button in ["Approve", "Deny"] {
        let ack = bot.teams.click_stale_button("ben", &seen, button).await;
        let words = "isn't available to deactivated accounts";
        assert!(ack.ok() && ack.body.to_string().contains(words), "{button}: {ack:?}");
    }
    assert_eq!(bot.events_of("kill").await, ["requested"]);
    assert!(bot.is_there(pid).await);
    assert!(bot.teams.click_button("cara", &card, "Approve").await.ok());
    bot.sees("ana", &card, &format!("Session {pid} ended")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_counts_for_the_members_of_its_group_alone() {
    let group = "19:approvers@thread.tacv2";
    let section = format!("[teams]\ngroups = {{ approver = \"{group}\" }}\n");
    let bot = Bot::start(Twist { instead: &[("[teams]\n", &section)], ..Twist::default() }).await;
    bot.teams.add_conversation(ConversationKind::Channel, group, &["ben"]);
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let seen = bot.sees("ben", &card, "[Approve]").await;
    let ack = bot.teams.click_stale_button("cara", &seen, "Approve").await;
    assert!(ack.ok() && ack.body.to_string().contains("you aren't a member"), "{ack:?}");
    assert_eq!(bot.events_of("kill").await, ["requested"]);
    assert!(bot.teams.click_button("ben", &card, "Approve").await.ok());
    bot.sees("ana", &card, &format!("Session {pid} ended")).await;
}
