//! Teams' limits, each with its source. Sizes are in bytes of JSON, which is what Teams counts.
//!
//! [cards]: <https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-reference>.
//! [views]: <https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/universal-actions-for-adaptive-cards/user-specific-views>.

/// A card. Teams says 100 KB for a whole message of a bot today, said 40 KB before, and 28 KB for cards in its older pages
/// (<https://learn.microsoft.com/microsoftteams/platform/bots/how-to/format-your-bot-messages>); clouds and clients differ. This
/// is below the oldest, and leaves 3 KB for the message around the card.
pub const CARD_BYTES: usize = 25_000;
/// People who get a view of their own without asking for it [views].
pub const USER_IDS: usize = 60;
/// An account's id in such a list. Teams' own are around 95 characters; a longer one isn't one.
pub const USER_ID_BYTES: usize = 110;
/// Bytes of those ids in a card: each with its quotes and comma, and the action that they are for.
pub const VIEWS_BYTES: usize = USER_IDS * (USER_ID_BYTES + 3) + 600;
/// Actions of a set that are seen; the rest goes into a menu [cards].
pub const ACTIONS: usize = 6;
/// A button's data: an opaque token, which is 32 characters long.
pub const TOKEN_BYTES: usize = 200;
/// Columns of a table, ours: none is documented, and nobody reads more.
pub const TABLE_COLUMNS: usize = 20;
/// Elements of a card, ours: none is documented, and a card within its bytes hardly has more.
pub const ELEMENTS: usize = 250;
/// The notification's text, ours: a phone shows two lines of it.
pub const SUMMARY_BYTES: usize = 1_000;
