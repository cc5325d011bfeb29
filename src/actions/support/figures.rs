//! Figures of the servers over time: they are sampled in the background, and tell how fast the databases grow.

use super::servers::ask_server;
use crate::app::App;
use crate::model::LoginKind;
use crate::postgres::Address;
use crate::store::{Figure, StoreError, StoreResult};
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;

/// Time between two samples.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(600);

const LIMIT: Duration = Duration::from_secs(5);

/// The store is waited for this long: in an incident the rest of the answer matters more.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Name of the figure with the size of all databases, and of that with the size of the WAL.
const DATABASES: &str = "databases_bytes";
const WAL: &str = "wal_bytes";

/// Growth is told of samples over this time at least, and of this number.
const SHORTEST: f64 = 6.0 * 3_600.0;
const FEWEST: usize = 20;

/// Samples that an estimate uses at most, evenly spread: each is compared with each.
const MAX_SAMPLES: usize = 300;

const DAY_S: f64 = 86_400.0;

/// Samples the figures of every server, all of that time (UTC). A server that can't be asked, or not as a whole, has none.
///
/// # Errors
/// When the store can't be written.
pub async fn sample(app: &App, at: Timestamp) -> StoreResult<()> {
    let environments = app.config.environments.iter();
    let servers = environments
        .flat_map(|environment| environment.servers.iter().map(move |server| (environment, server)));
    let samples = servers.map(|(environment, server)| async move {
        let address = Address::new(&environment.name, &server.name, LoginKind::Reader);
        let rows =
            ask_server(app, &address, "countersign figures", LIMIT, include_str!("figures.sql"), &[]).await;
        let rows = rows.unwrap_or_else(|error| {
            tracing::debug!(environment = environment.name, server = server.name, error, "no figures");
            Vec::new()
        });
        let figure = |name: &str| {
            let value = rows.first()?.value::<f64>(name)?;
            let (environment, server) = (environment.name.clone(), server.name.clone());
            Some(Figure { environment, server, name: name.to_owned(), at, value })
        };
        [figure(DATABASES), figure(WAL)]
    });
    let samples = futures::future::join_all(samples).await;
    app.audit.store.put_figures(samples.into_iter().flatten().flatten().collect()).await
}

/// The growth of each server's databases in bytes a day, by the server's name, as the value of
/// [`DISK_GROWTH`](crate::catalog::DISK_GROWTH).
pub async fn growth(app: &App, environment: &str) -> String {
    let servers = app.config.environments.iter().filter(|known| known.name == environment);
    let servers = servers.flat_map(|environment| &environment.servers);
    let growth = servers.map(|server| async move {
        let samples = app.audit.store.figures(environment, &server.name, DATABASES);
        let samples = tokio::time::timeout(READ_TIMEOUT, samples).await;
        let samples = samples.unwrap_or(Err(StoreError::TooLate)).unwrap_or_else(|error| {
            tracing::warn!(%error, "reading figures failed");
            Vec::new()
        });
        let growth =
            per_day(&samples).map(|growth| json!({ "per_day": growth.bytes, "over_s": growth.over_s }));
        (server.name.clone(), growth.unwrap_or_default())
    });
    let growth: serde_json::Map<_, _> = futures::future::join_all(growth).await.into_iter().collect();
    serde_json::Value::from(growth).to_string()
}

/// A growth, and the time of the samples that show it.
#[derive(Debug, PartialEq)]
struct Growth {
    /// A day.
    bytes: f64,
    over_s: f64,
}

/// The growth that most samples agree with: the median of the slopes between each two (Theil and Sen), so that a table which was
/// loaded or dropped doesn't decide. `None` of too few samples, and of databases that don't grow.
fn per_day(samples: &[(Timestamp, f64)]) -> Option<Growth> {
    let (first, last) = (samples.first()?.0, samples.last()?.0);
    let over_s = last.duration_since(first).as_secs_f64();
    if samples.len() < FEWEST || over_s < SHORTEST {
        return None;
    }
    let step = samples.len().div_ceil(MAX_SAMPLES);
    let points: Vec<(f64, f64)> = samples
        .iter()
        .step_by(step)
        .map(|(at, value)| (at.duration_since(first).as_secs_f64() / DAY_S, *value))
        .collect();
    let pairs = points.iter().enumerate().flat_map(|(index, from)| {
        points[index + 1..].iter().map(move |to| (to.1 - from.1) / (to.0 - from.0))
    });
    let mut slopes: Vec<f64> = pairs.filter(|slope| slope.is_finite()).collect();
    slopes.sort_unstable_by(f64::total_cmp);
    let bytes = *slopes.get(slopes.len() / 2)?;
    (bytes >= 1.0).then_some(Growth { bytes, over_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minutes).unwrap()
    }

    #[test]
    fn too_few_samples_and_what_shrinks_tell_nothing() {
        let growing = |count: i64| (0..count).map(|n| (at(10 * n), n as f64 * 1e6)).collect::<Vec<_>>();
        assert_eq!(per_day(&[]), None);
        assert_eq!(per_day(&growing(19)), None);
        assert_eq!(per_day(&growing(36)), None, "10 minutes are missing");
        assert!(per_day(&growing(37)).is_some());
        let shrinking: Vec<_> = (0..100).map(|n| (at(10 * n), 1e12 - n as f64 * 1e6)).collect();
        assert_eq!(per_day(&shrinking), None);
    }

    #[test]
    fn one_large_load_does_not_decide() {
        let loaded = |n: i64| if n > 500 { 5e10 } else { 0.0 };
        let samples: Vec<_> = (0..2_016).map(|n| (at(10 * n), n as f64 * 1e6 + loaded(n))).collect();
        // 144 samples a day.
        let growth = per_day(&samples).unwrap();
        assert!(growth.bytes < 2e8, "{growth:?}: without the load it is 144 MB a day, with it 3.7 GB");
    }

    proptest! {
        /// A disk that fills at a known rate, with noise, and with samples that are missing.
        #[test]
        fn growth_agrees_with_the_rate(
            rate in 1e6_f64..1e12,
            noise in prop::collection::vec(-0.5_f64..0.5, 1_000),
            missing in prop::collection::vec(any::<bool>(), 1_000),
        ) {
            let per_sample = rate / 144.0;
            let samples: Vec<_> = (0..1_000_i64).zip(noise.iter().zip(&missing))
                .filter(|(_, (_, is_missing))| !**is_missing)
                .map(|(n, (noise, _))| (at(10 * n), 1e12 + per_sample * (n as f64 + noise)))
                .collect();
            let growth = per_day(&samples).unwrap();
            prop_assert!((growth.bytes / rate - 1.0).abs() < 0.05, "{growth:?}, not {rate}");
        }
    }
}
