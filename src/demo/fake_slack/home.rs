//! The app's home: each person's page with the app. Opened, the app is told and publishes what it shows; its buttons come from a view,
//! without a channel, a message or a response URL. Sources: <https://docs.slack.dev/reference/events/app_home_opened>,
//! <https://docs.slack.dev/reference/methods/views.publish>.

use serde_json::{Value, json};

use super::api::Args;
use super::deliver::{Ack, OutgoingRequest, click_at, event_callback};
use super::state::{Account, Kind, State};
use super::view::{ButtonView, Message};
use super::{APP_ID, ApiError, TEAM, Workspace, blocks, chat};

/// Blocks of a home; a message has half as many.
const MAX_BLOCKS: usize = 100;
const MESSAGE_BLOCKS: usize = 50;

/// Blocks that only messages take. Sources: the pages of <https://docs.slack.dev/reference/block-kit/blocks>, "Available in surfaces".
const ONLY_IN_MESSAGES: [&str; 4] = ["table", "data_table", "markdown", "file"];

/// A place that is no channel.
const PLACE: &str = "home";

impl Workspace {
    /// A person opens the app's home. Returns when the bot has acknowledged; what it publishes may come later.
    pub async fn open_home(&self, user: &str) -> Ack {
        let is_member = |person: &Account| matches!(person.kind, Kind::Member | Kind::Guest);
        if !self.state().person(user).is_some_and(is_member) {
            return Ack::failed(format!("{user} can't open the app"));
        }
        let outgoing = self.change(|state| opened(state, user));
        self.deliver(outgoing).await
    }

    /// A person's home as the app published it last, as a message.
    pub fn home(&self, user: &str) -> Option<Message> {
        self.state().home(user)
    }

    /// A person clicks a button of their home, given by label or action id.
    pub async fn click_home(&self, user: &str, button: &str) -> Ack {
        let Some(home) = self.home(user) else { return Ack::failed(format!("{user} has no home")) };
        let Some(button) = home.button(button) else {
            return Ack::failed(format!("no button {button:?} on:\n{}", home.plain()));
        };
        let outgoing = self.change(|state| click(state, user, &home, &button));
        self.deliver(outgoing).await
    }
}

impl State {
    pub(super) fn home(&self, user: &str) -> Option<Message> {
        let blocks = self.homes.get(user)?.clone();
        Some(Message { blocks, ..Message::new(PLACE, super::BOT_USER, String::new()) })
    }
}

/// Publishes a view for one person.
pub(super) fn publish(state: &mut State, args: &Args) -> Result<Value, ApiError> {
    if !include_str!("../../../manifest/slack.yaml").contains("home_tab_enabled: true") {
        return Err("not_enabled".into());
    }
    let user = args.need("user_id", "invalid_arguments")?.to_owned();
    let user = state.person(&user).ok_or("user_not_found")?.id.clone();
    let view = args.json("view").filter(|view| view["type"] == "home").ok_or("invalid_arguments")?;
    let blocks: Vec<Value> =
        serde_json::from_value(view["blocks"].clone()).map_err(|_| "invalid_arguments")?;
    let is_foreign =
        |block: &Value| block["type"].as_str().is_none_or(|kind| ONLY_IN_MESSAGES.contains(&kind));
    if blocks.is_empty() || blocks.len() > MAX_BLOCKS || blocks.iter().any(is_foreign) {
        return Err("invalid_arguments".into());
    }
    blocks.chunks(MESSAGE_BLOCKS).try_for_each(|part| blocks::check(&json!(part)))?;
    let mut shown = blocks;
    shown.iter_mut().for_each(|block| chat::fill_ids(state, block, true));
    let id = state.next_number();
    state.homes.insert(user, shown.clone());
    Ok(json!({"view": {"id": format!("V{id:08}"), "type": "home", "team_id": TEAM, "blocks": shown}}))
}

/// The event, as Slack sends it to an app that has subscribed to it.
fn opened(state: &mut State, user: &str) -> OutgoingRequest {
    let channel = state.dm_channel(user);
    let event = json!({"type": "app_home_opened", "user": user, "channel": channel, "tab": "home", "event_ts": state.next_ts()});
    event_callback(state, event, false)
}

fn click(state: &mut State, user: &str, home: &Message, button: &ButtonView) -> OutgoingRequest {
    let view =
        json!({"id": "V0HOME", "type": "home", "team_id": TEAM, "app_id": APP_ID, "blocks": home.blocks});
    let place = json!({"container": {"type": "view", "view_id": "V0HOME"}, "view": view});
    click_at(state, user, button, place)
}
