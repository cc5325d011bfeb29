//! The state on real Redis servers: one pace over two replicas, the login and the certificate, the Sentinels.

use crate::harness::found;
use crate::redis_server::{PRIMARY, RedisGroup, RedisServer};
use countersign::config::{RedisServer as Place, RedisSettings, Server, Tls};
use countersign::model::{RunId, random_token};
use countersign::shared_state::{Progress, RedisObstacle, RedisState, SharedState, check_redis};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Less than the wait that is not believed, and more than a slow machine takes between two calls.
const INTERVAL: Duration = Duration::from_secs(12);

/// Longer than a replica takes to react to a change that it knows of.
const REACTION: Duration = Duration::from_millis(300);

fn server(host: &str, port: u16) -> Server {
    Server { name: "Redis".to_owned(), host: host.to_owned(), port }
}

fn settings(server: Server) -> RedisSettings {
    RedisSettings {
        server: Place::Address(server),
        user: None,
        password: None,
        tls: Tls::Off,
        key_prefix: "countersign".to_owned(),
    }
}

/// A replica's end of it.
fn replica(settings: &RedisSettings, progress: &Arc<Progress>) -> RedisState {
    let _ = rustls::crypto::ring::default_provider().install_default();
    RedisState::start(settings, Arc::clone(progress)).unwrap()
}

/// Two replicas without running work.
fn replicas(settings: &RedisSettings) -> [RedisState; 2] {
    [(); 2].map(|()| replica(settings, &Arc::default()))
}

/// Waits until the second replica waits for a turn that the first has taken.
async fn share_a_pace(first: &RedisState, second: &RedisState) {
    found("one pace", async || {
        let new_key = random_token().expect("randomness");
        first.reserve_turn(&new_key, INTERVAL).await;
        (second.reserve_turn(&new_key, INTERVAL).await > INTERVAL / 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_one_pace_and_each_keeps_its_own_without_redis() {
    let mut redis = RedisServer::start(&[]).await;
    let settings = settings(server("127.0.0.1", redis.port));
    let [first, second] = replicas(&settings);
    share_a_pace(&first, &second).await;
    redis.kill();
    assert_eq!(first.reserve_turn("D", INTERVAL).await, Duration::ZERO);
    assert_eq!(second.reserve_turn("D", INTERVAL).await, Duration::ZERO, "Redis is gone");
    assert!(first.reserve_turn("D", INTERVAL).await > INTERVAL / 2, "its own turns count");
    redis.start_again().await;
    share_a_pace(&first, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_change_wakes_the_other_replicas_and_not_its_own() {
    let redis = RedisServer::start(&[]).await;
    let settings = settings(server("127.0.0.1", redis.port));
    let progress = [Arc::new(Progress::default()), Arc::new(Progress::default())];
    let [first, second] = progress.each_ref().map(|progress| replica(&settings, progress));
    found("both replicas' announcements that they are there", async || {
        let statistics: String = redis.command(&["INFO", "commandstats"]).await;
        statistics.contains("cmdstat_publish:calls=2,").then_some(())
    })
    .await;
    // Messages arrive in the order of sending: what was announced before is known with this progress.
    let flush = async |run: RunId| {
        let message =
            format!("{{\"replica\":\"x\",\"runs\":[{{\"run\":{run},\"percent\":1,\"label\":\"\"}}]}}");
        let _: i64 = redis.command(&["PUBLISH", "countersign:progress", &message]).await;
        for progress in &progress {
            found("progress", async || progress.get(run)).await;
        }
    };
    flush(1).await;
    let (mut at_first, mut at_second) = (first.changes(), second.changes());
    first.announce_change();
    let woken = tokio::time::timeout(Duration::from_secs(60), at_second.next()).await;
    assert!(woken.is_ok(), "the second replica isn't woken");
    flush(2).await;
    let woken = tokio::time::timeout(REACTION, at_first.next()).await;
    assert!(woken.is_err(), "the first replica is woken by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_or_a_stop_the_replicas_share_the_pace_of_the_new_primary() {
    let mut group = RedisGroup::start().await;
    let sentinel = server("127.0.0.1", group.sentinel_port());
    let settings = RedisSettings {
        server: Place::Sentinels {
            sentinels: vec![server("127.0.0.1", 1), sentinel.clone()],
            master: PRIMARY.to_owned(),
            password: None,
        },
        ..settings(server("", 0))
    };
    let [first, second] = replicas(&settings);
    share_a_pace(&first, &second).await;

    group.lose_primary().await;
    share_a_pace(&first, &second).await;
    let _: String = group.primary().await.command(&["FLUSHALL"]).await;
    share_a_pace(&first, &second).await;
    group.stop();
    group.start_again().await;
    share_a_pace(&first, &second).await;
    let unknown = Place::Sentinels { sentinels: vec![sentinel], master: "other".to_owned(), password: None };
    let refused = check_redis(&RedisSettings { server: unknown, ..settings }).await;
    assert_eq!(refused, Err(RedisObstacle::NoMaster("other".to_owned())));
}

/// A certificate for `localhost`, its key, and the authority that signed it.
struct Certificate {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    fn make(directory: &Path) -> Certificate {
        let authority_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::new(params, authority_key)).unwrap();
        let file = |name: &str, text: String| {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        Certificate {
            authority: file("authority.pem", authority.pem()),
            certificate: file("leaf.pem", leaf.pem()),
            key: file("leaf.key", key.serialize_pem()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_counts_only_for_its_name_and_its_authority() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let Certificate { authority, certificate, key } = Certificate::make(directory.path());
    let redis = RedisServer::start_with_tls(&certificate, &key);
    let verified = |host: &str, ca_file: &Path| RedisSettings {
        tls: Tls::Verified { ca_file: Some(ca_file.to_owned()) },
        ..settings(server(host, redis.port))
    };
    found("Redis over TLS", async || check_redis(&verified("localhost", &authority)).await.ok()).await;
    let [first, second] = replicas(&verified("localhost", &authority));
    share_a_pace(&first, &second).await;

    let other = tempfile::tempdir().unwrap();
    let other = Certificate::make(other.path()).authority;
    for (host, ca_file, words) in
        [("127.0.0.1", &authority, "not valid for name"), ("localhost", &other, "BadSignature")]
    {
        let Err(RedisObstacle::Tls(reason)) = check_redis(&verified(host, ca_file)).await else {
            panic!("{host} is trusted");
        };
        assert!(reason.contains(words), "{host}: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_needs_only_the_rights_that_the_documentation_lists() {
    const RIGHTS: &str = "~countersign:* &countersign:* -@all +set +eval +pttl +publish +subscribe";
    assert!(include_str!("../../docs/operations.md").contains(RIGHTS));
    let redis = RedisServer::start(&[]).await;
    for (user, rights) in [("countersign", RIGHTS), ("limited", "~countersign:* &countersign:* -@all +set")] {
        let rights = rights.split(' ');
        let words: Vec<&str> =
            ["ACL", "SETUSER", user, "on", ">hush-7781", "resetchannels"].into_iter().chain(rights).collect();
        let _: String = redis.command(&words).await;
    }
    let user = |user: &str, password: &str| RedisSettings {
        user: Some(user.to_owned()),
        password: Some(password.into()),
        ..settings(server("127.0.0.1", redis.port))
    };
    let permitted = user("countersign", "hush-7781");
    assert_eq!(check_redis(&permitted).await, Ok(()));
    let [first, second] = replicas(&permitted);
    share_a_pace(&first, &second).await;
    assert_eq!(check_redis(&user("countersign", "wrong-4410")).await, Err(RedisObstacle::Login));
    let Err(obstacle @ RedisObstacle::Permission(_)) = check_redis(&user("limited", "hush-7781")).await
    else {
        panic!("it has not the rights");
    };
    assert!(obstacle.to_string().contains("subscribe"), "{obstacle}");
    let shown = format!("{permitted:?}");
    assert!(!shown.contains("hush-7781"), "{shown}");
}
