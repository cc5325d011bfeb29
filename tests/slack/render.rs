//! Replies as Slack gets them: golden pictures of what matters.

use crate::checks::{check, inert, words};
use crate::sample_replies::{self, code, reply, table, verdict};
use countersign::chat::slack::render::{check_size, render};
use countersign::model::*;
use serde_json::json;

#[test]
fn an_answer_in_full() {
    let answer = sample_replies::an_answer_in_full();
    let rendered = render(&answer);
    check(&rendered).unwrap();
    assert_eq!(rendered.text, "ana requested kill 4711 on PRODUCTION: ⚠️ 1 session waits.");
    assert_eq!(rendered.attachment, None);
    insta::assert_snapshot!(serde_json::to_string_pretty(&rendered.blocks).unwrap());
}

#[test]
fn a_request_and_a_lock_tree_in_full() {
    for (name, reply) in
        [("request", sample_replies::a_request("U2")), ("lock_tree", sample_replies::a_lock_tree())]
    {
        let rendered = render(&reply);
        check(&rendered).unwrap();
        insta::assert_snapshot!(name, serde_json::to_string_pretty(&rendered.blocks).unwrap());
    }
}

#[test]
fn the_heading_names_who_what_and_where() {
    let mut answer = reply(verdict(Severity::Ok, "Killed."));
    assert!(words(&render(&answer)).starts_with("ana| requested |kill 4711| on |🔴 |PRODUCTION| · #128"));
    answer.heading.environment = Some(EnvironmentTag { name: "staging".to_owned(), production: false });
    answer.heading.requester = None;
    answer.heading.run = None;
    assert!(words(&render(&answer)).starts_with("kill 4711| on |🟢 |staging|✅ |Killed."));
}

#[test]
fn only_a_meant_ping_pings() {
    let ben = Person { id: "ben".to_owned(), account: Some("U2".to_owned()) };
    let named = render(&reply(Block::Text(Text::new().person(&ben))));
    assert!(!serde_json::to_string(&named.blocks).unwrap().contains("U2"));
    let element = json!({ "type": "user", "user_id": "U2" });
    for block in [
        Block::Text(Text::new().ping(&ben)),
        Block::Note(Text::new().ping(&ben)),
        Block::Facts(vec![("approver".to_owned(), Text::new().ping(&ben))]),
    ] {
        let rendered = render(&reply(block));
        assert!(serde_json::to_string(&rendered.blocks).unwrap().contains(&element.to_string()));
    }
    let of_teams = Person { id: "cy".to_owned(), account: Some("U1><!channel>".to_owned()) };
    let rendered = render(&reply(Block::Text(Text::new().ping(&of_teams))));
    assert_eq!(rendered.blocks.iter().try_for_each(inert), Ok(()));
}

#[test]
fn a_table_is_cut_to_rows_and_says_so() {
    let rendered = render(&reply(Block::Table(table(340))));
    check(&rendered).unwrap();
    let rows =
        rendered.blocks.iter().find(|b| b["type"] == "table").unwrap()["rows"].as_array().unwrap().len() - 1;
    assert!(rows >= 90, "{rows}");
    assert!(words(&rendered).contains(&format!("{rows} of 340 rows")));
    assert_eq!(rendered.blocks.iter().filter(|b| b["type"] == "actions").count(), 1);
    let buttons = rendered.blocks.iter().find(|b| b["type"] == "actions").unwrap();
    assert_eq!(buttons["elements"].as_array().unwrap().len(), 5);
    let file = rendered.attachment.unwrap();
    assert_eq!(file.name, "countersign-128.txt");
    assert!(String::from_utf8(file.bytes).unwrap().ends_with("340\t12 min\t\tselect 340 from asset\n"));
    let private = render(&reply(Block::Table(table(340))).ephemeral());
    assert_eq!(private.attachment, None, "a file in a channel is for everyone");
}

#[test]
fn one_long_cell_is_text_below_its_table_and_no_file() {
    let long = format!("SELECT 1 {}-- the end", "or more ".repeat(500));
    let columns =
        ["setting", "value"].map(|title| Column { title: title.to_owned(), kind: ColumnKind::Left });
    let row =
        |cells: &[&str]| Row { cells: cells.iter().map(|cell| Cell::from(*cell)).collect(), buttons: vec![] };
    let table = |columns: &[Column], rows: Vec<Row>| {
        Block::Table(Table { columns: columns.to_vec(), total: rows.len(), rows, ..Table::default() })
    };
    for (answer, is_whole) in [
        (table(&columns, vec![row(&["a", "b"]), row(&["c", &long])]), true),
        (table(&columns[1..], vec![row(&[&long])]), true),
        // More than a message holds.
        (table(&columns[1..], vec![row(&[&long.repeat(20)])]), false),
    ] {
        let answer = reply(answer);
        let rendered = render(&answer);
        check(&rendered).unwrap();
        assert_eq!(rendered.attachment, None);
        let shown = words(&rendered);
        assert!(shown.contains(if is_whole { &long } else { "… cut, " }), "{shown}");
        assert_eq!(check_size(&answer).is_ok(), is_whole);
    }
    let two = table(&columns, vec![row(&[&long, &long])]);
    assert!(render(&reply(two)).attachment.is_some());
}

#[test]
fn rows_that_the_command_left_out_are_counted_too() {
    let mut cut_before = table(12);
    cut_before.total = 1340;
    let answer = reply(Block::Table(cut_before));
    assert!(words(&render(&answer)).contains("12 of 1,340 rows"));
    assert_eq!(check_size(&answer), Ok(()));
}

#[test]
fn a_second_table_is_fixed_width_text() {
    let rendered = render(&reply(Block::Table(table(2))).with(Block::Table(table(2))));
    check(&rendered).unwrap();
    assert!(words(&rendered).contains("pid      waits  user\n  1  ⚠️ 12 min  -\n  2  ⚠️ 12 min  -"));
}

#[test]
fn a_table_wider_than_a_phone_is_lines() {
    let mut wide = table(3);
    for (number, row) in (0..).zip(&mut wide.rows) {
        let app = if number == 2 { "asset_worker_with_a_long_name" } else { "analytics_service_of_the_team" };
        row.cells[2] = Cell::from(app);
        row.cells[3] = Cell::from("");
        row.buttons.clear();
    }
    wide.columns[2].title = "app".to_owned();
    let rendered = render(&reply(Block::Table(wide)));
    check(&rendered).unwrap();
    assert!(rendered.blocks.iter().all(|block| block["type"] != "table"));
    let lines = words(&rendered).replace('|', "");
    let minutes = "waits ⚠️ 12 min";
    assert!(lines.contains(&format!("pid 1, 2 · {minutes} · analytics_service_of_the_team")), "{lines}");
    assert!(lines.contains(&format!("pid 3 · {minutes} · asset_worker_with_a_long_name")), "{lines}");
}

#[test]
fn a_time_is_a_date_of_the_readers_zone() {
    let text = Text::new().plain("since 2026-11-22 18:57:03 UTC, by ").code("2026-11-22 18:57 UTC");
    let verdict = Block::Verdict { severity: Severity::Neutral, text: "2026-11-22 18:57 UTC".into() };
    let rendered = render(&reply(verdict).with(Block::Note(text)));
    check(&rendered).unwrap();
    let (first, second) =
        (&rendered.blocks[1]["elements"][0]["elements"], &rendered.blocks[2]["elements"][0]["elements"]);
    assert_eq!(
        first[0],
        json!({ "type": "date", "timestamp": 1_795_373_820, "format": "{date_short_pretty} {time}",
                "fallback": "2026-11-22 18:57 UTC", "style": { "bold": true } })
    );
    assert_eq!(second[1]["timestamp"], 1_795_373_823);
    assert_eq!(second[1]["format"], "{date_short_pretty} {time_secs}");
    assert_eq!(second[3]["text"], "2026-11-22 18:57 UTC", "what is typed stays as it is");
}

#[test]
fn query_text_stands_beneath_the_table() {
    let rendered = render(&reply(Block::Table(table(2))));
    assert!(words(&rendered).contains("1  select 1 from asset\n2  select 2 from asset"));
    let native = rendered.blocks.iter().find(|b| b["type"] == "table").unwrap();
    assert!(!native.to_string().contains("select"));
}

#[test]
fn an_empty_table_says_what_that_means() {
    assert!(words(&render(&reply(Block::Table(table(0))))).contains("No session waits."));
}

#[test]
fn long_code_is_cut_at_characters_and_says_how_much() {
    let text = "ä👩‍💻".repeat(5_000);
    let rendered = render(&reply(code(&text)));
    check(&rendered).unwrap();
    let all = words(&rendered);
    let left: usize =
        all.rsplit("cut, ").next().unwrap().split(' ').next().unwrap().replace(',', "").parse().unwrap();
    let kept = all.split("#128|").nth(1).unwrap().split("\n… cut").next().unwrap();
    assert_eq!(kept.chars().count() + left, text.chars().count());
    assert!(kept.ends_with('ä') || kept.ends_with('💻'), "cut within a character: {:?}", kept.chars().last());
    assert_eq!(rendered.attachment.unwrap().bytes, text.as_bytes());
}

#[test]
fn sentences_and_buttons_outlive_tables() {
    let button = Button::new("Approve", "t".to_owned(), ButtonStyle::Primary);
    let mut answer = reply(verdict(Severity::Critical, "Look here."));
    for _ in 0..60 {
        answer = answer.with(code(&"x".repeat(3_000)));
    }
    let rendered = render(&answer.with(Block::Buttons(vec![button])));
    check(&rendered).unwrap();
    let all = words(&rendered);
    assert!(all.contains("Look here.") && all.contains("Approve") && all.contains("more parts did not fit"));
}

#[test]
fn what_does_not_fit_whole_says_why() {
    let reason = |reply: Reply| check_size(&reply).unwrap_err().reason;
    assert_eq!(check_size(&reply(code(&"x".repeat(11_000)))), Ok(()));
    assert_eq!(
        reason(reply(code(&"x".repeat(14_210)))),
        "a text has 14,210 characters; a message holds 12,000"
    );
    assert_eq!(reason(reply(Block::Table(table(340)))), "a table has 340 rows; a message holds 99");
    let halves = reply(code(&"x".repeat(7_000))).with(code(&"y".repeat(7_000)));
    assert_eq!(reason(halves), "it has 14,047 characters; a message holds 12,000");
    let many = (0..60).fold(reply(code("x")), |reply, _| reply.with(code("y")));
    assert_eq!(reason(many), "it has 62 blocks; a message holds 50");
    let mut long = reply(code("x"));
    long.heading.command = "kill ".repeat(500);
    assert_eq!(reason(long), "the command has more than 1,000 characters");
}

#[test]
fn hostile_text_is_inert_and_unchanged() {
    for evil in [
        "<!channel>",
        "<@U1>",
        "`",
        "```",
        "https://evil.example",
        "*bold*",
        "_x_ ~y~",
        ":boom:",
        "@here",
        "&lt;",
    ] {
        let mut own = table(1);
        own.rows[0].cells = vec![Cell::from(evil), Cell::from(evil), Cell::from(evil), Cell::from(evil)];
        own.title = Some(evil.to_owned());
        own.columns[0].title = evil.to_owned();
        let mut answer = reply(verdict(Severity::Critical, evil))
            .with(Block::Text(Text::new().strong(evil).code(evil)))
            .with(Block::Facts(vec![
                (evil.to_owned(), Text::from(evil)),
                ("x".to_owned(), Text::new().code(evil)),
            ]))
            .with(Block::Table(own))
            .with(code(evil))
            .with(Block::Progress { percent: None, label: evil.to_owned() })
            .with(Block::Note(Text::from(evil)));
        answer.heading.command = evil.to_owned();
        let rendered = render(&answer);
        check(&rendered).unwrap();
        assert_eq!(rendered.blocks.iter().try_for_each(inert), Ok(()), "{evil}");
        assert!(!rendered.text.contains(['<', '>']), "{}", rendered.text);
        assert!(words(&rendered).matches(evil).count() >= 11, "{evil}: {}", words(&rendered));
    }
    let hidden = render(&reply(Block::Text(Text::from("a\u{202e}b\u{0}c\u{7}"))));
    assert!(words(&hidden).contains("a\u{fffd}b\u{fffd}c\u{fffd}"));
}
