//! Values as people read them: sizes, durations, shares and UTC times, by a column's suffix.

use super::Value;
use crate::clock::{duration, moment};
use crate::model::{Span, Text, bar};

/// The last words of columns whose numbers are identifiers.
const IDENTIFIERS: [&str; 6] = ["id", "oid", "pid", "port", "run", "xid"];

/// A column's title: the name without its unit.
pub fn column_title(column: &str) -> String {
    let without_unit = ["_bytes", "_share_pct", "_pct", "_ms", "_at", "_s"]
        .iter()
        .find_map(|unit| column.strip_suffix(unit));
    without_unit.unwrap_or(column).replace('_', " ")
}

/// True for a column whose values are drawn as bars: shares of one whole.
pub fn is_share(column: &str) -> bool {
    column.ends_with("share_pct")
}

/// True for a column whose numbers name something and count nothing: `pid`, `_idle_pid`, `port`, `run`.
fn is_identifier(column: &str) -> bool {
    column.rsplit(['_', ' ']).next().is_some_and(|noun| IDENTIFIERS.contains(&noun))
}

/// A value inside code, which people type: a whole number without separators.
pub fn typed_text(column: &str, value: &Value) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        other => value_text(column, other),
    }
}

/// A value by its column's suffix; "-" for NULL.
pub fn value_text(column: &str, value: &Value) -> String {
    match (value, value.number()) {
        (Value::Null, _) => "-".to_owned(),
        (Value::Text(text), _) if text.trim().is_empty() => "-".to_owned(),
        (Value::Text(text), _) if column == "query" => crate::redact::query(text),
        // A name for a command that is typed next.
        (Value::Text(text), _) if column == "_typed" => crate::command_line::as_word(text),
        (Value::Text(text), _) => text.clone(),
        (Value::Bool(yes), _) => if *yes { "yes" } else { "no" }.to_owned(),
        (Value::Time(time), _) => moment(*time),
        (Value::List(list), _) if list.is_empty() => "-".to_owned(),
        (Value::List(list), _) => list.join(", "),
        (_, Some(number)) if column.ends_with("_bytes") => bytes(number),
        (_, Some(number)) if is_share(column) => bar(number),
        (_, Some(number)) if column.ends_with("_pct") => format!("{number:.0} %"),
        (_, Some(number)) if column.ends_with("_ms") => milliseconds(number),
        (_, Some(number)) if column.ends_with("_s") => duration(number),
        (Value::Int(number), _) if is_identifier(column) => number.to_string(),
        (Value::Int(number), _) => grouped(*number),
        (_, Some(number)) => format!("{number:.1}"),
        _ => "-".to_owned(),
    }
}

/// Binary units, as PostgreSQL counts: "1.4 GiB".
pub fn bytes(count: f64) -> String {
    let mut size = count;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if size.abs() < 1024.0 || unit == "TiB" {
            let whole = unit == "B" || size >= 100.0;
            return if whole { format!("{size:.0} {unit}") } else { format!("{size:.1} {unit}") };
        }
        size /= 1024.0;
    }
    format!("{count:.0} B")
}

fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms >= 10_000.0 => duration(ms / 1000.0),
        ms if ms >= 100.0 => format!("{ms:.0} ms"),
        ms if ms >= 1.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.2} ms"),
    }
}

/// 12345 → "12,345".
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if number < 0 { format!("-{out}") } else { out }
}

/// A template of a command's file: `{column}` filled in, and text in backticks as code. Values are spans of their own,
/// so that a value can't contain formatting.
pub fn fill(template: &str, look_up: &dyn Fn(&str) -> Option<String>) -> Text {
    fill_placeholders(template, &|placeholder| look_up(placeholder.column))
}

/// A `{column}` of a template.
#[derive(Clone, Copy)]
pub struct Placeholder<'a> {
    pub column: &'a str,
    /// It is part of code, which people type.
    pub in_code: bool,
}

/// As [`fill`], for values that are written otherwise in code.
pub fn fill_placeholders(template: &str, look_up: &dyn Fn(Placeholder<'_>) -> Option<String>) -> Text {
    let mut text = Text::new();
    for (at, part) in template.split('`').enumerate() {
        let (mut filled, mut rest) = (String::new(), part);
        let in_code = at % 2 == 1;
        while let Some(open) = rest.find('{') {
            let Some(close) = rest[open..].find('}').map(|close| open + close) else { break };
            filled.push_str(&rest[..open]);
            let placeholder = Placeholder { column: &rest[open + 1..close], in_code };
            filled.push_str(&look_up(placeholder).unwrap_or_else(|| "-".to_owned()));
            rest = &rest[close + 1..];
        }
        filled.push_str(rest);
        if !filled.is_empty() {
            text.0.push(if in_code { Span::Code(filled) } else { Span::Plain(filled) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_like_a_person_would_say_them() {
        assert_eq!(bytes(1_503_238_553.0), "1.4 GiB");
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(
            (duration(192.0), duration(0.04), duration(187_200.0)),
            ("3 min 12 s".into(), "0.0 s".into(), "2 d 4 h".into())
        );
        assert_eq!(value_text("used_pct", &Value::Float(97.4)), "97 %");
        assert_eq!(value_text("share_pct", &Value::Float(97.4)), "▓▓▓▓▓▓▓▓▓░ 97 %");
        assert_eq!(value_text("share_pct", &Value::Float(0.2)), "▓░░░░░░░░░ 0 %");
        assert_eq!(value_text("share_pct", &Value::Float(100.0)), "▓▓▓▓▓▓▓▓▓▓ 100 %");
        assert_eq!(value_text("share_pct", &Value::Int(0)), "░░░░░░░░░░ 0 %");
        assert_eq!(value_text("calls", &Value::Int(1_234_567)), "1,234,567");
        assert_eq!(value_text("pid", &Value::Int(1_234_567)), "1234567");
        for column in ["_pid", "_idle_pid", "port", "server port", "_run", "oid", "oldest_xid"] {
            assert_eq!(value_text(column, &Value::Int(1_234_567)), "1234567", "{column}");
        }
        for column in ["_blocked", "void", "reports", "runs", "valid"] {
            assert_eq!(value_text(column, &Value::Int(1_234_567)), "1,234,567", "{column}");
            assert_eq!(typed_text(column, &Value::Int(1_234_567)), "1234567", "{column}");
        }
        assert_eq!(column_title("oldest_xact_s"), "oldest xact");
    }

    #[test]
    fn a_value_cannot_open_code() {
        let text = fill("Kill `kill {pid}` of {app}", &|name| Some(format!("`{name}`")));
        let expected =
            [Span::Plain("Kill ".into()), Span::Code("kill `pid`".into()), Span::Plain(" of `app`".into())];
        assert_eq!(text.0, expected);
    }
}
