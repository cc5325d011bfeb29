//! Payloads in which one value is of another type than the platform sends.

use serde_json::{Value, json};

/// A payload with one of its leaves replaced.
pub struct Altered {
    /// The leaf, as a JSON pointer.
    pub leaf: String,
    pub payload: Value,
}

/// The payload with each of its leaves removed, and replaced by each of the values that platforms don't send there.
pub fn altered(payload: &Value) -> Vec<Altered> {
    let values =
        [Value::Null, json!(7), json!(true), json!([]), json!({}), json!([7]), json!({ "id": 7 }), json!("")];
    let mut leaves = Vec::new();
    find_leaves(payload, "", &mut leaves);
    let of_leaf = |leaf: &String| {
        let replaced = values.clone().map(|value| {
            let mut payload = payload.clone();
            *payload.pointer_mut(leaf).expect("a leaf") = value;
            Altered { leaf: leaf.clone(), payload }
        });
        replaced.into_iter().chain([Altered { leaf: leaf.clone(), payload: without(payload, leaf) }])
    };
    leaves.iter().flat_map(of_leaf).collect()
}

fn without(payload: &Value, leaf: &str) -> Value {
    let mut payload = payload.clone();
    let (parent, key) = leaf.rsplit_once('/').expect("a leaf");
    match payload.pointer_mut(parent).expect("its parent") {
        Value::Object(fields) => drop(fields.remove(key)),
        Value::Array(items) => drop(items.remove(key.parse().expect("an index"))),
        other => panic!("no parent: {other}"),
    }
    payload
}

fn find_leaves(value: &Value, pointer: &str, leaves: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(key, value)| find_leaves(value, &format!("{pointer}/{key}"), leaves));
        }
        Value::Array(items) if !items.is_empty() => {
            let items = items.iter().enumerate();
            items.for_each(|(index, value)| find_leaves(value, &format!("{pointer}/{index}"), leaves));
        }
        _ => leaves.push(pointer.to_owned()),
    }
}
