//! What the Connector takes, and what it says where it doesn't.

use super::*;
use countersign::demo::fake_teams::{ConnectorFault, UserRole};

#[tokio::test]
async fn a_message_goes_only_where_the_bot_is() {
    let teams = quick().await;
    teams.add_conversation(ConversationKind::Channel, "19:out@thread.tacv2", &["ana"]);
    teams.remove_bot("19:out@thread.tacv2");
    for (place, status, code) in [
        (CHANNEL.to_owned(), 201, Value::Null),
        (CHAT.to_owned(), 201, Value::Null),
        (teams.personal("ana"), 201, Value::Null),
        ("19:out@thread.tacv2".to_owned(), 403, json!("BotNotInConversationRoster")),
        ("19:nowhere@thread.tacv2".to_owned(), 404, json!("ConversationNotFound")),
    ] {
        let (answered, body) = call(&teams, ("POST", &activities(&place)), hello()).await;
        assert_eq!((answered, &body["error"]["code"]), (status, &code), "{place}: {body}");
    }
    teams.add_person(TenantUser { reachable: false, ..TenantUser::new("ana") });
    let (status, body) = call(&teams, ("POST", &activities(&teams.personal("ana"))), hello()).await;
    assert_eq!((status, &body["error"]["code"]), (403, &json!("MessageWritesBlocked")));
    assert_eq!(call(&teams, ("GET", "v3/conversations"), Value::Null).await.0, 405);
    assert_eq!(call(&teams, ("GET", "v3/elsewhere"), Value::Null).await.0, 404);
    assert_eq!(teams.take_refusals().len(), 1);
}

#[tokio::test]
async fn threads_hang_from_a_channels_messages() {
    let teams = quick().await;
    let (_, root) = call(&teams, ("POST", &activities(CHANNEL)), hello()).await;
    let root = root["id"].as_str().unwrap();
    let thread = format!("{CHANNEL};messageid={root}");
    call(&teams, ("POST", &activities(&thread)), hello()).await;
    call(&teams, ("POST", &format!("{}/{root}", activities(&thread))), hello()).await;
    call(&teams, ("POST", &activities(CHANNEL)), hello()).await;
    assert_eq!(teams.visible_messages("ana", CHANNEL).len(), 4);
    let seen = teams.visible_messages("ana", &thread);
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2].reply_to.as_deref(), Some(root));
    assert_eq!(seen[2].place(), thread);
    assert!(teams.visible_messages("eve", CHANNEL).is_empty());
}

#[tokio::test]
async fn only_the_bots_own_messages_change_and_go() {
    let teams = quick().await;
    bot(&teams, Value::Null).await;
    let theirs = teams.say("ana", CHAT, "hello").await.at.unwrap();
    let (_, own) = call(&teams, ("POST", &activities(CHAT)), hello()).await;
    let own = own["id"].as_str().unwrap();
    let edited = json!({ "type": "message", "text": "changed" });
    for (id, status) in [(own, 200), (&theirs.id, 403), ("1", 404)] {
        let path = format!("{}/{id}", activities(CHAT));
        assert_eq!(call(&teams, ("PUT", &path), edited.clone()).await.0, status, "{id}");
    }
    let seen = teams.visible_messages("ben", CHAT).pop().unwrap();
    assert_eq!((seen.plain().as_str(), seen.edited), ("changed", 1));
    for (id, status) in [(own, 200), (own, 404), (&theirs.id, 403)] {
        let path = format!("{}/{id}", activities(CHAT));
        assert_eq!(call(&teams, ("DELETE", &path), Value::Null).await.0, status, "{id}");
    }
    assert_eq!(teams.visible_messages("ben", CHAT).len(), 1);
}

#[tokio::test]
async fn a_targeted_message_is_for_one_member_of_a_group() {
    let teams = quick().await;
    let targeted = |place: &str| format!("{}?isTargetedActivity=true", activities(place));
    let to = |id: &str| json!({ "type": "message", "text": "psst", "recipient": { "id": id } });
    let ana = TenantUser::new("ana").mri();
    for (place, body, status) in [
        (CHANNEL.to_owned(), to(&ana), 201),
        (CHAT.to_owned(), to(&TenantUser::new("ana").object_id()), 201),
        (teams.personal("ana"), to(&ana), 400),
        (CHAT.to_owned(), to(&TenantUser::new("eve").mri()), 400),
        (CHAT.to_owned(), to("29:nobody"), 400),
        (CHAT.to_owned(), hello(), 400),
    ] {
        assert_eq!(call(&teams, ("POST", &targeted(&place)), body).await.0, status, "{place}");
    }
    assert_eq!(teams.take_refusals().len(), 4);
    let seen = teams.visible_messages("ana", CHAT).pop().unwrap();
    assert_eq!(seen.only_to.as_deref(), Some("ana"));
    assert!(teams.visible_messages("ben", CHAT).is_empty());
    let path = format!("{}/{}", activities(CHAT), seen.id);
    assert_eq!(call(&teams, ("PUT", &path), to(&ana)).await.0, 400);
    assert_eq!(call(&teams, ("PUT", &format!("{path}?isTargetedActivity=true")), to(&ana)).await.0, 200);
    assert_eq!(teams.take_refusals().len(), 1);
}

#[tokio::test]
async fn a_conversation_takes_so_many_messages_and_no_more() {
    let teams = teams(TenantSettings::default()).await;
    let token = bearer(&teams).await;
    let url = |place: &str| format!("{}{}", teams.service_url(), activities(place));
    let post = async |place: &str| {
        let request = reqwest::Client::new().post(url(place)).bearer_auth(&token).json(&hello());
        request.send().await.unwrap()
    };
    let mut taken = 0;
    // 7 a second and 60 in half a minute: however slow the machine, it ends.
    let refused = loop {
        let answer = post(CHANNEL).await;
        match answer.status().as_u16() {
            201 => taken += 1,
            status => break (status, answer),
        }
    };
    assert!((7..=60).contains(&taken), "{taken}");
    assert_eq!(refused.0, 429);
    assert!(refused.1.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(post(CHAT).await.status().as_u16(), 201);
}

#[tokio::test]
async fn faults_come_on_demand() {
    let teams = quick().await;
    let path = activities(CHAT);
    let post = async || call(&teams, ("POST", &path), hello()).await.0;
    teams.fault("post", ConnectorFault::Status(503));
    assert_eq!((post().await, post().await), (503, 503));
    teams.fault("post", ConnectorFault::Refused(413, "MessageSizeTooBig"));
    assert_eq!(post().await, 413);
    teams.fault("post", ConnectorFault::RateLimited { retry_after: 1, times: 1 });
    assert_eq!((post().await, post().await), (429, 201));
    teams.fault("post", ConnectorFault::AnswerLost);
    assert_eq!(post().await, 502);
    assert_eq!(teams.visible_messages("ana", CHAT).len(), 2);
    teams.fault("post", ConnectorFault::Hang);
    let hung = tokio::time::timeout(std::time::Duration::from_millis(100), post()).await;
    assert!(hung.is_err());
    teams.fault("post", ConnectorFault::Held);
    let calls = teams.calls("post");
    let (status, ()) = tokio::join!(post(), async {
        teams.wait_for("a held call", |teams| (teams.calls("post") > calls).then_some(())).await.unwrap();
        assert_eq!(teams.visible_messages("ana", CHAT).len(), 2);
        teams.fault("post", ConnectorFault::Clear);
    });
    assert_eq!(status, 201);
}

#[tokio::test]
async fn the_roster_tells_who_is_there() {
    let teams = quick().await;
    teams.add_person(TenantUser { role: UserRole::Guest, ..TenantUser::new("gus") });
    teams.add_person(TenantUser { role: UserRole::Anonymous, ..TenantUser::new("nameless") });
    teams.add_person(TenantUser { role: UserRole::Bot, ..TenantUser::new("robot") });
    teams.add_person(TenantUser { tenant: "another".to_owned(), ..TenantUser::new("fay") });
    teams.add_person(TenantUser { deactivated: true, ..TenantUser::new("gone") });
    teams.add_conversation(
        ConversationKind::GroupChat,
        CHAT,
        &["ana", "gus", "nameless", "robot", "fay", "gone"],
    );
    let member = async |id: String| {
        call(&teams, ("GET", &format!("v3/conversations/{CHAT}/members/{id}")), Value::Null).await
    };
    let (status, ana) = member(TenantUser::new("ana").mri()).await;
    assert_eq!((status, &ana), (200, &member(TenantUser::new("ana").object_id()).await.1));
    assert_eq!((&ana["userRole"], &ana["tenantId"]), (&json!("user"), &json!(teams.settings().tenant)));
    let (_, gus) = member(TenantUser::new("gus").object_id()).await;
    assert!(gus["userPrincipalName"].as_str().unwrap().contains("#EXT#"));
    assert_eq!(gus["userRole"], "guest");
    assert_eq!(member(TenantUser::new("fay").object_id()).await.1["tenantId"], "another");
    assert_eq!(member(TenantUser::new("nameless").mri()).await.1["aadObjectId"], Value::Null);
    for nobody in ["nameless", "gone", "ben", "nowhere"] {
        let (status, body) = member(TenantUser::new(nobody).object_id()).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (404, &json!("MemberNotFoundInConversation")),
            "{nobody}"
        );
    }
}

#[tokio::test]
async fn a_long_roster_comes_in_pages() {
    let teams = quick().await;
    let crowd: Vec<String> = (0..120).map(|n| format!("member-{n}")).collect();
    crowd.iter().for_each(|name| teams.add_person(TenantUser::new(name)));
    teams.add_conversation(
        ConversationKind::GroupChat,
        CHAT,
        &crowd.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let (mut seen, mut token) = (Vec::new(), String::new());
    let path = format!("v3/conversations/{CHAT}/pagedmembers?pageSize=7");
    loop {
        let (_, page) = call(&teams, ("GET", &format!("{path}{token}")), Value::Null).await;
        seen.push(page["members"].as_array().unwrap().len());
        let Some(next) = page["continuationToken"].as_str() else { break };
        token = format!("&continuationToken={next}");
    }
    assert_eq!(seen, [50, 50, 20]);
    let (status, _) = call(&teams, ("GET", &format!("{path}&continuationToken=x")), Value::Null).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_person_alone_is_reached_where_the_bot_is_installed() {
    let teams = quick().await;
    teams.add_person(TenantUser { reachable: false, ..TenantUser::new("ben") });
    let settings = teams.settings();
    let asked = |who: &str| {
        json!({ "bot": { "id": format!("28:{}", settings.app) }, "isGroup": false, "tenantId": settings.tenant,
                "members": [{ "id": TenantUser::new(who).mri() }], "channelData": { "tenant": { "id": settings.tenant } } })
    };
    let with = |change: fn(&mut Value)| {
        let mut body = asked("ana");
        change(&mut body);
        body
    };
    for (body, status) in [
        (asked("ana"), 201),
        (asked("ben"), 403),
        (asked("nobody"), 404),
        (with(|body| body["channelData"]["tenant"]["id"] = json!("another")), 404),
        (with(|body| body["members"] = json!([])), 400),
        (with(|body| body["bot"]["id"] = json!("28:another")), 400),
    ] {
        let (answered, answer) = call(&teams, ("POST", "v3/conversations"), body.clone()).await;
        assert_eq!(answered, status, "{body}");
        assert_eq!(answer["id"].as_str(), (status == 201).then_some("a:1ana"));
    }
    assert_eq!(teams.take_refusals().len(), 2);
}

#[tokio::test]
async fn a_call_is_forwarded_to_another_connector() {
    let teams = quick().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = teams.forward_to(format!("http://{}", listener.local_addr().expect("an address")));
    let router = Router::new().fallback(async |uri: axum::http::Uri| uri.to_string());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let answer =
        reqwest::Client::new().get(format!("{url}v3/somewhere?x=1")).send().await.expect("an answer");
    assert_eq!(answer.text().await.expect("a text"), "/connector/v3/somewhere?x=1");
}
