//! The chat platforms, one module each: verify, parse, render, send; and the terminal, for when chat is down. Each knows its own
//! wire format and the neutral values of [`crate::model`], decides nothing, and never imports another.

use std::time::Duration;

/// What the chat platforms share of rendering.
mod render {
    pub mod budget;
    pub mod part;
    pub mod text;
}
pub mod slack;
pub mod teams;
pub mod terminal;

/// Age of a cached report on an account or a conversation at most.
const REPORT_LIFETIME: Duration = Duration::from_secs(300);
/// The same where the bot or the account is absent: the next thing that a person does is add it.
const ABSENT_LIFETIME: Duration = Duration::from_secs(10);
/// A direct conversation's id never changes; it is cached to spare a call.
const DIRECT_LIFETIME: Duration = Duration::from_secs(3_600);
const CACHE_CAPACITY: usize = 10_000;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one attempt of a call, from connecting to the last byte.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after a 429 without `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(1);
