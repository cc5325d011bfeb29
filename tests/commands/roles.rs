//! Who may log in and do what: nobody hidden by a wildcard, every membership, every date, what everybody may; no password.

use crate::harness::{World, severity, words};
use countersign::model::Severity;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_hidden_and_every_date_and_membership_is_told() {
    let world = World::start().await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    superuser
        .batch_execute(
            "CREATE ROLE pgadmin_jane LOGIN BYPASSRLS PASSWORD 'hush-4711' VALID UNTIL 'infinity';
             CREATE ROLE reporting NOLOGIN;
             GRANT reporting TO pgadmin_jane WITH ADMIN OPTION;
             GRANT pg_monitor TO pgadmin_jane",
        )
        .await
        .unwrap();
    let calm = world.ask("Ana Example", "roles").await.unwrap();
    let told = words(&calm);
    assert!(
        told.contains("\npgadmin_jane | log in, bypass RLS | pg_monitor, reporting (admin option)"),
        "{told}"
    );
    assert!(told.contains("\nreporting | no login | -"), "{told}");
    assert!(told.contains("\nazuresu | log in, superuser, "), "{told}");
    assert!(!told.contains("\npg_monitor | "), "PostgreSQL's own are no rows: {told}");
    assert!(!told.contains("SCRAM") && !told.contains("hush-4711"), "{told}");

    let sql = "SELECT format('ALTER ROLE pgadmin_jane VALID UNTIL %L', now() + interval '10 days 1 hour')";
    let soon: String = superuser.query_one(sql, &[]).await.unwrap().get(0);
    superuser.batch_execute(&soon).await.unwrap();
    let told = world.told("roles").await;
    assert!(told.contains("VALID UNTIL of pgadmin_jane ends in 10 d 0 h (20"), "{told}");
    superuser.batch_execute("ALTER ROLE pgadmin_jane VALID UNTIL '2020-02-02 00:00+00'").await.unwrap();
    let told = world.told("roles").await;
    assert!(
        told.contains(
            "VALID UNTIL of pgadmin_jane has passed (2020-02-02 00:00:00 UTC): password logins of it fail."
        ),
        "{told}"
    );
    assert!(told.contains(" | 2020-02-02 00:00:00 UTC\n"), "{told}");
    superuser.batch_execute("ALTER ROLE pgadmin_jane NOLOGIN").await.unwrap();
    let told = world.told("roles").await;
    assert!(!told.contains("has passed"), "who can't log in has nothing to lose: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_everybody_may_is_told_where_it_is_so() {
    let world = World::start().await;
    let asset = world.cluster.connect("asset_service_db").await.unwrap();
    asset.batch_execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await.unwrap();
    let calm = world.ask("Ana Example", "roles asset-service").await.unwrap();
    let told = words(&calm);
    assert_eq!(severity(&calm), Severity::Neutral, "{told}");
    assert!(
        told.contains(
            " can log in and connect to asset_service_db, 1 of them a superuser; no VALID UNTIL ends"
        ),
        "{told}"
    );
    assert!(told.contains("\nCONNECT, TEMPORARY | asset_service_db\n"), "{told}");
    assert!(told.contains("[Schemas where PUBLIC may create objects]"), "{told}");
    assert!(told.contains("\ncountersign_read | public | SELECT | 1\n"), "the ledger alone: {told}");
    assert!(told.contains("\npayout_svc | "), "by PUBLIC's right to connect: {told}");

    asset
        .batch_execute(
            "GRANT CREATE ON SCHEMA public TO PUBLIC; CREATE SCHEMA \"My Own\";
             GRANT CREATE ON SCHEMA \"My Own\" TO PUBLIC;
             GRANT SELECT, DELETE ON assets TO PUBLIC;
             REVOKE CONNECT, TEMP ON DATABASE asset_service_db FROM PUBLIC",
        )
        .await
        .unwrap();
    let open = world.ask("Ana Example", "roles asset-service").await.unwrap();
    let told = words(&open);
    assert!(
        told.starts_with("WARNING: asset-service: every role that can connect may create tables"),
        "{told}"
    );
    assert!(
        told.contains(
            "may create tables and functions in schema public (granted to PUBLIC). Unless an application needs it, run in that database: REVOKE CREATE ON SCHEMA public FROM PUBLIC\n"
        ),
        "{told}"
    );
    assert!(told.contains("\nMy Own | azuresu\npublic | "), "{told}");
    assert!(told.contains("REVOKE CREATE ON SCHEMA \"My Own\" FROM PUBLIC"), "{told}");
    assert!(told.contains("\nPUBLIC | public | DELETE, SELECT | 1\n"), "{told}");
    assert!(told.contains("\nnone | asset_service_db\n"), "{told}");
    assert!(!told.contains("\npayout_svc | "), "it can't connect any more: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_columns_and_the_servers_files_are_told() {
    let world = World::start().await;
    let asset = world.cluster.connect("asset_service_db").await.unwrap();
    asset
        .batch_execute(
            "CREATE ROLE shut LOGIN CONNECTION LIMIT 0 VALID UNTIL '2020-02-02 00:00+00'; CREATE ROLE narrow LOGIN CONNECTION LIMIT 3;
             CREATE ROLE nopw LOGIN VALID UNTIL '2020-02-02 00:00+00';
             CREATE ROLE loaders NOLOGIN; GRANT pg_execute_server_program, pg_read_server_files TO loaders;
             CREATE ROLE loader LOGIN IN ROLE loaders;
             GRANT SELECT (email, id) ON \"User\" TO PUBLIC; GRANT UPDATE (email) ON \"User\" TO narrow",
        )
        .await
        .unwrap();
    let told = world.told("roles asset-service").await;
    assert!(told.contains("\nshut | no login (connection limit 0) | "), "{told}");
    assert!(told.contains("\nnarrow | log in, at most 3 at once | "), "{told}");
    let passed = "VALID UNTIL of nopw has passed (2020-02-02 00:00:00 UTC): password logins of it fail.";
    assert!(told.contains(passed) && !told.contains("of shut has passed"), "{told}");
    assert!(!told.contains("The password of"), "nobody can see whether there is one: {told}");
    let files = "loader is no superuser, but can run programs, read files on the server's machine as PostgreSQL's own account: it is \
                 a member of pg_execute_server_program, pg_read_server_files.";
    assert!(told.contains(files) && !told.contains("loaders is no superuser"), "{told}");
    let revoke = "REVOKE pg_execute_server_program, pg_read_server_files FROM loaders";
    assert!(
        told.contains(&format!("Unless that is needed, a DBA can take it from loaders: {revoke}\n")),
        "{told}"
    );
    asset.batch_execute(revoke).await.unwrap();
    let told = world.told("roles asset-service").await;
    assert!(!told.contains("loader is no superuser"), "{told}");
    assert!(told.contains("\nPUBLIC | \"User\" | SELECT | email, id\n"), "{told}");
    assert!(told.contains("\nnarrow | \"User\" | UPDATE | email\n"), "{told}");
}
