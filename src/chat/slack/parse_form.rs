//! What people do in a form: Slack's `view_submission` and `block_suggestion` into neutral values. Sources:
//! <https://docs.slack.dev/reference/interaction-payloads/view-interactions-payload>,
//! <https://docs.slack.dev/reference/interaction-payloads/block_suggestion-payload>.

use super::form::FORM;
use super::parse::{Id, InteractionUser};
use crate::model::FormInput;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(Deserialize)]
pub(super) struct FormEvent {
    pub team: Option<Id>,
    pub enterprise: Option<Id>,
    pub user: Option<InteractionUser>,
    pub trigger_id: Option<String>,
    view: Option<View>,
    /// Of a suggestion: the field, and what is typed in it.
    block_id: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
struct View {
    callback_id: Option<String>,
    #[serde(default)]
    private_metadata: String,
    state: Option<State>,
}

#[derive(Deserialize)]
struct State {
    #[serde(default)]
    values: Map<String, Value>,
}

impl FormEvent {
    /// The form's token and values; `None` for a view that isn't ours.
    pub fn input(&self) -> Option<FormInput> {
        let view = self.view.as_ref()?;
        if view.callback_id.as_deref() != Some(FORM) {
            return None;
        }
        let values = view.state.iter().flat_map(|state| &state.values);
        let values: BTreeMap<String, String> =
            values.map(|(field, controls)| (field.clone(), value_of(controls))).collect();
        Some(FormInput { token: view.private_metadata.clone(), values })
    }

    /// The field that is typed in, and the text in it.
    pub fn query(&self) -> Option<(String, String)> {
        Some((self.block_id.clone()?, self.value.clone().unwrap_or_default()))
    }
}

/// The value of a block's one control; an empty one has none.
fn value_of(controls: &Value) -> String {
    let control = controls.as_object().and_then(|controls| controls.values().next());
    let Some(control) = control else { return String::new() };
    let first = &control["selected_options"][0]["value"];
    let values = [&control["value"], &control["selected_option"]["value"], first];
    values.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned()
}
