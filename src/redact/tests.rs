//! The cases stand in `sql_cases.txt`, `message_cases.txt` and `name_cases.txt`: what each form of SQL, message and name becomes. Properties over
//! generated SQL: a secret in any literal never comes out, wherever the text ends.

use super::{identity, name, note, query, quotes, raised, text};
use crate::sql_lexer;
use proptest::prelude::*;

/// Reads the cases of a file, checks them all, and returns their inputs.
#[track_caller]
fn check_cases(redact: fn(&str) -> String, file: &str) -> Vec<String> {
    let (mut inputs, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(file.lines()).filter(|(_, line)| line.starts_with('[')) {
        let case: Vec<String> = serde_json::from_str(line).unwrap_or_else(|e| panic!("line {number}: {e}"));
        let ([input] | [input, _], Some(expected)) = (case.as_slice(), case.last()) else {
            panic!("line {number} holds {} strings", case.len())
        };
        if redact(input) != *expected {
            let shown = redact(input);
            wrong.push(format!("line {number}: {input:?}\n  gives    {shown:?}\n  expected {expected:?}"));
        }
        inputs.push(input.clone());
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), inputs.len(), wrong.join("\n"));
    inputs
}

/// Values that the cases use. None may come out, wherever the text ends.
const DATA: [&str; 4] = ["jane", "hunter2", "S3cr3t", "4111"];

/// Checks the cases whole, and every truncation of them for data and for stability.
#[test]
fn sql_cases() {
    for sql in check_cases(query, include_str!("sql_cases.txt")) {
        for (end, _) in sql.char_indices() {
            let shown = query(&sql[..end]);
            assert!(!DATA.iter().any(|data| shown.contains(data)), "{:?} gives {shown:?}", &sql[..end]);
            assert_eq!(query(&shown), shown, "{:?}", &sql[..end]);
        }
    }
}

#[test]
fn message_cases() {
    check_cases(text, include_str!("message_cases.txt"));
}

#[test]
fn name_cases() {
    for name in check_cases(name, include_str!("name_cases.txt")) {
        let shown = super::name(&name);
        assert_eq!(super::name(&shown), shown, "{name:?}");
    }
}

#[test]
fn what_an_application_raises_shows_no_long_number() {
    for (raised, shown) in [
        ("customer Jane has balance 4711", "customer Jane has balance ?"),
        ("order 12 of 2024-01-01 is locked for 1,234.50", "order 12 of ?-01-01 is locked for ?"),
        ("Kunde »Jane« hat 471 Punkte.", "Kunde »?« hat 471 Punkte."),
        ("password=hunter2, 12.5 %", "password=? 12.5 %"),
    ] {
        assert_eq!(super::raised(raised), shown);
    }
}

/// The lexer moves forward with every token, so that the work is bounded by the length of the text.
#[test]
fn one_pass_over_a_hostile_megabyte() {
    let parts = [
        "$a$b$c$", "/*", "*/", "'", "''", "\"\"", "E'\\", "a.", "1.", "-- \n", "'a'\n", "'a' --\n", "$",
        "a@", "%@", "$a$ $a$",
    ];
    for part in parts {
        let sql = part.repeat(1_000_000 / part.len());
        let (mut end, mut tokens) = (0, 0);
        for token in sql_lexer::scan(&sql) {
            assert_eq!(token.at, end, "{part}");
            assert!(!token.text.is_empty(), "{part}");
            end += token.text.len();
            tokens += 1;
        }
        assert_eq!(end, sql.len(), "{part}");
        assert!(tokens <= sql.len() + 1, "{part}");
        assert!(sql_lexer::lenient(&sql).count() <= tokens + 1, "{part}");
        assert!(query(&sql).len() <= sql.len() * 3 + 3, "{part}");
    }
}

#[test]
fn hostile_messages_end() {
    let parts = "(|a(|)=(|table \"a\" |\"|'|LINE |password=(|a@b:|://|x\nERROR: \"a\"|contains (";
    for part in parts.split('|') {
        let message = part.repeat(1_000_000 / part.len());
        assert!(text(&message).len() <= message.len() * 3, "{part}");
    }
}

/// Random words that no fixed part of the generated SQL contains.
fn marker() -> impl Strategy<Value = String> {
    "[a-z]{3}[A-Z0-9]{5,9}[a-z]{2}".prop_map(|middle| format!("Zq{middle}"))
}

/// A body that holds the secret `M` between characters that confuse lexers.
fn body() -> impl Strategy<Value = String> {
    let noise = prop::sample::select(vec![
        "", " ", "M", "/*", "*/", "--", "\n", "\r\n", "é", "日本", "\"", ";", "$$", "$x$", "$x", "?", "@",
        "E", "N", "...", "0x", "1e5",
    ]);
    prop::collection::vec(noise, 0..5).prop_flat_map(|parts| {
        let len = parts.len();
        (Just(parts), 0..=len).prop_map(|(mut parts, at)| {
            parts.insert(at, "M");
            parts.concat()
        })
    })
}

/// Every way to write `body` so that PostgreSQL reads it as data or as a comment.
fn hidden() -> impl Strategy<Value = String> {
    (body(), body(), 0..14_usize).prop_map(|(one, two, form)| {
        let unquoted = one.replace("/*", "").replace("*/", "");
        let line = one.replace(['\n', '\r'], " ");
        match form {
            0 => format!("'{one}'"),
            1 => format!("'{one}''{two}'"),
            2 => format!("E'{one}\\'{two}\\\\'"),
            3 => format!("e'{one}\\n''{two}'"),
            4 => format!("U&'{one}\\0061{two}'"),
            5 => format!("N'{one}'"),
            6 => format!("B'{one}'"),
            7 => format!("'{one}' -- M '\n  '{two}'"),
            8 => format!("$q${one}' \\ {two}$q$"),
            9 => format!("$$ $q$ {} $q$ $$", unquoted.replace("$$", "")),
            10 => format!("/*{unquoted} /* {unquoted} ' */ {unquoted}*/"),
            11 => format!("--{line}\n"),
            12 => format!("'{one}\\'{two}'"),
            _ => format!("E'{one}'\n'\\'{two}'"),
        }
    })
}

/// Pieces of SQL between which a secret stands.
const VISIBLE: &str = "SELECT |a, |\"User\" |= |( |) |; |$1 |10 |SET |ALTER ROLE r PASSWORD |OPTIONS (|+ |CREATE USER u |x$1 |U |&|CONNECTION |1.5 |123456 |DO |,";

fn visible() -> impl Strategy<Value = String> {
    prop::sample::select(VISIBLE.split('|').collect::<Vec<_>>()).prop_map(str::to_owned)
}

/// SQL with the secret in place, in an order no grammar allows, and the secret.
fn statement() -> impl Strategy<Value = (String, String)> {
    let parts =
        prop::collection::vec(prop_oneof![visible(), hidden().prop_map(|part| format!(" {part} "))], 1..8);
    (parts, marker()).prop_map(|(parts, marker)| (parts.concat().replace('M', &marker), marker))
}

/// No four characters of the secret in a row, so that truncation cannot hide a leak from the test.
fn leaks(shown: &str, marker: &str) -> bool {
    (0..marker.len() - 3).any(|at| shown.contains(&marker[at..at + 4]))
}

/// Characters that lexers trip over, and everything else.
const ODD_SQL: &str = "[-'\"$/*\\\\a-eEuU&xX0-9 .,;=()@?!:_\n\u{200b}\u{2026}é]{0,60}|\\PC*|.*";

/// Text that changes the state of the message reader, in any order.
const ODD_MESSAGE: &str = "(['\"(=:@/\\\\\n ]|Key|LINE|1|password|contains|ERROR:|é|://|\\)=\\()*";

/// SQL words that change how the next ones are read.
const STATE_CHANGING_WORDS: &str = "set|to|password|=|:=|select|alter|role|options|(|)|.|connection|limit|x|'a'|\"a\"|\"a b\"|1234|12|;|create|or|table|$1|…| |token|U&\"x\"|@";

#[test]
fn a_quote_by_itself_ends_no_reading_and_hides_no_secret() {
    for quote in ('\0'..=char::MAX).filter(|c| quotes::is_quote(*c)) {
        for read in [text, name, identity, note, raised] {
            for message in [format!("{quote}"), format!("a{quote}b"), format!("a {quote} b{quote}")] {
                read(&message);
            }
            let shown = read(&format!("b{quote} password=hunter22"));
            assert!(!shown.contains("hunter22"), "{quote:?}: {shown}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_secret_in_any_prefix((sql, marker) in statement()) {
        for (end, _) in sql.char_indices().chain([(sql.len(), ' ')]) {
            let shown = query(&sql[..end]);
            prop_assert!(!leaks(&shown, &marker), "{:?} gives {:?}", &sql[..end], shown);
        }
    }

    #[test]
    fn redaction_is_idempotent_for_sql((sql, _) in statement()) {
        let once = query(&sql);
        prop_assert_eq!(query(&once), once);
    }

    #[test]
    fn redaction_is_idempotent_for_anything(sql in ODD_SQL) {
        let once = query(&sql);
        prop_assert_eq!(query(&once), once);
    }

    #[test]
    fn redaction_is_idempotent_for_words(
        words in prop::collection::vec(prop::sample::select(STATE_CHANGING_WORDS.split('|').collect::<Vec<_>>()), 0..20)
    ) {
        let once = query(&words.concat());
        prop_assert_eq!(query(&once), once);
    }

    #[test]
    fn output_is_one_visible_line(sql in any::<String>()) {
        let shown = query(&sql);
        let unseen = shown.contains(|c: char| c.is_control() || ('\u{200b}'..='\u{200f}').contains(&c));
        prop_assert!(!unseen);
        prop_assert_eq!(shown.trim(), &shown);
    }

    #[test]
    fn messages_never_panic(message in any::<String>(), odd in ODD_MESSAGE) {
        text(&message);
        text(&odd);
    }

    #[test]
    fn no_value_in_messages(
        marker in marker(),
        form in 0..9_usize,
        tail in prop::sample::select(vec!["", "\nHINT: x", " (more)"]),
    ) {
        let message = match form {
            0 => format!("Key (email, \"Org\")=({marker}, a) b{marker}) already exists.{tail}"),
            1 => format!("Failing row contains (1, {marker}, \"x\", 'y', {marker}).{tail}"),
            2 => format!("invalid input syntax for type json: \"{{\"a\": \"{marker}\"}}\"{tail}"),
            3 => format!("could not connect to postgres://u:{marker}@h/d?password={marker}{tail}"),
            4 => format!("conninfo: host=h password='a\\'{marker} {marker}' user=u{tail}"),
            5 => format!("STATEMENT:  ALTER ROLE r PASSWORD '{marker}'{tail}"),
            6 => format!("CONTEXT:  SQL statement \"INSERT INTO \"T\" VALUES ('{marker}')\"{tail}"),
            7 => format!("COPY t, line 1: \"1\t{marker}\t\"q\"\"{tail}"),
            _ => format!("mail {marker}@example.com, token={marker};{tail}"),
        };
        let shown = text(&message);
        prop_assert!(!leaks(&shown, &marker), "{message:?} gives {shown:?}");
    }
}
