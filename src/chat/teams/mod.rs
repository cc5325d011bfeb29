//! Microsoft Teams: the only module that knows Adaptive Cards and the Bot Framework. In: [`verify`], [`parse`]. Out: [`render`]
//! within Teams' [`limits`], [`send`] through [`connector`].

mod accounts;
pub mod connector;
pub mod jwt_crypto;
pub mod limits;
pub mod parse;
pub mod render;
pub mod send;
pub mod verify;

pub use parse::{ParsedActivity, TeamsParser};
pub use send::TeamsPlatform;
pub use verify::TokenVerifier;
