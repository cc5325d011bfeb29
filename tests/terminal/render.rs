//! Replies as text: golden pictures of what matters, and any reply at all.

use crate::sample_replies::{
    a_lock_tree, a_request, an_answer_in_full, any_reply, code, person, reply, table, verdict,
};
use countersign::chat::terminal::ButtonLines;
use countersign::chat::terminal::json;
use countersign::chat::terminal::render::{Screen, render};
use countersign::model::*;
use proptest::prelude::*;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const PLAIN: Screen = Screen { width: 80, colours: false };
const COLOURED: Screen = Screen { width: 80, colours: true };

fn lines() -> ButtonLines {
    ButtonLines::from([(format!("{:032x}", 1), "countersign run kill 1 --env production".to_owned())])
}

#[test]
fn an_answer_in_full_looks_like_this() {
    insta::assert_snapshot!(render(&an_answer_in_full(), &lines(), PLAIN));
}

#[test]
fn a_request_and_a_lock_tree_in_full() {
    insta::assert_snapshot!("request", render(&a_request(""), &lines(), PLAIN));
    insta::assert_snapshot!("lock_tree", render(&a_lock_tree(), &lines(), PLAIN));
}

#[test]
fn colours_add_to_words_and_take_nothing_away() {
    let coloured = render(&an_answer_in_full(), &lines(), COLOURED);
    assert!(coloured.starts_with("\u{1b}[0m\u{1b}[1;33mWARNING: "), "{coloured:?}");
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').expect("an end").1;
    }
    assert_eq!(plain + rest, render(&an_answer_in_full(), &lines(), PLAIN));
}

#[test]
fn an_answer_in_full_as_json() {
    let json = json::render(&an_answer_in_full(), &lines());
    assert!(!json.contains(&format!("{:032x}", 1)), "a token is nobody's business: {json}");
    insta::assert_snapshot!(json);
}

#[test]
fn a_table_says_what_it_leaves_out_and_what_it_lacks() {
    let cut = reply(Block::Table(Table { total: 340, ..table(2) }));
    assert!(render(&cut, &ButtonLines::new(), PLAIN).contains("\n2 of 340 rows\n"));
    let empty = render(&reply(Block::Table(table(0))), &ButtonLines::new(), PLAIN);
    assert!(empty.contains("\nWaiting\nNo session waits.\n"), "{empty}");
}

fn wide(columns: usize) -> Block {
    let titles = (0..columns).map(|at| Column { title: format!("column {at}"), kind: ColumnKind::Right });
    let cells = (0..columns).map(|at| Cell::from(format!("{at}{at}{at} MiB"))).collect();
    let rows = vec![Row { cells, buttons: Vec::new() }];
    Block::Table(Table { title: None, columns: titles.collect(), rows, total: 1, empty: None })
}

#[test]
fn numbers_are_never_cut_and_too_many_columns_stand_below_each_other() {
    let beside = render(&reply(wide(8)), &ButtonLines::new(), PLAIN);
    assert!(beside.contains(" 666 MiB   777 MiB\n"), "{beside}");
    let below = render(&reply(wide(9)), &ButtonLines::new(), PLAIN);
    assert!(below.contains("\ncolumn 0  000 MiB\ncolumn 1  111 MiB\n"), "{below}");
}

#[test]
fn words_wrap_and_are_cut_at_the_columns_that_they_take() {
    let column = |title: &str, kind| Column { title: title.to_owned(), kind };
    let cells = vec!["日本語の名前".repeat(60).into(), "ok".into(), "1,234".into()];
    let table = Table {
        columns: vec![
            column("name", ColumnKind::Left),
            column("is", ColumnKind::Left),
            column("size", ColumnKind::Right),
        ],
        rows: vec![Row { cells, buttons: Vec::new() }],
        total: 1,
        ..Table::default()
    };
    let shown = render(&reply(Block::Table(table)), &ButtonLines::new(), PLAIN);
    assert!(shown.lines().all(|line| line.width() <= 80), "{shown}");
    assert!(shown.contains('…') && shown.contains("ok  1,234\n"), "{shown}");
}

#[test]
fn code_that_is_too_long_goes_on_as_in_a_shell() {
    let line = format!("psql \"host=db.example.com {}\"", "x=1234567 ".repeat(20));
    let shown = render(&reply(code(&line)), &ButtonLines::new(), PLAIN);
    assert!(shown.replace("\\\n", "").contains(&line), "{shown}");
}

#[test]
fn people_are_named_and_production_shouts() {
    let text = Text::new().person(&person("ben")).plain(" or ").ping(&person("cara\u{1b}[2J"));
    let shown =
        render(&reply(verdict(Severity::Ok, "Done.")).with(Block::Text(text)), &ButtonLines::new(), PLAIN);
    let expected = "OK: Done.\nana requested kill 4711 on PRODUCTION · #128\n\nben or cara\\x1b[2J\n";
    assert_eq!(shown, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_reply_fits_and_is_inert(reply in any_reply(), width in 40usize..120) {
        let shown = render(&reply, &ButtonLines::new(), Screen { width, colours: false });
        for line in shown.lines() {
            let columns: usize = line.chars().map(|c| c.width().unwrap_or(0)).sum();
            prop_assert!(columns <= width, "{} of {}: {:?}", columns, width, line);
        }
        prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n'));
        let json = json::render(&reply, &ButtonLines::new());
        prop_assert!(!json.contains(|c: char| c.is_control() && c != '\n'));
        prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }
}
