//! A neutral reply into an Adaptive Card.

use crate::message::{Person, Reply, TooLarge};
use serde_json::{Value, json};

/// Whose eyes a card is for.
pub struct View<'a> {
    pub viewer: Option<&'a Person>,
    pub user_ids: &'a [String],
    pub token: Option<&'a str>,
}

pub struct Rendered {
    pub card: Value,
    pub summary: String,
}

pub fn render(_reply: &Reply, view: &View<'_>) -> Rendered {
    let _ = (view.viewer, view.user_ids, view.token);
    Rendered { card: json!({}), summary: String::new() }
}

pub fn fits(_reply: &Reply) -> Result<(), TooLarge> {
    Ok(())
}
