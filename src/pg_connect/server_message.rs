//! A server's errors and warnings in words for people. The SQLSTATE and the error's own fields say what happened in every language;
//! the text is shown redacted, and only where its language is known: which quotes and words stand around a customer's value is
//! known of English, and some translations write values without quotes.

use crate::redact;
use tokio_postgres::error::{DbError, Severity};

/// Characters of a message: an application may raise texts of any length.
const MAX_CHARS: usize = 500;

/// Functions of PostgreSQL's procedural languages that raise an application's own text.
const RAISING_ROUTINES: [&str; 4] = ["exec_stmt_raise", "do_util_elog", "PLy_output", "pltcl_elog"];

/// Meanings of SQLSTATEs (<https://www.postgresql.org/docs/current/errcodes-appendix.html>) and, behind them, of their classes.
const CONDITIONS: &[(&str, &str)] = &[
    ("22001", "a value is too long for its type"),
    ("22003", "a number is out of range"),
    ("22004", "a null value isn't allowed"),
    ("22007", "a date or time has the wrong format"),
    ("22008", "a date or time is out of range"),
    ("22012", "division by zero"),
    ("22021", "a character isn't in the encoding"),
    ("22023", "a parameter has an invalid value"),
    ("22P02", "a text isn't a value of the type"),
    ("22P03", "a binary value isn't one of the type"),
    ("22P05", "a character can't be converted"),
    ("23502", "a value is missing in a column that is NOT NULL"),
    ("23503", "a foreign key is violated"),
    ("23505", "a unique constraint is violated"),
    ("23514", "a check constraint is violated"),
    ("23P01", "an exclusion constraint is violated"),
    ("25006", "the transaction is read-only"),
    ("25P02", "the transaction has failed already"),
    ("25P03", "the session was idle in its transaction for too long"),
    ("26000", "there is no such prepared statement"),
    ("28000", "the login isn't allowed"),
    ("28P01", "the password is wrong"),
    ("3D000", "there is no such database"),
    ("3F000", "there is no such schema"),
    ("40001", "the transaction conflicts with another one"),
    ("40P01", "a deadlock was found"),
    ("42501", "a privilege is missing"),
    ("42601", "the syntax is wrong"),
    ("42701", "the column exists already"),
    ("42702", "a column's name is ambiguous"),
    ("42703", "there is no such column"),
    ("42704", "there is no such object"),
    ("42710", "the object exists already"),
    ("42804", "the types don't match"),
    ("42809", "the object is of the wrong kind"),
    ("42883", "there is no such function or operator"),
    ("42P01", "there is no such table"),
    ("42P07", "the table exists already"),
    ("53100", "the disk is full"),
    ("53200", "the memory is used up"),
    ("53300", "no connection slot is left"),
    ("54000", "a limit of PostgreSQL is exceeded"),
    ("55000", "the object isn't in the state for it"),
    ("55006", "the object is in use"),
    ("55P03", "a lock isn't available"),
    ("57014", "the statement was cancelled"),
    ("57P01", "an administrator ended the session"),
    ("57P02", "another session crashed"),
    ("57P03", "the server takes no connections now"),
    ("57P04", "the database was dropped"),
    ("57P05", "the session was idle for too long"),
    ("P0001", "the application raised an error"),
    ("P0002", "a query gave no row"),
    ("P0003", "a query gave too many rows"),
    ("P0004", "an assertion failed"),
    ("XX001", "data is corrupted"),
    ("XX002", "an index is corrupted"),
    ("08", "the connection failed"),
    ("0A", "PostgreSQL doesn't support it"),
    ("22", "a value is invalid"),
    ("23", "a constraint is violated"),
    ("25", "the transaction isn't in the state for it"),
    ("28", "the login isn't allowed"),
    ("2B", "other objects depend on it"),
    ("40", "the transaction was rolled back"),
    ("42", "the statement is invalid, or a privilege is missing"),
    ("53", "the server is short of resources"),
    ("54", "a limit of PostgreSQL is exceeded"),
    ("55", "the object isn't in the state for it"),
    ("57", "an operator intervened"),
    ("58", "the system of the server reports an error"),
    ("P0", "the application's code failed"),
    ("XX", "PostgreSQL reports an internal error"),
];

/// True if messages in this setting of `lc_messages` are in English as far as the setting tells.
pub fn is_english(lc_messages: &str) -> bool {
    let language = lc_messages.split(['_', '.', ' ', '@']).next().unwrap_or_default();
    ["c", "posix", "en", "english"].contains(&language.to_ascii_lowercase().as_str())
}

/// The meaning of a SQLSTATE, or of its class.
pub fn condition(code: &str) -> &'static str {
    let known = CONDITIONS.iter().find(|(known, _)| code.starts_with(known));
    known.map_or("PostgreSQL reports an error", |(_, condition)| condition)
}

/// An error for people: the server's text where that is in English or the application's, and else the meaning of its SQLSTATE and the
/// names that the error carries.
pub fn error_text(error: &DbError, in_english: bool) -> String {
    if is_raised(error) {
        return raised_text(error.message());
    }
    if in_english && !is_translated(error) {
        return bounded(redact::text(error.message()));
    }
    let condition = condition(error.code().code());
    let table = match (error.schema(), error.table()) {
        (Some(schema), Some(table)) => Some(format!("{schema}.{table}")),
        (_, table) => table.map(str::to_owned),
    };
    let names = [
        ("constraint", error.constraint().map(str::to_owned)),
        ("column", error.column().map(str::to_owned)),
        ("type", error.datatype().map(str::to_owned)),
        ("table", table),
    ];
    let names = names.into_iter().filter_map(|(kind, name)| Some(format!("{kind} {}", redact::name(&name?))));
    let names: Vec<String> = names.collect();
    if names.is_empty() { condition.to_owned() } else { format!("{condition} ({})", names.join(", ")) }
}

/// A warning for people, in the server's language: no code tells one from another.
pub(super) fn warning_text(warning: &DbError) -> String {
    if is_raised(warning) { raised_text(warning.message()) } else { bounded(redact::text(warning.message())) }
}

/// True for a text that an application's code chose.
fn is_raised(error: &DbError) -> bool {
    error.routine().is_some_and(|routine| RAISING_ROUTINES.contains(&routine))
}

fn raised_text(message: &str) -> String {
    bounded(redact::raised(message))
}

/// True if the severity is shown in another language than the program reads it in. The server's environment can choose the language
/// whatever `lc_messages` says.
fn is_translated(error: &DbError) -> bool {
    let english = match error.parsed_severity() {
        Some(Severity::Error) => "ERROR",
        Some(Severity::Fatal) => "FATAL",
        Some(Severity::Panic) => "PANIC",
        _ => return false,
    };
    error.severity() != english
}

fn bounded(text: String) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_postgres::{AsyncMessage, Config, NoTls};

    /// A message of PostgreSQL's protocol.
    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    /// Messages with those fields, each a letter and its value, as a client reads them.
    async fn received(messages: &[&[&str]]) -> Vec<DbError> {
        let (ours, mut server) = tokio::io::duplex(1 << 20);
        let mut reply = [message(b'R', &0_u32.to_be_bytes()), message(b'Z', b"I")].concat();
        for fields in messages {
            reply.extend(message(b'N', format!("{}\0\0", fields.join("\0")).as_bytes()));
        }
        let serving = tokio::spawn(async move {
            let mut startup = [0; 512];
            assert!(server.read(&mut startup).await.unwrap() > 0);
            server.write_all(&reply).await.unwrap();
        });
        let (_client, mut connection) = Config::new().user("x").connect_raw(ours, NoTls).await.unwrap();
        let mut found = Vec::new();
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                found.push(notice);
            }
        }
        serving.await.unwrap();
        found
    }

    /// The severity and a message of each translation, with a customer's value in it: in quotes of the language, in straight ones, in
    /// none.
    const TRANSLATED: [(&str, &str); 12] = [
        ("FEHLER", "ungültige Eingabesyntax für Typ integer: »jane 1«"),
        ("ERROR", "la sintaxis de entrada no es válida para tipo integer: «jane 1»"),
        ("ERREUR", "syntaxe en entrée invalide pour le type integer : « jane 1 »"),
        ("ERRORE", "sintassi di input non valida per il tipo integer: \"jane 1\""),
        ("ERROR", "\"integer\"型の入力構文が不正です: \"jane 1\""),
        ("შეცდომა", "არასწორი შეყვანის სინტაქსი ტიპისთვის integer: jane 1"),
        ("오류", "integer 자료형 대한 잘못된 입력 구문: \"jane 1\""),
        ("ОШИБКА", "неверный синтаксис для типа integer: \"jane 1\""),
        ("FEL", "ogiltig indatasyntax för typen integer: \"jane 1\""),
        ("ПОМИЛКА", "невірний синтаксис для типу integer: \"jane 1\""),
        ("错误", "无效的类型 integer 输入语法: \"jane 1\""),
        ("BŁĄD", "nieprawidłowa składnia dla typu integer: „jane 1”"),
    ];

    #[tokio::test]
    async fn a_customers_value_is_shown_in_no_language() {
        for (severity, text) in TRANSLATED {
            let (severity, text) = (format!("S{severity}"), format!("M{text}"));
            let detail = "DSchlüssel »(email)=(jane)« existiert bereits.";
            let hint = "Hjane";
            let error =
                [severity.as_str(), "VERROR", "C22P02", text.as_str(), detail, hint, "nusers_email_key"];
            let raised = [severity.as_str(), "VERROR", "CP0001", text.as_str(), "Rexec_stmt_raise"];
            let warning = [severity.as_str(), "VWARNING", "C01000", text.as_str()];
            let received = received(&[&error, &raised, &warning]).await;
            for in_english in [false, severity != "SERROR"] {
                let shown = error_text(&received[0], in_english);
                assert_eq!(shown, "a text isn't a value of the type (constraint users_email_key)", "{text}");
            }
            // As far as a text marks its values, they are hidden where the text itself is shown.
            let is_marked = !text.contains(": jane");
            for shown in [error_text(&received[1], false), warning_text(&received[2])] {
                assert!(!is_marked || !shown.contains("jane"), "{text}: {shown}");
            }
        }
    }

    #[tokio::test]
    async fn in_english_the_text_is_shown_and_an_applications_is_bounded() {
        let long = format!("M{}", "x".repeat(2 * MAX_CHARS));
        let received = received(&[
            &["SERROR", "VERROR", "C22P02", "Minvalid input syntax for type integer: \"jane\""],
            &["SERROR", "VERROR", "CP0001", "Mcustomer of 4711 has password=hunter2", "Rexec_stmt_raise"],
            &["SERROR", "VERROR", "C23505", &long],
            &["SFEHLER", "VERROR", "C23505", "Mdoppelt", "sshop", "tpassword=x", "cemail"],
            &["SFEHLER", "VERROR", "C99999", "Munbekannt"],
        ])
        .await;
        let shown: Vec<String> = received.iter().map(|error| error_text(error, true)).collect();
        assert_eq!(shown[0], "invalid input syntax for type integer: \"?\"");
        assert_eq!(shown[1], "customer of ? has password=?");
        assert_eq!(shown[2].chars().count(), MAX_CHARS + 1);
        assert_eq!(shown[3], "a unique constraint is violated (column email, table shop.password=?)");
        assert_eq!(shown[4], "PostgreSQL reports an error");
    }

    #[test]
    fn the_setting_tells_the_language() {
        for (lc_messages, english) in [
            ("C", true),
            ("C.UTF-8", true),
            ("POSIX", true),
            ("en_US.UTF-8", true),
            ("English_United States.1252", true),
            ("de_DE.UTF-8", false),
            ("", false),
            ("es_ES@euro", false),
        ] {
            assert_eq!(is_english(lc_messages), english, "{lc_messages}");
        }
    }
}
