//! Query text and error messages fit for a chat: literals, comments, secrets and long numbers never leave.
//!
//! The functions never fail. Text that cannot be read with certainty is cut and replaced by `…`: showing too little is
//! a nuisance, showing too much is a leak. Escaping for a chat platform and shortening are the renderer's.

mod message;
mod numbers;
mod patterns;
pub mod quotes;
mod statement;
#[cfg(test)]
mod tests;
mod web;

pub use message::{Stream, identity, name, note, raised, text};
pub use statement::query;
