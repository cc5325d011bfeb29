//! The reader of TOML by itself: a header inside a bigger file, keys that aren't known beforehand, durations.

use countersign::clock::{duration_seconds, format_duration, parse_duration};
use countersign::suggest::{nearest, quoted};
use countersign::toml_reader::{Source, read};
use proptest::prelude::*;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Risk {
    Read,
    Danger,
}

#[test]
fn a_headers_mistakes_stand_where_they_stand_in_the_file() {
    // A header that begins after `/* ` on the file's first line: columns move there, and nowhere else.
    let file = "/* sumary = \"x\"\nrisk = \"dangr\"\nargs = [{ name = \"pid\", type = 7 }]\n";
    let source = Source::new("commands/kill.sql", file).part(3..file.len());
    let report = read(source, |header| {
        header.string("summary");
        header.choice("risk", &[("read", Risk::Read), ("danger", Risk::Danger)]);
        header.tables("args", |arg| (arg.string("name"), arg.string("type"), arg.opt_string("default")))
    });
    assert_eq!(
        report.expect_err("three mistakes").to_string(),
        "commands/kill.sql:1:4: missing key `summary`\n\
         commands/kill.sql:1:4: unknown key `sumary`; did you mean `summary`?\n\
         commands/kill.sql:2:8: `risk` can't be `dangr`; did you mean `danger`?\n\
         commands/kill.sql:3:32: `type` must be a string, not a whole number"
    );
}

#[test]
fn all_types_are_read() {
    let text = r#"
count = 0x10
on = true
over = "30s"
risk = "danger"
words = ["a", "b"]
args = [{ default = "30s" }, { default = "x" }]
[thresholds]
warning = 60
critical = 300.5
[servers]
b = "two"
a = "one"
[[list]]
x = 1
[[list]]
x = 2
"#;
    let value = read(Source::new("x.toml", text), |root| {
        assert_eq!((root.opt_integer("count"), root.boolean("on")), (Some(16), true));
        assert_eq!(root.opt_duration("over"), Some(Duration::from_secs(30)));
        assert_eq!(root.choice("risk", &[("danger", Risk::Danger)]), Some(Risk::Danger));
        assert_eq!(root.strings("words"), ["a", "b"]);
        let defaults = root.tables("args", |arg| arg.string("default"));
        assert_eq!(defaults, ["30s", "x"]);
        let thresholds = root.table("thresholds", |table| {
            let keys = table.keys();
            keys.into_iter().map(|key| (table.opt_number(&key.value), key.value)).collect::<Vec<_>>()
        });
        let expected = vec![(Some(60.0), "warning".to_owned()), (Some(300.5), "critical".to_owned())];
        assert_eq!(thresholds, Some(expected));
        let servers = root.map("servers");
        let servers: Vec<_> =
            servers.iter().map(|(k, v)| (k.value.as_str(), v.value.as_str(), v.at.line)).collect();
        assert_eq!(servers, [("b", "two", 12), ("a", "one", 13)]);
        assert_eq!(root.opt_string("absent"), None);
        root.tables("list", |item| item.opt_integer("x"))
    });
    assert_eq!(value, Ok(vec![Some(1), Some(2)]));
}

#[test]
fn columns_count_characters() {
    let report = read(Source::new("x.toml", "a = [\"äöü€\", 1]"), |root| root.strings("a"));
    assert_eq!(
        report.expect_err("a number").to_string(),
        "x.toml:1:14: `a` must hold strings only, not a whole number"
    );
}

#[test]
fn numbers_too_large_and_shapes_that_are_wrong_are_said() {
    let text = "a = 99999999999999999999\nb = 1\nc = [1]\nd = { e = 1 }\nf = 1979-05-27\n";
    let report = read(Source::new("x.toml", text), |root| {
        root.opt_integer("a");
        root.opt_table("b", |_| ());
        root.tables("c", |_| ());
        root.map("d");
        root.opt_string("f");
    });
    assert_eq!(
        report.expect_err("five mistakes").to_string(),
        "x.toml:1:5: `a` is too large a number\n\
         x.toml:2:5: `b` must be a table, not a whole number\n\
         x.toml:3:6: each of `c` must be a table, not a whole number\n\
         x.toml:4:11: `e` must be a string, not a whole number\n\
         x.toml:5:5: `f` must be a string, not a date or time"
    );
}

#[test]
fn durations_are_numbers_and_units() {
    let good = [("500ms", 500), ("30s", 30_000), ("15m", 900_000), ("12h", 43_200_000), ("7d", 604_800_000)];
    for (text, milliseconds) in good {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)));
        assert_eq!(format_duration(Duration::from_millis(milliseconds)), text);
    }
    for (text, seconds) in [
        ("30 s", 30),
        ("30S", 30),
        ("5 min", 300),
        ("90 minutes", 5_400),
        ("1h30m", 5_400),
        ("1 h 30 min", 5_400),
        ("2 days", 172_800),
        ("0s", 0),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        assert_eq!(duration_seconds(text), Some(seconds), "{text}");
    }
    assert_eq!((duration_seconds("500ms"), duration_seconds("3651d")), (None, None));
    for wrong in [
        "",
        "30",
        "s",
        "-5s",
        "1.5h",
        "5w",
        "1 month",
        "2y",
        "1h30",
        "30m1h",
        "12:30:00",
        "5m ago",
        "٣s",
        "99999999999999999999s",
        "999999999999999999d",
    ] {
        assert!(parse_duration(wrong).is_err(), "{wrong}");
    }
    assert_eq!(format_duration(Duration::ZERO), "0s");
    assert_eq!(format_duration(Duration::from_secs(90)), "90s");
}

#[test]
fn suggestions_are_near_or_none() {
    assert_eq!(nearest("servics", ["services", "servers"]), Some("services"));
    assert_eq!(nearest("envrionments", ["environments"]), Some("environments"));
    assert_eq!(nearest("x", ["y"]), None);
    assert_eq!(nearest("database", ["servers"]), None);
}

#[test]
fn quoted_values_stay_on_one_line() {
    assert_eq!(quoted("a\nb\u{1b}"), "`a\\nb\\u{1b}`");
    assert_eq!(quoted(&"ü".repeat(61)), format!("`{}…`", "ü".repeat(60)));
}

proptest! {
    /// Whatever the text, there is an answer, and each problem stands inside it.
    #[test]
    fn no_text_breaks_the_reader(text in "([a-z]{1,3}|[=\\[\\]{}\"',.#\r\n €]|[0-9]|\\PC){0,40}") {
        let lines = text.matches('\n').count() + 1;
        let read = read(Source::new("x", &text), |root| { root.tables("a", |table| table.map("b")); });
        if let Err(problems) = read {
            prop_assert!(!problems.0.is_empty());
            for problem in problems.0.iter() {
                let at = problem.at.expect("a place");
                prop_assert!((1..=lines).contains(&at.line) && at.column >= 1, "{problem}");
            }
        }
    }
}
