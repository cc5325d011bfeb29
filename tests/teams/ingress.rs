//! The door of Teams: what the Bot Framework signed for this bot, and nothing else, comes in.

use crate::bot_process::{Bot, INCIDENT, Twist, found};
use countersign::demo::fake_teams::{BotFrameworkToken, ConnectorFault, Signer};
use serde_json::{Value, json};

/// An activity that would be recorded if it came in: `freeze` acts at once.
fn freeze(bot: &Bot, who: &str) -> Value {
    let mut activity = bot.teams.activity(who, INCIDENT);
    activity["id"] = json!(format!("forged-{}", bot.teams.deliveries().len()));
    activity["text"] = json!("<at>Countersign</at> freeze");
    let mention =
        json!({ "type": "mention", "text": "<at>Countersign</at>", "mentioned": activity["recipient"] });
    activity["entities"].as_array_mut().expect("entities").push(mention);
    activity
}

/// Nothing was recorded or said because of what was sent.
async fn untouched(bot: &Bot) {
    // One command that does count comes after them all: what was sent before it has been handled.
    bot.refused("ana", "unfreeze", "Nothing is frozen").await;
    assert!(bot.runs(None).await.is_empty(), "{:#?}", bot.runs(None).await);
    let payloads = bot.teams.payloads();
    assert_eq!(payloads.len(), 1, "{payloads:#?}");
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

type Forge = fn(&mut BotFrameworkToken, &mut Value);

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_and_activities_come_to_nothing() {
    let bot = Bot::start(Twist::default()).await;
    let forgeries: [(&str, Forge, u16); 23] = [
        ("another key", |token, _| token.signer = Signer::Stranger, 401),
        ("a key that isn't published", |token, _| token.signer = Signer::Key(2), 401),
        ("HS256 with the public key", |token, _| token.signer = Signer::PublicPart, 401),
        ("no signature", |token, _| token.signer = Signer::Unsigned, 401),
        ("another issuer", |token, _| token.claims["iss"] = json!("https://api.botframework.example"), 401),
        ("no issuer", |token, _| token.claims["iss"] = Value::Null, 401),
        (
            "another bot's",
            |token, _| token.claims["aud"] = json!("33333333-3333-3333-3333-333333333333"),
            401,
        ),
        ("no audience", |token, _| token.claims["aud"] = Value::Null, 401),
        ("expired", |token, _| token.claims["exp"] = json!(now() - 400), 401),
        ("of the future", |token, _| token.claims["nbf"] = json!(now() + 400), 401),
        ("without an end", |token, _| token.claims["exp"] = Value::Null, 401),
        ("without a service", |token, _| token.claims["serviceurl"] = Value::Null, 401),
        (
            "the emulator's",
            |token, _| {
                let emulator = "https://sts.windows.net/d6d49420-f39b-4df7-a1dc-d59a935871db/";
                token.claims["iss"] = json!(emulator);
                token.claims["serviceurl"] = Value::Null;
            },
            401,
        ),
        (
            "Entra's",
            |token, _| {
                let entra = "https://login.microsoftonline.com/22222222-2222-2222-2222-222222222222/v2.0";
                token.claims["iss"] = json!(entra);
                token.claims["serviceurl"] = Value::Null;
            },
            401,
        ),
        (
            "another service's",
            |token, _| token.claims["serviceurl"] = json!("https://smba.trafficmanager.net/emea/"),
            403,
        ),
        ("for another service", |_, activity| activity["serviceUrl"] = json!("http://127.0.0.1:9/"), 403),
        (
            "a service on no list",
            |token, activity| {
                token.claims["serviceurl"] = json!("https://teams.example/");
                activity["serviceUrl"] = json!("https://teams.example/");
            },
            403,
        ),
        (
            "a host that begins as a listed one",
            |token, activity| {
                token.claims["serviceurl"] = json!("https://127.0.0.1.example/");
                activity["serviceUrl"] = json!("https://127.0.0.1.example/");
            },
            403,
        ),
        ("another channel's", |_, activity| activity["channelId"] = json!("directline"), 403),
        ("the emulator's channel", |_, activity| activity["channelId"] = json!("emulator"), 403),
        (
            "another tenant's",
            |_, activity| {
                activity["channelData"]["tenant"]["id"] = json!("44444444-4444-4444-4444-444444444444");
                activity["conversation"]["tenantId"] = json!("44444444-4444-4444-4444-444444444444");
            },
            200,
        ),
        (
            "half another tenant's",
            |_, activity| {
                activity["conversation"]["tenantId"] = json!("44444444-4444-4444-4444-444444444444");
            },
            200,
        ),
        (
            "no tenant's",
            |_, activity| {
                activity["channelData"] = json!({});
                activity["conversation"]["tenantId"] = Value::Null;
            },
            200,
        ),
    ];
    for (what, forge, status) in forgeries {
        let (mut token, mut activity) = (bot.teams.token(), freeze(&bot, "ana"));
        forge(&mut token, &mut activity);
        token.claims.as_object_mut().expect("claims").retain(|_, claim| !claim.is_null());
        let signed = bot.teams.sign(&token);
        let ack = bot.teams.deliver_with(signed, activity).await;
        assert_eq!(ack.status, status, "{what}: {ack:?}");
    }
    untouched(&bot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_token_is_refused_before_the_body_is_read() {
    let bot = Bot::start(Twist::default()).await;
    let good = bot.teams.sign(&bot.teams.token());
    let body = freeze(&bot, "ana").to_string().into_bytes();
    let (head, _) = good.rsplit_once('.').expect("a signature");
    for header in [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some(format!("Basic {good}")),
        Some(good.clone()),
        Some("Bearer a.b.c".to_owned()),
        Some(format!("Bearer {head}")),
        Some(format!("Bearer {head}.")),
        Some(format!("Bearer {good}x")),
        Some(format!("Bearer {}", "x".repeat(12_000))),
    ] {
        let headers = header.iter().map(|value| ("authorization".to_owned(), value.clone())).collect();
        let ack = bot.teams.post_raw(headers, body.clone()).await;
        assert_eq!(ack.status, 401, "{header:?}");
    }
    let header = ("authorization".to_owned(), format!("Bearer {}", "x".repeat(20_000)));
    assert_eq!(bot.teams.post_raw(vec![header], body).await.status, 431);
    untouched(&bot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_or_nothing_are_refused() {
    let bot = Bot::start(Twist::default()).await;
    let good = format!("Bearer {}", bot.teams.sign(&bot.teams.token()));
    let whole = freeze(&bot, "ana").to_string();
    let large = format!("{whole}{}", " ".repeat(300 * 1024));
    for (body, status) in [(large.as_str(), 413), ("", 400), ("[]", 400), ("{}", 400), (&whole[..40], 400)] {
        let headers = vec![("authorization".to_owned(), good.clone())];
        let ack = bot.teams.post_raw(headers, body.as_bytes().to_vec()).await;
        assert_eq!(ack.status, status, "{} bytes: {ack:?}", body.len());
    }
    untouched(&bot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_endorsed_for_teams_signs_nothing() {
    let bot = Bot::start(Twist::default()).await;
    bot.teams.endorse(&["webchat", "directline"]);
    let ack = bot.teams.deliver(freeze(&bot, "ana")).await;
    assert_eq!(ack.status, 403, "{ack:?}");
    // Nor for the channel that it is endorsed for.
    let mut activity = freeze(&bot, "ana");
    activity["channelId"] = json!("webchat");
    assert_eq!(bot.teams.deliver(activity).await.status, 403);
    assert!(bot.teams.payloads().is_empty() && bot.runs(None).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_that_is_played_again_counts_once() {
    let bot = Bot::start(Twist::default()).await;
    let told = bot.asks("cara", "freeze").await;
    assert!(told.plain().contains("All changes are frozen"), "{}", told.plain());
    for _ in 0..3 {
        assert!(bot.teams.redeliver(0).await.ok());
    }
    bot.refused("ana", "bloked", "Did you mean").await;
    assert_eq!(bot.runs(Some("freeze")).await.len(), 1);
    assert_eq!(bot.answers("cara", INCIDENT).len(), 1, "{}", bot.teams.transcript());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_and_not_for_us_is_acknowledged_and_ignored() {
    let bot = Bot::start(Twist::default()).await;
    let with = |change: fn(&mut Value)| {
        let mut activity = freeze(&bot, "ana");
        change(&mut activity);
        activity
    };
    for (activity, status) in [
        (with(|activity| activity["type"] = json!("conversationUpdate")), 200),
        (with(|activity| activity["type"] = json!("installationUpdate")), 200),
        (with(|activity| activity["type"] = json!("typing")), 200),
        (with(|activity| activity["type"] = json!("something of next year")), 200),
        (with(|activity| activity["entities"] = json!([])), 200),
        (with(|activity| activity["from"]["aadObjectId"] = Value::Null), 200),
        (with(|activity| activity["from"] = Value::Null), 200),
        (with(|activity| activity["from"]["role"] = json!("bot")), 200),
        (
            with(|activity| {
                activity["type"] = json!("invoke");
                activity["name"] = json!("task/fetch");
            }),
            501,
        ),
    ] {
        let shown = activity.to_string();
        assert_eq!(bot.teams.deliver(activity).await.status, status, "{shown}");
    }
    untouched(&bot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_asked_for_once_whoever_knocks() {
    let bot = Bot::start(Twist::default()).await;
    let mut token = bot.teams.token();
    for number in 0..30_u32 {
        token.signer = Signer::Key(1);
        token.claims["serial"] = json!(number);
        let ack = bot.teams.deliver_with(bot.teams.sign(&token), freeze(&bot, "ana")).await;
        assert_eq!(ack.status, 401, "{ack:?}");
    }
    assert_eq!((bot.teams.calls("metadata"), bot.teams.calls("keys")), (1, 1));
    untouched(&bot).await;
    assert_eq!(bot.teams.calls("keys"), 1);
}

/// The keys are asked for anew a minute after they were asked for last, at the earliest.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_followed_and_a_withdrawn_one_is_not() {
    let bot = Bot::start(Twist::default()).await;
    let old = bot.teams.sign(&bot.teams.token());
    bot.refused("ana", "bloked", "Did you mean").await;
    bot.teams.rotate_keys(false);
    let words = "the new key to be known";
    found(words, async || bot.teams.deliver(freeze(&bot, "cara")).await.ok().then_some(())).await;
    assert_eq!(bot.teams.calls("keys"), 2);
    let ack = bot.teams.deliver_with(old, freeze(&bot, "cara")).await;
    assert_eq!(ack.status, 401, "the old key still counts: {ack:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_while_the_keys_cannot_be_had() {
    for fault in [ConnectorFault::Status(503), ConnectorFault::Hang] {
        let bot = Bot::start(Twist::default()).await;
        bot.teams.fault("keys", fault);
        assert_eq!(bot.teams.deliver(freeze(&bot, "ana")).await.status, 401);
        assert!(bot.teams.payloads().is_empty() && bot.runs(None).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_token_goes_to_the_service_of_the_configuration_however_another_is_spelt() {
    let bot = Bot::start(Twist::default()).await;
    let own = bot.teams.service_url();
    let base = url::Url::parse(&own).expect("a URL");
    let (port, path) = (base.port().expect("a port"), base.path().to_owned());
    // Something that would take a token, and remembers who came.
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let other_port = other.local_addr().expect("a port").port();
    for spelling in [
        format!("http://127.0.0.1:{other_port}{path}"),
        format!("http://127.0.0.1{path}"),
        format!("http://127.1:{port}{path}"),
        format!("http://2130706433:{port}{path}"),
        format!("http://0x7f000001:{port}{path}"),
        format!("http://0177.0.0.1:{port}{path}"),
        format!("http://127.0.0.01:{port}{path}"),
        format!("http://[::ffff:127.0.0.1]:{port}{path}"),
        format!("http://[::1]:{port}{path}"),
        format!("http://localhost:{port}{path}"),
        format!("http://ana@127.0.0.1:{port}{path}"),
        format!("http://ana:b@127.0.0.1:{port}{path}"),
        format!("http://127.0.0.1:{port}@127.0.0.1:{other_port}{path}"),
        format!("https://127.0.0.1:{port}{path}"),
        format!("HTTP://127.0.0.1:{port}{path}"),
        format!("http:/127.0.0.1:{port}{path}"),
        format!("http:127.0.0.1:{port}{path}"),
        format!("http:\\\\127.0.0.1:{port}{path}"),
        format!("http://127.0.0.1.:{port}{path}"),
        format!("http://127.0.0.1:0{port}{path}"),
        format!("http://127.0.0.1:{port}{path}../x/.."),
        format!("http://127.0.0.1:{port}{path}?x="),
        format!("http://127.0.0.1:{port}{path}#x"),
        format!("http://127.0.0.\t1:{port}{path}"),
        format!(" http://127.0.0.1:{port}{path}"),
        format!("http://127.0.0.1%2e:{port}{path}"),
        format!("http://１２７.0.0.1:{port}{path}"),
        format!("ftp://127.0.0.1:{port}{path}"),
        "teams".to_owned(),
        String::new(),
    ] {
        let (mut token, mut activity) = (bot.teams.token(), freeze(&bot, "ana"));
        token.claims["serviceurl"] = json!(spelling);
        activity["serviceUrl"] = json!(spelling);
        let ack = bot.teams.deliver_with(bot.teams.sign(&token), activity).await;
        assert_eq!(ack.status, 403, "{spelling}: {ack:?}");
    }
    untouched(&bot).await;
    let came = tokio::time::timeout(std::time::Duration::ZERO, other.accept()).await;
    assert!(came.is_err(), "{came:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_signs_only_what_it_is_published_for() {
    for (member, value) in [
        ("use", json!("enc")),
        ("alg", json!("PS256")),
        ("alg", json!("RS512")),
        ("key_ops", json!(["encrypt"])),
    ] {
        let bot = Bot::start(Twist::default()).await;
        bot.teams.publish_with(member, value.clone());
        assert_eq!(bot.teams.deliver(freeze(&bot, "ana")).await.status, 401, "{member}: {value}");
        assert!(bot.teams.payloads().is_empty() && bot.runs(None).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_could_not_be_had_are_asked_for_again_within_seconds() {
    let bot = Bot::start(Twist::default()).await;
    bot.teams.fault("keys", ConnectorFault::Status(500));
    assert_eq!(bot.teams.deliver(freeze(&bot, "ana")).await.status, 401);
    bot.teams.fault("keys", ConnectorFault::Clear);
    let words = "the keys to be known";
    found(words, async || bot.teams.deliver(freeze(&bot, "cara")).await.ok().then_some(())).await;
    assert_eq!(bot.teams.calls("keys"), 2, "once more, and not as often as somebody knocks");
}
