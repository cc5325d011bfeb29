//! Modals: `views.open`, what a person sees and fills in, and the requests that Slack sends for it: `block_suggestion` and
//! `view_submission`, each answered within three seconds. Slack closes a modal for an empty answer.

use std::collections::BTreeMap;

use axum::extract::State as AxumState;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::api::Args;
use super::deliver::{Ack, interaction_request};
use super::page::ack_json;
use super::state::State;
use super::view::MessageRef;
use super::{APP_ID, ApiError, TEAM, Workspace, blocks, chat};

/// Title, submit and close: <https://docs.slack.dev/reference/views/modal-views>.
const MAX_TITLE: usize = 24;
const MAX_METADATA: usize = 3_000;
const MAX_CALLBACK_ID: usize = 255;
const FIELDS: [&str; 11] = [
    "type",
    "title",
    "blocks",
    "close",
    "submit",
    "private_metadata",
    "callback_id",
    "clear_on_close",
    "notify_on_close",
    "external_id",
    "submit_disabled",
];

/// A modal that a person has open.
#[derive(Debug, Clone, Serialize)]
pub struct Modal {
    pub id: String,
    #[serde(skip)]
    pub user: String,
    pub view: Value,
    /// Mistakes by block, as the app has answered them.
    pub errors: Map<String, Value>,
}

impl Modal {
    /// The input blocks.
    pub fn inputs(&self) -> impl Iterator<Item = &Value> {
        self.view["blocks"].as_array().into_iter().flatten().filter(|block| block["type"] == "input")
    }

    /// The value that each input begins with, or the given one; an input without any is null.
    fn values(&self, given: &[(&str, &str)]) -> Value {
        let mut values = Map::new();
        for block in self.inputs() {
            let (id, element) = (block["block_id"].as_str().unwrap_or_default(), &block["element"]);
            let typed = given.iter().find(|(field, _)| *field == id).map(|(_, value)| *value);
            let control = control(element, typed);
            let action = element["action_id"].as_str().unwrap_or_default().to_owned();
            values.insert(id.to_owned(), json!({ action: control }));
        }
        Value::Object(values)
    }

    /// The label of a required input that is empty: Slack doesn't send such a form.
    fn empty(&self, values: &Value) -> Option<String> {
        let is_empty = |block: &&Value| {
            let controls = &values[block["block_id"].as_str().unwrap_or_default()];
            let control = controls.as_object().and_then(|controls| controls.values().next());
            block["optional"] != true && control.is_none_or(|control| !is_filled(control))
        };
        let block = self.inputs().find(is_empty)?;
        block["label"]["text"].as_str().map(str::to_owned)
    }
}

fn is_filled(control: &Value) -> bool {
    let has_options = control["selected_options"].as_array().is_some_and(|chosen| !chosen.is_empty());
    has_options || !control["value"].is_null() || control["selected_option"].is_object()
}

/// A control as Slack reports it. A chosen value needs no label here: the app may only rely on the value.
fn control(element: &Value, typed: Option<&str>) -> Value {
    let kind = &element["type"];
    let option = |value: &str| json!({"text": {"type": "plain_text", "text": value}, "value": value});
    let typed = typed.map(|typed| Some(typed).filter(|typed| !typed.is_empty()));
    match kind.as_str() {
        Some("plain_text_input") => {
            let value = typed.map_or(element["initial_value"].clone(), |typed| json!(typed));
            json!({"type": kind, "value": value})
        }
        Some("checkboxes") => {
            let chosen = match typed {
                Some(typed) => json!(typed.map(option).into_iter().collect::<Vec<Value>>()),
                None => element.get("initial_options").cloned().unwrap_or_else(|| json!([])),
            };
            json!({"type": kind, "selected_options": chosen})
        }
        _ => {
            let chosen = typed.map_or(element["initial_option"].clone(), |typed| json!(typed.map(option)));
            json!({"type": kind, "selected_option": chosen})
        }
    }
}

impl Workspace {
    /// The modal that a person has open, the newest first.
    pub fn modal(&self, user: &str) -> Option<Modal> {
        self.state().modal(user).cloned()
    }

    /// Closes a modal without sending it.
    pub fn close_modal(&self, id: &str) {
        self.change(|state| state.modals.retain(|modal| modal.id != id));
    }

    /// A person types into a select of a modal: the options that the app answers with, as value and label.
    ///
    /// # Errors
    /// The refusal of the answer, or why nothing was asked.
    pub async fn suggest(
        &self,
        user: &str,
        modal: &Modal,
        block: &str,
        typed: &str,
    ) -> Result<Vec<(String, String)>, String> {
        let input = modal.inputs().find(|input| input["block_id"] == block);
        let element = input.map(|input| &input["element"]).ok_or_else(|| format!("no input {block}"))?;
        let least = element["min_query_length"].as_u64().unwrap_or(3);
        if element["type"] != "external_select" || (typed.chars().count() as u64) < least {
            return Err(format!("{block} asks for nothing"));
        }
        let action = element["action_id"].clone();
        let outgoing = self.change(|state| {
            // The fields of the other inputs are not sent.
            let view = view_json(modal, None);
            let payload = json!({
                "type": "block_suggestion", "action_id": action, "block_id": block, "value": typed,
                "container": {"type": "view", "view_id": modal.id}, "view": view,
            });
            interaction_request(state, user, payload)
        });
        let ack = self.deliver(outgoing).await;
        let answer: Value = serde_json::from_str(&ack.body).unwrap_or_default();
        let checked =
            self.perform("suggestion", answer.clone(), |_| blocks::check_options(&answer["options"]));
        checked.map_err(|error| format!("{error:?}, answered {ack:?}"))?;
        let options = answer["options"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(options.map(|option| (text(&option["value"]), text(&option["text"]["text"]))).collect())
    }

    /// A person submits a modal as it was shown, with these values by block; the others are as they were filled in. Refused like in
    /// Slack's client where a required one is empty.
    pub async fn submit_modal(&self, user: &str, modal: &Modal, values: &[(&str, &str)]) -> Ack {
        let values = modal.values(values);
        if let Some(label) = modal.empty(&values) {
            return Ack::failed(format!("{label}: Please complete this required field."));
        }
        let outgoing = self.change(|state| {
            let trigger_id = state.new_trigger(user);
            let payload = json!({
                "type": "view_submission", "trigger_id": trigger_id, "view": view_json(modal, Some(values)),
                "response_urls": [],
            });
            interaction_request(state, user, payload)
        });
        let ack = self.deliver(outgoing).await;
        if !ack.ok() {
            return Ack {
                problem: ack.problem.clone().or(Some("We had some trouble connecting.".into())),
                ..ack
            };
        }
        let body: Value = serde_json::from_str(&ack.body).unwrap_or_default();
        // An answer with a view is kept as the call that would show the same.
        let (method, logged) = match body.get("view") {
            Some(view) => ("views.update", json!({"view_id": modal.id, "view": view})),
            None => ("view_response", body.clone()),
        };
        let applied = self.perform(method, logged, |state| answer(state, modal, &body));
        match applied {
            Ok(()) => ack,
            Err(error) => Ack { problem: Some(format!("{error:?}")), ..ack },
        }
    }
}

impl Workspace {
    /// A person uses a message's shortcut.
    pub async fn use_shortcut(&self, user: &str, message: &MessageRef, callback_id: &str) -> Ack {
        let Some(shown) = self.message(message) else {
            return Ack::failed(format!("no message {message:?}"));
        };
        let outgoing = self.change(|state| {
            let trigger_id = state.new_trigger(user);
            let response_url = state.new_response(user, &message.channel, None);
            let payload = json!({
                "type": "message_action", "callback_id": callback_id, "trigger_id": trigger_id,
                "response_url": response_url, "message_ts": message.ts, "message": chat::message_json(&shown),
                "channel": {"id": message.channel, "name": message.channel.to_lowercase()},
            });
            interaction_request(state, user, payload)
        });
        self.deliver(outgoing).await
    }
}

impl State {
    /// The modal that a person has open, the newest first.
    pub(super) fn modal(&self, user: &str) -> Option<&Modal> {
        self.modals.iter().rev().find(|modal| modal.user == user)
    }
}

/// What the page does with a person's modal.
pub(super) fn page_routes() -> Router<Workspace> {
    Router::new()
        .route("/page/submit", post(submit))
        .route("/page/suggest", post(suggest))
        .route("/page/dismiss", post(dismiss))
}

#[derive(Deserialize)]
struct ModalForm {
    user: String,
    id: String,
    /// Of a submission: by block.
    #[serde(default)]
    values: BTreeMap<String, String>,
    /// Of a suggestion.
    #[serde(default)]
    block: String,
    #[serde(default)]
    typed: String,
}

impl ModalForm {
    fn modal(&self, workspace: &Workspace) -> Option<Modal> {
        workspace.modal(&self.user).filter(|modal| modal.id == self.id)
    }
}

async fn submit(AxumState(workspace): AxumState<Workspace>, Json(form): Json<ModalForm>) -> Json<Value> {
    let Some(modal) = form.modal(&workspace) else { return ack_json(&Ack::failed("the form is closed")) };
    let values: Vec<(&str, &str)> =
        form.values.iter().map(|(block, value)| (block.as_str(), value.as_str())).collect();
    ack_json(&workspace.submit_modal(&form.user, &modal, &values).await)
}

async fn suggest(AxumState(workspace): AxumState<Workspace>, Json(form): Json<ModalForm>) -> Json<Value> {
    let Some(modal) = form.modal(&workspace) else { return ack_json(&Ack::failed("the form is closed")) };
    match workspace.suggest(&form.user, &modal, &form.block, &form.typed).await {
        Ok(options) => {
            let option = |(value, text): &(String, String)| json!({"value": value, "text": {"text": text}});
            Json(json!({"ok": true, "options": options.iter().map(option).collect::<Vec<Value>>()}))
        }
        Err(error) => Json(json!({"ok": false, "error": error})),
    }
}

async fn dismiss(AxumState(workspace): AxumState<Workspace>, Json(form): Json<ModalForm>) -> Json<Value> {
    workspace.close_modal(&form.id);
    Json(json!({"ok": true}))
}

/// Does what the app answers to a submission.
fn answer(state: &mut State, modal: &Modal, body: &Value) -> Result<(), ApiError> {
    let open = state.modals.iter_mut().find(|open| open.id == modal.id);
    match body["response_action"].as_str() {
        None if body.is_null() || body.as_object().is_some_and(Map::is_empty) => {
            state.modals.retain(|open| open.id != modal.id);
            Ok(())
        }
        Some("clear") => {
            state.modals.retain(|open| open.user != modal.user);
            Ok(())
        }
        Some("errors") => {
            let errors = body["errors"].as_object().ok_or("invalid_errors")?;
            let is_input = |block: &String| modal.inputs().any(|input| input["block_id"] == block.as_str());
            if errors.is_empty() || !errors.keys().all(is_input) || !errors.values().all(Value::is_string) {
                return Err("invalid_errors".into());
            }
            open.into_iter().for_each(|open| open.errors.clone_from(errors));
            Ok(())
        }
        Some("update") => {
            check(&body["view"])?;
            if let Some(open) = open {
                open.view = body["view"].clone();
                open.errors.clear();
            }
            Ok(())
        }
        _ => Err("invalid_response_action".into()),
    }
}

/// A view as Slack sends it to the app.
fn view_json(modal: &Modal, values: Option<Value>) -> Value {
    let mut view = modal.view.clone();
    view["id"] = json!(modal.id);
    view["team_id"] = json!(TEAM);
    view["app_id"] = json!(APP_ID);
    view["hash"] = json!("156772938.1827394");
    view["state"] = json!({"values": values.unwrap_or_else(|| json!({}))});
    view
}

/// Opens a modal for the person behind the trigger.
pub(super) fn open(state: &mut State, args: &Args) -> Result<Value, ApiError> {
    let view = args.json("view").ok_or("invalid_arguments")?;
    check(&view)?;
    let user = state.use_trigger(args.need("trigger_id", "invalid_trigger_id")?)?;
    let id = format!("V{:08}", state.next_number());
    let modal = Modal { id, user, view, errors: Map::new() };
    let answer = json!({"view": view_json(&modal, None)});
    state.modals.push(modal);
    Ok(answer)
}

/// Checks a modal.
fn check(view: &Value) -> Result<(), ApiError> {
    let fault = |message: String| ApiError { messages: vec![message], ..ApiError::from("invalid_arguments") };
    let fields = view.as_object().ok_or("invalid_arguments")?;
    if let Some(unknown) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(fault(format!("invalid additional property: {unknown}")));
    }
    let is_short = |key: &str, max: usize| {
        view.get(key).is_none_or(|text| text.as_str().is_some_and(|text| text.chars().count() <= max))
    };
    let is_title = |key: &str| {
        let text = view[key]["text"].as_str();
        view[key]["type"] == "plain_text"
            && text.is_some_and(|text| (1..=MAX_TITLE).contains(&text.chars().count()))
    };
    let has_inputs = view["blocks"].as_array().into_iter().flatten().any(|block| block["type"] == "input");
    let titles = ["submit", "close"].into_iter().filter(|key| view.get(*key).is_some());
    if view["type"] != "modal" || !is_title("title") || !titles.clone().all(is_title) {
        return Err(fault("a modal has a title of at most 24 characters, and such buttons".to_owned()));
    }
    if has_inputs && view.get("submit").is_none() {
        return Err(fault("a modal with inputs needs a submit button".to_owned()));
    }
    if !is_short("private_metadata", MAX_METADATA) || !is_short("callback_id", MAX_CALLBACK_ID) {
        return Err(fault("private_metadata or callback_id is too long".to_owned()));
    }
    blocks::check_view(&view["blocks"])
}
