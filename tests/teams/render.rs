//! Replies as Teams gets them: golden pictures of what matters. Their cards are kept for the schema checks.

use crate::checks::{EVERYONE, check, inert, known, of_type, words};
use crate::sample_replies::{self, code, reply, table, verdict};
use countersign::chat::teams::render::{TeamsCard, View, check_size, render};
use countersign::model::*;
use serde_json::{Value, json};

/// What each person's account is called.
const ACCOUNT: &str = "3c0a7c52-1b55-4b0b-9f4c-0d6f3a5e7b11";

/// The card, checked, and kept for the schema checks.
fn judged(name: &str, reply: &Reply, view: &View<'_>) -> TeamsCard {
    let rendered = render(reply, view);
    assert_eq!(check(&rendered), Ok(()), "{name}");
    assert_eq!(inert(&rendered.card), Ok(()), "{name}");
    keep(name, &rendered);
    rendered
}

/// The card, pictured too.
fn picture(name: &str, reply: &Reply, view: &View<'_>) -> TeamsCard {
    let rendered = judged(name, reply, view);
    insta::assert_snapshot!(name, serde_json::to_string_pretty(&rendered.card).unwrap());
    rendered
}

/// For the schema checks: a message with the card, as a line of JSON.
fn keep(name: &str, rendered: &TeamsCard) {
    let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("../payloads");
    std::fs::create_dir_all(&target).unwrap();
    let content_type = "application/vnd.microsoft.card.adaptive";
    let attachment = json!({ "contentType": content_type, "content": rendered.card });
    let body = json!({ "type": "message", "summary": rendered.summary, "attachments": [attachment] });
    let line = json!({ "method": "teams.activity", "body": body }).to_string() + "\n";
    std::fs::write(target.join(format!("teams-{name}.jsonl")), line).unwrap();
}

fn view<'a>(viewer: Option<&'a Person>, token: &'a str) -> View<'a> {
    View { viewer, user_ids: &[], token: Some(token) }
}

/// The titles of the buttons.
fn buttons(rendered: &TeamsCard) -> Vec<String> {
    let sets = of_type(&rendered.card, "ActionSet");
    let actions = sets.iter().filter_map(|set| set["actions"].as_array()).flatten();
    actions.filter_map(|action| action["title"].as_str()).map(str::to_owned).collect()
}

#[test]
fn an_answer_in_full() {
    let answer = sample_replies::an_answer_in_full();
    let rendered = picture("answer", &answer, &EVERYONE);
    assert_eq!(rendered.summary, "ana requested kill 4711 on PRODUCTION: ⚠️ 1 session waits.");
    assert_eq!(rendered.card["msteams"]["width"], "Full");
}

#[test]
fn a_lock_tree_is_told_row_by_row_because_it_is_too_wide_for_a_phone() {
    let rendered = picture("lock_tree", &sample_replies::a_lock_tree(), &EVERYONE);
    assert!(of_type(&rendered.card, "Table").is_empty());
    assert!(words(&rendered).contains("│ └ session |4731| · |asset-api"), "{}", words(&rendered));
}

#[test]
fn a_request_shows_each_their_own_buttons() {
    let request = sample_replies::a_request(ACCOUNT);
    let token = "f".repeat(32);
    let ids: Vec<String> = (0..70).map(|id| format!("29:{id:0>90}")).collect();
    let (ana, ben, eve) = (known("ana"), known("ben"), known("eve"));
    assert_eq!(check_size(&request), Ok(()));
    let everyone = View { viewer: None, user_ids: &ids[..3], token: Some(&token) };
    let everyone = picture("request_for_everyone", &request, &everyone);
    assert_eq!(buttons(&everyone), ["What can I do?"]);
    assert_eq!(everyone.card["refresh"]["action"]["verb"], "view");
    assert_eq!(everyone.card["refresh"]["action"]["data"], json!({ "view": token }));
    assert_eq!(everyone.card["refresh"]["userIds"], json!(ids[..3]));
    let approver = picture("request_for_an_approver", &request, &view(Some(&ben), &token));
    assert_eq!(buttons(&approver), ["Approve", "Deny"]);
    assert_eq!(approver.card["refresh"], Value::Null);
    assert_eq!(
        buttons(&picture("request_for_its_requester", &request, &view(Some(&ana), &token))),
        ["Withdraw"]
    );
    assert_eq!(buttons(&render(&request, &view(Some(&eve), &token))), [] as [&str; 0]);
    assert_eq!(buttons(&render(&request, &EVERYONE)), [] as [&str; 0], "a card without views");
    let many = render(&request, &View { viewer: None, user_ids: &ids, token: Some(&token) });
    assert_eq!(check(&many), Ok(()));
    assert_eq!(many.card["refresh"]["userIds"].as_array().unwrap().len(), 60);
    let nobody = render(&request, &view(None, &token));
    assert_eq!((nobody.card["refresh"].clone(), buttons(&nobody).len()), (Value::Null, 1));
    let plain = render(&sample_replies::an_answer_in_full(), &view(None, &token));
    assert!(!buttons(&plain).contains(&"What can I do?".to_owned()), "everyone has the same buttons");
}

#[test]
fn a_button_for_some_is_executed_and_one_for_everyone_is_submitted() {
    let ben = known("ben");
    let own = Button {
        visible_to: vec![ben.clone()],
        ..Button::new("Approve", "a1".to_owned(), ButtonStyle::Primary)
    };
    let both = vec![own, Button::new("kill", "b2".to_owned(), ButtonStyle::Danger)];
    let rendered = render(&reply(Block::Buttons(both)), &view(Some(&ben), "f"));
    let set = of_type(&rendered.card, "ActionSet")[0]["actions"].clone();
    let submit =
        json!({ "type": "Action.Submit", "title": "Approve", "style": "positive", "data": { "cs": "a1" } });
    assert_eq!(
        set[0],
        json!({ "type": "Action.Execute", "title": "Approve", "style": "positive", "verb": "cs", "data": { "cs": "a1" }, "fallback": submit })
    );
    assert_eq!(
        set[1],
        json!({ "type": "Action.Submit", "title": "kill", "style": "destructive", "data": { "cs": "b2" } })
    );
}

#[test]
fn no_more_buttons_stand_side_by_side_than_a_phone_shows() {
    let named = |label: &str, count: usize| {
        let one = |at| Button::new(label, format!("{at:032x}"), ButtonStyle::Plain);
        render(&reply(Block::Buttons((0..count).map(one).collect())), &EVERYONE)
    };
    let rows = |rendered: &TeamsCard| -> Vec<usize> {
        let sets = of_type(&rendered.card, "ActionSet");
        sets.iter().map(|set| set["actions"].as_array().unwrap().len()).collect()
    };
    assert_eq!(rows(&named("x", 14)), [6, 6, 2]);
    assert_eq!(rows(&named("kill 4711", 5)), [3, 2]);
    assert_eq!(rows(&named(&"long ".repeat(12), 2)), [1, 1]);
}

#[test]
fn the_heading_names_who_what_and_where() {
    let mut answer = reply(verdict(Severity::Ok, "Killed."));
    let rendered = render(&answer, &EVERYONE);
    assert!(words(&rendered).starts_with("ana| requested |kill 4711| on |🔴 |PRODUCTION| · #128"));
    assert_eq!(rendered.card["body"][0]["style"], "attention");
    answer.heading.environment = Some(EnvironmentTag { name: "staging".to_owned(), production: false });
    answer.heading.requester = None;
    answer.heading.run = None;
    let rendered = render(&answer, &EVERYONE);
    assert!(words(&rendered).starts_with("kill 4711| on |🟢 |staging|✅ |Killed."));
    assert_eq!(rendered.card["body"][0]["style"], "emphasis");
}

#[test]
fn only_a_meant_ping_pings() {
    let ben = known("ben");
    let named = render(&reply(Block::Text(Text::new().person(&ben))), &EVERYONE);
    assert!(!named.card.to_string().contains(ACCOUNT));
    let entity =
        json!({ "type": "mention", "text": "<at>ben</at>", "mentioned": { "id": ACCOUNT, "name": "ben" } });
    for block in [
        Block::Text(Text::new().plain("Ask ").ping(&ben).plain(", please: 2 wait.")),
        Block::Text(Text::new().plain("<at>all</at> *x* ").ping(&ben).code("kill")),
        Block::Note(Text::new().ping(&ben)),
        Block::Verdict { severity: Severity::Warning, text: Text::new().ping(&ben).plain(" https://x.y") },
        Block::Facts(vec![("approver".to_owned(), Text::new().ping(&ben).plain(" or ").ping(&ben))]),
    ] {
        let rendered = render(&reply(block), &EVERYONE);
        assert_eq!(rendered.card["msteams"]["entities"], json!([entity]));
        assert_eq!(inert(&rendered.card), Ok(()));
    }
    let inline = render(&reply(Block::Text(Text::new().plain("Ask ").ping(&ben).plain("."))), &EVERYONE);
    assert!(words(&inline).ends_with("Ask <at>ben</at>."), "{}", words(&inline));
    for (id, name) in [
        ("j.doe", "j doe"),
        ("Ben (SRE)", "Ben SRE"),
        ("ana [ops]", "ana ops"),
        ("[x](http://y.z)", "x http y z"),
        ("</at><at>all", "at at all"),
    ] {
        let other = Person { id: id.to_owned(), account: Some(ACCOUNT.to_owned()) };
        let rendered = render(&reply(Block::Text(Text::new().ping(&other))), &EVERYONE);
        assert_eq!(rendered.card["msteams"]["entities"][0]["text"], format!("<at>{name}</at>"));
        assert_eq!(inert(&rendered.card), Ok(()));
    }
    for (id, account) in [("cy", "U1"), ("***", ACCOUNT)] {
        let other = Person { id: id.to_owned(), account: Some(account.to_owned()) };
        let rendered = render(&reply(Block::Text(Text::new().ping(&other))), &EVERYONE);
        assert_eq!(rendered.card["msteams"]["entities"], json!([]));
        assert_eq!(inert(&rendered.card), Ok(()));
    }
}

#[test]
fn a_time_is_a_date_of_the_readers_zone() {
    let text = Text::new().plain("since 2026-11-22 18:57:03 UTC, by ").code("2026-11-22 18:57 UTC");
    let said = words(&judged("time", &reply(Block::Text(text)), &EVERYONE));
    let date = "{{DATE(2026-11-22T18:57:03Z, SHORT)}} {{TIME(2026-11-22T18:57:03Z)}}";
    assert!(said.contains(&format!("since {date}, by ")), "{said}");
    assert!(said.contains("|2026-11-22 18:57 UTC"), "what is typed stays as it is: {said}");
}

#[test]
fn a_table_that_a_phone_can_show_stands_side_by_side() {
    let rendered = picture("table", &reply(Block::Table(table(3))), &EVERYONE);
    let table = of_type(&rendered.card, "Table")[0].clone();
    assert_eq!(table["rows"].as_array().unwrap().len(), 4);
    assert_eq!(table["columns"][0]["horizontalCellContentAlignment"], "right");
    assert!(!table.to_string().contains("select"));
    assert!(words(&rendered).contains("1\u{20}\u{a0}select 1 from asset\n2"), "{}", words(&rendered));
}

/// How wide the columns of its table are.
fn widths(rendered: &TeamsCard) -> Vec<u64> {
    let columns = of_type(&rendered.card, "Table")[0]["columns"].as_array().unwrap();
    columns.iter().filter_map(|column| column["width"].as_u64()).collect()
}

#[test]
fn what_is_asked_at_night_reads_on_a_phone() {
    let column = |(title, kind): (&str, ColumnKind)| Column { title: title.to_owned(), kind };
    let table = |columns: &[(&str, ColumnKind)], cells: Vec<&str>| {
        let rows = cells.chunks(columns.len());
        let rows = rows.map(|row| Row {
            cells: row.iter().map(|cell| Cell::from(*cell)).collect(),
            buttons: Vec::new(),
        });
        let rows: Vec<Row> = rows.collect();
        Table {
            columns: columns.iter().copied().map(column).collect(),
            total: rows.len(),
            rows,
            ..Table::default()
        }
    };
    let (left, right) = (ColumnKind::Left, ColumnKind::Right);
    let columns = [("service", left), ("sessions", right), ("blocked", right), ("deadlocks", right)];
    let services = vec!["auth-service", "12", "0", "0", "analytics-service", "140", "3", "1"];
    let mut health = table(&columns, services);
    health.rows[1].cells[2].severity = Severity::Critical;
    let health =
        reply(verdict(Severity::Ok, "Every service answers; nothing needs you.")).with(Block::Table(health));
    let health = judged("health", &health, &EVERYONE);
    // No title is broken or covers the next; what is left goes to the names of the services.
    assert_eq!(widths(&health), [14, 10, 9, 11]);
    let columns =
        [("total", right), ("share", left), ("mean", right), ("calls", right), ("query", ColumnKind::Query)];
    let costly = vec![
        "41 min",
        "▓▓▓▓▓▓░░░░ 62 %",
        "1.4 s",
        "1,734",
        "SELECT a.id FROM assets a WHERE a.owner = $1",
        "9 min",
        "▓░░░░░░░░░ 14 %",
        "2 ms",
        "270,000",
        "SELECT max(id) FROM audit_logs",
    ];
    let slow = reply(verdict(Severity::Neutral, "The costliest statement took 62 % of the time."))
        .with(Block::Table(table(&columns, costly)));
    let slow = judged("slow", &slow, &EVERYONE);
    // Every text has the room that it takes, and two characters' more: nothing is broken.
    assert_eq!(widths(&slow), [8, 17, 7, 9]);
    let mut error = reply(verdict(Severity::Warning, "There is no command \"kil\".")).ephemeral();
    error.blocks.push(Block::Text(Text::new().plain("Did you mean ").code("kill").plain("?")));
    error.heading.run = None;
    judged("error", &error, &EVERYONE);
}

#[test]
fn a_table_is_cut_to_rows_and_says_so() {
    let rendered = judged("long_table", &reply(Block::Table(table(340))), &EVERYONE);
    let rows = of_type(&rendered.card, "TableRow").len() - 1;
    assert!(rows >= 40, "{rows}");
    assert!(words(&rendered).contains(&format!("{rows} of 340 rows")));
    assert_eq!(buttons(&rendered).len(), 5);
}

#[test]
fn rows_that_the_command_left_out_are_counted_too() {
    let answer = reply(Block::Table(Table { total: 1340, ..table(12) }));
    assert!(words(&render(&answer, &EVERYONE)).contains("12 of 1,340 rows"));
    assert_eq!(check_size(&answer), Ok(()));
}

#[test]
fn an_empty_table_says_what_that_means() {
    assert!(words(&render(&reply(Block::Table(table(0))), &EVERYONE)).contains("No session waits."));
}

#[test]
fn code_keeps_its_lines_and_its_indentation() {
    let rendered = render(&reply(code(" select 1\n  from a\n\twhere  b")), &EVERYONE);
    assert!(words(&rendered).ends_with("\u{a0}select 1\n\u{a0}\u{a0}from a\n\u{2003}where \u{a0}b"));
}

#[test]
fn long_code_is_cut_at_characters_and_says_how_much() {
    let text = "ä👩‍💻".repeat(5_000);
    let rendered = judged("long_code", &reply(code(&text)), &EVERYONE);
    let all = words(&rendered);
    let left: usize =
        all.rsplit("cut, ").next().unwrap().split(' ').next().unwrap().replace(',', "").parse().unwrap();
    let kept = all.split("#128|").nth(1).unwrap().split("\n… cut").next().unwrap();
    assert_eq!(kept.chars().count() + left, text.chars().count());
    assert!(kept.ends_with('ä') || kept.ends_with('💻'), "cut within a character: {:?}", kept.chars().last());
    assert!(rendered.card.to_string().len() > 20_000, "it was cut too short");
}

#[test]
fn sentences_and_buttons_outlive_tables() {
    let button = Button::new("Approve", "t".to_owned(), ButtonStyle::Primary);
    let mut answer = reply(verdict(Severity::Critical, "Look here."));
    for _ in 0..200 {
        answer = answer.with(code(&"x".repeat(3_000)));
    }
    let rendered = render(&answer.with(Block::Buttons(vec![button])), &EVERYONE);
    check(&rendered).unwrap();
    let all = words(&rendered);
    assert!(all.contains("Look here.") && all.contains("Approve") && all.contains("more parts did not fit"));
}

#[test]
fn what_does_not_fit_whole_says_why() {
    let reason = |reply: Reply| check_size(&reply).unwrap_err().reason;
    assert_eq!(check_size(&reply(code(&"x".repeat(15_000)))), Ok(()));
    assert_eq!(reason(reply(code(&"x".repeat(34_210)))), "a text has 34,210 bytes; a message holds 25,000");
    assert_eq!(reason(reply(Block::Table(table(340)))), "a table has 340 rows; a message holds 100");
    let halves = reason(reply(code(&"x".repeat(12_000))).with(code(&"y".repeat(12_000))));
    assert_eq!(halves, "it has 24,587 bytes; a message holds 16,869");
    let mut long = reply(code("x"));
    long.heading.command = "kill ".repeat(500);
    assert_eq!(reason(long), "the command has more than 1,000 bytes");
}

#[test]
fn hostile_text_is_inert_and_unchanged() {
    for evil in [
        "**bold**",
        "[x](https://evil.example)",
        "https://evil.example",
        "- x",
        "1. x",
        "_x_",
        "`",
        "&lt;",
        "@everyone",
        "${x}",
    ] {
        let rendered = hostile(evil);
        assert!(words(&rendered).matches(evil).count() >= 11, "{evil}: {}", words(&rendered));
    }
    // What only looks the same.
    hostile("<at>ben</at>");
    hostile("{{DATE(2026-01-01T00:00:00Z, SHORT)}}");
    let hidden =
        render(&reply(Block::Text(Text::from("a\u{202e}b\u{0}c\u{7}d\u{200b}e\u{e0041}"))), &EVERYONE);
    assert!(words(&hidden).contains("a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}"));
}

fn hostile(evil: &str) -> TeamsCard {
    let mut own = table(1);
    own.rows[0].cells = vec![Cell::from(evil), Cell::from(evil), Cell::from(evil), Cell::from(evil)];
    own.title = Some(evil.to_owned());
    own.columns[0].title = evil.to_owned();
    let mut answer = reply(verdict(Severity::Critical, evil))
        .with(Block::Text(Text::new().strong(evil).code(evil).ping(&known("ben"))))
        .with(Block::Facts(vec![
            (evil.to_owned(), Text::from(evil)),
            ("x".to_owned(), Text::new().code(evil)),
        ]))
        .with(Block::Table(own))
        .with(code(evil))
        .with(Block::Progress { percent: None, label: evil.to_owned() })
        .with(Block::Note(Text::from(evil)))
        .with(Block::Buttons(vec![Button::new(evil, "t".to_owned(), ButtonStyle::Plain)]));
    answer.heading.command = evil.to_owned();
    let rendered = render(&answer, &EVERYONE);
    check(&rendered).unwrap();
    assert_eq!(inert(&rendered.card), Ok(()), "{evil}");
    rendered
}
