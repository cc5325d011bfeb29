//! Slack: the only module that knows its Web API and Block Kit. In: [`verify`], [`parse`], [`socket`]. Out: [`render`],
//! [`send`] through [`api`].

pub mod api;
pub mod parse;
pub mod render;
pub mod send;
pub mod socket;
pub mod verify;

pub use parse::{ParsedRequest, SlackParser};
pub use send::SlackPlatform;
pub use verify::SignatureVerifier;
