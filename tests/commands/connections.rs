//! `connections` under every limit: the server's, with what it reserves, a role's and a database's. No verdict promises more than the
//! smallest of them leaves, and PostgreSQL itself refuses the next login exactly where the answer says so.

use crate::harness::{SOON, World, severity, words};
use crate::installed::{on_each_server, servers};
use countersign::demo::postgres::Options;
use countersign::model::Severity;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Connections of the asset service's role in its database.
const IN_USE: i64 = 3;

/// Limits of a role or a database with that many: none, far off, near, reached, and one that was lowered below.
const LIMITS: [i64; 5] = [-1, 9, 4, 3, 2];

struct Scene {
    world: World,
    superuser: Client,
    _sessions: Vec<Client>,
}

impl Scene {
    async fn start(bin_dir: std::path::PathBuf) -> Scene {
        let settings = vec![("max_connections".to_owned(), "40".to_owned())];
        let options = Options { bin_dir: Some(bin_dir), settings, ..Options::default() };
        let mut world = World::with(options).await;
        if world.cluster.version_num() >= 160_000 {
            let superuser = world.cluster.connect("postgres").await.unwrap();
            superuser.batch_execute("ALTER SYSTEM SET reserved_connections = 8").await.unwrap();
            // It is stopped like a crash, and commits without waiting for the disk.
            superuser.batch_execute("CHECKPOINT").await.unwrap();
            world.cluster.restart().await.unwrap();
        }
        let superuser = world.cluster.connect("postgres").await.unwrap();
        let mut sessions = Vec::new();
        for _ in 0..IN_USE {
            sessions.push(login(&world).await.unwrap());
        }
        Scene { world, superuser, _sessions: sessions }
    }

    async fn limit(&self, role: i64, database: i64) {
        let sql = format!(
            "ALTER ROLE asset_svc CONNECTION LIMIT {role}; ALTER DATABASE asset_service_db CONNECTION LIMIT {database}"
        );
        self.superuser.batch_execute(&sql).await.unwrap();
    }

    async fn count(&self, sql: &str) -> i64 {
        self.superuser.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// The connections that count, and how many an ordinary role may have.
    async fn server(&self) -> (i64, i64) {
        let usable = "SELECT current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8
                             - COALESCE(current_setting('reserved_connections', true)::int8, 0)";
        let in_use = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
        (self.count(in_use).await, self.count(usable).await)
    }

    /// True if PostgreSQL lets the asset service in once more.
    async fn lets_in(&self) -> bool {
        let refused = login(&self.world).await.map(drop);
        let left = format!(
            "SELECT count(*) = {IN_USE} FROM pg_stat_activity WHERE usename = 'asset_svc' AND backend_type = 'client backend'"
        );
        let gone = async { while !self.superuser.query_one(&left, &[]).await.unwrap().get::<_, bool>(0) {} };
        tokio::time::timeout(SOON, gone).await.expect("the session's end");
        match refused {
            Ok(()) => true,
            Err(error) => {
                let error = error.downcast_ref::<tokio_postgres::Error>().expect("PostgreSQL's own refusal");
                assert_eq!(error.code(), Some(&SqlState::TOO_MANY_CONNECTIONS), "{error:?}");
                false
            }
        }
    }
}

async fn login(world: &World) -> anyhow::Result<Client> {
    let (service, account) = world.team.service("asset-service").unwrap();
    world.cluster.connect_as(account.login(&service.database, "asset-api")).await
}

/// The severity of so many connections under a limit of a role or a database.
fn expected(limit: i64) -> Severity {
    match limit {
        0.. if limit <= IN_USE => Severity::Critical,
        0.. if IN_USE * 100 >= limit * 75 => Severity::Warning,
        _ => Severity::Neutral,
    }
}

async fn assert_told(scene: &Scene, (role, database): (i64, i64), line: &str) {
    let answer = scene.world.ask("Ana Example", line).await.unwrap();
    let (in_use, usable) = scene.server().await;
    let told = words(&answer);
    // A session may have ended since the answer: what the answer counted decides its verdict.
    let counted =
        told.lines().find_map(|row| row.strip_prefix("server | ")?.split(" | ").next()?.parse().ok());
    let in_use = counted.unwrap_or(in_use);
    let case = format!("{line} with {role} and {database}, and {in_use} of {usable}: {told}");
    let verdict = told.lines().next().unwrap();
    let server = match in_use * 100 / usable {
        90.. => Severity::Critical,
        75.. => Severity::Warning,
        _ => Severity::Neutral,
    };
    let of_asset = !line.contains("user-service");
    let own = if of_asset { expected(role).max(expected(database)) } else { Severity::Neutral };
    assert_eq!(severity(&answer), server.max(own), "{case}");
    assert_eq!(told.contains("role asset_svc"), of_asset && role >= 0, "{case}");
    assert_eq!(told.contains("database asset_service_db"), of_asset && database >= 0, "{case}");
    // The smallest is named in the verdict, whichever limit the verdict is about.
    let free = |limit: i64| if of_asset && limit >= 0 { (limit - IN_USE).max(0) } else { i64::MAX };
    let least = free(role).min(free(database));
    if least < usable - in_use {
        let named = (free(role) == least && verdict.contains("role asset_svc"))
            || (free(database) == least && verdict.contains("database asset_service_db"));
        assert!(named, "{case}");
        let number = match least {
            0 => verdict.contains("none") || verdict.contains("no further login"),
            1 => verdict.contains("only 1 ") || verdict.contains("1 is left"),
            _ => verdict.contains(&format!("only {least} ")),
        };
        assert!(number, "{case}");
    } else {
        assert!(!verdict.contains("but"), "{case}");
    }
    if line == "connections" && of_asset && least == 0 {
        assert!(
            told.contains("ALTER ROLE asset_svc CONNECTION LIMIT ") || told.contains("ALTER DATABASE"),
            "{case}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_limit_decides() {
    on_each_server(async |bin_dir| {
        let scene = Scene::start(bin_dir).await;
        let mut crowd = Vec::new();
        for full in [false, true] {
            while full && { scene.server().await.0 < scene.server().await.1 * 3 / 4 } {
                crowd.push(scene.world.cluster.connect("postgres").await.unwrap());
            }
            for role in LIMITS {
                for database in LIMITS {
                    scene.limit(role, database).await;
                    let refused = [role, database].iter().any(|limit| (0..=IN_USE).contains(limit));
                    assert_eq!(scene.lets_in().await, !refused, "{role}, {database}");
                    for line in ["connections", "connections asset-service", "connections user-service"] {
                        assert_told(&scene, (role, database), line).await;
                    }
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_0_is_told_and_is_no_finding() {
    let scene = Scene::start(servers().pop().unwrap()).await;
    let set = |sql: &'static str| scene.superuser.batch_execute(sql);
    set("ALTER ROLE billing_svc CONNECTION LIMIT 0").await.unwrap();
    for line in ["connections", "connections billing-service"] {
        let told = scene.world.told(line).await;
        assert!(told.starts_with("NEUTRAL: primary: "), "{told}");
        let verdict = told.lines().next().unwrap();
        assert!(verdict.ends_with(" are left; role billing_svc takes no connections (limit 0)."), "{told}");
        assert!(told.contains("\nrole billing_svc | 0 | 0 | 0\n") && !told.contains("ALTER ROLE"), "{told}");
    }
    let asset = scene.world.told("connections asset-service").await;
    assert!(asset.starts_with("NEUTRAL: ") && !asset.contains("billing_svc"), "{asset}");
    set("ALTER ROLE user_svc CONNECTION LIMIT 0; ALTER ROLE rights_svc CONNECTION LIMIT 0;
         ALTER DATABASE user_service_db CONNECTION LIMIT 0")
    .await
    .unwrap();
    let told = scene.world.told("connections").await;
    let all = "; database user_service_db, role billing_svc, role rights_svc and 1 more take no connections (limit 0).\n";
    assert!(told.starts_with("NEUTRAL: primary: ") && told.contains(all), "{told}");
    // The nearest limit of those that are meant to be used still decides.
    set("ALTER ROLE asset_svc CONNECTION LIMIT 3").await.unwrap();
    let told = scene.world.told("connections").await;
    assert!(told.starts_with("CRITICAL: primary: role asset_svc has 3 of 3 connections; "), "{told}");
    assert!(told.ends_with("an administrator can run: ALTER ROLE asset_svc CONNECTION LIMIT 6\n"), "{told}");
    // `health` reads each service's database.
    scene.world.heal().await;
    set("ALTER DATABASE user_service_db CONNECTION LIMIT -1").await.unwrap();
    let health = scene.world.told("health").await;
    assert!(
        health.starts_with("CRITICAL: primary: the role asset_svc has 3 of 3 connections in use"),
        "{health}"
    );
    set("ALTER ROLE asset_svc CONNECTION LIMIT -1").await.unwrap();
    let health = scene.world.told("health").await;
    assert!(health.starts_with("OK: ") && health.contains("\nConnection limits | none set\n"), "{health}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_may_not_log_in_gives_no_result() {
    let scene = Scene::start(servers().pop().unwrap()).await;
    scene.superuser.batch_execute("ALTER ROLE countersign_read CONNECTION LIMIT 0").await.unwrap();
    scene
        .superuser
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'countersign_read'",
        )
        .await
        .unwrap();
    let refused = scene.world.until("connections", |answer| severity(answer) == Severity::Critical).await;
    assert!(words(&refused).starts_with("CRITICAL: No result from primary.\n"), "{}", words(&refused));
}

/// A login that belongs to a service by a group's rights alone, and has no session there yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_counts_where_it_has_privileges() {
    let scene = Scene::start(servers().pop().unwrap()).await;
    let asset = scene.world.cluster.connect("asset_service_db").await.unwrap();
    asset
        .batch_execute(
            "CREATE ROLE reports NOLOGIN; GRANT SELECT ON assets TO reports;
             CREATE ROLE nightly LOGIN CONNECTION LIMIT 0 IN ROLE reports",
        )
        .await
        .unwrap();
    let told = scene.world.told("connections asset-service").await;
    assert!(told.contains("; role nightly takes no connections (limit 0).\n"), "{told}");
    let told = scene.world.told("connections user-service").await;
    assert!(!told.contains("nightly"), "{told}");
}
