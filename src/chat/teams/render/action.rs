//! Buttons. One that is for everyone is an `Action.Submit`, which arrives as a message without text; one that is for some is an
//! `Action.Execute`, whose answer may be the clicker's own view, with a `Submit` for clients that don't know it.

use super::text_run::MANNER;
use super::{RenderedPart, Viewer};
use crate::chat::teams::limits;
use crate::chat::teams::parse::{LOOKED, PRESSED};
use crate::model::{Button, ButtonStyle};
use serde_json::{Value, json};

/// A button's label, in bytes.
const LABEL: usize = 60;
/// What a phone's width holds of labels side by side, in characters.
const PHONE: usize = 40;
/// What a button takes beside its label, in characters.
const EDGES: usize = 4;

pub(super) fn sendable(token: &str) -> bool {
    let plain = token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    plain && !token.is_empty() && token.len() <= limits::TOKEN_BYTES
}

/// The buttons that these eyes see, in rows that a phone shows whole: Teams hides in a menu what it has no room for.
pub(super) fn rows<'a>(
    buttons: impl Iterator<Item = &'a Button>,
    eyes: &Viewer<'_>,
    piece: &mut RenderedPart,
) {
    let seen = buttons.filter(|button| eyes.see(button));
    let (good, bad): (Vec<&Button>, Vec<_>) = seen.partition(|button| sendable(&button.token));
    piece.cut_if(!bad.is_empty(), || "a button's token is not one".to_owned());
    let mut row = Vec::new();
    let mut width = 0;
    for button in good {
        let (label, _) = MANNER.shorten(&button.label, LABEL);
        let label = if label.trim().is_empty() { "-".to_owned() } else { label };
        let own = label.chars().count() + EDGES;
        if !row.is_empty() && (width + own > PHONE || row.len() == limits::ACTIONS) {
            piece.blocks.push(set(std::mem::take(&mut row)));
            width = 0;
        }
        width += own;
        row.push(action(button, &label));
    }
    if !row.is_empty() {
        piece.blocks.push(set(row));
    }
}

fn set(actions: Vec<Value>) -> Value {
    json!({ "type": "ActionSet", "actions": actions })
}

fn action(button: &Button, label: &str) -> Value {
    let data = json!({ PRESSED: button.token });
    let mut action = match button.visible_to.is_empty() {
        true => submit(label, &data),
        false => execute(label, PRESSED, &data),
    };
    let style = match button.style {
        ButtonStyle::Plain => return action,
        ButtonStyle::Primary => json!("positive"),
        ButtonStyle::Danger => json!("destructive"),
    };
    if !button.visible_to.is_empty() {
        action["fallback"]["style"] = style.clone();
    }
    action["style"] = style;
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

/// For those who see everyone's view and may have buttons of their own.
pub(super) fn what_can_i_do(token: &str) -> Value {
    set(vec![execute("What can I do?", LOOKED, &json!({ LOOKED: token }))])
}

/// What asks for each one's own view, unasked. `None` if it is for nobody.
pub(super) fn refresh(token: &str, user_ids: &[String]) -> Option<Value> {
    let plausible = |id: &&String| !id.is_empty() && super::weight(&json!(id)) <= limits::USER_ID_BYTES + 3;
    let ids: Vec<&String> = user_ids.iter().filter(plausible).take(limits::USER_IDS).collect();
    let action = json!({ "type": "Action.Execute", "verb": LOOKED, "data": { LOOKED: token } });
    (!ids.is_empty()).then(|| json!({ "action": action, "userIds": ids }))
}
