//! The cases: what each form of SQL and of message becomes. Properties over generated SQL: a secret in any literal never
//! comes out, wherever the text ends.

use super::{query, text};
use crate::sql_lexer;
use proptest::prelude::*;

#[track_caller]
fn check_all(redact: fn(&str) -> String, cases: &[(&str, &str)]) {
    let wrong = cases.iter().filter(|(input, expected)| redact(input) != *expected);
    let wrong: Vec<String> =
        wrong.map(|(i, e)| format!("{i:?}\n  gives    {:?}\n  expected {e:?}", redact(i))).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[track_caller]
fn check_messages(cases: &[(&str, &str)]) {
    check_all(text, cases);
}

/// Values that the cases use. None may come out, wherever the text ends.
const DATA: [&str; 4] = ["jane", "hunter2", "S3cr3t", "4111"];

/// Checks the cases whole, and every truncation of them for data and for stability.
#[track_caller]
fn check_sql(cases: &[(&str, &str)]) {
    check_all(query, cases);
    for (sql, _) in cases {
        for (end, _) in sql.char_indices() {
            let shown = query(&sql[..end]);
            assert!(!DATA.iter().any(|data| shown.contains(data)), "{:?} gives {shown:?}", &sql[..end]);
            assert_eq!(query(&shown), shown, "{:?}", &sql[..end]);
        }
    }
}

#[test]
fn ordinary_statements_stay_readable() {
    let kept = [
        "",
        ";",
        "SELECT 1",
        "SELECT * FROM users2024 WHERE id = $1 LIMIT 10",
        "SELECT ident$1, a$ FROM t",
        "SELECT \"User\".\"createdAt\" FROM public.\"weird.name\"",
        "SELECT \"say \"\"hi\"\"\"",
        "SELECT U&\"d\\0061t\\+000061\"",
        "SELECT größe FROM straße",
        "SELECT a::int, b->>c, d @> e, f ?| g FROM t",
        "SELECT password, token FROM password_resets",
        "SELECT t.x FROM a JOIN b ON a.token = b.token",
        "UPDATE u SET password = crypt($1, $2)",
        "UPDATE u SET token = NULL WHERE token = ANY($1)",
        "CREATE INDEX CONCURRENTLY i ON users (token)",
        "CREATE UNLOGGED TABLE t (password text)",
        "ALTER TABLE assets DROP COLUMN token",
        "ALTER TABLE t RENAME TO u",
        "ALTER ROLE a RENAME TO b",
        "ALTER ROLE a CONNECTION LIMIT 5",
        "autovacuum: VACUUM public.tokens",
        "<insufficient privilege>",
        "COPY public.users (id, email) FROM stdin",
        "SELECT 1; DELETE FROM token",
    ];
    check_sql(&kept.map(|sql| (sql, sql)));
    check_sql(&[("  SELECT\t\n  a ,\r\n\tb\u{c}FROM  t  ;  ", "SELECT a , b FROM t ;")]);
}

#[test]
fn every_form_of_literal_goes() {
    check_sql(&[
        ("SELECT 'jane'", "SELECT '?'"),
        ("SELECT ''", "SELECT '?'"),
        ("SELECT 'it''s', 'b'", "SELECT '?', '?'"),
        ("SELECT ''''", "SELECT '?'"),
        ("SELECT E'it\\'s', e'\\\\', 2", "SELECT '?', '?', 2"),
        ("SELECT E'\\", "SELECT …"),
        ("SELECT U&'d!0061' UESCAPE '!'", "SELECT '?' UESCAPE '?'"),
        ("SELECT u&'d\\0061\\\\x'", "SELECT '?'"),
        ("SELECT B'1010', x'1FF', N'jane'", "SELECT '?', '?', '?'"),
        ("SELECT 'a'\n'b' -- c\n  'd', 2", "SELECT '?', 2"),
        ("SELECT E'a'\n'b\\'c', 2", "SELECT '?', 2"),
        ("SELECT 'a' 'b'", "SELECT '?' '?'"),
        ("SELECT 'a' /*\n*/ 'b'", "SELECT '?' '?'"),
        ("SELECT 'a'E'b'$$c$$", "SELECT '?' '?' '?'"),
        ("SELECT name'x'", "SELECT name '?'"),
        ("SELECT nameE'x'", "SELECT nameE '?'"),
        ("SELECT $$a'b$c$$, 2", "SELECT '?', 2"),
        ("SELECT $a$ $b$ x $b$ $$ ' $a$, 2", "SELECT '?', 2"),
        ("SELECT $a$x$x$a$, 2", "SELECT '?', 2"),
        ("SELECT $é_1$ x $é_1$, 2", "SELECT '?', 2"),
        ("SELECT $A$ x $a$ y $A$, 2", "SELECT '?', 2"),
        ("SELECT $1$$x$$", "SELECT $1 '?'"),
        ("SELECT 5$$x$$", "SELECT 5 '?'"),
        ("SELECT 'x'::text", "SELECT '?'::text"),
        ("SELECT '-- no comment', 2", "SELECT '?', 2"),
        ("SELECT '/*', 2 /* ' */", "SELECT '?', 2"),
        ("INSERT INTO t VALUES ('a',$$b$$,E'c')", "INSERT INTO t VALUES ('?','?','?')"),
    ]);
}

#[test]
fn comments_go() {
    check_sql(&[
        ("SELECT 1 -- email='jane.doe@example.com'", "SELECT 1"),
        ("SELECT 1 -- jane\nFROM t", "SELECT 1 FROM t"),
        ("SELECT 1 -- jane\rFROM t", "SELECT 1 FROM t"),
        ("SELECT/*jane*/1", "SELECT 1"),
        ("/* a /* b */ jane */ SELECT 1", "SELECT 1"),
        ("/*/ jane */ SELECT 1", "SELECT 1"),
        ("/***/ SELECT 1 /**jane**/", "SELECT 1"),
        ("SELECT 1+--jane\n2", "SELECT 1+ 2"),
        ("SELECT 1+/*jane*/2", "SELECT 1+ 2"),
        ("SELECT 1-/**/-2", "SELECT 1- -2"),
        ("/*action='x'*/ SELECT 1 /*route='jane'*/;", "SELECT 1 ;"),
    ]);
}

#[test]
fn long_numbers_go() {
    check_sql(&[
        ("SELECT 999, 1000", "SELECT 999, ?"),
        ("SELECT 4111111111111111", "SELECT ?"),
        ("SELECT 0.5, .5, 12.34, 5.", "SELECT 0.5, .5, ?, 5."),
        ("SELECT 1e10, 1E-5, 1.5e+7", "SELECT ?, ?-5, ?+7"),
        ("SELECT 0x1F, 0o17, 0b1, 1_000", "SELECT ?, ?, ?, ?"),
        ("SELECT -12345, a-12345", "SELECT -?, a-?"),
        ("FOR i IN 1..10, 1000..2000", "FOR i IN 1..10, ?..?"),
        ("SELECT 123abc", "SELECT ?"),
        ("SELECT $12345, $123456", "SELECT $12345, ?"),
        ("SELECT t.a1234567, users2024", "SELECT t.a1234567, users2024"),
        ("START_REPLICATION SLOT \"s\" 0/3000000", "START_REPLICATION SLOT \"s\" 0/?"),
    ]);
}

#[test]
fn text_of_uncertain_end_is_cut() {
    check_sql(&[
        ("SELECT 'jane", "SELECT …"),
        ("SELECT f('jane", "SELECT f(…"),
        ("SELECT 'it''", "SELECT …"),
        ("SELECT 'a\\' || secret || '\\'", "SELECT …"),
        ("SELECT 'ok', N'a\\b', 2", "SELECT '?', …"),
        ("SELECT B'\\' x", "SELECT …"),
        ("SELECT U&'\\' secret '", "SELECT …"),
        ("SELECT E'a\\'", "SELECT …"),
        ("SELECT 'a'\n'b", "SELECT …"),
        ("SELECT 'a'\n", "SELECT '?'"),
        ("SELECT 1 /* jane", "SELECT 1 …"),
        ("SELECT 1 /* jane /* doe */", "SELECT 1 …"),
        ("SELECT 'a' /* jane", "SELECT '?' …"),
        ("DO $$ BEGIN jane", "DO …"),
        ("DO $body", "DO …"),
        ("DO $", "DO …"),
        ("DO $body$ jane $bod", "DO …"),
        ("DO$$ jane $$", "…"),
        ("SELECT a$b$ jane $b$", "SELECT …"),
        ("SELECT 1e5$b$ jane $b$", "SELECT …"),
        ("SELECT $1a$b$ jane $b$", "SELECT …"),
        ("SELECT \"jane", "SELECT …"),
        ("SELECT U&\"jane", "SELECT …"),
        ("SELECT \\password jane", "SELECT …"),
        ("SELECT 1\0 jane", "SELECT 1…"),
        ("SELECT 'a\0' jane", "SELECT …"),
        ("SELECT x\u{fffd} jane", "SELECT x…"),
        ("SELECT\u{a0}jane", "SELECT…"),
        ("SELECT \u{200b}$a$ '$a$ jane '", "SELECT …"),
        ("SELECT $a$ x $a\u{200b}$ jane $a$, 2", "SELECT '?', 2"),
        ("SELECT * FROM u WHERE mail = j.doe@example.com", "SELECT * FROM u WHERE mail = …"),
        ("SELECT 1 … jane", "SELECT 1 …"),
    ]);
}

#[test]
fn what_cannot_be_seen_goes() {
    check_sql(&[
        ("SELECT \"a\u{202e}b\u{200b}c\u{7}\nd\"", "SELECT \"abc d\""),
        ("SELECT\u{1}1\u{7f}+\u{b}2", "SELECT 1 + 2"),
        ("SELECT 'a\u{202e}'", "SELECT '?'"),
    ]);
}

#[test]
fn unquoted_secrets_go() {
    check_sql(&[
        ("ALTER ROLE opsbot_ro PASSWORD 'S3cr3tRotated!'", "ALTER ROLE opsbot_ro PASSWORD …"),
        ("ALTER USER u WITH ENCRYPTED PASSWORD hunter2", "ALTER USER u WITH ENCRYPTED PASSWORD …"),
        ("create role r login password 'a'b'; x", "create role r login password …"),
        ("CREATE USER u IDENTIFIED BY hunter2", "CREATE USER u IDENTIFIED …"),
        ("GRANT ALL ON d TO u IDENTIFIED BY hunter2", "GRANT ALL ON d TO u IDENTIFIED …"),
        ("ALTER ROLE r PASSWORD", "ALTER ROLE r PASSWORD …"),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=p' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION …",
        ),
        ("ALTER SUBSCRIPTION s CONNECTION host=h", "ALTER SUBSCRIPTION s CONNECTION …"),
        ("CREATE SUBSCRIPTION s CONNECTION 'host", "CREATE SUBSCRIPTION s CONNECTION …"),
        (
            "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (host 'h', dbname d) ; SELECT 1",
            "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (?) ; SELECT 1",
        ),
        (
            "CREATE USER MAPPING FOR u SERVER s OPTIONS (user 'u', password hunter2)",
            "CREATE USER MAPPING FOR u SERVER s OPTIONS (?)",
        ),
        ("ALTER SERVER s OPTIONS (SET a (b) c, d", "ALTER SERVER s OPTIONS (?"),
        ("SET some.secret = abc123", "SET some.secret …"),
        ("SET password TO foo", "SET password …"),
        ("SET some.thing = abc-123, def; SELECT 1", "SET some.thing = ?; SELECT 1"),
        ("SET LOCAL app.user TO jane", "SET LOCAL app.user TO ?"),
        ("SET x = 'y'", "SET x = ?"),
        ("SET x = 'y", "SET x = …"),
        ("SET x = a 'y", "SET x = ? …"),
        ("ALTER SYSTEM SET primary_conninfo = 'password=x'", "ALTER SYSTEM SET primary_conninfo = ?"),
        ("ALTER ROLE r SET app.key TO abc", "ALTER ROLE r SET app.key TO ?"),
        ("COPY t FROM PROGRAM 'curl -u jane:pw'", "COPY t FROM PROGRAM '?'"),
        ("SELECT * FROM dblink('password=x', 'SELECT 1')", "SELECT * FROM dblink('?', '?')"),
        ("DO $$ BEGIN PERFORM f('x'); END $$", "DO '?'"),
        ("UPDATE u SET password = hunter2 WHERE a = b", "UPDATE u SET password = ? WHERE a = b"),
        ("UPDATE u SET \"apiToken\" = hunter2", "UPDATE u SET \"apiToken\" = ?"),
        ("UPDATE u SET password = \"hunter2\"", "UPDATE u SET password = ?"),
        ("SELECT \"jane@x\", \"host=h password=p\"", "SELECT \"?\", \"?\""),
        ("SELECT ghp_abcdefghijklmnop", "SELECT ?"),
        ("my password is hunter2", "my password …"),
    ]);
}

#[test]
fn messages_lose_their_values() {
    check_messages(&[
        (
            "ERROR:  duplicate key value violates unique constraint \"users_email_key\"\nDETAIL:  Key (email)=(jane@x) already exists.",
            "ERROR: duplicate key value violates unique constraint \"users_email_key\"\nDETAIL: Key (email)=(?) already exists.",
        ),
        (
            "Key (a, token)=(1, x) y) is not present in table \"t\".",
            "Key (a, token)=(?) is not present in table \"t\".",
        ),
        (
            "Key (a)=([1,2)) conflicts with existing key (a)=([1,3)).\nHINT: x",
            "Key (a)=(?) conflicts with existing key (a)=(?)\nHINT: x",
        ),
        ("Key (a)=(jane", "Key (a)=(?)"),
        ("Failing row contains (1, jane, (x)\ny).\nHINT: z", "Failing row contains (?)\nHINT: z"),
        ("invalid input syntax for type integer: \"ja\"ne\"", "invalid input syntax for type integer: \"?\""),
        ("value \"99999\" is out of range for type integer", "value \"?\" is out of range for type integer"),
        (
            "syntax error at or near \"hunter2\"\nLINE 1: SELECT hunter2\n        ^",
            "syntax error at or near \"?\"\nLINE 1: …",
        ),
        ("COPY users, line 3, column email: \"jane\"", "COPY users, line 3, column email: \"?\""),
        ("JSON data, line 1: {\"a\":jane", "JSON data, line 1: …"),
        (
            "CONTEXT:  SQL statement \"UPDATE \"User\" SET\n a = 'jane'\"\nHINT: x",
            "CONTEXT: SQL statement \"?\"\nHINT: x",
        ),
        ("User jane.doe@example.com, not found", "User ? not found"),
        ("app said 'jane doe' can't", "app said '?' can't"),
        ("app said 'it''s jane'.", "app said '?'."),
        ("app said 'jane", "app said …"),
    ]);
}

#[test]
fn messages_keep_names() {
    let kept = [
        "relation \"public.user\" does not exist",
        "permission denied for table users",
        "null value in column \"email\" of relation \"User\" violates not-null constraint",
        "pg_dump: error: query failed: ERROR: permission denied for table x",
        "could not open file \"base/1.dump\": No such file or directory",
        "connection to server at \"db\" (10.0.0.1), port 5432 failed: FATAL: password authentication failed for user \"x\"",
        "table public.\"User\" is locked, pid 4711",
        "pg_dump: error: aborting because of server version mismatch\npg_dump: detail: server version: 18.4; pg_dump version: 15.18",
        "canceling statement due to statement timeout",
        "backup-1a2b3c4d-550e8400-e29b-41d4-a716-446655440000",
        "asset-service_20241218T120000Z.dump",
    ];
    check_messages(&kept.map(|message| (message, message)));
}

#[test]
fn messages_lose_connections_and_statements() {
    check_messages(&[
        ("no postgres://user:p@ss/w@host:5432/db here", "no postgres://?@host:5432/… here"),
        ("no postgres://user:hunter2 at all", "no …"),
        ("post to https://hooks.slack.com/services/T0/B0/x", "post to https://hooks.slack.com/…"),
        ("see https://example.com?sig=x", "see https://example.com/…"),
        ("host=h password=hunter2 user=u", "host=h password=? user=u"),
        ("password = hunter2 user=u", "password = ? user=u"),
        ("password=\"hun ter2\" x\nHINT: y", "password=?\nHINT: y"),
        ("password=hun\\ ter2", "password=?"),
        ("a:password=x", "a:password=?"),
        ("PGPASSWORD=x pg_dump --password x -d y", "PGPASSWORD=? pg_dump --password ? -d y"),
        ("token: a b c\nnext", "token: ?\nnext"),
        ("Authorization: Basic abc", "Authorization: ?"),
        ("got Bearer abc x", "got Bearer ? x"),
        ("{\"password\": \"x\"}", "{\"?\"}"),
        ("key AKIAIOSFODNN7EXAMPLE", "key ?"),
        ("key aB3dE6gH9jK2mN5pQ8sT", "key ?"),
        ("card 4111111111111111", "card ?"),
        (
            "pg_dump: detail: Query was: LOCK TABLE public.\"User\" IN ACCESS SHARE MODE",
            "pg_dump: detail: Query was: LOCK TABLE public.\"User\" IN ACCESS SHARE MODE",
        ),
        (
            "Command was: INSERT INTO t\nVALUES ('jane');\n\npg_restore: warning: errors ignored on restore: 1",
            "Command was: INSERT INTO t VALUES ('?');\npg_restore: warning: errors ignored on restore: 1",
        ),
        ("STATEMENT:  SELECT 'jane\nERROR: jane'", "STATEMENT: SELECT …"),
        ("\u{202e}a\u{200b}b\u{1}c", "ab c"),
    ]);
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
