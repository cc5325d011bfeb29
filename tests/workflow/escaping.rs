//! Text of a person or a database is shown as it is: it can neither ping, nor link, nor format, nor break out.

use crate::harness::{ANA, BEN, Scene};
use serde_json::Value;

const APPLICATION: &str = "<!channel> *bold* `code`` <https://evil|x> <@U0DAN> :o: &amp;";
const ROLE: &str = "we\"ird <!here> *x* _y_ ~z~ <@U0DAN>";

/// What is wrong with a part of a payload: elements that ping or link, and mrkdwn that isn't ours.
fn faults(value: &Value, found: &mut Vec<String>) {
    if let Some(list) = value.as_array() {
        list.iter().for_each(|item| faults(item, found));
    }
    let Some(fields) = value.as_object() else { return };
    fields.values().for_each(|field| faults(field, found));
    let text = fields.get("text").and_then(Value::as_str).unwrap_or_default();
    match fields.get("type").and_then(Value::as_str).unwrap_or_default() {
        // Approvers are called, nobody else.
        "user" if ["U0BEN", "U0CARA"].contains(&fields["user_id"].as_str().unwrap_or_default()) => {}
        // A time in the reader's zone, which leads nowhere.
        "date" if fields.get("url").is_none() => {}
        kind @ ("user" | "usergroup" | "broadcast" | "channel" | "link" | "emoji" | "date" | "markdown"
        | "team") => {
            found.push(format!("an element that Slack acts upon: {kind} {value}"));
        }
        "mrkdwn" => {
            let inside = |mark: char| {
                let inner = text.strip_prefix(mark).and_then(|text| text.strip_suffix(mark));
                inner.filter(|inner| !inner.contains(mark) && !inner.contains('\n'))
            };
            let label = inside('*')
                .is_some_and(|inner| inner.chars().all(|c| c.is_alphanumeric() || " ,.()/%-".contains(c)));
            let code = inside('`').is_some_and(|inner| !inner.contains(['<', '>']));
            if !(label || code) || fields.get("verbatim") != Some(&Value::Bool(true)) {
                found.push(format!("mrkdwn that is neither a label nor a code span: {text}"));
            }
        }
        "plain_text" if fields.get("emoji") != Some(&Value::Bool(false)) => {
            found.push(format!("plain text whose :names: become pictures: {text}"));
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_others_wrote_pings_links_or_formats() {
    let scene = Scene::usual().await;
    scene.role(ROLE, "").await;
    let (session, pid) = scene.session_of(ROLE, APPLICATION).await;
    session.batch_execute("SELECT pg_advisory_lock(8201) /* <!everyone> ``` *b* */").await.unwrap();
    let (waiter, waiting) = scene.session_of(ROLE, "```<!subteam^S1>").await;
    let wait = tokio::spawn(async move { drop(waiter.batch_execute("SELECT pg_advisory_lock(8201)").await) });
    let superuser = scene.superuser().await;
    let sql = "SELECT cardinality(pg_blocking_pids($1)) > 0";
    while !superuser.query_one(sql, &[&waiting]).await.unwrap().get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
    let shown = scene.asks(ANA, "blocked --env production").await.plain();
    assert!(shown.contains(APPLICATION), "shown as it is: {shown}");
    let reason =
        "&lt;!channel&gt; <!here> <@U0DAN> &lt;@U0DAN&gt; *b* ```x``` &lt;https://evil|x&gt; \u{202e}live";
    let card = scene.card(ANA, &format!("kill {pid} --env production --reason \"{reason}\"")).await;
    let shown = card.plain();
    for words in [ROLE, APPLICATION, "<!channel> @here dan <@U0DAN> *b* ```x``` <https://evil|x>"] {
        assert!(shown.contains(words), "{words} is missing:\n{shown}");
    }
    scene.refused(ANA, "&lt;!channel&gt;*b*`c` ```x``` <@U0DAN>", "no command").await;
    scene.refused(ANA, "kill &lt;!channel&gt; --env production", "<!channel>").await;
    scene.refused(ANA, "use &lt;@U0DAN&gt;", "no environment").await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ended.").await;
    wait.await.unwrap();

    let mut found = Vec::new();
    for sent in scene.workspace().payloads().iter().filter(|sent| !sent.body["blocks"].is_null()) {
        faults(&sent.body["blocks"], &mut found);
        let text = sent.body["text"].as_str().unwrap_or_default();
        if text.contains(['<', '>']) {
            found.push(format!("a notification that Slack would parse: {text}"));
        }
        if sent.method.starts_with("chat.")
            && (sent.body["parse"] != "none" || sent.body["link_names"] != false)
        {
            found.push("names are Slack's to find".to_owned());
        }
        let unfurls = ["mrkdwn", "unfurl_links", "unfurl_media"].iter().any(|name| sent.body[*name] != false);
        if sent.method == "chat.postMessage" && unfurls {
            found.push("links are Slack's to find".to_owned());
        }
        if sent.body.to_string().contains('\u{202e}') {
            found.push("text that runs backwards".to_owned());
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
