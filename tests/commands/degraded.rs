//! What may never look like an all-clear: missing rights, a dead or hanging server, a missing extension.

use crate::harness::{World, severity, words};
use crate::installed::servers;
use countersign::demo::sample::LoginAccount;
use countersign::model::Severity;

#[tokio::test(flavor = "multi_thread")]
async fn without_pg_monitor_nobody_says_nothing_found() {
    let mut world = World::start().await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    superuser.batch_execute("CREATE ROLE blind LOGIN PASSWORD 'blind'").await.unwrap();
    world.read_as(&LoginAccount { user: "blind".into(), password: "blind".into() }).await;
    for question in ["blocked", "long", "connections", "health", "replication", "slow"] {
        let answer = world.ask("Ana Example", question).await.unwrap();
        let told = words(&answer);
        assert_eq!(severity(&answer), Severity::Critical, "{question}: {told}");
        let words = "doesn't let blind see other roles' sessions: GRANT pg_monitor TO blind";
        assert!(told.contains(words), "{question}: {told}");
        for lie in ["No session", "No statement", "All services answer", "Nothing found", "None."] {
            assert!(!told.contains(lie), "{question} says “{lie}”: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_or_is_down_is_named() {
    let mut world = World::start().await;
    // It is stopped like a crash, and commits without waiting for the disk.
    world.cluster.connect("postgres").await.unwrap().batch_execute("CHECKPOINT").await.unwrap();
    world.wait_only("2s").await;
    let frozen = world.cluster.freeze().unwrap();
    let health = world.ask("Ana Example", "health").await.unwrap();
    let told = words(&health);
    assert!(told.starts_with("CRITICAL: No server answered.\n"), "{told}");
    assert!(told.contains("asset-service") && told.contains("doesn't answer (waited 2 s)"), "{told}");
    let services = world.told("services").await;
    assert!(
        services.starts_with("CRITICAL: No answer from production/primary, staging/primary.\n"),
        "{services}"
    );
    drop(frozen);
    world.cluster.stop().unwrap();
    let told = world.told("environments").await;
    assert!(told.contains("production/primary refuses connections"), "{told}");
    world.cluster.restart().await.unwrap();
    world.wait_only("30s").await;
    world.heal().await;
    let told = world.told("health").await;
    assert!(told.starts_with("OK: "), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_named_among_the_others() {
    let world = World::start().await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    superuser.batch_execute("ALTER DATABASE payout_service_db RENAME TO lost").await.unwrap();
    let health = world.told("health").await;
    assert!(health.starts_with("CRITICAL: No whole answer from payout-service.\n"), "{health}");
    assert!(health.contains("payout-service has no such database\n"), "{health}");
    assert!(health.contains("asset-service | "), "{health}");
    let services = world.told("services --env production").await;
    assert!(services.starts_with("WARNING: production has no payout_service_db.\n"), "{services}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_says_how_to_get_the_extension() {
    let mut world = World::start().await;
    let asset = world.cluster.connect("asset_service_db").await.unwrap();
    asset.batch_execute("DROP EXTENSION pg_stat_statements").await.unwrap();
    let one = world.told("slow asset-service").await;
    assert!(
        one.contains("asset-service has no pg_stat_statements: run enable-stats, or CREATE EXTENSION"),
        "{one}"
    );
    world.work().await;
    let all = world.told("slow").await;
    assert!(all.starts_with("CRITICAL: No whole answer from asset-service.\n"), "{all}");
    assert!(all.contains("-service | ") && !all.contains("asset-service | "), "the others answer: {all}");

    let settings = "ALTER SYSTEM SET shared_preload_libraries = plpgsql; CHECKPOINT";
    for sql in settings.split("; ") {
        asset.batch_execute(sql).await.unwrap();
    }
    world.cluster.stop().unwrap();
    world.cluster.restart().await.unwrap();
    let told = world.told("slow auth-service").await;
    assert!(
        told.contains("auth-service doesn't load pg_stat_statements. Add pg_stat_statements to"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_a_connection_says_what_to_do() {
    let mut world = World::start().await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    let reader = world.team.reader.clone();
    let (user, password) = (&reader.user, &reader.password);
    let database = "payout_service_db";
    for (before, after, words) in [
        (
            format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false"),
            format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true"),
            "doesn't accept connections (ALLOW_CONNECTIONS is off)",
        ),
        (
            format!("UPDATE pg_database SET datconnlimit = -2 WHERE datname = '{database}'"),
            format!("UPDATE pg_database SET datconnlimit = -1 WHERE datname = '{database}'"),
            "is half dropped: DROP DATABASE was interrupted",
        ),
        (
            format!("ALTER DATABASE {database} CONNECTION LIMIT 0"),
            format!("ALTER DATABASE {database} CONNECTION LIMIT -1"),
            "allows no more connections to this database: its CONNECTION LIMIT is reached",
        ),
        (
            format!("ALTER ROLE {user} CONNECTION LIMIT 0"),
            format!("ALTER ROLE {user} CONNECTION LIMIT -1"),
            "lets Countersign's role open no more connections: its CONNECTION LIMIT is reached",
        ),
        (
            format!("ALTER ROLE {user} NOLOGIN"),
            format!("ALTER ROLE {user} LOGIN"),
            "refuses the login of Countersign (its role is NOLOGIN, or there is no such role)",
        ),
        (
            format!("ALTER ROLE {user} PASSWORD 'another'"),
            format!("ALTER ROLE {user} PASSWORD '{password}'"),
            "refuses the login of Countersign (the password is wrong, or there is no such role)",
        ),
    ] {
        superuser.batch_execute(&before).await.unwrap();
        world.read_as(&reader).await;
        let told = world.told("sizes payout-service").await;
        assert!(told.contains(&format!("payout-service {words}")), "{before}: {told}");
        superuser.batch_execute(&after).await.unwrap();
        world.read_as(&reader).await;
        let told = world.told("sizes payout-service").await;
        assert!(!told.contains(words), "{after}: {told}");
    }

    let rules: String = superuser.query_one("SHOW hba_file", &[]).await.unwrap().get(0);
    let reject = format!(
        "COPY (SELECT 'host all {user} all reject' UNION ALL SELECT unnest(string_to_array(pg_read_file('{rules}'), chr(10)))) TO '{rules}'"
    );
    superuser.batch_execute(&reject).await.unwrap();
    superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // The postmaster reads the file a moment later.
    let told = loop {
        world.read_as(&reader).await;
        let told = world.told("sizes payout-service").await;
        if told.contains("refuses the login") {
            break told;
        }
    };
    assert!(told.contains("(pg_hba.conf doesn't let this role connect to this database"), "{told}");

    world
        .change(|config| {
            let servers = config.environments.iter_mut().flat_map(|environment| &mut environment.servers);
            servers.for_each(|server| server.host = "nosuch.invalid".to_owned());
        })
        .await;
    let told = world.told("sizes payout-service").await;
    assert!(told.contains("payout-service has a host name that can't be resolved"), "{told}");
}

/// From PostgreSQL 17 on a database can run code in each session that begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_trigger_that_changes_a_setting_is_named() {
    for bin_dir in servers() {
        let mut world = World::on(Some(bin_dir)).await;
        let reader = world.team.reader.clone();
        let owner = world.cluster.connect("asset_service_db").await.unwrap();
        let function = "CREATE FUNCTION public.greet() RETURNS event_trigger LANGUAGE plpgsql AS $$
            BEGIN IF session_user <> 'postgres' THEN PERFORM set_config('search_path', 'public', false); END IF; END $$";
        owner.batch_execute(function).await.unwrap();
        let created =
            owner.batch_execute("CREATE EVENT TRIGGER greet ON login EXECUTE FUNCTION public.greet()").await;
        assert_eq!(created.is_ok(), world.cluster.version_num() >= 170_000, "{created:?}");
        world.read_as(&reader).await;
        let told = world.told("sizes asset-service").await;
        if created.is_err() {
            assert!(told.contains("assets"), "{told}");
            continue;
        }
        let refused = "asset-service changes search_path when Countersign logs in, by its login event trigger greet: let it leave Countersign's roles out";
        assert!(told.contains(refused), "{told}");
        owner
            .batch_execute("CREATE EVENT TRIGGER good_day ON login EXECUTE FUNCTION public.greet()")
            .await
            .unwrap();
        world.read_as(&reader).await;
        let told = world.told("sizes asset-service").await;
        assert!(told.contains(", by one of its login event triggers (good_day, greet): "), "{told}");
        let exclude = "CREATE OR REPLACE FUNCTION public.greet() RETURNS event_trigger LANGUAGE plpgsql AS $$
            BEGIN IF session_user NOT LIKE 'countersign%' THEN PERFORM set_config('search_path', 'public', false); END IF; END $$";
        owner.batch_execute(exclude).await.unwrap();
        world.read_as(&reader).await;
        let told = world.told("sizes asset-service").await;
        assert!(told.contains("assets"), "{told}");
    }
}
