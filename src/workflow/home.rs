//! Home pages: a person's own page with the bot. Its content is the answer to the command `home`, at most once in a few seconds.

use super::platforms::Platforms;
use crate::ephemeral::DuplicateFilter;
use crate::model::{ChatEvent, ChatEventKind, Reply};
use std::sync::Arc;
use std::time::Duration;

/// The command whose answer the page shows.
pub(super) const HOME_COMMAND: &str = "home";

/// A page that is opened again this soon isn't refreshed: each refresh is a read of every environment.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);

/// Pages that are remembered as fresh.
const MAX_FRESH: usize = 10_000;

pub(super) struct Homes {
    platforms: Arc<Platforms>,
    fresh: DuplicateFilter,
}

impl Homes {
    pub fn new(platforms: Arc<Platforms>) -> Homes {
        Homes { platforms, fresh: DuplicateFilter::new(REFRESH_INTERVAL, MAX_FRESH) }
    }

    /// True if the event opens a page that was refreshed a moment ago; else the page counts as refreshed from now on.
    pub fn is_fresh(&self, incoming: &ChatEvent) -> bool {
        let sender = &incoming.sender;
        let page = || format!("{:?}/{}/{}", sender.platform, sender.workspace, sender.account);
        incoming.event == ChatEventKind::Home && !self.fresh.is_first(&page())
    }

    /// Shows a reply on the sender's page. It is refreshed whenever it is opened: what fails isn't repeated.
    pub async fn publish(&self, incoming: &ChatEvent, reply: &Reply) {
        let Some(platform) = self.platforms.get(incoming.sender.platform) else { return };
        if let Err(error) = platform.publish_home(&incoming.sender, reply).await {
            tracing::warn!(%error, "publishing a home page failed");
        }
    }

    /// A click on a page comes without a conversation: its answers belong into the direct one.
    pub async fn in_direct_conversation(&self, incoming: ChatEvent) -> ChatEvent {
        let is_click = matches!(incoming.event, ChatEventKind::Button { .. });
        if !is_click || incoming.conversation.account().is_none() {
            return incoming;
        }
        let Some(platform) = self.platforms.get(incoming.sender.platform) else { return incoming };
        match platform.direct_conversation(&incoming.sender).await {
            Ok(conversation) => ChatEvent { conversation, ..incoming },
            Err(error) => {
                tracing::warn!(%error, "opening the direct conversation of a home page failed");
                incoming
            }
        }
    }
}
