//! Microsoft Teams: the only module that knows Adaptive Cards and the Bot Framework. In: [`verify`] proves that an activity is
//! Teams', [`parse`] turns it into an [`IncomingEvent`](crate::model::IncomingEvent). Out: [`render`] turns a
//! [`Reply`](crate::model::Reply) into a card within Teams' [`limits`], [`send`] delivers it through [`connector`]. Nothing
//! here decides who may do what.

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
