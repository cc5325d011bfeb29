//! Buttons. One for everyone is an `Action.Submit`, which arrives as a message without text; one for some is an
//! `Action.Execute`, whose answer may be the clicker's own view, with a `Submit` for clients that don't know it.

use super::text_run::RULES;
use crate::chat::teams::limits;
use crate::chat::teams::parse::{BUTTON_KEY, VIEW_KEY};
use crate::model::{Button, ButtonStyle};
use serde_json::{Value, json};

/// Bytes of a button's label.
const MAX_LABEL: usize = 60;
/// Characters of the labels that a phone shows side by side.
const PHONE_WIDTH: usize = 40;
/// Characters that a button takes beside its label.
const BUTTON_EDGES: usize = 4;

/// Buttons in rows that a phone shows in full: Teams hides in a menu the ones that it has no room for.
pub(super) fn rows(buttons: &[&Button]) -> Vec<Value> {
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let mut width = 0;
    for button in buttons {
        let (label, _) = RULES.shorten(&button.label, MAX_LABEL);
        let label = if label.trim().is_empty() { "-".to_owned() } else { label };
        let button_width = label.chars().count() + BUTTON_EDGES;
        width += button_width;
        match rows.last_mut() {
            Some(row) if width <= PHONE_WIDTH && row.len() < limits::ACTIONS => {
                row.push(action(button, &label))
            }
            _ => {
                rows.push(vec![action(button, &label)]);
                width = button_width;
            }
        }
    }
    rows.into_iter().map(action_set).collect()
}

fn action_set(actions: Vec<Value>) -> Value {
    json!({ "type": "ActionSet", "actions": actions })
}

fn action(button: &Button, label: &str) -> Value {
    let data = json!({ BUTTON_KEY: button.token });
    let for_everyone = button.visible_to.is_empty();
    let mut action = if for_everyone { submit(label, &data) } else { execute(label, BUTTON_KEY, &data) };
    let style = match button.style {
        ButtonStyle::Plain => return action,
        ButtonStyle::Primary => "positive",
        ButtonStyle::Danger => "destructive",
    };
    if !for_everyone {
        action["fallback"]["style"] = json!(style);
    }
    action["style"] = json!(style);
    action
}

/// Its data arrives as the `value` of a message activity without text, and nothing is echoed
/// (<https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-actions#adaptive-cards-actions>).
fn submit(title: &str, data: &Value) -> Value {
    json!({ "type": "Action.Submit", "title": title, "data": data })
}

fn execute(title: &str, verb: &str, data: &Value) -> Value {
    json!({
        "type": "Action.Execute",
        "title": title,
        "verb": verb,
        "data": data,
        "fallback": submit(title, data),
    })
}

/// For those who are shown the view for everyone and may have buttons of their own.
pub(super) fn view_button(token: &str) -> Value {
    action_set(vec![execute("What can I do?", VIEW_KEY, &json!({ VIEW_KEY: token }))])
}

/// Makes the clients of those accounts request their own view by themselves; `None` if there are none.
pub(super) fn refresh(token: &str, user_ids: &[String]) -> Option<Value> {
    let is_plausible = |id: &&String| !id.is_empty() && super::size(&json!(id)) <= limits::USER_ID_BYTES + 3;
    let ids: Vec<&String> = user_ids.iter().filter(is_plausible).take(limits::USER_IDS).collect();
    let action = json!({ "type": "Action.Execute", "verb": VIEW_KEY, "data": { VIEW_KEY: token } });
    (!ids.is_empty()).then(|| json!({ "action": action, "userIds": ids }))
}
