//! `enable-stats` and `reset-stats`: one database's, and seen to be so.

use crate::harness::{ANA, Scene, Servers, Twist};
use crate::maintenance_harness::{self, asks, one};
use countersign::demo::postgres::Options;
use countersign::demo::sample::{ROLES_SQL, Sample};
use countersign::model::RunState;
use tokio_postgres::Client;

/// Calls that the services' own roles have made in a database.
async fn calls(client: &Client, database: &str) -> i64 {
    let sql = format!(
        "SELECT COALESCE(sum(calls), 0)::int8 FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.userid
         WHERE d.datname = '{database}' AND r.rolname LIKE '%_svc'"
    );
    one(client, &sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_databases_counters_are_forgotten_and_no_others() {
    let (scene, superuser) = maintenance_harness::scene("asset-service", Vec::new()).await;
    for service in ["asset-service", "analytics-service"] {
        let (client, _) = maintenance_harness::session(&scene, service, "web").await;
        for _ in 0..40 {
            client.query("SELECT count(*) FROM \"User\"", &[]).await.unwrap();
        }
    }
    let other = calls(&superuser, "analytics_service_db").await;
    assert!(calls(&superuser, "asset_service_db").await >= 40 && other >= 40);
    let told = scene.asks(ANA, "reset-stats asset-service --env production").await;
    assert!(told.plain().contains("the counters can't be restored"), "{}", told.plain());
    let told = maintenance_harness::approves(&scene, told).await.plain();
    assert!(told.contains("The statistics of asset_service_db are reset: "), "{told}");
    assert!(calls(&superuser, "asset_service_db").await < 40);
    assert_eq!(calls(&superuser, "analytics_service_db").await, other);
    assert_eq!(scene.only_run("reset-stats").await.state, RunState::Succeeded);

    // The admin's grant is the admin's to take away.
    let revoke = "REVOKE EXECUTE ON FUNCTION pg_stat_statements_reset FROM countersign_maintain";
    superuser.batch_execute(&format!("SET ROLE dbadmin; {revoke}; RESET ROLE")).await.unwrap();
    let told = scene.asks(ANA, "reset-stats asset-service --env production").await.plain();
    assert!(
        told.contains("asset_service_db doesn't let countersign_maintain reset pg_stat_statements."),
        "{told}"
    );
    let (_, grant) = told.split_once("may do so runs ").expect(&told);
    let grant = grant.trim().trim_end_matches('.');
    assert!(grant.starts_with("GRANT EXECUTE ON FUNCTION public.pg_stat_statements_reset("), "{grant}");
    superuser.batch_execute(grant).await.unwrap();
    let told = scene.asks(ANA, "reset-stats asset-service --env production").await;
    superuser.batch_execute(revoke).await.unwrap();
    let before = calls(&superuser, "asset_service_db").await;
    let told = maintenance_harness::approves(&scene, told).await.plain();
    assert!(
        told.contains("countersign_maintain reset pg_stat_statements") && told.contains("Nothing was done."),
        "{told}"
    );
    assert_eq!(calls(&superuser, "asset_service_db").await, before);
    superuser.batch_execute(grant).await.unwrap();
    scene.without_forms();
    for (line, words) in [
        ("reset-stats", "Missing <service>"),
        ("reset-stats all", "one service's database at a time"),
        ("reset-stats asset-servise", "no service “asset-servise”"),
        ("reset-stats asset-service now", "don't know what to do with “now”"),
    ] {
        let told = scene.asks(ANA, &format!("{line} --env production")).await.plain();
        assert!(told.contains(words), "{line}: {told}");
    }
}

/// With the login `owner`, a superuser: plain PostgreSQL lets nobody else make the extension.
fn owner() -> (&'static str, &'static str) {
    let operator = "[environments.logins.operator]\n";
    let with = "[environments.logins.owner]\nuser = \"stats_owner\"\npassword = { env = \"PRODUCTION_OPERATOR_PASSWORD\" }\n[environments.logins.operator]\n";
    (operator, with)
}

async fn there(client: &Client) -> bool {
    one(client, "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements')").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_extension_is_made_in_one_database_if_the_server_loads_it() {
    let (mut cluster, team) = Sample::light().start(Options::default()).await.unwrap();
    let superuser = cluster.connect("asset_service_db").await.unwrap();
    let password = &team.operator.password;
    let ready = format!(
        "CREATE ROLE stats_owner LOGIN SUPERUSER PASSWORD '{password}'; DROP EXTENSION pg_stat_statements;
         ALTER ROLE countersign_read CONNECTION LIMIT -1"
    );
    superuser.batch_execute(&ready).await.unwrap();
    superuser.batch_execute("ALTER SYSTEM SET shared_preload_libraries = 'plpgsql'").await.unwrap();
    let other = cluster.connect("auth_service_db").await.unwrap();
    other.batch_execute("DROP EXTENSION pg_stat_statements").await.unwrap();
    drop((superuser, other));
    cluster.restart().await.unwrap();
    let servers: &Servers = Box::leak(Box::new(Servers { cluster, team }));
    let scene = |instead| Scene::with(Twist { servers: Some(servers), instead, ..Twist::default() });
    let superuser = servers.cluster.connect("asset_service_db").await.unwrap();
    {
        let scene = scene(vec![owner()]).await;
        let told = asks(&scene, "enable-stats asset-service").await.plain();
        assert!(told.contains("The server doesn't load pg_stat_statements"), "{told}");
        assert!(told.contains("adds pg_stat_statements to shared_preload_libraries"), "{told}");
        assert!(!there(&superuser).await);
        assert!(scene.runs_of("enable-stats").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_extension_is_made_once_and_by_who_may() {
    let servers = Servers::alone(60).await;
    let superuser = servers.cluster.connect("asset_service_db").await.unwrap();
    let other = servers.cluster.connect("auth_service_db").await.unwrap();
    other.batch_execute("DROP EXTENSION pg_stat_statements").await.unwrap();
    let password = &servers.team.operator.password;
    let ready = format!(
        "CREATE ROLE stats_owner LOGIN SUPERUSER PASSWORD '{password}'; DROP EXTENSION pg_stat_statements"
    );
    superuser.batch_execute(&ready).await.unwrap();
    let plain = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    let told = asks(&plain, "enable-stats asset-service").await.plain();
    assert!(
        told.contains(
            "asset_service_db doesn't let countersign_act create pg_stat_statements: that takes a superuser"
        ),
        "{told}"
    );
    assert!(told.contains("CREATE EXTENSION pg_stat_statements") && !there(&superuser).await, "{told}");
    let told = asks(&plain, "reset-stats asset-service").await.plain();
    assert!(
        told.contains("has no pg_stat_statements, so there is nothing to reset")
            && told.contains("enable-stats creates it"),
        "{told}"
    );

    let scene =
        Scene::with(Twist { servers: Some(servers), instead: vec![owner()], ..Twist::default() }).await;
    let told = asks(&scene, "enable-stats asset-service").await.plain();
    assert!(told.contains(" is in asset_service_db: `slow` works from now on."), "{told}");
    assert!(there(&superuser).await && !there(&other).await);
    assert_eq!(scene.only_run("enable-stats").await.state, RunState::Succeeded);
    let told = asks(&scene, "enable-stats asset-service").await.plain();
    assert!(told.contains("asset_service_db already has pg_stat_statements "), "{told}");
    assert!(!told.contains("The server has version"), "{told}");
    let older = "DROP EXTENSION pg_stat_statements; CREATE EXTENSION pg_stat_statements VERSION '1.9'";
    superuser.batch_execute(older).await.unwrap();
    let told = asks(&scene, "enable-stats asset-service").await.plain();
    assert!(told.contains("already has pg_stat_statements 1.9. The server has version "), "{told}");
    assert!(told.contains("ALTER EXTENSION pg_stat_statements UPDATE"), "{told}");
    assert_eq!(scene.runs_of("enable-stats").await.len(), 1);
}

/// As the admin runs it in the asset service's database.
async fn run_roles_sql(servers: &Servers) {
    let admin = servers.team.admin.login("asset_service_db", "roles.sql");
    servers.cluster.connect_as(admin).await.unwrap().batch_execute(ROLES_SQL).await.unwrap();
}

const ASKED: [&str; 3] =
    ["slow asset-service", "enable-stats asset-service", "reset-stats asset-service --dry-run"];

/// Each of the three says what it must, and none that the extension is missing or the server needs a restart.
async fn say(scene: &Scene, words: [&[&str]; 3]) {
    for (line, words) in ASKED.into_iter().zip(words) {
        let told = scene.asks(ANA, &format!("{line} --env production")).await.plain();
        for words in words {
            assert!(told.contains(words), "{line}: {words} is missing: {told}");
        }
        for lie in ["has no pg_stat_statements", "restarts the server", "SQLSTATE"] {
            assert!(!told.contains(lie), "{line} says {lie}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_extension_is_found_in_any_schema_and_its_rights_are_named() {
    let servers = Servers::alone(60).await;
    let superuser = servers.cluster.connect("asset_service_db").await.unwrap();
    let elsewhere = "CREATE SCHEMA \"Ext 1\" AUTHORIZATION dbadmin; DROP EXTENSION pg_stat_statements;
        SET ROLE azuresu; CREATE EXTENSION pg_stat_statements SCHEMA \"Ext 1\";
        ALTER FUNCTION \"Ext 1\".pg_stat_statements(boolean) OWNER TO dbadmin;
        ALTER FUNCTION \"Ext 1\".pg_stat_statements_reset OWNER TO dbadmin;
        CREATE FUNCTION \"Ext 1\".pg_stat_statements(text) RETURNS int LANGUAGE sql AS 'SELECT 1'";
    superuser.batch_execute(elsewhere).await.unwrap();
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    let hidden = "doesn't let countersign_read use pg_stat_statements: GRANT";
    let read = "GRANT USAGE ON SCHEMA \"Ext 1\" TO countersign_read";
    let act = "GRANT EXECUTE ON FUNCTION \"Ext 1\".pg_stat_statements_reset(";
    say(
        &scene,
        [
            &[hidden],
            &["doesn't let countersign_read use pg_stat_statements.", read],
            &["doesn't let countersign_act reset pg_stat_statements.", act],
        ],
    )
    .await;
    run_roles_sql(servers).await;
    let (works, created) = (
        ["of the total execution time"],
        ["already has pg_stat_statements ", "/db slow --env production reads it"],
    );
    let created = created.map(|words| words.replace('`', ""));
    let created: Vec<&str> = created.iter().map(String::as_str).collect();
    superuser.query("SELECT count(*) FROM pg_class", &[]).await.unwrap();
    say(&scene, [&works, &created, &["Resets pg_stat_statements for asset_service_db"]]).await;

    superuser
        .batch_execute("REVOKE EXECUTE ON FUNCTION \"Ext 1\".pg_stat_statements(boolean) FROM PUBLIC")
        .await
        .unwrap();
    let grant = "GRANT EXECUTE ON FUNCTION \"Ext 1\".pg_stat_statements(boolean) TO countersign_read";
    let unread = ["doesn't let countersign_read use pg_stat_statements.", grant];
    say(&scene, [&[hidden], &unread, &unread]).await;
    run_roles_sql(servers).await;
    say(&scene, [&works, &created, &["Resets pg_stat_statements for asset_service_db"]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_a_server_brought_from_before_is_named() {
    let servers = Servers::alone(60).await;
    let superuser = servers.cluster.connect("asset_service_db").await.unwrap();
    let older = "DROP EXTENSION pg_stat_statements; CREATE EXTENSION pg_stat_statements VERSION '1.6'";
    superuser.batch_execute(older).await.unwrap();
    superuser.query("SELECT count(*) FROM pg_class", &[]).await.unwrap();
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    let update = "ALTER EXTENSION pg_stat_statements UPDATE";
    let old = "has pg_stat_statements 1.6, which can't reset one database alone";
    say(
        &scene,
        [&["of the total execution time"], &["already has pg_stat_statements 1.6", update], &[old, update]],
    )
    .await;
    superuser.batch_execute(update).await.unwrap();
    run_roles_sql(servers).await;
    superuser
        .batch_execute("GRANT EXECUTE ON FUNCTION pg_stat_statements_reset TO countersign_act")
        .await
        .unwrap();
    let reset = scene.asks(ANA, "reset-stats asset-service --dry-run --env production").await.plain();
    assert!(reset.contains("Resets pg_stat_statements for asset_service_db"), "{reset}");
}
