//! The tolerance between what a card showed and what there is when the run starts.

/// The most that may be changed when `shown` was shown: a fifth more, rounded down.
pub fn max_change(shown: i64) -> i64 {
    shown.saturating_add(shown / 5)
}
