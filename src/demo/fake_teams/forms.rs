//! Forms: cards with inputs, as a client fills them in.

use super::Tenant;
use super::state::TeamsMessage;
use serde_json::{Value, json};

/// Choices that a client shows of a search.
const MOST_FOUND: usize = 15;

/// The name of an input's field: its id without the prefix of the bot's forms.
pub fn field_name(input: &Value) -> &str {
    let id = input["id"].as_str().unwrap_or_default();
    id.strip_prefix("field:").unwrap_or(id)
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

impl TeamsMessage {
    /// The inputs of its card.
    pub fn inputs(&self) -> Vec<&Value> {
        self.cards.first().map_or(Vec::new(), |card| inputs_of(&card["body"]))
    }

    /// The action that submits the form, with the values of its inputs as a client sends them: those given by field name, and
    /// the preset ones.
    ///
    /// # Errors
    /// When the client refuses to submit: a required field is empty, or there is no button.
    pub fn submission(&self, values: &[(&str, &str)]) -> Result<Value, String> {
        let mut action = self.buttons().pop().ok_or("the form has no button")?.action;
        for input in self.inputs() {
            let off = input["valueOff"].as_str().unwrap_or_default();
            let default = input["value"].as_str().unwrap_or(off);
            let value = values
                .iter()
                .find(|(field, _)| *field == field_name(input))
                .map_or(default, |(_, value)| value);
            if value.is_empty() && input["isRequired"] == true {
                return Err(format!("{} is required", field_name(input)));
            }
            // A client leaves out an empty input.
            if !value.is_empty() {
                action["data"][input["id"].as_str().unwrap_or_default()] = json!(value);
            }
        }
        Ok(action)
    }
}

impl Tenant {
    /// The choices that a search field of a form, given by its name or its input's id, offers for a text: values and titles.
    ///
    /// # Errors
    /// When the form has no such field, or the bot's answer is none that Teams takes.
    pub async fn search_choices(
        &self,
        name: &str,
        form: &TeamsMessage,
        field: &str,
        text: &str,
    ) -> Result<Vec<(String, String)>, String> {
        let input =
            form.inputs().into_iter().find(|input| field_name(input) == field || input["id"] == field);
        let input = input.ok_or_else(|| format!("no field {field:?} on:\n{}", form.plain()))?;
        let mut activity = self.activity_on(name, form);
        activity["type"] = json!("invoke");
        activity["name"] = json!("application/search");
        activity["value"] = json!({
            "queryText": text, "queryOptions": { "skip": 0, "top": MOST_FOUND },
            "dataset": input["choices.data"]["dataset"],
        });
        let ack = self.deliver(activity).await;
        let results = ack.body["value"]["results"].as_array();
        let results = results.filter(|results| {
            let is_response = ack.body["type"] == "application/vnd.microsoft.search.searchResponse";
            ack.status == 200 && is_response && results.len() <= MOST_FOUND
        });
        let results = results.ok_or_else(|| format!("a search answered by {ack:?}"))?;
        let choice = |result: &Value| {
            let text = |key: &str| Some(result[key].as_str()?.to_owned());
            text("value").zip(text("title")).ok_or_else(|| format!("a choice without a text: {result}"))
        };
        results.iter().map(choice).collect()
    }
}
