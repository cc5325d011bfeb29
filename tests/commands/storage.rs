//! What takes the disk: told as PostgreSQL itself measures it, while DDL is queued too, and never guessed.

use crate::harness::{World, severity, words};
use countersign::demo::sample::{LoginAccount, SampleIncident};
use countersign::model::Severity;
use countersign::sql::Value;

async fn fact(world: &World, column: &str) -> Value {
    let sections = world.sections("storage").await.unwrap();
    let at = sections[0].columns.iter().position(|name| name == column).unwrap();
    sections[0].rows[0].values[at].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_wal_and_temporary_files_are_what_postgresql_says() {
    let world = World::start().await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    let answer = world.ask("Ana Example", "storage").await.unwrap();
    let told = words(&answer);
    assert!(told.starts_with("NEUTRAL: primary: databases use "), "{told}");
    assert!(told.contains("PostgreSQL doesn't know the size of the disk.\n"), "{told}");
    assert!(told.contains("\ndisk size | unknown to PostgreSQL\n"), "{told}");
    assert!(!told.contains("kept by slots"), "there is no slot: {told}");
    let sections = world.sections("storage").await.unwrap();
    let sizes: Vec<(Value, Value)> =
        sections[1].rows.iter().map(|row| (row.values[0].clone(), row.values[1].clone())).collect();
    let Some((_, Value::Int(asset))) =
        sizes.iter().find(|(name, _)| *name == Value::Text("asset_service_db".into()))
    else {
        panic!("{told}")
    };
    let size: i64 =
        superuser.query_one("SELECT pg_database_size('asset_service_db')", &[]).await.unwrap().get(0);
    assert!((asset - size).abs() < 1 << 20, "{asset} is not {size}");

    let wal = "SELECT sum(size)::bigint FROM pg_ls_waldir()";
    superuser.query("SELECT pg_create_physical_replication_slot('keeps', true)", &[]).await.unwrap();
    for _ in 0..3 {
        superuser
            .query("SELECT pg_logical_emit_message(false, 'test', 'x'), pg_switch_wal()", &[])
            .await
            .unwrap();
    }
    let Value::Int(before) = fact(&world, "WAL_bytes").await else { panic!("no WAL") };
    let after: i64 = superuser.query_one(wal, &[]).await.unwrap().get(0);
    assert!(before > 3 * (16 << 20) && before <= after, "{before} of {after}");
    let Value::Int(kept) = fact(&world, "kept_by_slots_bytes").await else { panic!("no slot") };
    assert!(kept > 2 * (16 << 20) && kept < after, "{kept} of {after}");

    assert_eq!(fact(&world, "temporary_bytes").await, Value::Int(0));
    superuser
        .batch_execute(
            "SET work_mem = '64kB'; BEGIN; DECLARE sorted CURSOR FOR
             SELECT n FROM generate_series(1, 300000) n ORDER BY md5(n::text); FETCH 1 FROM sorted",
        )
        .await
        .unwrap();
    let Value::Int(temporary) = fact(&world, "temporary_bytes").await else { panic!("none") };
    let true_now: i64 =
        superuser.query_one("SELECT sum(size)::bigint FROM pg_ls_tmpdir()", &[]).await.unwrap().get(0);
    assert!(temporary > 0 && temporary <= true_now, "{temporary} of {true_now}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_while_ddl_is_queued_and_says_what_it_may_not_see() {
    let mut world = World::start().await;
    let _incident = SampleIncident::start(&world.cluster, &world.team).await.unwrap();
    let told = world.told("storage").await;
    assert!(told.starts_with("NEUTRAL: ") && told.contains("\nasset_service_db | "), "{told}");

    let superuser = world.cluster.connect("postgres").await.unwrap();
    let blind =
        "CREATE ROLE blind LOGIN PASSWORD 'blind'; REVOKE CONNECT ON DATABASE payout_service_db FROM PUBLIC";
    superuser.batch_execute(blind).await.unwrap();
    world.read_as(&LoginAccount { user: "blind".into(), password: "blind".into() }).await;
    let answer = world.ask("Ana Example", "storage").await.unwrap();
    let told = words(&answer);
    assert_eq!(severity(&answer), Severity::Warning, "{told}");
    assert!(
        told.contains(
            "doesn't let blind see the sizes of WAL and temporary files: GRANT pg_monitor TO blind"
        ),
        "{told}"
    );
    assert!(told.contains(" databases can't be measured, so the total is too low"), "{told}");
    assert!(!told.contains("\nWAL |") && !told.contains("\nwal |") && !told.contains("\ntotal |"), "{told}");
    assert!(told.contains("payout_service_db | - | -"), "{told}");
}
