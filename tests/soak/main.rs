//! The soak: replicas that share an audit log, many people, and faults. A checker of what the people saw, which has tests of its own.

#[path = "../balancer/mod.rs"]
mod balancer;
mod dice;
mod faults;
mod journal;
mod linearizability;
mod linearizability_tests;
mod messages;
mod people;
mod proxy;
mod record;
#[expect(dead_code, reason = "the servers here have no TLS")]
#[path = "../redis_server/mod.rs"]
mod redis_server;
mod replica;
mod scene;
mod verdict;

use faults::Faults;
use people::Crowd;
use scene::Scene;
use std::sync::Arc;
use std::time::{Duration, Instant};
use verdict::Verdict;

/// Length and size of a soak.
struct Load {
    period: Duration,
    people: usize,
    per_second: f64,
    seed: u64,
}

/// The share of the load that people reach in every minute: now and then there is no card to decide.
const LEAST_LOAD: f64 = 0.5;

/// `make soak` sets it: seconds of load.
const SECONDS: &str = "COUNTERSIGN_TEST_SOAK_SECONDS";
/// Another seed makes other faults.
const SEED: &str = "COUNTERSIGN_TEST_SOAK_SEED";

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|value| value.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_lose_nothing_and_do_nothing_twice() {
    let seconds = number(SECONDS);
    let load = Load {
        period: Duration::from_secs(seconds.unwrap_or(22)),
        people: if seconds.is_some() { 200 } else { 40 },
        per_second: 5.0,
        seed: number(SEED).unwrap_or(14),
    };
    let begin = Instant::now();
    let scene = Arc::new(Scene::start("soak", load.people).await);
    let (faults, mut crowd) = (Faults::new(&scene), Crowd::new(&scene, load.seed));
    let set_up = begin.elapsed();
    let until = Instant::now() + load.period;
    let disturb = async {
        match seconds {
            Some(_) => faults.many(until, load.seed).await,
            None => faults.few().await,
        }
    };
    let (deliveries, ()) = tokio::join!(crowd.act(until, load.per_second), disturb);
    let loaded = begin.elapsed();
    let mut verdict = Verdict::settled(&scene).await;
    println!("set up after {set_up:.1?}, loaded until {loaded:.1?}, settled after {:.1?}", begin.elapsed());
    verdict.judge().await;
    let counted: i64 = scene.counted().await.values().sum();
    let journal = scene.journal.lock();
    println!("calls (all, open): {:?}", journal.figures());
    println!("deliveries: {deliveries:?}");
    println!("what people did in each minute: {:?}", crowd.by_minute);
    println!("faults: {:?}", faults.counts);
    println!("runs: {:?}; rows: {counted}", verdict.states());
    let repeated = journal.cards.values().filter(|messages| messages.len() > 1).count();
    println!("cards posted twice: {repeated}; internal errors: {}", journal.internal_errors);
    for text in journal.unknown.iter().take(5) {
        println!("not understood: {text}");
    }
    assert!(counted > 0, "nothing was approved");
    let whole_minutes = usize::try_from(load.period.as_secs() / 60).expect("a short time");
    let least = (load.per_second * 60.0 * LEAST_LOAD) as usize;
    let is_loaded = crowd.by_minute.iter().take(whole_minutes).all(|deeds| *deeds >= least);
    assert!(is_loaded, "people had nothing to do: {:?}", crowd.by_minute);
    assert!(verdict.faults.is_empty(), "{}\nlogs: {}", verdict.faults.join("\n"), scene.directory.display());
}
