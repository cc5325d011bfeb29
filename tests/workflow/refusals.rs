//! Slack refuses what is sent: whoever acted hears of it by another way, and a decided card loses its buttons.

use crate::harness::{ANA, BEN, CARA, Scene, Twist, found};
use crate::process::{Counter, becomes};
use countersign::demo::fake_slack::{Channel, Fault, Message, Settings};
use countersign::demo::harness::INCIDENT;
use countersign::model::RunState;
use futures::future::join_all;

/// The errors of `chat.postMessage`, `chat.postEphemeral`, `chat.update`, `conversations.open` and of a `response_url`, from Slack's
/// reference; and one that it doesn't have.
const CODES: [&str; 64] = [
    "access_denied",
    "accesslimited",
    "account_inactive",
    "action_prohibited",
    "as_user_not_supported",
    "block_mismatch",
    "cannot_dm_bot",
    "cannot_reply_to_message",
    "cant_broadcast_message",
    "channel_is_archived",
    "channel_not_found",
    "deprecated_endpoint",
    "ekm_access_denied",
    "enterprise_is_restricted",
    "external_channel_migrating",
    "fatal_error",
    "internal_error",
    "invalid_arg_name",
    "invalid_arguments",
    "invalid_array_arg",
    "invalid_attachments",
    "invalid_auth",
    "invalid_blocks",
    "invalid_blocks_format",
    "invalid_charset",
    "invalid_form_data",
    "invalid_post_type",
    "invalid_user_combination",
    "is_archived",
    "is_bot",
    "is_inactive",
    "markdown_text_conflict",
    "message_limit_exceeded",
    "messages_tab_disabled",
    "method_deprecated",
    "missing_post_type",
    "missing_scope",
    "msg_blocks_too_long",
    "msg_too_long",
    "next_years_error",
    "no_permission",
    "no_text",
    "not_allowed_token_type",
    "not_authed",
    "not_in_channel",
    "org_login_required",
    "ratelimited",
    "request_timeout",
    "restricted_action",
    "restricted_action_non_threadable_channel",
    "restricted_action_read_only_channel",
    "restricted_action_thread_only_channel",
    "service_unavailable",
    "slack_connect_file_link_sharing_blocked",
    "streaming_state_conflict",
    "team_access_not_granted",
    "team_added_to_org",
    "thread_not_found",
    "token_expired",
    "token_revoked",
    "too_many_attachments",
    "two_factor_setup_required",
    "update_failed",
    "user_not_in_channel",
];

/// Those by which the message itself ends.
const ENDS: [&str; 3] = ["cant_update_message", "edit_window_closed", "message_not_found"];

/// A command that acts at once.
const ACTS: &str = "use production";
const DONE: &str = "This channel now uses production";

/// Bots that share the codes.
const BOTS: usize = 8;

/// One bot whose `decide` waits for an approval.
async fn bot(name: &str) -> (Counter, Scene) {
    let counter = Counter::new(name).await;
    let waits = counter.acts().replace("example = \"count\"", "example = \"decide\"");
    let commands = vec![("decide.sql", waits.as_str())];
    // Many bots start at once here, and how soon they acknowledge is another test's subject.
    let ack_limit = std::time::Duration::from_secs(30);
    let workspace = Settings { rate_limits: false, ack_limit, ..Settings::default() };
    let twist = Twist { commands, workspace: Some(workspace), ..Twist::default() };
    let scene = Scene::with(twist).await;
    (counter, scene)
}

/// A channel of its own for a code: the bot posts one message a second to each.
fn channel(scene: &Scene, code: &str) -> String {
    let id = format!("C0{}", code.to_uppercase());
    let (id, name) = (id, code.to_owned());
    scene.workspace().add_channel(Channel {
        id: id.clone(),
        name,
        is_bot_member: true,
        ..Channel::default()
    });
    id
}

fn refused(scene: &Scene, method: &str) -> usize {
    scene.workspace().payloads().iter().filter(|sent| sent.method == method && sent.error.is_some()).count()
}

async fn is_refused_again(scene: &Scene, method: &str, before: usize) {
    let again = scene.workspace().wait_for(method, |_| (refused(scene, method) > before).then_some(()));
    again.await.unwrap_or_else(|why| panic!("{why}"));
}

/// Everything that somebody sees there and in the conversation with the bot.
fn seen(scene: &Scene, who: &str, channel: &str) -> Vec<Message> {
    let direct = scene.workspace().dm_channel(who);
    [channel, &direct].iter().flat_map(|place| scene.workspace().visible_messages(who, place)).collect()
}

async fn hears(scene: &Scene, channel: &str, words: &str) -> Message {
    let look = async || seen(scene, ANA, channel).into_iter().find(|message| message.plain().contains(words));
    found(&format!("{words} in {channel}"), look).await
}

/// Mentions the bot, which has no address to answer by then, or types a slash command.
async fn acts(scene: &Scene, method: &str, channel: &str) -> i64 {
    let before = scene.runs_of("use").await.len();
    let private = if method == "chat.postEphemeral" { " --private" } else { "" };
    let line = &format!("{ACTS}{private}");
    let ack = match method {
        "response" => scene.workspace().say(ANA, channel, &format!("/db {line}")).await,
        _ => scene.workspace().mention_bot(ANA, channel, None, line).await,
    };
    assert!(ack.ok(), "{ack:?}");
    found("the run", async || {
        let runs = scene.runs_of("use").await;
        runs.first().filter(|run| runs.len() > before && !run.state.is_open()).map(|run| run.id)
    })
    .await
}

async fn whoever_acts_hears_of_it(method: &'static str) {
    let hear = async |(number, codes): (usize, &[&'static str])| {
        let name = format!("hears_{}_{number}", method.replace('.', "_").to_lowercase());
        let (_counter, scene) = bot(&name).await;
        for code in codes {
            let (channel, before) = (channel(&scene, code), refused(&scene, method));
            scene.workspace().fault(method, Fault::Error(code));
            let run = acts(&scene, method, &channel).await;
            is_refused_again(&scene, method, before).await;
            scene.workspace().fault(method, Fault::Clear);
            let told = hears(&scene, &channel, &format!("#{run}")).await;
            assert!(told.plain().contains(DONE), "{code}: {}", told.plain());
        }
    };
    join_all(CODES.chunks(CODES.len() / BOTS).enumerate().map(hear)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_acts_hears_of_it_though_the_response_url_is_refused() {
    whoever_acts_hears_of_it("response").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_acts_hears_of_it_though_messages_are_refused() {
    whoever_acts_hears_of_it("chat.postMessage").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_acts_hears_of_it_though_private_messages_are_refused() {
    whoever_acts_hears_of_it("chat.postEphemeral").await;
}

fn has_live_buttons(scene: &Scene, channel: &str) -> bool {
    [ANA, BEN, CARA]
        .iter()
        .any(|who| seen(scene, who, channel).iter().any(|message| message.button("Approve").is_some()))
}

/// Waits until the request's card and both copies are there.
async fn card(scene: &Scene, channel: &str) -> Message {
    let places = [channel.to_owned(), scene.workspace().dm_channel(BEN), scene.workspace().dm_channel(CARA)];
    let shows = |place: &String| {
        let people = [BEN, CARA].iter().flat_map(|who| scene.workspace().visible_messages(who, place));
        people.into_iter().find(|message| message.button("Approve").is_some())
    };
    found("the card and its copies", async || {
        let cards: Vec<Message> = places.iter().filter_map(shows).collect();
        (cards.len() == places.len()).then(|| cards[0].clone())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_decided_card_keeps_its_buttons_though_edits_are_refused() {
    let codes: Vec<&str> = CODES.into_iter().chain(ENDS).collect();
    let decide = async |(number, codes): (usize, &[&'static str])| {
        let (_counter, scene) = bot(&format!("edits_{number}")).await;
        for code in codes {
            let (channel, before) = (channel(&scene, code), refused(&scene, "chat.update"));
            scene.says_in(ANA, &channel, "decide --env production").await;
            let card = card(&scene, &channel).await;
            scene.workspace().fault("chat.update", Fault::Error(code));
            scene.click_button(BEN, &card.at(), "Approve").await;
            is_refused_again(&scene, "chat.update", before + 2).await;
            scene.workspace().fault("chat.update", Fault::Clear);
            if ENDS.contains(code) {
                // A click shows that the message is there after all.
                for who in [BEN, CARA] {
                    let copies = seen(&scene, who, &channel);
                    for copy in copies.iter().filter(|copy| copy.button("Approve").is_some()) {
                        scene.click_button(who, &copy.at(), "Approve").await;
                    }
                }
            }
            found(code, async || (!has_live_buttons(&scene, &channel)).then_some(())).await;
            hears(&scene, &channel, " ran on ").await;
        }
    };
    join_all(codes.chunks(codes.len() / 3).enumerate().map(decide)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_of_refusals_leaves_no_card_behind_and_an_old_click_tells_the_end() {
    let codes = [
        "missing_scope",
        "is_archived",
        "restricted_action",
        "invalid_blocks",
        "access_denied",
        "fatal_error",
        "next_years_error",
    ];
    join_all(codes.map(async |code| {
        let scene = Scene::usual().await;
        let (_victim, pid) = scene.session("asset-worker-7").await;
        let card = scene.kill_card(pid).await;
        let before = refused(&scene, "chat.update");
        // Slack confirms ben, who approves, and not the requester.
        let calls = ["chat.", "response", "conversations.", "users.info U0ANA"];
        calls.iter().for_each(|call| scene.workspace().fault(call, Fault::Error(code)));
        scene.click_button(BEN, &card.at(), "Approve").await;
        becomes(&scene.store(), "kill", RunState::Revoked).await;
        is_refused_again(&scene, "chat.update", before).await;
        calls.iter().for_each(|call| scene.workspace().fault(call, Fault::Clear));
        let ended = scene.until(&card.at(), "The approval was revoked").await;
        assert!(ended.button("Approve").is_none(), "{code}: {}", ended.plain());
        // The card, and a message of her own.
        found(&format!("{code}: the requester's message"), async || {
            let messages = seen(&scene, ANA, INCIDENT);
            let told = messages.iter().filter(|message| message.plain().contains("The approval was revoked"));
            (told.count() > 1).then_some(())
        })
        .await;
        assert!(scene.workspace().click_stale_button(CARA, &card, "Approve").await.ok());
        // A late note on a refused direct message is for the whole channel.
        let told = found(&format!("{code}: the end"), async || {
            seen(&scene, CARA, INCIDENT).into_iter().find(|message| message.ephemeral_to.is_some())
        })
        .await
        .plain();
        assert!(told.contains("revoked") && told.contains("Nothing was done"), "{code}: {told}");
        assert!(!told.contains("approved by ben"), "{code}: {told}");
        assert!(scene.is_there(pid).await);
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_refused_is_told_as_text() {
    let (_counter, scene) = bot("as_text").await;
    for (method, line) in [("response", ACTS), ("chat.postMessage", ACTS), ("chat.postEphemeral", "bloked")] {
        let channel = channel(&scene, &method.replace('.', "_"));
        scene.workspace().fault(method, Fault::BlocksRefused);
        let ack = match method {
            "response" => scene.workspace().say(ANA, &channel, &format!("/db {line}")).await,
            _ => scene.workspace().mention_bot(ANA, &channel, None, line).await,
        };
        assert!(ack.ok(), "{ack:?}");
        let words = if line == ACTS { DONE } else { "Did you mean" };
        let told = hears(&scene, &channel, words).await;
        assert!(told.blocks.is_empty() && told.channel == channel, "{method}: {}", told.plain());
        scene.workspace().fault(method, Fault::Clear);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_posted_or_the_thread_is_gone_the_asker_is_told_elsewhere() {
    let counter = Counter::new("elsewhere").await;
    let looks = counter.looks();
    let scene = Scene::with(Twist { commands: vec![("counted.sql", &looks)], ..Twist::default() }).await;
    let archived = channel(&scene, "archived");
    for (place, thread) in [(INCIDENT.to_owned(), true), (archived.clone(), false)] {
        assert!(scene.workspace().say(BEN, &place, "what a day").await.ok());
        let root = scene.workspace().visible_messages(BEN, &place).pop().expect("the root").ts;
        let holder = counter.held().await;
        let root = thread.then_some(root.as_str());
        let ack = scene.workspace().mention_bot(ANA, &place, root, "counted --env production").await;
        assert!(ack.ok(), "{ack:?}");
        counter.is_waited_for().await;
        scene.workspace().clear_messages();
        scene.workspace().archive(&archived);
        holder.batch_execute("COMMIT").await.unwrap();
        let told = hears(&scene, &place, "Counted 0.").await;
        assert_eq!(told.channel == place, thread, "{}", told.plain());
        assert_eq!(told.thread_ts, None);
    }
}
