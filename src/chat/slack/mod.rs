//! Slack: the only module that knows its Web API and Block Kit. In: [`verify`] proves that a request is Slack's, [`parse`]
//! turns it into an [`IncomingEvent`](crate::model::IncomingEvent), [`socket`] takes the same things from a websocket. Out:
//! [`render`] turns a [`Reply`](crate::model::Reply) into blocks within Slack's [`limits`], [`send`] delivers them through
//! [`api`]. Nothing here decides who may do what.

mod accounts;
pub mod api;
pub mod limits;
pub mod parse;
pub mod render;
pub mod send;
pub mod socket;
pub mod verify;

pub use parse::{ParsedRequest, SlackParser};
pub use send::SlackPlatform;
pub use verify::SignatureVerifier;
