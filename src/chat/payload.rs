//! JSON from the platforms. A null means the same as a field that is absent, everywhere; and what can't be read is described by its
//! shape, since its content may be secret.

use serde::de::DeserializeOwned;
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

/// Parses a payload, and removes its nulls.
pub(super) fn parse(body: &[u8]) -> Result<Value, PayloadShape> {
    let mut payload = serde_json::from_slice(body).map_err(|_| PayloadShape::no_json(body.len()))?;
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
