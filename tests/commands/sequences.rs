//! Sequences: the share of the way from the start to the end that comes first, and how many more numbers there are.

use crate::harness::{World, severity, words};
use crate::installed;
use countersign::model::Severity;
use countersign::sql::Value;

/// What a sequence's statements are, and its share in percent and the numbers left.
const SEQUENCES: [(&str, &str, f64, i64); 12] = [
    (
        "domain",
        "CREATE DOMAIN small_id AS int4; CREATE DOMAIN smaller_id AS small_id; CREATE SEQUENCE domain;
         CREATE TABLE of_domain (id smaller_id DEFAULT nextval('domain')); SELECT setval('domain', 2100000000)",
        97.8,
        47_483_647,
    ),
    (
        "high",
        "CREATE SEQUENCE high MINVALUE 1000000000 MAXVALUE 1100000000 START 1000000000; SELECT nextval('high')",
        0.0,
        100_000_000,
    ),
    (
        "hundred",
        "CREATE SEQUENCE hundred MINVALUE 100 MAXVALUE 199 START 100; SELECT setval('hundred', 150)",
        51.0,
        49,
    ),
    (
        "negative",
        "CREATE SEQUENCE negative MINVALUE -2147483648 MAXVALUE -1 START -2147483648; SELECT setval('negative', -100)",
        100.0,
        99,
    ),
    (
        "fifty",
        "CREATE SEQUENCE fifty INCREMENT 50; CREATE TABLE of_fifty (id int DEFAULT nextval('fifty')); SELECT setval('fifty', 1900000001)",
        88.5,
        4_949_672,
    ),
    (
        "million",
        "CREATE SEQUENCE million INCREMENT 1000000 MAXVALUE 10000000; SELECT setval('million', 8000001)",
        90.0,
        1,
    ),
    (
        "countdown",
        "CREATE SEQUENCE countdown INCREMENT -1 MINVALUE 1 MAXVALUE 1000000 START 1000000; SELECT nextval('countdown') FROM generate_series(1, 10)",
        0.0,
        999_990,
    ),
    (
        "from_min",
        "CREATE SEQUENCE from_min AS int MINVALUE -2147483648 START -2147483648; SELECT nextval('from_min') FROM generate_series(1, 10)",
        0.0,
        4_294_967_286,
    ),
    (
        "down",
        "CREATE SEQUENCE down INCREMENT -1; CREATE TABLE of_down (id int2 DEFAULT nextval('down')); SELECT setval('down', -32000)",
        97.7,
        768,
    ),
    (
        "five_digits",
        "CREATE SEQUENCE five_digits; CREATE TABLE of_five (id numeric(5, 0) DEFAULT nextval('five_digits')); SELECT setval('five_digits', 98000)",
        98.0,
        1_999,
    ),
    (
        "parent_id_seq",
        "CREATE TABLE parent (id bigserial PRIMARY KEY); CREATE TABLE child (parent int REFERENCES parent); SELECT setval('parent_id_seq', 2000000000)",
        93.1,
        147_483_647,
    ),
    ("reset", "CREATE SEQUENCE reset START 500 MAXVALUE 999; SELECT setval('reset', 100)", 10.0, 899),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_share_is_of_the_way_from_the_start_to_the_end_that_comes_first() {
    for bin_dir in installed::servers() {
        let world = World::on(Some(bin_dir)).await;
        let superuser = world.cluster.connect("asset_service_db").await.unwrap();
        for (_, statements, ..) in SEQUENCES {
            superuser.batch_execute(statements).await.unwrap();
        }
        superuser
            .batch_execute("CREATE SEQUENCE cycling MAXVALUE 10 CYCLE; SELECT setval('cycling', 9)")
            .await
            .unwrap();
        superuser
            .batch_execute("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO countersign_read")
            .await
            .unwrap();
        let sections = world.sections("sequences asset-service").await.unwrap();
        let column = |name: &str| sections[0].columns.iter().position(|column| column == name).unwrap();
        for (sequence, _, share, left) in SEQUENCES {
            let name = Value::Text(sequence.to_owned());
            let row = sections[0].rows.iter().find(|row| row.values[column("sequence")] == name);
            let values = &row.unwrap_or_else(|| panic!("no {sequence}")).values;
            let used = values[column("used_pct")].number().unwrap();
            assert!((used - share).abs() < 0.1, "{sequence}: {used}");
            assert_eq!(values[column("left")], Value::Int(left), "{sequence}");
        }
        let answer = world.ask("Ana Example", "sequences asset-service").await.unwrap();
        let told = words(&answer);
        assert_eq!(severity(&answer), Severity::Critical, "{told}");
        assert!(
            told.starts_with(
                "CRITICAL: asset-service: negative has used 100 % of its range; 99 numbers are left.\n"
            ),
            "{told}"
        );
        assert!(told.contains("\nparent_id_seq | 93 % | 147,483,647 | child.parent, parent.id"), "{told}");
        assert!(
            told.ends_with(
                "widen the range of negative (ALTER SEQUENCE), and every column that stores its numbers. sizes asset-service shows how large its table is.\n"
            ),
            "{told}"
        );
        superuser.batch_execute("DROP SEQUENCE negative; DROP TABLE of_five, of_down; DROP SEQUENCE five_digits, down; DROP TABLE of_domain; DROP SEQUENCE domain").await.unwrap();
        let told = world.told("sequences asset-service").await;
        assert!(
            told.ends_with(
                "Plan a migration in time: change child.parent to bigint. sizes asset-service shows how large its table is.\n"
            ),
            "{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_come_and_go_do_not_fail_the_answer() {
    let world = World::start().await;
    let mut churn = Vec::new();
    for n in 0..3 {
        let client = world.cluster.connect("asset_service_db").await.unwrap();
        let create: String = (0..40).map(|t| format!("CREATE TABLE gone_{n}_{t} (id serial);")).collect();
        let drop: String = (0..40).map(|t| format!("DROP TABLE gone_{n}_{t};")).collect();
        churn.push(tokio::spawn(async move {
            while client.batch_execute(&create).await.is_ok() && client.batch_execute(&drop).await.is_ok() {}
        }));
    }
    for _ in 0..12 {
        for section in world.sections("sequences asset-service").await.unwrap() {
            assert!(section.failures.is_empty(), "{:?}", section.failures);
        }
    }
    churn.iter().for_each(tokio::task::JoinHandle::abort);
}
