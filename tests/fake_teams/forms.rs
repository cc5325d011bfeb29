//! Cards with inputs, as a client fills them in.

use super::World;
use super::people::Message;
use serde_json::{Value, json};

/// Choices that a client shows of a search.
const MOST_FOUND: usize = 15;

/// The end of an input's id behind its prefix.
pub fn name(input: &Value) -> &str {
    input["id"].as_str().and_then(|id| id.strip_prefix("field:")).expect("the id of a field")
}

fn inputs_of(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(inputs_of).collect(),
        Value::Object(_) if value["type"].as_str().is_some_and(|kind| kind.starts_with("Input.")) => {
            vec![value]
        }
        Value::Object(fields) => fields.values().flat_map(inputs_of).collect(),
        _ => Vec::new(),
    }
}

impl Message {
    /// The inputs of its card.
    pub fn inputs(&self) -> Vec<&Value> {
        self.cards.first().map_or(Vec::new(), |card| inputs_of(&card["body"]))
    }

    /// The button that submits a form, with the values that its client sends; an error for one that the client requires.
    pub fn submission(&self, values: &[(&str, &str)]) -> Result<Value, String> {
        let mut action = self.buttons().pop().expect("a button").action;
        for input in self.inputs() {
            let off = input["valueOff"].as_str().unwrap_or_default();
            let default = input["value"].as_str().unwrap_or(off);
            let value =
                values.iter().find(|(field, _)| *field == name(input)).map_or(default, |(_, value)| value);
            if value.is_empty() && input["isRequired"] == true {
                return Err(format!("{} is required", name(input)));
            }
            // A client leaves out an empty input.
            if !value.is_empty() {
                action["data"][input["id"].as_str().expect("an id")] = json!(value);
            }
        }
        Ok(action)
    }
}

impl World {
    /// What a field of a form offers for a text: values and titles.
    pub async fn searches(
        &self,
        (who, form): (&str, &Message),
        field: &str,
        text: &str,
    ) -> Vec<(String, String)> {
        let input = form.inputs().into_iter().find(|input| name(input) == field).expect("the field");
        let mut activity = self.activity_of(who, form);
        activity["type"] = json!("invoke");
        activity["name"] = json!("application/search");
        activity["value"] = json!({
            "queryText": text, "queryOptions": { "skip": 0, "top": MOST_FOUND },
            "dataset": input["choices.data"]["dataset"],
        });
        let ack = self.deliver(activity).await;
        assert_eq!(ack.status, 200, "{ack:?}");
        assert_eq!(ack.body["type"], "application/vnd.microsoft.search.searchResponse", "{ack:?}");
        let results = ack.body["value"]["results"].as_array().expect("results");
        assert!(results.len() <= MOST_FOUND, "{} results", results.len());
        let text = |result: &Value, key: &str| result[key].as_str().expect("a text").to_owned();
        results.iter().map(|result| (text(result, "value"), text(result, "title"))).collect()
    }
}
