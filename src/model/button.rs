//! Buttons, and what their opaque tokens stand for.

use super::{Conversation, Person, RunId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A button: a label and an opaque token. What the token stands for is in the store alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Button {
    pub label: String,
    pub token: String,
    pub style: ButtonStyle,
    /// Who has a use for it; empty: everyone. A platform that can show each their own view shows it to them alone. It is no
    /// permission: whoever clicks is checked.
    pub visible_to: Vec<Person>,
}

impl Button {
    /// For everyone.
    pub fn new(label: impl Into<String>, token: String, style: ButtonStyle) -> Button {
        Button { label: label.into(), token, style, visible_to: Vec::new() }
    }
}

/// How loudly a button speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ButtonStyle {
    Plain,
    Primary,
    Danger,
}

/// A button's token: 128 random bits in hex, and the place it was posted in.
#[derive(Debug, Clone, PartialEq)]
pub struct ButtonToken {
    pub token: String,
    pub purpose: TokenPurpose,
    pub place: Conversation,
}

/// What a button's token stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TokenPurpose {
    /// A verdict on a run, on one posted copy of its card.
    Decision { run: RunId, verdict: Decision, card: i64 },
    /// A look at one posted copy of a run's card.
    View { run: RunId, card: i64 },
    /// A command to run as the clicker: bound to what the row showed.
    RunCommand { command: String, environment: Option<String>, arguments: BTreeMap<String, String> },
}

/// What a card's button says.
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
