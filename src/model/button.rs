//! Buttons, and the purposes of their opaque tokens.

use super::{Conversation, Person, RunId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A button: a label and an opaque token, whose purpose only the store knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Button {
    pub label: String,
    pub token: String,
    pub style: ButtonStyle,
    /// People who see it, where the platform can show each their own view; empty: everyone. It is no permission: every click is
    /// checked.
    pub visible_to: Vec<Person>,
}

impl Button {
    /// For everyone.
    pub fn new(label: impl Into<String>, token: String, style: ButtonStyle) -> Button {
        Button { label: label.into(), token, style, visible_to: Vec::new() }
    }
}

/// Emphasis of a button.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ButtonStyle {
    Plain,
    Primary,
    Danger,
}

/// A button's token: 128 random bits in hex, and the conversation it was posted in.
#[derive(Debug, Clone, PartialEq)]
pub struct ButtonToken {
    pub token: String,
    pub purpose: TokenPurpose,
    pub place: Conversation,
}

/// Purpose of a button's token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TokenPurpose {
    /// A decision on a run, on one of its cards.
    Decision { run: RunId, verdict: Decision, card: i64 },
    /// A view of one of a run's cards.
    View { run: RunId, card: i64 },
    /// A command to run as the clicker: bound to what the row showed.
    RunCommand { command: String, environment: Option<String>, arguments: BTreeMap<String, String> },
}

/// A decision by a card's button.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Approve,
    Deny,
    Withdraw,
}

/// 128 random bits in hex, for a button. `None` if the system has no randomness: then there is no button.
pub fn random_token() -> Option<String> {
    let mut bits = [0_u8; 16];
    getrandom::fill(&mut bits).ok()?;
    Some(hex::encode(bits))
}
