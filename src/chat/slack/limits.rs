//! Slack's limits, each with its source. Lengths are in UTF-16 code units, the strictest way to count a "character".
//!
//! [types]: the doc comments of npm's `@slack/types` 3.2.0. [blocks]: <https://api.slack.com/reference/block-kit/blocks>.

/// Blocks of a message [blocks].
pub const BLOCKS: usize = 50;
/// All text of a message's blocks together. Slack refuses somewhere above 13,000 (`msg_blocks_too_long`, undocumented;
/// slackapi/bolt-js issue 2509), so this stays below.
pub const MESSAGE_TEXT: usize = 12_000;
/// The notification text. Slack takes 40,000 and advises 4,000; a phone shows two lines
/// (<https://api.slack.com/methods/chat.postMessage#truncating>).
pub const FALLBACK_TEXT: usize = 3_000;
/// The text of a section and of a context's element [blocks].
pub const SECTION_TEXT: usize = 3_000;
/// The text of a field [blocks].
pub const FIELD_TEXT: usize = 2_000;
/// Elements of an actions block [blocks].
pub const ACTIONS: usize = 25;
/// A button's label [types].
pub const BUTTON_TEXT: usize = 75;
/// A button's value [types].
pub const BUTTON_VALUE: usize = 2_000;
/// Rows of a table, its header among them [types].
pub const TABLE_ROWS: usize = 100;
/// Columns of a table [types].
pub const TABLE_COLUMNS: usize = 20;
/// All cells of a message's tables together (<https://docs.slack.dev/reference/block-kit/blocks/table-block>).
pub const TABLE_TEXT: usize = 10_000;

/// Lifetime of a `response_url` (<https://api.slack.com/interactivity/handling#message_responses>): 30 minutes, less one
/// for clocks and queues.
pub const RESPONSE_URL_SECONDS: i64 = 29 * 60;
/// Uses of a `response_url`, same source.
pub const RESPONSE_URL_USES: u8 = 5;

/// Length in Slack's units: UTF-16, as JavaScript counts.
pub fn length(text: &str) -> usize {
    text.encode_utf16().count()
}
