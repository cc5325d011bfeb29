//! Bookkeeping of this process: the cards that it is sending, those that it sends again later, and its runs. All of it is lost with the
//! process; the record is in the store.

use crate::model::RunId;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// The retries of a card come after a second, then after twice as long each time, up to this: a platform that answers too late may have
/// posted it, and one that is asked too often keeps asking to wait.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// The condition on which a card is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CardUpdate {
    /// It shows less than the record.
    IfOutdated,
    /// As [`CardUpdate::IfOutdated`], for a message that was clicked: it exists, even if it was abandoned as gone.
    IfClicked,
    /// It shows something that no event has, or its message turned out to be there.
    Always,
}

/// The cards that are being sent, each with the update that has to follow.
#[derive(Default)]
pub(super) struct CardsInFlight(Mutex<HashMap<i64, Option<CardUpdate>>>);

impl CardsInFlight {
    /// Begins, unless the card is in flight already; then the update follows.
    pub fn begin(&self, card: i64, update: CardUpdate) -> bool {
        let mut in_flight = self.0.lock();
        match in_flight.get_mut(&card) {
            Some(next) => {
                *next = (*next).max(Some(update));
                false
            }
            None => {
                in_flight.insert(card, None);
                true
            }
        }
    }

    /// Ends, unless an update has to follow; then the card stays in flight.
    pub fn end(&self, card: i64) -> Option<CardUpdate> {
        let mut in_flight = self.0.lock();
        let next = in_flight.remove(&card).flatten();
        if next.is_some() {
            in_flight.insert(card, None);
        }
        next
    }

    pub fn contains(&self, card: i64) -> bool {
        self.0.lock().contains_key(&card)
    }
}

/// A set of runs.
#[derive(Default)]
pub(super) struct RunSet(Mutex<BTreeSet<RunId>>);

impl RunSet {
    pub fn insert(&self, run: RunId) {
        self.0.lock().insert(run);
    }

    /// Removes a run; `false` if it was not in the set.
    pub fn remove(&self, run: RunId) -> bool {
        self.0.lock().remove(&run)
    }

    pub fn all(&self) -> Vec<RunId> {
        self.0.lock().iter().copied().collect()
    }
}

/// Cards that could not be sent, with the number of attempts and the time of the next. A new event of the run is sent at once.
#[derive(Default)]
pub(super) struct RetrySchedule(Mutex<HashMap<i64, (u32, Instant)>>);

impl RetrySchedule {
    /// Schedules the next attempt, no earlier than `at_least` from now.
    pub fn schedule_retry(&self, card: i64, now: Instant, at_least: Duration) {
        let mut schedule = self.0.lock();
        let attempts = schedule.get(&card).map_or(0, |(attempts, _)| *attempts);
        let wait = Duration::from_secs(1 << attempts.min(10)).min(MAX_RETRY_DELAY).max(at_least);
        schedule.insert(card, (attempts + 1, now + wait));
    }

    pub fn clear_retry(&self, card: i64) {
        self.0.lock().remove(&card);
    }

    pub fn is_due(&self, card: i64, now: Instant) -> bool {
        self.0.lock().get(&card).is_none_or(|(_, due)| *due <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_wait_longer_each_time_up_to_a_limit_and_as_long_as_the_platform_asks() {
        let (retries, mut now) = (RetrySchedule::default(), Instant::now());
        assert!(retries.is_due(1, now));
        for seconds in [1, 2, 4, 8, 16, 30, 30, 90] {
            let asked = if seconds == 90 { Duration::from_secs(90) } else { Duration::ZERO };
            retries.schedule_retry(1, now, asked);
            assert!(!retries.is_due(1, now) && retries.is_due(2, now));
            now += Duration::from_secs(seconds);
            let just_before = now - Duration::from_millis(1);
            assert!(!retries.is_due(1, just_before) && retries.is_due(1, now), "{seconds} s");
        }
        retries.schedule_retry(1, now, Duration::ZERO);
        retries.clear_retry(1);
        assert!(retries.is_due(1, now));
    }

    #[test]
    fn a_card_in_flight_is_sent_again_for_the_strongest_reason() {
        let cards = CardsInFlight::default();
        assert!(cards.begin(1, CardUpdate::IfOutdated));
        for update in [CardUpdate::IfOutdated, CardUpdate::Always, CardUpdate::IfOutdated] {
            assert!(!cards.begin(1, update));
        }
        assert_eq!(cards.end(1), Some(CardUpdate::Always));
        assert!(cards.contains(1));
        assert_eq!(cards.end(1), None);
        assert!(!cards.contains(1));
    }
}
