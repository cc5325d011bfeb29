//! What the manifest gives the app: the scopes that Slack asks for before it does the work of a method, from its reference of methods
//! and scopes (<https://docs.slack.dev/reference/scopes>), and the shortcuts of a message.

use super::ApiError;
use super::api::Args;
use super::state::State;

/// The scopes that an app has which was made from the manifest, with the one for user groups.
pub(super) fn of_manifest() -> Vec<String> {
    let manifest = include_str!("../../../manifest/slack.yaml");
    let scopes = manifest.lines().skip_while(|line| line.trim() != "bot:");
    let scopes = scopes.take_while(|line| line.trim() != "settings:");
    let listed = scopes.filter_map(|line| line.trim().trim_start_matches("# ").strip_prefix("- "));
    listed.map(str::to_owned).collect()
}

/// The name and the callback id of each shortcut of a message.
pub(super) fn message_shortcuts() -> Vec<(&'static str, &'static str)> {
    let manifest = include_str!("../../../manifest/slack.yaml");
    let parts = manifest.split("- name: ").skip(1).filter(|part| part.contains("type: message"));
    let shortcut = |part: &'static str| {
        let (name, rest) = part.split_once('\n')?;
        let id = rest.lines().find_map(|line| line.trim().strip_prefix("callback_id: "))?;
        Some((name, id))
    };
    parts.filter_map(shortcut).collect()
}

/// Passes if the bot's token has the method's scope.
pub(super) fn require(state: &State, method: &str, args: &Args) -> Result<(), ApiError> {
    let needed = match method {
        "chat.getPermalink" => return Ok(()),
        _ if method.starts_with("chat.") => "chat:write",
        _ if method.starts_with("files.") => "files:write",
        "users.info" | "users.list" => "users:read",
        "conversations.info" | "conversations.members" => conversation_scope(state, args),
        "conversations.open" => "im:write",
        "usergroups.users.list" => "usergroups:read",
        _ => return Ok(()),
    };
    let is_granted = state.settings.scopes.iter().any(|scope| scope == needed);
    if is_granted { Ok(()) } else { Err("missing_scope".into()) }
}

fn conversation_scope(state: &State, args: &Args) -> &'static str {
    let room = args.text("channel").and_then(|channel| state.room(channel));
    match room {
        Some(room) if room.im_user.is_some() => "im:read",
        Some(room) if room.channel.private => "groups:read",
        _ => "channels:read",
    }
}
