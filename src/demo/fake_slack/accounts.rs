//! Methods about people, channels, groups and views.

use serde_json::{Value, json};

use super::api::{ApiError, Args};
use super::state::{Room, State};
use super::{Account, BOT_USER, Kind, TEAM, TEAM_NAME};

/// The workspace that outsiders come from.
const OTHER_TEAM: &str = "T0OTHER01";

pub(super) fn auth_test() -> Value {
    json!({
        "url": "https://creatorbridge.slack.com/", "team": TEAM_NAME, "user": "countersign", "team_id": TEAM,
        "user_id": BOT_USER, "bot_id": "B0DEMO001", "is_enterprise_install": false,
    })
}

impl Account {
    pub(super) fn team(&self) -> &'static str {
        if self.kind == Kind::External { OTHER_TEAM } else { TEAM }
    }

    /// The name that Slack sends as `user_name`.
    pub(super) fn handle(&self) -> String {
        self.name.to_lowercase().replace(' ', ".")
    }

    fn to_json(&self) -> Value {
        let handle = self.handle();
        let email = format!("{handle}@creatorbridge.example");
        json!({
            "id": self.id, "team_id": self.team(), "name": handle, "deleted": self.kind == Kind::Deactivated,
            "real_name": self.name, "tz": "Etc/UTC", "tz_offset": 0,
            "profile": {"real_name": self.name, "display_name": self.name, "email": email},
            "is_admin": false, "is_owner": false, "is_restricted": self.kind == Kind::Guest,
            "is_ultra_restricted": false, "is_bot": self.kind == Kind::Bot,
            "is_stranger": self.kind == Kind::External, "is_app_user": false, "updated": 1_763_000_000,
        })
    }
}

pub(super) fn user_info(state: &State, args: &Args) -> Result<Value, ApiError> {
    let person = state.person(args.need("user", "user_not_found")?).ok_or("user_not_found")?;
    Ok(json!({"user": person.to_json()}))
}

pub(super) fn user_list(state: &State) -> Value {
    let members: Vec<_> = state.people.iter().map(Account::to_json).collect();
    json!({"members": members, "response_metadata": {"next_cursor": ""}})
}

fn visible_room<'a>(state: &'a State, args: &Args) -> Result<&'a Room, ApiError> {
    let room = state.room(args.need("channel", "channel_not_found")?);
    let visible = room.filter(|room| room.channel.bot_in || !room.channel.private);
    visible.ok_or_else(|| "channel_not_found".into())
}

pub(super) fn channel_info(state: &State, args: &Args) -> Result<Value, ApiError> {
    let Room { channel, archived, im_user } = visible_room(state, args)?;
    let mut info = json!({
        "id": channel.id, "created": 1_763_000_000, "is_archived": archived, "is_im": im_user.is_some(),
        "is_org_shared": false, "is_mpim": false,
    });
    if let Some(user) = im_user {
        info["user"] = json!(user);
    } else {
        info["name"] = json!(channel.name);
        info["is_channel"] = json!(true);
        info["is_group"] = json!(false);
        info["is_private"] = json!(channel.private);
        info["is_member"] = json!(channel.bot_in);
        info["is_shared"] = json!(channel.shared_externally);
        info["is_ext_shared"] = json!(channel.shared_externally);
    }
    Ok(json!({"channel": info}))
}

pub(super) fn channel_members(state: &State, args: &Args) -> Result<Value, ApiError> {
    let id = &visible_room(state, args)?.channel.id;
    let members: Vec<_> = state.people.iter().filter(|p| state.is_in(&p.id, id)).map(|p| &p.id).collect();
    Ok(json!({"members": members, "response_metadata": {"next_cursor": ""}}))
}

pub(super) fn open_dm(state: &mut State, args: &Args) -> Result<Value, ApiError> {
    let user = args.need("users", "users_list_not_supplied")?;
    match state.person(user).map(|person| person.kind) {
        None => Err("user_not_found".into()),
        Some(Kind::Deactivated) => Err("user_disabled".into()),
        Some(Kind::Bot) => Err("cannot_dm_bot".into()),
        Some(_) => Ok(json!({"channel": {"id": state.im(user)}})),
    }
}

pub(super) fn group_members(state: &State, args: &Args) -> Result<Value, ApiError> {
    let people = state.groups.get(args.need("usergroup", "no_such_subteam")?).ok_or("no_such_subteam")?;
    let active = |id: &&String| state.person(id).is_some_and(|person| person.kind != Kind::Deactivated);
    Ok(json!({"users": people.iter().filter(active).collect::<Vec<_>>()}))
}

/// Accepts and keeps a modal; title and buttons are checked, its blocks only for their number.
pub(super) fn open_view(state: &mut State, args: &Args) -> Result<Value, ApiError> {
    let mut view = args.json("view").filter(Value::is_object).ok_or("invalid_arguments")?;
    let fits =
        |key: &str| view[key]["text"].as_str().is_none_or(|text| (1..=24).contains(&text.chars().count()));
    let has_title = view["title"]["type"] == "plain_text" && fits("title") && fits("submit") && fits("close");
    let has_blocks = view["blocks"].as_array().is_some_and(|blocks| (1..=100).contains(&blocks.len()));
    if view["type"] != "modal" || !has_title || !has_blocks {
        return Err("invalid_arguments".into());
    }
    state.use_trigger(args.need("trigger_id", "invalid_trigger_id")?)?;
    view["id"] = json!(format!("V{:08}", state.next()));
    view["team_id"] = json!(TEAM);
    Ok(json!({"view": view}))
}
