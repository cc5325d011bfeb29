//! The refusal of U+0000, which PostgreSQL's text can't hold: the same for every store, so that a history can move from one to
//! the other.

use super::{NewEvent, NewRun, StoreError, StoreResult};
use serde::Serialize;

/// # Errors
/// [`StoreError::NulCharacter`] if a text, name or id of the run has U+0000.
pub(super) fn check_run(new: &NewRun) -> StoreResult<()> {
    check(&(&new.request, &new.delivery_id, &new.resource_locks, &new.cards))?;
    new.late_event.iter().chain([&new.first_event]).try_for_each(check_event)
}

/// # Errors
/// [`StoreError::NulCharacter`] if a text, fact or id of the event has U+0000.
pub(super) fn check_event(event: &NewEvent) -> StoreResult<()> {
    check(&(&event.by, &event.facts, &event.texts))
}

/// # Errors
/// [`StoreError::NulCharacter`] if a string in the value has U+0000.
pub(super) fn check(value: &impl Serialize) -> StoreResult<()> {
    let json = serde_json::to_string(value)
        .map_err(|_| StoreError::Broken("a value can't be written as JSON".into()))?;
    if has_escaped_nul(&json) { Err(StoreError::NulCharacter) } else { Ok(()) }
}

/// Tells whether a string in JSON has U+0000, which JSON always escapes. An escaped backslash before `u0000` is no such escape.
fn has_escaped_nul(json: &str) -> bool {
    json.match_indices("\\u0000").any(|(at, _)| {
        let before = json[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        before % 2 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_character_itself_is_refused() {
        for (value, is_refused) in [
            (json!({"a": ["x\u{0}y"]}), true),
            (json!({"\u{0}": 1}), true),
            (json!("\\\u{0}"), true),
            (json!("\\u0000"), false),
            (json!("\\\\u0000 \u{1}"), false),
            (json!("u0000"), false),
        ] {
            assert_eq!(check(&value).is_err(), is_refused, "{value}");
        }
    }
}
