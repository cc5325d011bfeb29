//! What a purge refuses, and how it ends when it can't go on: every row that the card didn't show stays.

use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use crate::purge::{DATABASE, card, checksum, done, newest, scene, servers, tables};
use countersign::model::RunState;

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_every_kind_lose_their_old_rows_and_no_others() {
    let scene = scene().await;
    let superuser = tables(
        &scene,
        "CREATE SCHEMA \"Purged\";
         CREATE TABLE \"Purged\".\"Event\" (\"tenantId\" int, \"No\" int, \"happenedAt\" timestamptz(3), PRIMARY KEY (\"tenantId\", \"No\"));
         INSERT INTO \"Purged\".\"Event\" SELECT n % 3, n, now() - n * interval '1 hour' FROM generate_series(1, 100) n;
         CREATE TABLE purged_days (day date);
         INSERT INTO purged_days SELECT (now() AT TIME ZONE 'UTC')::date - n FROM generate_series(0, 19) n;
         INSERT INTO purged_days VALUES (NULL), (NULL);
         CREATE TABLE purged_uuids (id uuid PRIMARY KEY, at timestamp);
         INSERT INTO purged_uuids SELECT md5(n::text)::uuid, (now() AT TIME ZONE 'UTC') - n * interval '1 min' FROM generate_series(1, 25000) n;
         GRANT USAGE ON SCHEMA \"Purged\" TO countersign_act;
         GRANT SELECT, DELETE ON \"Purged\".\"Event\", purged_days, purged_uuids TO countersign_act",
    )
    .await;
    let asked = card(&scene, "event --column happenedat --older-than 50h").await;
    let shown = asked.plain();
    assert!(shown.contains("Deletes 51 rows of \"Purged\".\"Event\"") && shown.contains("+00"), "{shown}");
    done(&scene, &asked, "51 rows of 51 were deleted, in 1 batch").await;
    let sql = "SELECT max(\"No\") FROM \"Purged\".\"Event\"";
    assert_eq!(superuser.query_one(sql, &[]).await.unwrap().get::<_, i32>(0), 49);

    let asked = card(&scene, "purged_days --column day --older-than 10d").await;
    assert!(asked.plain().contains("(a day in UTC)"), "{}", asked.plain());
    done(&scene, &asked, "9 rows of 9 were deleted").await;
    let sql = "SELECT count(*) FILTER (WHERE day IS NULL), count(*) FROM purged_days";
    let row = superuser.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 13));

    let asked = card(&scene, "purged_uuids --column at --older-than 1h").await;
    done(&scene, &asked, "24,941 rows of 24,941 were deleted, in 3 batches").await;
    assert_eq!(checksum(&superuser, "purged_uuids").await.split(' ').next(), Some("59"));
}

/// What follows `purge asset-service`, and what it is told.
const WRONG: &[(&str, &str)] = &[
    ("", "Missing <table>"),
    ("purged_wrong", "the column that tells how old a row is"),
    ("purged_wrong --column at", "the minimum age of the rows to delete"),
    ("purged_wrong --older-than 90d", "the column that tells how old a row is"),
    ("purged_wrong --column at --older-than 0", "not a duration"),
    ("purged_wrong --column at --older-than 0d", "is zero, which would match everything"),
    ("purged_wrong --column at --older-than -90d", "not a duration"),
    ("purged_wrong --column at --older-than soon", "not a duration"),
    (
        "purged_wrong --column note --older-than 90d",
        "note of public.purged_wrong is of type text, not a time",
    ),
    ("purged_wrong --column ta --older-than 90d", "has no column “ta”"),
    (
        "purged_wrong --column \"at; DROP TABLE purged_wrong\" --older-than 90d",
        "has no column “at; DROP TABLE purged_wrong”",
    ),
    ("purged_wrnog --column at --older-than 90d", "Did you mean purged_wrong?"),
    (
        "\"purged_wrong; DROP TABLE assets\" --column at --older-than 90d",
        "has no table “purged_wrong; DROP TABLE assets”",
    ),
    ("purged_wrong --column at --older-than 9000d", "not a duration"),
    (
        "purged_wrong --column at --older-than 3000d",
        "There is nothing to delete: no row of public.purged_wrong has at before",
    ),
    ("purged_wrong --column at --older-than 90d --continue 1", "would change them"),
    ("purged_wrong --continue 4711", "There is no run #4711"),
    ("purged_wrong --continue x", "is not the number of a run"),
    ("purged_parted --column at --older-than 90d", "is partitioned"),
    ("purged_others --column at --older-than 90d", "GRANT DELETE ON public.purged_others TO countersign_act"),
    ("purged_read --column at --older-than 90d", "GRANT DELETE ON public.purged_read TO countersign_act"),
    ("pg_class --column at --older-than 90d", "has no table “pg_class”"),
];

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_says_what_to_type_and_changes_nothing() {
    let scene = scene().await;
    let superuser = tables(
        &scene,
        "CREATE TABLE purged_wrong (id int PRIMARY KEY, at timestamptz, note text);
         INSERT INTO purged_wrong SELECT n, now() - n * interval '1 day', 'x' FROM generate_series(1, 200) n;
         CREATE TABLE purged_others (LIKE purged_wrong); CREATE TABLE purged_read (LIKE purged_wrong);
         CREATE TABLE purged_parted (at timestamptz) PARTITION BY RANGE (at);
         GRANT SELECT, DELETE ON purged_wrong, purged_parted TO countersign_act; GRANT SELECT ON purged_read TO countersign_act",
    )
    .await;
    let before = checksum(&superuser, "purged_wrong").await;
    scene.without_forms();
    for (rest, words) in WRONG {
        scene.refused(ANA, &format!("purge asset-service {rest} --env production"), words).await;
    }
    scene
        .refused(
            ANA,
            "purge all purged_wrong --column at --older-than 90d --env production",
            "one service's database",
        )
        .await;
    assert_eq!(checksum(&superuser, "purged_wrong").await, before);
    assert!(scene.runs_of("purge").await.is_empty());

    let asked = card(&scene, "purged_wrong --column at --older-than 150d").await;
    let run = newest(&scene).await.id;
    let line = |table: &str, env: &str| format!("purge asset-service {table} --continue {run} --env {env}");
    scene.refused(ANA, &line("purged_wrong", "production"), "is pending: there is nothing to continue").await;
    scene.refused(ANA, &line("purged_wrong", "staging"), "is a purge of production").await;
    scene.refused(ANA, &line("audit_logs", "production"), "delete rows of public.audit_logs.").await;
    let grant = "A role that may do so runs GRANT DELETE ON public.purged_read TO countersign_act.";
    scene.refused(ANA, &line("purged_read", "production"), grant).await;
    superuser.batch_execute("GRANT SELECT, DELETE ON purged_read TO countersign_act").await.unwrap();
    scene
        .refused(
            ANA,
            &line("purged_read", "production"),
            "is a purge of public.purged_wrong of asset_service_db",
        )
        .await;
    scene.click_button(BEN, &asked.at(), "Deny").await;
    scene.until(&asked.at(), "Denied by ben").await;
    assert_eq!(checksum(&superuser, "purged_wrong").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_referred_to_ends_it_honestly_and_it_goes_on_afterwards() {
    let scene = scene().await;
    let superuser = tables(
        &scene,
        "CREATE TABLE purged_orders (id int PRIMARY KEY, at timestamptz);
         INSERT INTO purged_orders SELECT n, now() - interval '1 year' FROM generate_series(1, 12000) n;
         CREATE TABLE purged_bills (of_order int CONSTRAINT its_order REFERENCES purged_orders ON DELETE RESTRICT);
         INSERT INTO purged_bills VALUES (11000); GRANT SELECT, DELETE ON purged_orders TO countersign_act",
    )
    .await;
    let asked = card(&scene, "purged_orders --column at --older-than 90d").await;
    let shown = asked.plain();
    assert!(shown.contains("Referred to by public.purged_bills.its_order (ON DELETE RESTRICT"), "{shown}");
    let told = done(&scene, &asked, "10,000 rows of 12,000 were deleted, in 1 batch").await;
    assert!(told.contains("PostgreSQL refused: ") && told.contains("23503"), "{told}");
    let run = newest(&scene).await;
    assert_eq!(run.state, RunState::Partial);
    assert_eq!(checksum(&superuser, "purged_orders").await.split(' ').next(), Some("2000"));

    superuser.batch_execute("DELETE FROM purged_bills").await.unwrap();
    let again = card(&scene, &format!("purged_orders --continue {}", run.id)).await;
    done(&scene, &again, "2,000 rows of 2,000 were deleted, in 1 batch").await;
    assert_eq!(checksum(&superuser, "purged_orders").await, "0 -");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_the_card_ends_it_before_a_row_is_gone() {
    let scene = scene().await;
    let make = "INSERT INTO NAME SELECT n, now() - interval '1 year' FROM generate_series(1, 100) n; GRANT SELECT, DELETE ON NAME TO countersign_act;";
    let of = |name: &str| {
        format!("CREATE TABLE {name} (id int PRIMARY KEY, at timestamptz);{}", make.replace("NAME", name))
    };
    let all = ["purged_replaced", "purged_retyped", "purged_grown", "purged_held"].map(of);
    let superuser = tables(&scene, &all.concat()).await;
    let again = of("purged_replaced");
    for (table, change, words) in [
        (
            "purged_replaced",
            format!(
                "ALTER TABLE purged_replaced RENAME TO purged_old; ALTER INDEX purged_replaced_pkey RENAME TO purged_old_pkey; {again}"
            ),
            "its table is another",
        ),
        (
            "purged_retyped",
            "ALTER TABLE purged_retyped ALTER at TYPE timestamp".to_owned(),
            "its column is another",
        ),
        (
            "purged_grown",
            "INSERT INTO purged_grown SELECT n, now() - interval '1 year' FROM generate_series(101, 121) n"
                .to_owned(),
            "More rows are that old than the card showed: 100 rows",
        ),
    ] {
        let asked = card(&scene, &format!("{table} --column at --older-than 90d")).await;
        superuser.batch_execute(&change).await.unwrap();
        let before = checksum(&superuser, table).await;
        let told = done(&scene, &asked, words).await;
        assert!(told.contains("Nothing was done."), "{told}");
        assert_eq!(
            (newest(&scene).await.state, checksum(&superuser, table).await),
            (RunState::Invalidated, before)
        );
    }
    assert_eq!(checksum(&superuser, "purged_old").await.split(' ').next(), Some("100"));

    // One that Countersign's other copy, or the session of a killed one, is still at.
    let resource = format!("purge of {DATABASE}: public.purged_held");
    let key = u32::from_str_radix(&countersign::model::sha256_hex(&[resource.as_bytes()])[..8], 16).unwrap();
    let holder = scene.servers.cluster.connect(DATABASE).await.unwrap();
    let hold = "SELECT pg_try_advisory_lock(1129531214, $1)";
    assert!(holder.query_one(hold, &[&(key as i32)]).await.unwrap().get::<_, bool>(0));
    let asked = card(&scene, "purged_held --column at --older-than 90d").await;
    let told = done(&scene, &asked, "Another purge of public.purged_held is running").await;
    assert!(told.contains("Nothing was done."), "{told}");
    assert_eq!(newest(&scene).await.state, RunState::Failed);
    assert_eq!(checksum(&superuser, "purged_held").await.split(' ').next(), Some("100"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_take_too_long_to_count_ask_nobody_and_rows_that_stay_are_not_called_gone() {
    let timeouts = "connections = 12\nstatement_timeout = \"2s\"\nlock_timeout = \"30s\"";
    let instead = vec![("connections = 12", timeouts)];
    let scene = Scene::with(Twist { servers: Some(servers().await), instead, ..Twist::default() }).await;
    let superuser = tables(
        &scene,
        "CREATE TABLE purged_slowly (at timestamptz); INSERT INTO purged_slowly SELECT now() - interval '1 year' FROM generate_series(1, 100);
         CREATE TABLE purged_kept (at timestamptz); INSERT INTO purged_kept SELECT now() - interval '1 year' FROM generate_series(1, 100);
         CREATE FUNCTION purged_keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER keep BEFORE DELETE ON purged_kept FOR EACH ROW EXECUTE FUNCTION purged_keep();
         GRANT SELECT, DELETE ON purged_slowly, purged_kept TO countersign_act",
    )
    .await;
    let line = "purge asset-service purged_slowly --column at --older-than 90d --env production";
    // A lock that is waited for is as slow as rows that are many.
    let lock = "BEGIN; LOCK TABLE purged_slowly IN ACCESS EXCLUSIVE MODE";
    superuser.batch_execute(lock).await.unwrap();
    scene.refused(ANA, line, "No index begins with at").await;
    superuser.batch_execute("COMMIT; CREATE INDEX ON purged_slowly (at)").await.unwrap();
    superuser.batch_execute(lock).await.unwrap();
    scene.refused(ANA, line, "Ask for fewer").await;
    superuser.batch_execute("COMMIT").await.unwrap();
    let asked = card(&scene, "purged_kept --column at --older-than 90d").await;
    let told = done(&scene, &asked, "a trigger or a rule keeps them. No row was deleted.").await;
    assert!(!told.contains("No disk space is freed"), "{told}");
    assert_eq!(newest(&scene).await.state, RunState::Failed);
    assert_eq!(checksum(&superuser, "purged_kept").await.split(' ').next(), Some("100"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_falls_behind_stops_it_and_it_goes_on_when_that_has_caught_up() {
    let (servers, replica) = Servers::followed().await;
    let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
    let superuser = servers.cluster.connect(DATABASE).await.unwrap();
    let behind = async |condition: &str| {
        let sql = format!("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming' AND {condition}");
        found(condition, async || superuser.query_opt(&sql, &[]).await.expect("an answer")).await;
    };
    behind("replay_lsn = pg_current_wal_lsn()").await;
    // It receives WAL as a replica does, and replays nothing.
    let received = tempfile::tempdir().unwrap();
    let cluster = &servers.cluster;
    let mut receiver = std::process::Command::new(cluster.bin_dir().join("pg_receivewal"))
        .args([
            "-w",
            "-h",
            cluster.host(),
            "-p",
            &cluster.port().to_string(),
            "-U",
            cluster.superuser(),
            "-D",
        ])
        .arg(received.path())
        .env("PGPASSWORD", cluster.superuser_password())
        .spawn()
        .unwrap();
    behind("application_name = 'pg_receivewal'").await;
    let frozen = replica.freeze().unwrap();
    tables(
        &scene,
        "CREATE TABLE purged_ahead (id int PRIMARY KEY, at timestamptz);
         INSERT INTO purged_ahead SELECT n, now() - interval '1 year' FROM generate_series(1, 100) n;
         GRANT SELECT, DELETE ON purged_ahead TO countersign_act",
    )
    .await;
    behind("replay_lsn < pg_current_wal_lsn() AND clock_timestamp() - reply_time > interval '2 s'").await;
    let asked = card(&scene, "purged_ahead --column at --older-than 90d --most-lag 1s").await;
    let shown = asked.plain();
    assert!(shown.contains("replicas sample-replica is ") && shown.contains(" behind"), "{shown}");
    assert!(!shown.contains("pg_receivewal"), "{shown}");
    let told = done(&scene, &asked, "Stopped, since the replica sample-replica is ").await;
    assert!(
        told.contains("0 rows of 100 were deleted") && !told.contains("No disk space is freed"),
        "{told}"
    );
    let run = newest(&scene).await;
    assert_eq!(run.state, RunState::Stopped);
    assert_eq!(checksum(&superuser, "purged_ahead").await.split(' ').next(), Some("100"));

    drop(frozen);
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    behind("replay_lsn = pg_current_wal_lsn()").await;
    let again = card(&scene, &format!("purged_ahead --continue {}", run.id)).await;
    done(&scene, &again, "100 rows of 100 were deleted, in 1 batch").await;
    assert_eq!(checksum(&superuser, "purged_ahead").await, "0 -");
    let on_replica = replica.connect(DATABASE).await.unwrap();
    found("the replica to have it too", async || {
        let left: i64 = on_replica.query_one("SELECT count(*) FROM purged_ahead", &[]).await.unwrap().get(0);
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_behind_row_security_or_a_rule_are_refused_and_never_called_none() {
    let scene = scene().await;
    let superuser = tables(
        &scene,
        "CREATE TABLE purged_secured (id int PRIMARY KEY, at timestamptz);
         INSERT INTO purged_secured SELECT g, '2020-01-01' FROM generate_series(1, 10) g;
         ALTER TABLE purged_secured ENABLE ROW LEVEL SECURITY; ALTER TABLE purged_secured FORCE ROW LEVEL SECURITY;
         CREATE TABLE purged_ruled (LIKE purged_secured); INSERT INTO purged_ruled SELECT * FROM purged_secured;
         CREATE RULE kept AS ON DELETE TO purged_ruled DO INSTEAD NOTHING;
         GRANT SELECT, DELETE ON purged_secured, purged_ruled TO countersign_act",
    )
    .await;
    let refused = async |table: &str, words: &str| {
        let line = format!("purge asset-service {table} --column at --older-than 30d --env production");
        scene.refused(ANA, &line, words).await;
        let left = superuser.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap();
        assert_eq!(left.get::<_, i64>(0), 10, "{table}");
    };
    refused("purged_secured", "Row security can hide rows of public.purged_secured from countersign_act")
        .await;
    refused("purged_ruled", "public.purged_ruled has a rule on DELETE (kept)").await;

    // What it advises helps.
    superuser.batch_execute("DROP RULE kept ON purged_ruled").await.unwrap();
    let asked = card(&scene, "purged_ruled --column at --older-than 30d").await;
    // A rule that comes between the card and the click is found before a row is touched.
    superuser
        .batch_execute("CREATE RULE kept AS ON DELETE TO purged_ruled DO INSTEAD NOTHING")
        .await
        .unwrap();
    done(
        &scene,
        &asked,
        "public.purged_ruled is no longer what the card showed: its set of rules is another",
    )
    .await;
    superuser.batch_execute("DROP RULE kept ON purged_ruled").await.unwrap();
    let asked = card(&scene, "purged_ruled --column at --older-than 30d").await;
    done(&scene, &asked, "10 rows of 10 were deleted").await;
}

/// The parts of a table that call a function of somebody's own, and whether the planner of a count would call it. ANALYZE calls each, as
/// the table's owner.
const CALLS: [(&str, &str, bool); 16] = [
    ("checked", "ALTER TABLE T ADD CHECK (purged_evil('x') = 'x' OR note <> '')", false),
    ("indexed", "CREATE INDEX ON T ((purged_evil('x') || note))", true),
    ("partial", "CREATE INDEX ON T (id) WHERE purged_evil('x') = 'x'", true),
    ("operated", "CREATE INDEX ON T (('a'::text OPERATOR(public.@@@@) 'b'), id)", true),
    ("folded", "CREATE INDEX ON T (purged_evil(coalesce('x', note)))", true),
    ("inlined", "CREATE INDEX ON T (purged_inlined(note))", true),
    ("defaulted", "CREATE INDEX ON T (purged_defaulted(note))", true),
    ("cased", "CREATE INDEX ON T ((CASE 'k' WHEN purged_evil('k') THEN note END))", true),
    ("column", "CREATE INDEX ON T (purged_evil(note))", false),
    ("lowered", "CREATE UNIQUE INDEX ON T (id, purged_evil(lower(note)))", false),
    ("some", "CREATE INDEX ON T (id) WHERE purged_evil(note) = 'x'", false),
    ("compared", "CREATE INDEX ON T ((note OPERATOR(public.@@@@) 'b'), id)", false),
    ("settled", "CREATE INDEX ON T (purged_settled(note))", false),
    ("domained", "CREATE INDEX ON T ((('a'::purged_domain) || note))", false),
    ("generated", "ALTER TABLE T ADD made text GENERATED ALWAYS AS (purged_evil('x') || note) STORED", false),
    ("plain", "CREATE INDEX ON T ((lower('x') || note))", false),
];

/// The planner computes constant parts of a table's expressions, before anyone has approved anything, and no others. Nor does DELETE.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_calls_no_function_of_somebodys_own() {
    let scene = scene().await;
    let mut make = "CREATE SEQUENCE purged_alarm; GRANT ALL ON purged_alarm TO PUBLIC;
         CREATE FUNCTION purged_evil(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
           $$ BEGIN PERFORM pg_catalog.nextval('public.purged_alarm'); RETURN $1; END $$;
         CREATE FUNCTION purged_evil_equal(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
           $$ BEGIN PERFORM pg_catalog.nextval('public.purged_alarm'); RETURN true; END $$;
         CREATE FUNCTION purged_inlined(text) RETURNS text LANGUAGE sql IMMUTABLE AS
           $$ SELECT $1 OPERATOR(pg_catalog.||) public.purged_evil('x') $$;
         CREATE FUNCTION purged_settled(text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS
           $$ SELECT $1 || public.purged_evil('x') $$;
         CREATE FUNCTION purged_defaulted(text, text DEFAULT public.purged_evil('x')) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
           $$ BEGIN RETURN $1; END $$;
         CREATE DOMAIN purged_domain AS text CHECK (purged_evil(value) = value);
         CREATE OPERATOR public.@@@@ (FUNCTION = purged_evil_equal, LEFTARG = text, RIGHTARG = text);
         CREATE TABLE purged_keyed (at timestamptz, n int) PARTITION BY RANGE ((length(purged_evil('x')) + n));
         CREATE TABLE purged_partition PARTITION OF purged_keyed FOR VALUES FROM (0) TO (100);
         INSERT INTO purged_keyed VALUES (now() - interval '1 year', 1);
         ALTER DATABASE asset_service_db SET constraint_exclusion = on; GRANT SELECT, DELETE ON purged_partition TO countersign_act;"
        .to_owned();
    for (name, part, _) in CALLS {
        let table = format!("purged_{name}");
        make += &format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, at timestamptz, note text) WITH (autovacuum_enabled = off);
             INSERT INTO {table} SELECT n, now() - interval '1 year', 'x' FROM generate_series(1, 100) n;
             {}; ANALYZE {table}; GRANT SELECT, DELETE ON {table} TO countersign_act;",
            part.replace("ON T", &format!("ON {table}")).replace("TABLE T", &format!("TABLE {table}"))
        );
    }
    let superuser = tables(&scene, &make).await;
    let of_14 = "DO $$ BEGIN IF current_setting('server_version_num')::int >= 140000 THEN
           EXECUTE 'CREATE STATISTICS purged_counted ON (purged_evil(''x'') || note), id FROM purged_plain'; END IF; END $$";
    let alarm = "SELECT setval('public.purged_alarm', 1, false)";
    superuser.execute(alarm, &[]).await.unwrap();
    let line = |name: &str| {
        format!("purge asset-service purged_{name} --column at --older-than 90d --env production")
    };
    for (name, part, is_called) in CALLS {
        if is_called {
            scene.refused(ANA, &line(name), "which isn't PostgreSQL's own").await;
            scene.refused(ANA, &line(name), &format!("The index public.purged_{name}_")).await;
            continue;
        }
        let asked = card(&scene, &format!("purged_{name} --column at --older-than 90d")).await;
        done(&scene, &asked, "100 rows of 100 were deleted").await;
        let called = superuser.query_one("SELECT is_called FROM purged_alarm", &[]).await.unwrap();
        assert!(!called.get::<_, bool>(0), "{part}");
    }
    card(&scene, "purged_partition --column at --older-than 90d").await;
    superuser.batch_execute(of_14).await.unwrap();
    if superuser
        .query_opt("SELECT FROM pg_statistic_ext WHERE stxname = 'purged_counted'", &[])
        .await
        .unwrap()
        .is_some()
    {
        scene
            .refused(ANA, &line("plain"), "The statistics public.purged_counted of public.purged_plain uses")
            .await;
    }
    superuser.execute(alarm, &[]).await.unwrap();
    scene.refused(ANA, &format!("{} --dry-run", line("indexed")), "before anyone approves").await;
    let called = superuser.query_one("SELECT is_called FROM purged_alarm", &[]).await.unwrap();
    assert!(!called.get::<_, bool>(0));
}
