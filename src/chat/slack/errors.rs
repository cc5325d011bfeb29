//! Slack's error codes, and what each says of a message. A code that isn't in the table may pass: missing scopes, suspended
//! workspaces, codes of tomorrow.

use super::api::SlackApiError;
use crate::platform::SendError;

/// The subject of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// The conversation, or the account that it would be with.
    Conversation,
    /// The thread in it.
    Thread,
    /// The message that is edited.
    Message,
    /// The content of the message.
    Content,
}

/// Refusals that a repeat of the same call doesn't change. Sources: the errors of
/// <https://docs.slack.dev/reference/methods/chat.postMessage>, `chat.postEphemeral`, `chat.update`, `conversations.open`, and those
/// of <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors> for a `response_url`.
const CODES: [(&str, Subject); 52] = [
    ("action_prohibited", Subject::Conversation),
    ("cannot_dm_bot", Subject::Conversation),
    ("channel_is_archived", Subject::Conversation),
    ("channel_not_found", Subject::Conversation),
    ("channel_type_not_supported", Subject::Conversation),
    ("invalid_channel", Subject::Conversation),
    ("invalid_user_combination", Subject::Conversation),
    ("is_archived", Subject::Conversation),
    ("is_inactive", Subject::Conversation),
    ("messages_tab_disabled", Subject::Conversation),
    ("method_not_supported_for_channel_type", Subject::Conversation),
    ("no_permission", Subject::Conversation),
    ("not_in_channel", Subject::Conversation),
    ("posting_to_general_channel_denied", Subject::Conversation),
    ("restricted_action", Subject::Conversation),
    ("restricted_action_read_only_channel", Subject::Conversation),
    ("restricted_action_thread_only_channel", Subject::Conversation),
    ("team_not_found", Subject::Conversation),
    ("user_disabled", Subject::Conversation),
    ("user_not_found", Subject::Conversation),
    ("user_not_in_channel", Subject::Conversation),
    ("user_not_visible", Subject::Conversation),
    ("cannot_reply_to_message", Subject::Thread),
    ("invalid_thread_ts", Subject::Thread),
    ("restricted_action_non_threadable_channel", Subject::Thread),
    ("thread_not_found", Subject::Thread),
    ("cant_update_message", Subject::Message),
    ("edit_window_closed", Subject::Message),
    ("message_not_found", Subject::Message),
    ("block_mismatch", Subject::Content),
    ("blocks_too_long", Subject::Content),
    ("http_400", Subject::Content),
    ("http_413", Subject::Content),
    ("invalid_arguments", Subject::Content),
    ("invalid_attachments", Subject::Content),
    ("invalid_blocks", Subject::Content),
    ("invalid_blocks_format", Subject::Content),
    ("invalid_json", Subject::Content),
    ("invalid_metadata_format", Subject::Content),
    ("invalid_metadata_schema", Subject::Content),
    ("invalid_payload", Subject::Content),
    ("markdown_text_conflict", Subject::Content),
    ("metadata_too_large", Subject::Content),
    ("msg_blocks_too_long", Subject::Content),
    ("msg_too_long", Subject::Content),
    ("no_dual_broadcast_content_update", Subject::Content),
    ("no_text", Subject::Content),
    ("only_one_table_allowed", Subject::Content),
    ("too_many_attachments", Subject::Content),
    ("too_many_blocks", Subject::Content),
    ("too_many_contact_cards", Subject::Content),
    ("unsupported_block", Subject::Content),
];

/// Converts a failed call into the error that every platform reports.
pub(super) fn send_error(error: SlackApiError) -> SendError {
    let code = match error {
        SlackApiError::ResponseUrlExpired | SlackApiError::ForeignUrl => return SendError::NoRoute,
        SlackApiError::RateLimited(wait) => return SendError::RateLimited(wait),
        SlackApiError::Unavailable(reason) => return SendError::Unavailable(reason),
        SlackApiError::Code(code) => code,
    };
    match CODES.iter().find(|(known, _)| *known == code).map(|(_, subject)| *subject) {
        Some(Subject::Conversation) => SendError::ConversationRefused(code),
        Some(Subject::Thread) => SendError::ThreadRefused(code),
        Some(Subject::Message) => SendError::Gone,
        Some(Subject::Content) => SendError::ContentRefused(code),
        None if code.starts_with("http_") || concerns_bot(&code) => SendError::Unavailable(code),
        None => SendError::Refused(code),
    }
}

/// Tells if the bot itself is refused, whatever it sends: another way would be refused alike.
fn concerns_bot(code: &str) -> bool {
    matches!(
        code,
        "account_inactive"
            | "ekm_access_denied"
            | "invalid_auth"
            | "not_authed"
            | "org_login_required"
            | "team_access_not_granted"
            | "team_added_to_org"
            | "token_expired"
            | "token_revoked"
    )
}
