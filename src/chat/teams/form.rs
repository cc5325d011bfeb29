//! Forms as cards with inputs, and the answers to what people do in them. The button carries the form's token; the id of an input is its
//! field's name behind a prefix, since Teams puts the inputs beside the button's data. Sources:
//! <https://adaptivecards.microsoft.com/?topic=Input.ChoiceSet>,
//! <https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/dynamic-search>.

use super::render::{MAX_CARD_BYTES, empty_card, execute, heading_block, size};
use super::text_run::{RULES, TextStyle, line};
use crate::model::{Field, FieldKind, Form, FormInput, FormOption, Heading, Severity};
use crate::platform::SendError;
use crate::workflow::FormAnswer;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The key of a form's token in a card's `data`, and the verb of its `Action.Execute`.
const FORM_KEY: &str = "form";
const FIELD_PREFIX: &str = "field:";
/// Between the token and the field in the name of a field's choices.
const DATASET_SEPARATOR: char = '/';

const MAX_LABEL: usize = 200;
const MAX_INPUT: usize = 3_000;
/// Bytes of the choices that a card holds. Longer lists are searched.
const MAX_CHOICES_BYTES: usize = 4_000;
/// Choices that a client shows of a search (<https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/dynamic-search>).
const MAX_FOUND: usize = 15;
const MAX_MESSAGE: usize = 1_000;

/// The card of a form.
///
/// # Errors
/// [`SendError::Unsendable`] for one that is too large.
pub fn card(form: &Form) -> Result<Value, SendError> {
    let is_production = form.environment.as_ref().is_some_and(|environment| environment.production);
    let Form { line: command, environment, .. } = form.clone();
    let (spans, _) = RULES.heading(&Heading { requester: None, command, environment, run: None });
    let mut body = vec![heading_block(&spans, is_production), line(&label(&form.summary), TextStyle::PLAIN)];
    body.extend(form.fields.iter().flat_map(|field| inputs(field, &form.token)));
    if form.severity == Severity::Critical {
        body.push(line("Nothing is executed before another person approves it.", TextStyle::SMALL));
    }
    let mut submit = execute(&label(&form.submit), FORM_KEY, &json!({ FORM_KEY: form.token }));
    for action in ["/style", "/fallback/style"] {
        let (parent, key) = action.rsplit_once('/').unwrap_or_default();
        if let Some(action) = submit.pointer_mut(parent) {
            action[key] = json!("positive");
        }
    }
    body.push(json!({ "type": "ActionSet", "actions": [submit] }));
    let mut card = empty_card();
    card["body"] = Value::Array(body);
    if size(&card) > MAX_CARD_BYTES {
        return Err(SendError::Unsendable("form_too_large".to_owned()));
    }
    Ok(card)
}

/// The text of a form's notification.
pub(super) fn summary(form: &Form) -> String {
    label(&format!("Fill in {}", form.line))
}

/// A label of one line, which is never empty: a client reads Markdown in it.
fn label(text: &str) -> String {
    let (short, _) = RULES.shorten(text, MAX_LABEL);
    if short.trim().is_empty() { "-".to_owned() } else { short }
}

/// A field's input, and its hint below it.
fn inputs(field: &Field, token: &str) -> Vec<Value> {
    let mut input = control(field, token);
    input["id"] = json!(format!("{FIELD_PREFIX}{}", field.name));
    input["label"] = json!(label(&field.label));
    if field.required {
        input["isRequired"] = json!(true);
        input["errorMessage"] = json!(label(&format!("{} is required.", field.label)));
    }
    let hint = (!field.hint.is_empty()).then(|| line(&label(&field.hint), TextStyle::SMALL));
    [input].into_iter().chain(hint).collect()
}

fn control(field: &Field, token: &str) -> Value {
    let value = field.value.as_ref();
    match &field.kind {
        FieldKind::Text { multiline } => {
            let mut control =
                json!({ "type": "Input.Text", "isMultiline": multiline, "maxLength": MAX_INPUT });
            if let Some(value) = value {
                control["value"] = json!(RULES.truncate(&value.value, MAX_INPUT).0);
            }
            control
        }
        FieldKind::Choice(options) => {
            let chosen = value.and_then(|value| options.iter().find(|option| option.value == value.value));
            let choices: Vec<Value> = options.iter().map(choice).collect();
            if choices.iter().map(size).sum::<usize>() > MAX_CHOICES_BYTES {
                return search(&field.name, token, chosen);
            }
            let mut control = json!({ "type": "Input.ChoiceSet", "style": "compact", "choices": choices });
            if let Some(chosen) = chosen {
                control["value"] = json!(chosen.value);
            }
            control
        }
        FieldKind::Search => search(&field.name, token, value),
        FieldKind::Toggle => {
            let is_on = value.is_some_and(|value| value.value == "true");
            json!({
                "type": "Input.Toggle", "title": label(&field.label), "value": is_on.to_string(),
                "valueOn": "true", "valueOff": "false",
            })
        }
    }
}

/// A list whose client asks for the choices while the person types.
fn search(field: &str, token: &str, chosen: Option<&FormOption>) -> Value {
    let mut control = json!({
        "type": "Input.ChoiceSet",
        "style": "filtered",
        "placeholder": "Type to search",
        "choices": chosen.map(choice).into_iter().collect::<Vec<Value>>(),
        "choices.data": { "type": "Data.Query", "dataset": format!("{token}{DATASET_SEPARATOR}{field}") },
    });
    if let Some(chosen) = chosen {
        control["value"] = json!(chosen.value);
    }
    control
}

fn choice(option: &FormOption) -> Value {
    json!({ "title": label(&option.label), "value": option.value })
}

/// The input of a form in the data of a button; `None` for another button's.
pub(super) fn submitted(data: &Value) -> Option<FormInput> {
    let token = data.get(FORM_KEY)?.as_str().unwrap_or_default().to_owned();
    let fields = data.as_object()?.iter();
    let values: BTreeMap<String, String> = fields
        .filter_map(|(id, value)| {
            Some((id.strip_prefix(FIELD_PREFIX)?.to_owned(), value.as_str()?.to_owned()))
        })
        .collect();
    Some(FormInput { token, values })
}

/// The form, the field and the text of a search; those that can't be read are empty, and find nothing.
pub(super) fn searched(value: Option<&Value>) -> (FormInput, String, String) {
    let text = |key: &str| value.and_then(|value| value.get(key)?.as_str()).unwrap_or_default();
    let (token, field) = text("dataset").split_once(DATASET_SEPARATOR).unwrap_or_default();
    let input = FormInput { token: token.to_owned(), values: BTreeMap::new() };
    (input, field.to_owned(), text("queryText").to_owned())
}

/// An answer to a client that waits: its type and value.
pub(super) type ClientAnswer = (&'static str, Value);

/// The choices of a search. The last is what was typed, as it is.
pub(super) fn choices(options: &[FormOption]) -> ClientAnswer {
    let left_out = options.len().saturating_sub(MAX_FOUND);
    let (first, last) = options.split_at(options.len().saturating_sub(1));
    let shown = first.iter().take(first.len() - left_out).chain(last);
    let results: Vec<Value> = shown.map(choice).collect();
    ("application/vnd.microsoft.search.searchResponse", json!({ "results": results }))
}

/// The answer to a submitted form: what takes its place, or its mistakes beside it.
pub(super) fn answer(answer: &FormAnswer) -> ClientAnswer {
    let card_answer = |card: Value| ("application/vnd.microsoft.card.adaptive", card);
    let message = |text: &str| {
        let (text, _) = RULES.shorten(text, MAX_MESSAGE);
        ("application/vnd.microsoft.activity.message", json!(text))
    };
    match answer {
        FormAnswer::Accepted => {
            let mut card = empty_card();
            card["body"] = json!([line("Submitted. The answer is in this conversation.", TextStyle::PLAIN)]);
            card_answer(card)
        }
        FormAnswer::Next(form) => match card(form) {
            Ok(card) => card_answer(card),
            Err(error) => message(&format!("The form can't be opened: {error}. Type the command instead.")),
        },
        FormAnswer::Invalid(mistakes) => {
            let lines: Vec<&str> = mistakes.iter().map(|mistake| mistake.message.as_str()).collect();
            message(&lines.join("\n"))
        }
    }
}
