//! Forms as Slack's modals, and the answers to what people do in them. A field's block has the field's name; the view carries the form's
//! token and nothing else. Sources: <https://docs.slack.dev/reference/views/modal-views>,
//! <https://docs.slack.dev/reference/block-kit/blocks/input-block>, <https://docs.slack.dev/surfaces/modals#updating_response>.

use super::parse::ACTION_PREFIX;
use super::render::{RULES, context, elements, plain_text, section};
use crate::model::{Field, FieldError, FieldKind, Form, FormOption, Heading, Severity};
use crate::workflow::FormAnswer;
use serde_json::{Value, json};

/// The `callback_id` of every form.
pub(super) const FORM: &str = "cs:form";

/// Title, submit and close.
const MAX_TITLE: usize = 24;
const MAX_LABEL: usize = 2_000;
const MAX_OPTION: usize = 75;
const MAX_INPUT: usize = 3_000;

/// The `view` of a form.
pub fn view(form: &Form) -> Value {
    let (title, _) = RULES.shorten(&form.command, MAX_TITLE);
    let (submit, _) = RULES.shorten(&form.submit, MAX_TITLE);
    let mut blocks = vec![heading(form), context(&RULES.shorten(&form.summary, MAX_LABEL).0)];
    blocks.extend(form.fields.iter().map(input));
    if form.severity == Severity::Critical {
        blocks.push(context("Nothing is executed before another person approves it."));
    }
    json!({
        "type": "modal",
        "callback_id": FORM,
        "private_metadata": form.token,
        "title": plain_text(&title),
        "submit": plain_text(&submit),
        "close": plain_text("Cancel"),
        "blocks": blocks,
    })
}

/// "`purge asset-service` on 🔴 PRODUCTION".
fn heading(form: &Form) -> Value {
    let Form { line: command, environment, .. } = form.clone();
    let (spans, _) = RULES.heading(&Heading { requester: None, command, environment, run: None });
    section(spans.iter().flat_map(elements).collect())
}

fn input(field: &Field) -> Value {
    let label = |text: &str| plain_text(&RULES.shorten(text, MAX_LABEL).0);
    let mut block = json!({
        "type": "input",
        "block_id": field.name,
        "optional": !field.required,
        "label": label(&field.label),
        "element": control(field),
    });
    if !field.hint.is_empty() {
        block["hint"] = label(&field.hint);
    }
    block
}

fn control(field: &Field) -> Value {
    let action_id = format!("{ACTION_PREFIX}{}", field.name);
    let value = field.value.as_ref();
    match &field.kind {
        FieldKind::Text { multiline } => {
            let mut control =
                json!({ "type": "plain_text_input", "multiline": multiline, "max_length": MAX_INPUT });
            control["action_id"] = json!(action_id);
            if let Some(value) = value {
                control["initial_value"] = json!(RULES.truncate(&value.value, MAX_INPUT).0);
            }
            control
        }
        FieldKind::Choice(options) => {
            let chosen = value.and_then(|value| options.iter().find(|option| option.value == value.value));
            let options: Vec<Value> = options.iter().map(option).collect();
            let control = json!({ "type": "static_select", "action_id": action_id, "options": options });
            with_choice(control, chosen)
        }
        FieldKind::Search => {
            let control = json!({
                "type": "external_select",
                "action_id": action_id,
                "min_query_length": 0,
                "placeholder": plain_text("Choose, or type to search"),
            });
            with_choice(control, value)
        }
        FieldKind::Toggle => {
            let on =
                json!({ "text": plain_text(&RULES.shorten(&field.label, MAX_OPTION).0), "value": "true" });
            let mut control = json!({ "type": "checkboxes", "action_id": action_id, "options": [on] });
            if value.is_some_and(|value| value.value == "true") {
                control["initial_options"] = json!([on]);
            }
            control
        }
    }
}

fn with_choice(mut control: Value, chosen: Option<&FormOption>) -> Value {
    if let Some(chosen) = chosen {
        control["initial_option"] = option(chosen);
    }
    control
}

fn option(option: &FormOption) -> Value {
    json!({ "text": plain_text(&RULES.shorten(&option.label, MAX_OPTION).0), "value": option.value })
}

/// The answer to a client that asks for the choices of a field.
pub(super) fn choices(options: &[FormOption]) -> Value {
    json!({ "options": options.iter().map(option).collect::<Vec<Value>>() })
}

/// The answer to a client that submitted a form with these fields; nothing closes it.
pub(super) fn answer<'a>(answer: &FormAnswer, mut fields: impl Iterator<Item = &'a String>) -> Option<Value> {
    match answer {
        FormAnswer::Accepted => None,
        FormAnswer::Next(form) => Some(json!({ "response_action": "update", "view": view(form) })),
        FormAnswer::Invalid(mistakes) => {
            // Slack shows a mistake at a field only.
            let any = fields.next().map_or("", String::as_str);
            let place = |mistake: &FieldError| match mistake.field.as_str() {
                "" => any.to_owned(),
                field => field.to_owned(),
            };
            let errors = mistakes
                .iter()
                .map(|mistake| (place(mistake), json!(RULES.shorten(&mistake.message, MAX_LABEL).0)))
                .collect::<serde_json::Map<String, Value>>();
            Some(json!({ "response_action": "errors", "errors": errors }))
        }
    }
}
