//! Repeats of calls over the network: after a growing pause where a call didn't get through, and as told where the other side
//! asks to wait.

use std::time::Duration;

/// Waits between the attempts of a call whose end is decided elsewhere: each twice as long as the one before, up to a longest, and each
/// shortened at random by up to a half, so that several processes don't come back at one moment.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { next: first, longest }
    }

    /// The time to wait before the next attempt.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next.min(self.longest);
        self.next = wait.saturating_mul(2);
        let mut random = [0];
        // Without randomness the whole wait.
        let _ = getrandom::fill(&mut random);
        wait - wait / 2 * u32::from(random[0]) / u32::from(u8::MAX)
    }
}

/// Limits of the repeats of one call.
#[derive(Debug)]
pub struct RetryPolicy {
    /// Pauses before the repeats of a call that didn't get through; afterwards it has failed.
    pub backoff: &'static [Duration],
    /// Times that the other side may ask to wait.
    pub max_waits: usize,
    /// Sum of the waits that the other side may ask for.
    pub max_wait: Duration,
}

/// Result of one attempt.
#[derive(Debug)]
pub enum Attempt<T, E> {
    Done(T),
    /// A failure that a repeat wouldn't change, or must not follow.
    Failed(E),
    /// A failure that a repeat may get past.
    Retry(E),
    /// The other side asks to wait.
    RateLimited(Duration, E),
}

impl<T, E> Attempt<T, E> {
    /// The error, if it was not done.
    pub fn error(&self) -> Option<&E> {
        match self {
            Attempt::Done(_) => None,
            Attempt::Failed(error) | Attempt::Retry(error) | Attempt::RateLimited(_, error) => Some(error),
        }
    }
}

/// Attempts a call until it is done, has failed, or the policy is exhausted. The error is the last attempt's.
pub async fn retry<T, E, F>(policy: &RetryPolicy, mut attempt: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Attempt<T, E>>,
{
    let mut backoff = policy.backoff.iter();
    let (mut waits, mut waited) = (0, Duration::ZERO);
    loop {
        let (error, pause) = match attempt().await {
            Attempt::Done(value) => return Ok(value),
            Attempt::Failed(error) => return Err(error),
            Attempt::Retry(error) => (error, backoff.next().copied()),
            Attempt::RateLimited(wait, error) => {
                waits += 1;
                waited += wait;
                let allowed = waits <= policy.max_waits && waited <= policy.max_wait;
                (error, allowed.then_some(wait))
            }
        };
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_differ() {
        let milliseconds = Duration::from_millis;
        let mut all = Vec::new();
        for _ in 0..20 {
            let mut backoff = Backoff::new(milliseconds(50), milliseconds(1_000));
            for whole in [50, 100, 200, 400, 800, 1_000, 1_000].map(milliseconds) {
                let wait = backoff.wait();
                assert!(whole / 2 <= wait && wait <= whole, "{wait:?} of {whole:?}");
                all.push(wait);
            }
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert!(all.len() > count / 4, "{} different waits of {count}", all.len());
    }

    const POLICY: RetryPolicy = RetryPolicy {
        backoff: &[Duration::from_millis(1), Duration::from_millis(2)],
        max_waits: 3,
        max_wait: Duration::from_millis(20),
    };

    /// Number of attempts, and the outcome, where every attempt ends in the same way.
    async fn repeated(attempt: impl Fn() -> Attempt<(), &'static str>) -> (usize, Result<(), &'static str>) {
        let mut attempts = 0;
        let outcome = retry(&POLICY, || {
            attempts += 1;
            std::future::ready(attempt())
        })
        .await;
        (attempts, outcome)
    }

    #[tokio::test]
    async fn a_call_is_repeated_as_often_as_the_policy_allows() {
        let wait = |millis| move || Attempt::RateLimited(Duration::from_millis(millis), "limited");
        assert_eq!(repeated(|| Attempt::Done(())).await, (1, Ok(())));
        assert_eq!(repeated(|| Attempt::Failed("refused")).await, (1, Err("refused")));
        assert_eq!(repeated(|| Attempt::Retry("lost")).await, (3, Err("lost")));
        assert_eq!(repeated(wait(0)).await, (4, Err("limited")));
        assert_eq!(repeated(wait(8)).await, (3, Err("limited")));
        assert_eq!(repeated(wait(21)).await, (1, Err("limited")));
    }
}
