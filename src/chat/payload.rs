//! JSON from the platforms. A null means the same as a field that is absent, everywhere; and what can't be read is described by its
//! shape, since its content may be secret.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::fmt;

/// The keys and types of a payload that can't be read, without any of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadShape(String);

/// Depth, entries of an object and characters that a shape shows.
const MAX_DEPTH: usize = 6;
const MAX_KEYS: usize = 40;
const MAX_SHAPE: usize = 1_500;
/// A longer key is no field's name.
const MAX_KEY: usize = 40;

impl fmt::Display for PayloadShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PayloadShape {
    pub(super) fn of(payload: &Value) -> PayloadShape {
        let shape = shape(payload, 0);
        PayloadShape(shape.chars().take(MAX_SHAPE).collect())
    }

    fn no_json(length: usize) -> PayloadShape {
        PayloadShape(format!("no JSON, {length} bytes"))
    }
}

fn shape(value: &Value, depth: usize) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(text) if text.is_empty() => "empty string".to_owned(),
        Value::String(_) => "string".to_owned(),
        _ if depth >= MAX_DEPTH => "…".to_owned(),
        Value::Array(items) => match items.first() {
            Some(first) => format!("[{} × {}]", items.len(), shape(first, depth + 1)),
            None => "[]".to_owned(),
        },
        Value::Object(fields) => {
            let fields = fields.iter().take(MAX_KEYS);
            let fields =
                fields.map(|(key, value)| format!("{}: {}", key_shape(key), shape(value, depth + 1)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

fn key_shape(key: &str) -> &str {
    let is_name = key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    if is_name && key.len() <= MAX_KEY { key } else { "?" }
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// JSON with U+FFFD for each half of a surrogate pair without its other half: whoever cuts a text may cut an emoji in half.
fn with_whole_characters(json: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some(&byte) = rest.first() {
        let length = match (escaped_unit(rest), rest.get(6..).and_then(escaped_unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                whole.extend_from_slice(br"\ufffd");
                rest = &rest[6..];
                continue;
            }
            (Some(_), _) => 6,
            (None, _) if byte == b'\\' => 2,
            (None, _) => 1,
        };
        let (part, behind) = rest.split_at(length.min(rest.len()));
        whole.extend_from_slice(part);
        rest = behind;
    }
    whole
}

/// The UTF-16 unit of the escape that the JSON begins with.
fn escaped_unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(br"\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Reads a list that counts as empty where it is none, without its items that can't be read.
pub(super) fn readable_items<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let items = match Value::deserialize(deserializer)? {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    Ok(items.into_iter().filter_map(|item| T::deserialize(item).ok()).collect())
}

/// Parses a payload, and removes its nulls.
pub(super) fn parse(body: &[u8]) -> Result<Value, PayloadShape> {
    let json = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let payload = serde_json::from_slice(json);
    let payload = payload.or_else(|_| serde_json::from_slice(&with_whole_characters(json)));
    let mut payload = payload.map_err(|_| PayloadShape::no_json(body.len()))?;
    remove_nulls(&mut payload);
    Ok(payload)
}

/// Reads a payload. The error is its shape.
pub(super) fn read<T: DeserializeOwned>(mut payload: Value) -> Result<T, PayloadShape> {
    remove_nulls(&mut payload);
    T::deserialize(&payload).map_err(|_| PayloadShape::of(&payload))
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(remove_nulls);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_is_absent_at_every_depth() {
        let mut payload = json!({ "a": null, "b": [null, { "c": null, "d": [null] }], "e": { "f": null } });
        remove_nulls(&mut payload);
        assert_eq!(payload, json!({ "b": [{ "d": [] }], "e": {} }));
    }

    #[test]
    fn a_mark_before_it_and_half_a_character_in_it_do_not_spoil_a_payload() {
        let text = |json: &str| parse(json.as_bytes()).unwrap()["text"].as_str().unwrap().to_owned();
        for (json, expected) in [
            ("\u{feff}{\"text\": \"a\"}", "a"),
            (r#"{"text": "a\ud83d"}"#, "a\u{fffd}"),
            (r#"{"text": "\ude00a\ud83d\ude00\ud83d\n"}"#, "\u{fffd}a😀\u{fffd}\n"),
            (r#"{"text": "\\ud83d \ud83d\u0041"}"#, "\\ud83d \u{fffd}A"),
        ] {
            assert_eq!(text(json), expected, "{json}");
        }
        assert!(parse(br#"{"text": "\ud83d"#).is_err() && parse(b"\\").is_err());
    }

    #[test]
    fn a_shape_has_no_content() {
        let payload = json!({
            "type": "block_actions", "user": { "id": "U0SECRET", "age": 7 }, "actions": [{ "ok": true }, {}],
            "a secret as a key": "", "none": null,
        });
        let shape = PayloadShape::of(&payload).to_string();
        let expected = "{?: empty string, actions: [2 × {ok: bool}], none: null, type: string, user: {age: number, id: string}}";
        assert_eq!(shape, expected);
        assert_eq!(parse(b"{\"secret\":").unwrap_err().to_string(), "no JSON, 10 bytes");
        assert!(PayloadShape::of(&json!(vec!["x"; 9])).to_string().len() < 50);
    }
}
