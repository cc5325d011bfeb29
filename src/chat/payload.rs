//! JSON from the platforms. A null means the same as a field that is absent, everywhere; and what can't be read is described by its
//! shape, since its content may be secret.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};
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
    Ok(items.into_iter().filter_map(|item| read_request(item).ok()).collect())
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

/// Reads an answer of a platform's, whose every part counts. The error is its shape.
pub(super) fn read<T: DeserializeOwned>(mut payload: Value) -> Result<T, PayloadShape> {
    remove_nulls(&mut payload);
    T::deserialize(&payload).map_err(|_| PayloadShape::of(&payload))
}

/// Reads as much of a request as can be read: an empty string counts as absent, and so does a field of another type than it should
/// have, which is logged. The error is the shape of a request without a field that it needs.
pub(super) fn read_request<T: DeserializeOwned>(mut payload: Value) -> Result<T, PayloadShape> {
    remove(&mut payload, &|value| value.is_null() || *value == "");
    // Nearly every request can be read; the path to a part that can't costs more than the reading.
    if let Ok(request) = T::deserialize(&payload) {
        return Ok(request);
    }
    let mut unreadable: Option<PayloadShape> = None;
    loop {
        let error = match serde_path_to_error::deserialize(&payload) {
            Ok(request) => {
                if let Some(shape) = unreadable {
                    tracing::warn!(%shape, "a part of a request can't be read");
                }
                return Ok(request);
            }
            Err(error) => error,
        };
        let shape = unreadable.get_or_insert_with(|| PayloadShape::of(&payload)).clone();
        if !remove_at(&mut payload, error.path()) {
            return Err(shape);
        }
    }
}

/// Removes what the path leads to; `false` if that is the whole, or nothing.
fn remove_at(payload: &mut Value, path: &Path) -> bool {
    let mut path = path.iter().collect::<Vec<_>>();
    let Some(last) = path.pop() else { return false };
    let parent = path.into_iter().try_fold(payload, |value, segment| match segment {
        Segment::Map { key } => value.get_mut(key),
        Segment::Seq { index } => value.get_mut(*index),
        _ => None,
    });
    match (parent, last) {
        (Some(Value::Object(fields)), Segment::Map { key }) => fields.remove(key).is_some(),
        (Some(Value::Array(items)), Segment::Seq { index }) if *index < items.len() => {
            items.remove(*index);
            true
        }
        _ => false,
    }
}

fn remove_nulls(value: &mut Value) {
    remove(value, &Value::is_null);
}

/// Removes the fields and items that count as absent, at every depth.
fn remove(value: &mut Value, is_absent: &impl Fn(&Value) -> bool) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !is_absent(field));
            fields.values_mut().for_each(|field| remove(field, is_absent));
        }
        Value::Array(items) => {
            items.retain(|item| !is_absent(item));
            items.iter_mut().for_each(|item| remove(item, is_absent));
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
    fn what_a_request_has_of_another_type_counts_as_absent_unless_it_is_needed() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Inner {
            id: String,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Outer {
            user: Inner,
            team: Option<Inner>,
            #[serde(default)]
            text: String,
            #[serde(default, deserialize_with = "readable_items")]
            items: Vec<Inner>,
        }
        let read = |payload: Value| read_request::<Outer>(payload);
        let id = |id: &str| Inner { id: id.to_owned() };
        let odd = [json!(5), json!(true), json!([]), json!({}), json!([5]), json!(""), json!(null)];
        for value in odd {
            let payload = json!({
                "user": { "id": "U1", "name": value }, "team": { "id": value }, "text": value,
                "items": [{ "id": value }, { "id": "a", "more": value }, value],
            });
            let outer = Outer { user: id("U1"), team: None, text: String::new(), items: vec![id("a")] };
            assert_eq!(read(payload.clone()).unwrap(), outer, "{payload}");
            for user in [value.clone(), json!({ "id": value })] {
                assert!(read(json!({ "user": user, "text": "x" })).is_err(), "{user}");
            }
        }
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
