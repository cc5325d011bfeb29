//! Microsoft Teams: the only module that knows Adaptive Cards and the Bot Framework. In: [`verify`], [`parse`]. Out: [`render`],
//! [`send`] through [`connector`].

pub mod connector;
pub mod parse;
pub mod render;
pub mod send;
mod text_run;
pub mod verify;

pub use parse::{ParsedActivity, TeamsParser};
pub use send::TeamsPlatform;
pub use verify::TokenVerifier;
