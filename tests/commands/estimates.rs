//! Sizes, bloat and counters: what the sentence says is what was looked at, and what can't be seen is named.

use crate::harness::{World, severity, words};
use crate::installed;
use countersign::model::Severity;
use tokio_postgres::Client;

async fn superuser(world: &World) -> Client {
    world.cluster.connect("asset_service_db").await.unwrap()
}

const TABLES: &str = "
    CREATE TABLE thin WITH (autovacuum_enabled = off) AS SELECT g id, repeat('x', 200) t FROM generate_series(1, 64000) g;
    DELETE FROM thin WHERE id % 5 IN (1, 2, 3);
    CREATE TABLE dying WITH (autovacuum_enabled = off) AS SELECT g id, repeat('x', 900) t FROM generate_series(1, 18000) g;
    CREATE TABLE padded WITH (autovacuum_enabled = off) AS SELECT true a, now() b, true c, now() d, true e, now() f, true g, now() h FROM generate_series(1, 250000);
    CREATE TABLE secured WITH (autovacuum_enabled = off) AS SELECT g id, repeat('x', 200) t FROM generate_series(1, 64000) g;
    ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
    CREATE TABLE never_seen WITH (autovacuum_enabled = off) AS SELECT g id, repeat('x', 200) t FROM generate_series(1, 64000) g;
    ANALYZE padded; ANALYZE secured; ANALYZE dying;
    CREATE TABLE part (id int, t text) PARTITION BY RANGE (id);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (50000) WITH (autovacuum_enabled = off);
    CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (50000) TO (100000) WITH (autovacuum_enabled = off);
    INSERT INTO part SELECT g, repeat('p', 900) FROM generate_series(0, 99999) g;
    GRANT SELECT ON thin, dying, padded, secured, never_seen, part, part_1, part_2 TO countersign_read";

/// The rows of one titled table.
fn row<'a>(told: &'a str, title: &str, table: &str) -> &'a str {
    let start = told.find(&format!("[{title}]")).unwrap_or_else(|| panic!("no {title} in {told}"));
    let rest = &told[start..];
    rest.lines()
        .find(|line| line.starts_with(&format!("{table} | ")))
        .unwrap_or_else(|| panic!("no {table} in {rest}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn bloat_says_what_it_tested_and_names_what_it_cannot_see() {
    for bin_dir in installed::servers() {
        let world = World::on(Some(bin_dir)).await;
        let admin = superuser(&world).await;
        admin.batch_execute("SET default_statistics_target = 10").await.unwrap();
        admin.batch_execute(TABLES).await.unwrap();
        superuser(&world).await.batch_execute("DELETE FROM dying WHERE id % 2 = 0").await.unwrap();
        // Its counts of dead rows are reported when its session ends.
        drop(admin);
        let vacuum = superuser(&world).await;
        let dead = "SELECT n_dead_tup > 0 FROM pg_stat_user_tables WHERE relname = 'thin'";
        vacuum.batch_execute("VACUUM (ANALYZE) thin").await.unwrap();
        while vacuum.query_one(dead, &[]).await.unwrap().get(0) {
            vacuum.batch_execute("VACUUM (ANALYZE) thin").await.unwrap();
        }
        let dead = |told: &_| words(told).contains("50 % of the rows of dying are dead");
        let answer = world.until("bloat asset-service", dead).await;
        let told = words(&answer);
        assert!(
            told.contains("an estimated 6")
                && told.contains(" of thin is wasted: 8.") | told.contains(" of thin is wasted: 9."),
            "{told}"
        );
        let padded = row(&told, "Bloat (estimated)", "padded");
        // From 16 on a file grows by many pages at once.
        let little = [" 0 % ", " 1 % "].iter().any(|share| padded.contains(share));
        assert!(little, "alignment is no waste: {padded}");
        assert!(row(&told, "Bloat (estimated)", "secured").ends_with(" | row security"), "{told}");
        assert!(told.contains("row security hides the statistics of 1 of "), "{told}");
        assert!(row(&told, "Bloat (estimated)", "never_seen").ends_with(" | not analyzed yet"), "{told}");
        assert!(!row(&told, "Bloat (estimated)", "never_seen").contains(" 0 B "), "{told}");
        assert!(told.contains("tables of 10 MiB or more have no statistics yet"), "{told}");

        // With the extension the reader measures what it may not read, wherever a DBA has put it.
        let admin = superuser(&world).await;
        admin
            .batch_execute(
                "CREATE SCHEMA \"My tools\"; CREATE EXTENSION pgstattuple SCHEMA \"My tools\";
                 REVOKE SELECT ON thin, dying FROM countersign_read",
            )
            .await
            .unwrap();
        let told = world.told("bloat asset-service").await;
        assert!(
            row(&told, "Bloat (estimated)", "secured").ends_with(" | row security"),
            "no USAGE yet: {told}"
        );
        admin.batch_execute("GRANT USAGE ON SCHEMA \"My tools\" TO countersign_read").await.unwrap();
        let told = world.told("bloat asset-service").await;
        for table in ["thin", "secured", "never_seen"] {
            assert!(row(&told, "Bloat (estimated)", table).ends_with(" | measured"), "{table}: {told}");
        }
        let thin = "SELECT (100 * (approx_free_space + dead_tuple_len) / table_len)::int FROM \"My tools\".pgstattuple_approx('thin')";
        let percent: i32 = admin.query_one(thin, &[]).await.unwrap().get(0);
        assert!((50..70).contains(&percent), "{percent}");
        let shown = row(&told, "Bloat (estimated)", "thin");
        assert!(
            (percent - 1..=percent + 1).any(|percent| shown.contains(&format!(" {percent} %"))),
            "{percent}: {shown}"
        );
        assert!(!told.contains("row security hides") && !told.contains("may not SELECT from"), "{told}");
        assert!(told.starts_with("WARNING: asset-service: an estimated "), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_sum_partitions_and_see_a_locked_toast_index() {
    let world = World::start().await;
    let admin = superuser(&world).await;
    admin.batch_execute(TABLES).await.unwrap();
    admin
        .batch_execute("CREATE TABLE toasted (t text); ALTER TABLE toasted ALTER t SET STORAGE EXTERNAL; INSERT INTO toasted SELECT repeat('x', 9000) FROM generate_series(1, 200)")
        .await
        .unwrap();
    admin.batch_execute("VACUUM toasted").await.unwrap();
    let told = world.told("sizes asset-service").await;
    let total: String = admin
        .query_one("SELECT round(pg_database_size(current_database()) / 1048576.0) || ''", &[])
        .await
        .unwrap()
        .get(0);
    assert!(told.contains("; the largest is part with 9"), "{told}");
    assert!(
        told.lines().next().unwrap().contains(" MiB of the ") && told.contains("MiB of the database"),
        "{total}: {told}"
    );
    assert!(row(&told, "Tables", "part").ends_with(" | 2 partitions"), "{told}");

    let index = "SELECT i.indexrelid::regclass::text FROM pg_class c JOIN pg_index i ON i.indrelid = c.reltoastrelid WHERE c.relname = 'toasted'";
    let index: String = admin.query_one(index, &[]).await.unwrap().get(0);
    admin.batch_execute(&format!("BEGIN; REINDEX INDEX {index}")).await.unwrap();
    let answer = world.ask("Ana Example", "sizes asset-service").await.unwrap();
    let told = words(&answer);
    assert_eq!(severity(&answer), Severity::Warning, "{told}");
    assert!(told.starts_with("WARNING: toasted is locked, so its size is an estimate: "), "{told}");
    assert!(row(&told, "Tables", "toasted").ends_with(" | estimated: locked"), "{told}");
    admin.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_a_crash_emptied_are_not_called_good() {
    for bin_dir in installed::servers() {
        let mut world = World::on(Some(bin_dir)).await;
        let admin = superuser(&world).await;
        admin.batch_execute("CREATE TABLE big (id int, v text) WITH (autovacuum_enabled = off); INSERT INTO big SELECT g, repeat('x', 300) FROM generate_series(1, 20000) g; DELETE FROM big WHERE id % 2 = 0").await.unwrap();
        // Commits do not wait for the disk here.
        admin.batch_execute("CHECKPOINT").await.unwrap();
        drop(admin);
        world.cluster.restart().await.unwrap();
        for question in ["autovacuum asset-service", "bloat asset-service"] {
            let lost = |told: &_| {
                words(told).contains("counters began again after a crash, a failover or a reset (20")
            };
            let answer = world.until(question, lost).await;
            let told = words(&answer);
            assert_eq!(severity(&answer), Severity::Warning, "{told}");
            assert!(
                told.contains("): how many rows of big are dead is unknown. Next: vacuum asset-service\n"),
                "{told}"
            );
        }
        // What it advises helps.
        superuser(&world).await.batch_execute("VACUUM (ANALYZE) big").await.unwrap();
        world.until("autovacuum asset-service", |told| !words(told).contains("counters began again")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_not_told_that_autovacuum_keeps_up() {
    let mut world = World::start().await;
    world.add_replica().await;
    world
        .change(|config| {
            for service in &mut config.services {
                service.servers.insert("production".to_owned(), "replica".to_owned());
            }
        })
        .await;
    for question in ["autovacuum asset-service", "bloat asset-service"] {
        let answer = world.ask("Ana Example", question).await.unwrap();
        let told = words(&answer);
        assert_eq!(severity(&answer), Severity::Warning, "{told}");
        assert!(
            told.contains("asset-service: its server is a replica, ") && told.contains("Ask its primary."),
            "{told}"
        );
    }
    for line in [
        "vacuum asset-service",
        "analyze asset-service assets",
        "vacuum-full asset-service assets",
        "reindex asset-service assets",
    ] {
        let refused = world.plan(line).await.expect_err(line).to_string();
        assert!(
            refused.contains("replica is a replica: `") && refused.contains("primary"),
            "{line}: {refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_serve_a_key_or_are_young_are_not_complained_of() {
    let world = World::start().await;
    let admin = superuser(&world).await;
    let keys = "CREATE TABLE par (a int, b int, PRIMARY KEY (a, b)); INSERT INTO par SELECT g % 10, g FROM generate_series(1, 20000) g;
         CREATE TABLE fk_second (id int PRIMARY KEY, a int, b int, FOREIGN KEY (a, b) REFERENCES par); CREATE INDEX fk_second_b ON fk_second (b);
         CREATE TABLE fk_partial (id int PRIMARY KEY, a int, b int, FOREIGN KEY (a, b) REFERENCES par); CREATE INDEX ON fk_partial (a, b) WHERE a IS NOT NULL AND b IS NOT NULL;
         CREATE TABLE fk_other (id int PRIMARY KEY, a int, b int, FOREIGN KEY (a, b) REFERENCES par); CREATE INDEX ON fk_other (a, b) WHERE a IS NOT NULL AND id > 5;
         CREATE TABLE fk_or (id int PRIMARY KEY, a int, b int, FOREIGN KEY (a, b) REFERENCES par); CREATE INDEX ON fk_or (a, b) WHERE a IS NOT NULL OR b IS NOT NULL;
         INSERT INTO fk_second SELECT b, a, b FROM par; INSERT INTO fk_partial SELECT * FROM fk_second; INSERT INTO fk_other SELECT * FROM fk_second; INSERT INTO fk_or SELECT * FROM fk_second;
         CREATE TABLE young AS SELECT g id, md5(g::text) t FROM generate_series(1, 50000) g; CREATE INDEX young_t ON young (t);
         CREATE TABLE twice AS SELECT 1 AS a FROM generate_series(1, 2);
         ANALYZE";
    admin.batch_execute(keys).await.unwrap();
    admin.batch_execute("CREATE UNIQUE INDEX CONCURRENTLY once ON twice (a)").await.expect_err("duplicates");
    let told = world.told("indexes asset-service").await;
    let keys = &told[told.find("[Foreign keys without an index]").unwrap()..told.find("[Unused]").unwrap()];
    assert!(
        keys.contains("\nfk_or | a, b | 20,000 | par") && keys.contains("\nfk_other | a, b | "),
        "{keys}"
    );
    assert!(!keys.contains("fk_second") && !keys.contains("fk_partial"), "{keys}");
    assert!(row(&told, "Unused", "young_t").ends_with(" | age unknown"), "{told}");
    assert!(!told.contains("can be reclaimed if no replica"), "{told}");
    assert!(
        row(&told, "Invalid", "once").ends_with(" | its build was interrupted, or found duplicates"),
        "{told}"
    );
    assert!(told.ends_with("In a migration: DROP INDEX CONCURRENTLY once, then find out whether its columns hold duplicates, and create it again\n"), "{told}");
}

/// Questions and plans over all tables of a database, each answered by as many statements whatever the number of tables.
const OVER_ALL_TABLES: [&str; 9] = [
    "sizes asset-service",
    "indexes asset-service",
    "bloat asset-service",
    "autovacuum asset-service",
    "sequences asset-service",
    "migrations asset-service",
    "vacuum asset-service",
    "analyze asset-service",
    "reindex asset-service assets",
];

/// The number of statements that our logins have run in the database.
async fn statements(superuser: &Client) -> i64 {
    let sql = "SELECT COALESCE(sum(calls), 0)::int8 FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
               JOIN pg_database d ON d.oid = s.dbid WHERE r.rolname LIKE 'countersign%' AND d.datname = current_database()";
    superuser.query_one(sql, &[]).await.unwrap().get(0)
}

async fn statements_of_each(world: &World, superuser: &Client) -> Vec<(&'static str, i64)> {
    let mut counts = Vec::new();
    for line in OVER_ALL_TABLES {
        let carry_out = async || match line.split(' ').next().unwrap() {
            "vacuum" | "analyze" | "reindex" => drop(world.plan(line).await.unwrap()),
            _ => drop(world.told(line).await),
        };
        // The first time, a connection is opened.
        carry_out().await;
        let before = statements(superuser).await;
        carry_out().await;
        counts.push((line, statements(superuser).await - before));
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_statements_does_not_grow_with_the_number_of_tables() {
    let world = World::start().await;
    let superuser = superuser(&world).await;
    superuser.batch_execute("GRANT asset_svc TO countersign_act").await.unwrap();
    let few = statements_of_each(&world, &superuser).await;
    superuser
        .batch_execute("SET client_min_messages = error; SET pg_stat_statements.track = none")
        .await
        .unwrap();
    // One transaction would need more locks than the server has.
    for hundred in 0..20 {
        let sql = format!(
            "DO $$ BEGIN FOR n IN 1..100 LOOP EXECUTE format('CREATE TABLE many_{hundred}_%1$s (id serial PRIMARY KEY, t text); \
             CREATE INDEX ON many_{hundred}_%1$s (t); ALTER TABLE many_{hundred}_%1$s OWNER TO asset_svc', n); END LOOP; END $$"
        );
        superuser.batch_execute(&sql).await.unwrap();
    }
    assert!(few.iter().all(|(_, count)| (1..20).contains(count)), "{few:?}");
    assert_eq!(statements_of_each(&world, &superuser).await, few);
}
