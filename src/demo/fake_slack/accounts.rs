//! Methods about people, channels, groups and views.

use serde_json::{Value, json};

use super::api::Args;
use super::blocks::Refusal;
use super::state::{Room, State};
use super::{Account, Kind};

/// The workspace that outsiders come from.
pub(super) const OTHER_TEAM: &str = "T0OTHER01";

pub(super) fn auth_test(state: &State) -> Value {
    let settings = &state.settings;
    json!({
        "url": "https://creatorbridge.slack.com/", "team": settings.team_name, "user": "countersign",
        "team_id": settings.team, "user_id": settings.bot_user, "bot_id": "B0DEMO001",
        "is_enterprise_install": false,
    })
}

/// The workspace that an account belongs to.
pub(super) fn team_of(state: &State, user: &str) -> String {
    match state.person(user).map(|person| person.kind) {
        Some(Kind::External) => OTHER_TEAM.to_owned(),
        _ => state.settings.team.clone(),
    }
}

/// The name that Slack sends as `user_name`.
pub(super) fn handle(person: &Account) -> String {
    person.name.to_lowercase().replace(' ', ".")
}

fn user_json(state: &State, person: &Account) -> Value {
    let handle = handle(person);
    json!({
        "id": person.id, "team_id": team_of(state, &person.id), "name": handle,
        "deleted": person.kind == Kind::Deactivated, "real_name": person.name, "tz": "Etc/UTC", "tz_offset": 0,
        "profile": {
            "real_name": person.name, "display_name": person.name, "email": format!("{handle}@creatorbridge.example"),
        },
        "is_admin": false, "is_owner": false, "is_restricted": person.kind == Kind::Guest,
        "is_ultra_restricted": false, "is_bot": person.kind == Kind::Bot,
        "is_stranger": person.kind == Kind::External, "is_app_user": false, "updated": 1_763_000_000,
    })
}

pub(super) fn user_info(state: &State, args: &Args) -> Result<Value, Refusal> {
    let id = args.need("user", "user_not_found")?;
    let person = state.person(id).ok_or_else(|| Refusal::new("user_not_found"))?;
    Ok(json!({"user": user_json(state, person)}))
}

pub(super) fn user_list(state: &State) -> Value {
    let members: Vec<_> = state.people.iter().map(|person| user_json(state, person)).collect();
    json!({"members": members, "response_metadata": {"next_cursor": ""}})
}

fn visible_room<'a>(state: &'a State, args: &Args) -> Result<&'a Room, Refusal> {
    let room = state.room(args.need("channel", "channel_not_found")?);
    let seen = |room: &&Room| room.channel.bot_in || !room.channel.private;
    room.filter(seen).ok_or_else(|| Refusal::new("channel_not_found"))
}

pub(super) fn channel_info(state: &State, args: &Args) -> Result<Value, Refusal> {
    let room = visible_room(state, args)?;
    let (channel, is_im) = (&room.channel, room.im_user.is_some());
    let mut info = json!({
        "id": channel.id, "created": 1_763_000_000, "is_archived": room.archived, "is_im": is_im,
        "is_org_shared": false, "is_mpim": false,
    });
    if let Some(user) = &room.im_user {
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

pub(super) fn channel_members(state: &State, args: &Args) -> Result<Value, Refusal> {
    let room = visible_room(state, args)?;
    let id = &room.channel.id;
    let members: Vec<_> = state.people.iter().filter(|p| state.is_in(&p.id, id)).map(|p| &p.id).collect();
    Ok(json!({"members": members, "response_metadata": {"next_cursor": ""}}))
}

pub(super) fn open_dm(state: &mut State, args: &Args) -> Result<Value, Refusal> {
    let users = args.need("users", "users_list_not_supplied")?.to_owned();
    match state.person(&users).map(|person| person.kind) {
        None => Err(Refusal::new("user_not_found")),
        Some(Kind::Deactivated) => Err(Refusal::new("user_disabled")),
        Some(Kind::Bot) => Err(Refusal::new("cannot_dm_bot")),
        Some(_) => Ok(json!({"channel": {"id": state.im(&users)}})),
    }
}

pub(super) fn group_members(state: &State, args: &Args) -> Result<Value, Refusal> {
    let group = state.groups.get(args.need("usergroup", "no_such_subteam")?);
    let people = group.ok_or_else(|| Refusal::new("no_such_subteam"))?;
    let active = |id: &&String| state.person(id).is_some_and(|person| person.kind != Kind::Deactivated);
    Ok(json!({"users": people.iter().filter(active).collect::<Vec<_>>()}))
}

/// Accepts and keeps a modal; title and buttons are checked, its blocks only for their number.
pub(super) fn open_view(state: &mut State, args: &Args) -> Result<Value, Refusal> {
    let mut view =
        args.json("view").filter(Value::is_object).ok_or_else(|| Refusal::new("invalid_arguments"))?;
    let fits =
        |key: &str| view[key]["text"].as_str().is_none_or(|text| (1..=24).contains(&text.chars().count()));
    let titled = view["title"]["type"] == "plain_text" && fits("title") && fits("submit") && fits("close");
    let blocks = view["blocks"].as_array().is_some_and(|blocks| (1..=100).contains(&blocks.len()));
    if view["type"] != "modal" || !titled || !blocks {
        return Err(Refusal::new("invalid_arguments"));
    }
    state.use_trigger(args.need("trigger_id", "invalid_trigger_id")?)?;
    view["id"] = json!(format!("V{:08}", state.next()));
    view["team_id"] = json!(state.settings.team);
    state.views.push(view.clone());
    Ok(json!({"view": view}))
}
