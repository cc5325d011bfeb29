//! Addresses at which people's clients show a message, in Teams' public cloud.

use crate::model::{Conversation, LinkUrl, PostedMessage};
use url::Url;

/// The deep link to a message of a channel or a group chat.
/// Source: <https://learn.microsoft.com/microsoftteams/platform/concepts/build-and-test/deep-link-teams>.
pub(super) fn message_url(posted: &PostedMessage) -> Option<LinkUrl> {
    let Conversation { id, thread, workspace, .. } = &posted.conversation;
    let mut url = Url::parse("https://teams.microsoft.com/l/message").ok()?;
    url.path_segments_mut().ok()?.push(id).push(&posted.message);
    url.query_pairs_mut().append_pair("tenantId", workspace);
    if is_channel(id) {
        // A message that begins a thread is its own parent.
        url.query_pairs_mut().append_pair("parentMessageId", thread.as_ref().unwrap_or(&posted.message));
    } else {
        url.query_pairs_mut().append_pair("context", r#"{"contextType":"chat"}"#);
    }
    let is_shared = id.starts_with("19:") && !posted.message.is_empty();
    LinkUrl::parse(url.as_str()).filter(|_| is_shared)
}

pub(super) fn is_channel(id: &str) -> bool {
    ["@thread.tacv2", "@thread.skype"].iter().any(|kind| id.ends_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PlatformKind;

    #[test]
    fn a_message_of_several_people_has_an_address() {
        let url = |id: &str, thread: Option<&str>| {
            let conversation = Conversation::new(PlatformKind::Teams, "tenant", id.to_owned());
            let conversation = Conversation { thread: thread.map(str::to_owned), ..conversation };
            message_url(&PostedMessage { conversation, message: "17".to_owned() }).map(String::from)
        };
        let channel =
            "https://teams.microsoft.com/l/message/19:a@thread.tacv2/17?tenantId=tenant&parentMessageId=";
        assert_eq!(url("19:a@thread.tacv2", None), Some(format!("{channel}17")));
        assert_eq!(url("19:a@thread.tacv2", Some("3")), Some(format!("{channel}3")));
        let chat = "https://teams.microsoft.com/l/message/19:a@thread.v2/17?tenantId=tenant&context=%7B%22contextType%22%3A%22chat%22%7D";
        assert_eq!(url("19:a@thread.v2", None).as_deref(), Some(chat));
        assert_eq!(url("a:1x", None), None);
    }
}
