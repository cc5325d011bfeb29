//! What goes out to Slack, and what is made of its answers.

use crate::wire::Wire;
use countersign::chat::ChatPlatform;
use countersign::chat::slack::SlackPlatform;
use countersign::demo::free_port;
use countersign::model::*;
use countersign::platform::*;
use countersign::store::Store;
use countersign::store::sqlite::{SqliteStore, StoreLimits};
use serde_json::{Value, json};
use std::sync::Arc;

async fn started() -> (Wire, SlackPlatform) {
    let (wire, _) = Wire::start().await;
    let platform = SlackPlatform::new(&wire.config()).unwrap();
    (wire, platform)
}

fn sender() -> ChatAccount {
    ChatAccount {
        platform: PlatformKind::Slack,
        workspace: "T1".to_owned(),
        account: "U1".to_owned(),
        name: "ana".to_owned(),
    }
}

fn conversation(conversation: &str) -> Conversation {
    Conversation {
        platform: PlatformKind::Slack,
        workspace: "T1".to_owned(),
        id: conversation.to_owned(),
        thread: None,
    }
}

fn asked_from(wire: &Wire, age_seconds: i64) -> ChatEvent {
    let received_at = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(age_seconds);
    ChatEvent {
        delivery: "slack:cmd:1".to_owned(),
        sender: sender(),
        conversation: conversation("C1"),
        handle: Some(ReplyHandle {
            id: format!("{}/response/1", wire.base),
            received_at,
            replaces_card: false,
            trigger: None,
        }),
        event: ChatEventKind::Command("locks".into()),
    }
}

fn reply() -> Reply {
    let heading = Heading { requester: None, command: "locks".to_owned(), environment: None, run: None };
    Reply::new(heading).with(Block::Verdict { severity: Severity::Ok, text: "No session waits.".into() })
}

fn long_reply() -> Reply {
    reply().with(Block::Code { title: None, text: "x".repeat(20_000) })
}

#[tokio::test]
async fn an_answer_goes_by_its_response_url_without_our_token() {
    let (wire, slack) = started().await;
    slack.answer(&asked_from(&wire, 0), &reply(), Route::Handle).await.unwrap();
    slack.answer(&asked_from(&wire, 0), &reply().ephemeral(), Route::Handle).await.unwrap();
    let asked = wire.asked();
    assert_eq!(wire.methods(), ["response", "response"]);
    assert!(asked.iter().all(|asked| asked.authorization.is_none()));
    assert_eq!(asked[0].arguments["response_type"], "in_channel");
    assert_eq!(asked[0].arguments["replace_original"], false);
    assert_eq!(asked[1].arguments["response_type"], "ephemeral");
}

#[tokio::test]
async fn after_five_uses_or_29_minutes_or_a_404_there_is_no_response_url() {
    let (wire, slack) = started().await;
    let incoming = asked_from(&wire, 0);
    for _ in 0..5 {
        slack.answer(&incoming, &reply().ephemeral(), Route::Handle).await.unwrap();
    }
    let sixth = slack.answer(&incoming, &reply().ephemeral(), Route::Handle).await;
    assert_eq!((sixth, wire.methods().len()), (Err(SendError::NoRoute), 5));

    let (wire, slack) = started().await;
    let late = slack.answer(&asked_from(&wire, 29 * 60), &reply(), Route::Handle).await;
    assert_eq!((late, wire.methods().len()), (Err(SendError::NoRoute), 0));

    let (wire, slack) = started().await;
    wire.answers("response", 404, json!({ "ok": false, "error": "used_url" }));
    let used = slack.answer(&asked_from(&wire, 0), &reply(), Route::Handle).await;
    assert_eq!(used, Err(SendError::NoRoute));
}

#[tokio::test]
async fn an_address_of_somebody_else_gets_nothing() {
    let (wire, slack) = started().await;
    let (elsewhere, _) = started().await;
    let mut incoming = asked_from(&elsewhere, 0);
    assert_eq!(slack.answer(&incoming, &reply(), Route::Handle).await, Err(SendError::NoRoute));
    // Neither in another spelling, nor with a name.
    for base in [wire.base.replace("127.0.0.1", "localhost"), wire.base.replace("127.", "ana:b@127.")] {
        incoming.handle.as_mut().unwrap().id = format!("{base}/response/1");
        assert_eq!(slack.answer(&incoming, &reply(), Route::Handle).await, Err(SendError::NoRoute));
    }
    assert!(wire.asked().is_empty());
    assert!(elsewhere.asked().is_empty());

    let (wire, slack) = started().await;
    let upload = json!({ "ok": true, "upload_url": format!("{}/upload/1", elsewhere.base), "file_id": "F1" });
    wire.answers("files.getUploadURLExternal", 200, upload);
    slack.post(&conversation("C1"), &long_reply()).await.unwrap();
    assert_eq!(wire.methods(), ["chat.postMessage", "files.getUploadURLExternal"]);
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_response_url_that_refuses_says_why_as_any_method_does() {
    for (status, body, error) in [
        (403, json!({ "ok": false, "error": "no_permission" }), "conversation"),
        (403, json!("channel_is_archived"), "conversation"),
        (403, json!("action_prohibited"), "conversation"),
        (400, json!({ "ok": false, "error": "invalid_blocks" }), "content"),
        (400, json!("invalid_payload"), "content"),
        (200, json!({ "ok": false, "error": "invalid_blocks" }), "content"),
        (200, json!({ "ok": false, "error": "next_year" }), "other"),
    ] {
        let (wire, slack) = started().await;
        wire.answers("response", status, body.clone());
        let kind = match slack.answer(&asked_from(&wire, 0), &reply(), Route::Handle).await {
            Err(SendError::ConversationRefused(_)) => "conversation",
            Err(SendError::ContentRefused(_)) => "content",
            Err(SendError::Refused(_)) => "other",
            sent => panic!("{body}: {sent:?}"),
        };
        assert_eq!(kind, error, "{status} {body}");
    }
}

#[tokio::test]
async fn a_direct_answer_opens_its_conversation() {
    let (wire, slack) = started().await;
    slack.answer(&asked_from(&wire, 0), &reply().ephemeral(), Route::Direct).await.unwrap();
    assert_eq!(wire.methods(), ["conversations.open", "chat.postMessage"]);
    assert_eq!(wire.asked()[1].arguments["channel"], "D1");
}

#[tokio::test]
async fn a_mention_is_answered_in_its_thread_and_a_direct_message_by_one() {
    let (wire, slack) = started().await;
    let mut mention = asked_from(&wire, 0);
    mention.conversation.thread = Some("90.1".to_owned());
    slack.answer(&mention, &reply(), Route::Thread).await.unwrap();
    slack.answer(&mention, &reply().ephemeral(), Route::Thread).await.unwrap();
    slack.answer(&mention, &reply(), Route::Conversation).await.unwrap();
    mention.conversation = conversation("D7");
    slack.answer(&mention, &reply().ephemeral(), Route::Conversation).await.unwrap();
    assert_eq!(slack.answer(&mention, &reply(), Route::Thread).await, Err(SendError::NoRoute));
    let post = "chat.postMessage";
    assert_eq!(wire.methods(), [post, "chat.postEphemeral", post, post]);
    let asked = wire.asked();
    let threads: Vec<_> = asked.iter().map(|asked| asked.arguments["thread_ts"].as_str()).collect();
    assert_eq!(threads, [Some("90.1"), Some("90.1"), None, None]);
    assert_eq!((&asked[1].arguments["user"], &asked[3].arguments["channel"]), (&json!("U1"), &json!("D7")));
}

#[tokio::test]
async fn text_alone_has_all_words_and_no_blocks() {
    let (wire, slack) = started().await;
    let mut text = reply().with(Block::Note("a < b & c".into()));
    text.heading.run = Some(42);
    text.text_only = true;
    let posted = slack.post(&conversation("C1"), &text).await.unwrap();
    slack.edit(&posted, &text).await.unwrap();
    let asked = wire.asked();
    let words = "locks · #42\n✅ No session waits.\na &lt; b &amp; c";
    assert!(asked.iter().all(|asked| asked.arguments["text"] == words), "{asked:?}");
    assert_eq!((asked[0].arguments.get("blocks"), &asked[1].arguments["blocks"]), (None, &json!([])));
}

#[tokio::test]
async fn a_message_is_posted_edited_and_never_unfurled_or_parsed() {
    let (wire, slack) = started().await;
    let posted = slack.post(&conversation("C1"), &reply()).await.unwrap();
    assert_eq!((posted.conversation.id.as_str(), posted.message.as_str()), ("C1", "200.1"));
    slack.edit(&posted, &reply()).await.unwrap();
    let asked = wire.asked();
    assert_eq!(asked[1].arguments["ts"], "200.1");
    assert_eq!(
        (&asked[0].arguments["unfurl_links"], &asked[0].arguments["mrkdwn"]),
        (&json!(false), &json!(false))
    );
    for asked in asked {
        let sent = asked.arguments;
        assert_eq!((&sent["parse"], &sent["link_names"]), (&json!("none"), &json!(false)));
        assert!(sent["blocks"].is_array() && sent["text"].is_string());
    }
}

#[tokio::test]
async fn refusals_are_told_apart_by_their_code_alone() {
    let (wire, slack) = started().await;
    let posted = slack.post(&conversation("C1"), &reply()).await.unwrap();
    for (code, error) in [
        ("not_in_channel", SendError::ConversationRefused("not_in_channel".to_owned())),
        ("is_archived", SendError::ConversationRefused("is_archived".to_owned())),
        ("thread_not_found", SendError::ThreadRefused("thread_not_found".to_owned())),
        ("invalid_blocks", SendError::ContentRefused("invalid_blocks".to_owned())),
        ("message_not_found", SendError::Gone),
        ("cant_update_message", SendError::Gone),
        ("missing_scope", SendError::Refused("missing_scope".to_owned())),
        // A wrong token can be fixed: no card is given up for it.
        ("invalid_auth", SendError::Unavailable("invalid_auth".to_owned())),
        ("Oops: xoxb-1 in <body>", SendError::Refused("unknown_error".to_owned())),
    ] {
        wire.refuses("chat.update", code);
        assert_eq!(slack.edit(&posted, &reply()).await, Err(error), "{code}");
    }
}

#[tokio::test]
async fn slack_is_waited_for_and_asked_again() {
    let (wire, slack) = started().await;
    wire.answers("chat.postMessage", 429, json!({ "ok": false, "error": "ratelimited", "retry_after": 0 }));
    wire.answers("chat.postMessage", 503, json!("down"));
    slack.post(&conversation("C1"), &reply()).await.unwrap();
    assert_eq!(wire.methods().len(), 3);
}

#[tokio::test]
async fn a_slack_that_stays_down_is_unavailable() {
    let (wire, slack) = started().await;
    for _ in 0..4 {
        wire.answers("chat.update", 502, json!("xoxb-1"));
    }
    let posted = PostedMessage { conversation: conversation("C1"), message: "1.1".to_owned() };
    let error = slack.edit(&posted, &reply()).await.unwrap_err();
    assert_eq!(error, SendError::Unavailable("server_error".to_owned()));
    for _ in 0..100 {
        wire.answers("chat.update", 429, json!({ "ok": false, "error": "ratelimited", "retry_after": 0 }));
    }
    let limited = slack.edit(&posted, &reply()).await;
    assert!(matches!(limited, Err(SendError::RateLimited(_))), "{limited:?}");
    assert!(wire.asked().len() < 20);
}

#[tokio::test]
async fn a_wait_of_any_length_holds_for_the_whole_method_and_across_restarts() {
    let (wire, slack) = started().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("record.db");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, StoreLimits::default()).unwrap());
    slack.keep_limits_in(&store);
    wire.answers(
        "chat.postMessage",
        429,
        json!({ "ok": false, "error": "ratelimited", "retry_after": 7200 }),
    );
    for channel in ["C1", "C2"] {
        let limited = slack.post(&conversation(channel), &reply()).await;
        let Err(SendError::RateLimited(wait)) = limited else { panic!("{limited:?}") };
        assert!(wait.as_secs() > 7_000 && wait.as_secs() <= 7_200, "{wait:?}");
    }
    assert_eq!(wire.methods(), ["chat.postMessage"]);
    let posted = PostedMessage { conversation: conversation("C1"), message: "1.1".to_owned() };
    slack.edit(&posted, &reply()).await.unwrap();
    while store.rate_limits().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }

    let next = SlackPlatform::new(&wire.config()).unwrap();
    next.keep_limits_in(&store);
    let limited = next.post(&conversation("C3"), &reply()).await;
    assert!(matches!(limited, Err(SendError::RateLimited(_))), "{limited:?}");
    assert_eq!(wire.methods(), ["chat.postMessage", "chat.update"]);
}

#[tokio::test]
async fn nobody_listening_is_unavailable_too() {
    let (wire, _) = Wire::start().await;
    let mut config = wire.config();
    let nobody = free_port().unwrap();
    config.api_url = format!("http://127.0.0.1:{nobody}/api");
    let slack = SlackPlatform::new(&config).unwrap();
    let error = slack.conversation(&conversation("C1")).await.unwrap_err();
    assert_eq!(error, SendError::Unavailable("connection".to_owned()));
}

#[tokio::test]
async fn what_was_cut_is_attached_for_everyone() {
    let (wire, slack) = started().await;
    slack.post(&conversation("C1"), &long_reply()).await.unwrap();
    let methods =
        ["chat.postMessage", "files.getUploadURLExternal", "upload", "files.completeUploadExternal"];
    assert_eq!(wire.methods(), methods);
    let asked = wire.asked();
    assert_eq!(asked[1].arguments["length"], "20000");
    assert_eq!(asked[2].authorization, None, "the upload address is not sent our token");
    assert_eq!(
        (&asked[3].arguments["channel_id"], &asked[3].arguments["thread_ts"]),
        (&json!("C1"), &json!("200.1"))
    );
    wire.refuses("files.getUploadURLExternal", "missing_scope");
    slack.post(&conversation("C2"), &long_reply()).await.unwrap();
}

#[tokio::test]
async fn a_file_goes_beside_a_response_only_where_the_bot_is() {
    let (wire, slack) = started().await;
    wire.answers("conversations.info", 200, json!({ "ok": true, "channel": { "is_member": true } }));
    slack.answer(&asked_from(&wire, 0), &long_reply(), Route::Handle).await.unwrap();
    assert_eq!(wire.methods().last().unwrap(), "files.completeUploadExternal");
    let (wire, slack) = started().await;
    wire.refuses("conversations.info", "channel_not_found");
    slack.answer(&asked_from(&wire, 0), &long_reply(), Route::Handle).await.unwrap();
    assert_eq!(wire.methods(), ["response", "conversations.info"]);
}

#[tokio::test]
async fn a_plan_is_never_cut() {
    let (wire, slack) = started().await;
    let mut plan = long_reply();
    plan.indivisible = true;
    let refused = SendError::Unsendable("plan_too_large".to_owned());
    assert_eq!(slack.post(&conversation("C1"), &plan).await.unwrap_err(), refused);
    assert_eq!(slack.answer(&asked_from(&wire, 0), &plan, Route::Handle).await.unwrap_err(), refused);
    assert_eq!(slack.send_direct(&sender(), &plan).await.unwrap_err(), refused);
    assert!(wire.asked().is_empty());
}

#[tokio::test]
async fn an_account_is_a_member_only_if_nothing_speaks_against_it() {
    let user = |more: Value| {
        let mut user = json!({ "id": "U1", "team_id": "T1", "deleted": false, "is_bot": false });
        user.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "ok": true, "user": user })
    };
    let org = json!({ "team_id": "T5", "enterprise_user": { "id": "W1", "teams": ["T5", "T1"] } });
    for (more, kind) in [
        (json!({}), AccountKind::Member),
        (org, AccountKind::Member),
        (json!({ "deleted": true, "is_bot": true }), AccountKind::Deactivated),
        (json!({ "is_bot": true }), AccountKind::Bot),
        (json!({ "is_workflow_bot": true }), AccountKind::Bot),
        (json!({ "is_restricted": true }), AccountKind::Guest),
        (json!({ "is_ultra_restricted": true }), AccountKind::Guest),
        (json!({ "is_stranger": true }), AccountKind::External),
        (json!({ "team_id": "T9" }), AccountKind::External),
        (json!({ "is_restricted": null, "is_bot": null, "enterprise_user": null }), AccountKind::Member),
        (json!({ "enterprise_user": { "id": "W1", "teams": null }, "team_id": null }), AccountKind::Member),
        (
            json!({ "team_id": "T5", "enterprise_user": { "id": "W1", "teams": ["T5", "T6"] } }),
            AccountKind::External,
        ),
    ] {
        let (wire, slack) = started().await;
        wire.answers("users.info", 200, user(more.clone()));
        assert_eq!(
            slack.account(&sender(), &conversation("C0INCIDENT"), Freshness::Recent).await.unwrap().kind,
            kind,
            "{more}"
        );
        slack.account(&sender(), &conversation("C0INCIDENT"), Freshness::Recent).await.unwrap();
        assert_eq!(wire.methods(), ["users.info"], "the second answer came from the cache");
        assert_eq!(wire.asked()[0].arguments["user"], "U1");
    }
    let (wire, slack) = started().await;
    wire.answers("users.info", 200, user(json!({}))).refuses("users.info", "user_not_visible");
    let foreign = ChatAccount { workspace: "T9".to_owned(), ..sender() };
    assert_eq!(
        slack.account(&foreign, &conversation("C0INCIDENT"), Freshness::Recent).await.unwrap().kind,
        AccountKind::External
    );
    assert_eq!(
        slack.account(&sender(), &conversation("C0INCIDENT"), Freshness::Recent).await.unwrap().kind,
        AccountKind::External
    );
    wire.refuses("users.info", "missing_scope");
    let other = ChatAccount { account: "U3".to_owned(), ..sender() };
    assert_eq!(
        slack.account(&other, &conversation("C0INCIDENT"), Freshness::Recent).await,
        Err(SendError::NotSetUp("users.info: missing_scope".to_owned()))
    );
}

#[tokio::test]
async fn an_account_of_an_organisation_has_two_ids_and_several_workspaces() {
    let (wire, slack) = started().await;
    let user = json!({
        "id": "U1", "team_id": "T5", "enterprise_user": { "id": "W1", "enterprise_id": "E1", "teams": ["T5", "T1"] },
    });
    let answer = json!({ "ok": true, "user": user });
    wire.answers("users.info", 200, answer.clone()).answers("users.info", 200, answer);
    let asked = ChatAccount { account: "W1".to_owned(), ..sender() };
    let info = slack.account(&asked, &conversation("C0INCIDENT"), Freshness::Recent).await.unwrap();
    assert_eq!(info.kind, AccountKind::Member, "whatever their home workspace");
    assert_eq!(info.ids, ["U1", "W1"]);
    // Events name the home workspace.
    let asked = ChatAccount { workspace: "T5".to_owned(), ..asked };
    let info = slack.account(&asked, &conversation("C0INCIDENT"), Freshness::Current).await.unwrap();
    assert_eq!(info.kind, AccountKind::Member);
}

#[tokio::test]
async fn what_the_bot_is_not_set_up_for_names_method_and_code() {
    let (wire, slack) = started().await;
    wire.refuses("conversations.info", "missing_scope");
    let not_set_up = |call: &str| SendError::NotSetUp(call.to_owned());
    assert_eq!(
        slack.conversation(&conversation("C1")).await,
        Err(not_set_up("conversations.info: missing_scope"))
    );
    let (wire, slack) = started().await;
    wire.answers("users.info", 200, json!({ "ok": true, "user": { "id": 7 } }));
    let info = slack.account(&sender(), &conversation("C1"), Freshness::Recent).await;
    assert_eq!(info, Err(not_set_up("users.info: unreadable_answer")));
}

#[tokio::test]
async fn a_conversation_that_cannot_be_seen_is_private() {
    for (channel, is_bot_member, is_shared) in [
        (json!({ "is_member": true }), true, false),
        (json!({ "is_member": false }), false, false),
        (json!({ "is_im": true }), true, false),
        (json!({ "is_member": true, "is_ext_shared": true }), true, true),
        (json!({ "is_member": true, "is_pending_ext_shared": true }), true, true),
        (json!({ "is_member": true, "is_org_shared": true }), true, false),
    ] {
        let (wire, slack) = started().await;
        let is_direct = channel["is_im"] == true;
        wire.answers("conversations.info", 200, json!({ "ok": true, "channel": channel }));
        assert_eq!(
            slack.conversation(&conversation("C1")).await,
            Ok(ConversationInfo { is_bot_member, is_direct, is_shared })
        );
        assert_eq!(
            slack.conversation(&conversation("C1")).await,
            Ok(ConversationInfo { is_bot_member, is_direct, is_shared })
        );
        assert_eq!(wire.asked()[0].arguments["channel"], "C1");
    }
    let (wire, slack) = started().await;
    wire.refuses("conversations.info", "channel_not_found");
    let hidden = ConversationInfo { is_bot_member: false, is_direct: false, is_shared: true };
    assert_eq!(slack.conversation(&conversation("C1")).await, Ok(hidden));
}
