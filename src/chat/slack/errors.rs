//! Slack's error codes, and what each says of a message. A code that isn't listed may pass: missing scopes, suspended
//! workspaces, codes of tomorrow.

use super::api::SlackApiError;
use crate::platform::SendError;

// Refusals that a repeat of the same call doesn't change. Sources: the errors of
// <https://docs.slack.dev/reference/methods/chat.postMessage>, `chat.postEphemeral`, `chat.update`, `conversations.open`, and those
// of <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors> for a `response_url`.

/// Refusals of the conversation, or of the account that it would be with.
const CONVERSATION: &str = "\
    action_prohibited cannot_dm_bot channel_is_archived channel_not_found channel_type_not_supported \
    invalid_channel invalid_user_combination is_archived is_inactive messages_tab_disabled \
    method_not_supported_for_channel_type no_permission not_in_channel posting_to_general_channel_denied \
    restricted_action restricted_action_read_only_channel restricted_action_thread_only_channel \
    team_not_found user_disabled user_not_found user_not_in_channel user_not_visible";

/// Refusals of the thread in it.
const THREAD: &str = "\
    cannot_reply_to_message invalid_thread_ts restricted_action_non_threadable_channel thread_not_found";

/// Refusals of the message that is edited.
const MESSAGE: &str = "cant_update_message edit_window_closed message_not_found";

/// Refusals of the message's content.
const CONTENT: &str = "\
    block_mismatch blocks_too_long http_400 http_413 invalid_arguments invalid_attachments \
    invalid_blocks invalid_blocks_format invalid_json invalid_metadata_format invalid_metadata_schema \
    invalid_payload markdown_text_conflict metadata_too_large msg_blocks_too_long msg_too_long \
    no_dual_broadcast_content_update no_text only_one_table_allowed too_many_attachments too_many_blocks \
    too_many_contact_cards unsupported_block";

/// Refusals of the bot itself, whatever it sends: another way would be refused alike.
const BOT: &str = "\
    account_inactive ekm_access_denied invalid_auth not_authed org_login_required \
    team_access_not_granted team_added_to_org token_expired token_revoked";

/// Codes for which this program does nothing else than for an unknown one, and the reasons of its own.
const OTHERS: &str = "\
    certificates connection fatal_error internal_error missing_scope not_allowed_token_type ratelimited \
    request_timeout server_error service_unavailable timeout trigger_expired unreadable_answer used_url";

/// The error as a metric's label: one of the codes that are listed here, or "other". Slack's own text never becomes one.
pub(super) fn label(error: &SlackApiError) -> &'static str {
    let code = match error {
        SlackApiError::ResponseUrlExpired => "used_url",
        SlackApiError::ForeignUrl => "other",
        SlackApiError::RateLimited(_) => "ratelimited",
        SlackApiError::Code(code) | SlackApiError::Unavailable(code) => code.as_str(),
    };
    let listed = [CONVERSATION, THREAD, MESSAGE, CONTENT, BOT, OTHERS];
    let mut known = listed.into_iter().flat_map(str::split_ascii_whitespace);
    known.find(|known| *known == code).unwrap_or("other")
}

/// Converts a failed call into the error that every platform reports.
pub(super) fn send_error(error: SlackApiError) -> SendError {
    let code = match error {
        SlackApiError::ResponseUrlExpired | SlackApiError::ForeignUrl => return SendError::NoRoute,
        SlackApiError::RateLimited(wait) => return SendError::RateLimited(wait),
        SlackApiError::Unavailable(reason) => return SendError::Unavailable(reason),
        SlackApiError::Code(code) => code,
    };
    type Refusal = fn(String) -> SendError;
    let refusals: [(&str, Refusal); 5] = [
        (CONVERSATION, SendError::ConversationRefused),
        (THREAD, SendError::ThreadRefused),
        (MESSAGE, |_| SendError::Gone),
        (CONTENT, SendError::ContentRefused),
        (BOT, SendError::Unavailable),
    ];
    let is_listed = |codes: &str| codes.split_ascii_whitespace().any(|listed| listed == code);
    match refusals.into_iter().find(|(codes, _)| is_listed(codes)) {
        Some((_, error)) => error(code),
        None if code.starts_with("http_") => SendError::Unavailable(code),
        None => SendError::Refused(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_code_that_is_listed_here() {
        let code = |code: &str| SlackApiError::Code(code.to_owned());
        for (error, expected) in [
            (code("channel_not_found"), "channel_not_found"),
            (code("missing_scope"), "missing_scope"),
            (code("a_code_of_tomorrow"), "other"),
            (SlackApiError::Unavailable("timeout".to_owned()), "timeout"),
            (SlackApiError::Unavailable("no upload URL".to_owned()), "other"),
            (SlackApiError::RateLimited(std::time::Duration::from_secs(1)), "ratelimited"),
            (SlackApiError::ResponseUrlExpired, "used_url"),
        ] {
            assert_eq!(label(&error), expected);
        }
    }
}
