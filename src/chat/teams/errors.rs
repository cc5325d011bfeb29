//! Teams' refusals by status and code, and what each says of a message. A code that isn't in the table may pass.

use super::connector::ConnectorError;
use crate::platform::SendError;

/// The activity that a call was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallTarget {
    /// A new message, in a conversation or a thread of it; or an account.
    Conversation,
    /// A posted message.
    Message,
}

/// The error as a metric's label: its status where it has one, else this program's own reason. Teams' own text never becomes one.
pub(super) fn label(error: &ConnectorError) -> &'static str {
    match error {
        ConnectorError::RateLimited(_) => "ratelimited",
        ConnectorError::Code(400, _) => "http_400",
        ConnectorError::Code(401, _) => "http_401",
        ConnectorError::Code(403, _) => "http_403",
        ConnectorError::Code(404, _) => "http_404",
        ConnectorError::Code(413, _) => "http_413",
        ConnectorError::Code(..) => "other",
        ConnectorError::Unavailable(reason) => {
            let reasons =
                ["bad_address", "connection", "no_token", "server_error", "timeout", "unreadable_answer"];
            reasons.into_iter().find(|known| *known == reason.as_str()).unwrap_or("other")
        }
    }
}

/// Converts a failed call into the error that every platform reports. Source:
/// <https://learn.microsoft.com/microsoftteams/platform/bots/build-conversational-capability#status-codes-from-agent-conversational-apis>.
pub(super) fn send_error(error: ConnectorError, target: CallTarget) -> SendError {
    let (status, code) = match error {
        ConnectorError::RateLimited(wait) => return SendError::RateLimited(wait),
        ConnectorError::Unavailable(reason) => return SendError::Unavailable(reason),
        ConnectorError::Code(status, code) => (status, code),
    };
    match (status, code.as_str(), target) {
        // The bot itself is refused, which its operators can fix.
        (401, _, _) => SendError::Unavailable(code),
        (403, _, _) | (404, "ConversationNotFound", _) => SendError::ConversationRefused(code),
        (404, "ActivityNotFoundInConversation", CallTarget::Message) => SendError::Gone,
        (404, "ActivityNotFoundInConversation", CallTarget::Conversation) => SendError::ThreadRefused(code),
        (404, _, CallTarget::Conversation) => SendError::ConversationRefused(code),
        (400 | 413, _, _) => SendError::ContentRefused(code),
        _ => SendError::Refused(code),
    }
}
