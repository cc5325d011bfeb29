//! Prisma's ledger, read by Prisma's own rule, and its advisory lock; no ledger and no right are told apart from no rows.

use crate::harness::{World, severity, words};
use countersign::model::{Severity, TokenPurpose};
use std::path::Path;
use std::process::Command;
use tokio_postgres::Client;

const LOCK: &str = "SELECT pg_advisory_lock(72707369)";

/// Adds a row as Prisma does, by the columns that tell its state.
async fn row(client: &Client, name: &str, (finished, rolled_back, logs): (bool, bool, Option<&str>)) {
    let sql = "INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at, finished_at, rolled_back_at, logs,
                                               applied_steps_count)
               SELECT md5(random()::text), 'x', $1, now(), CASE WHEN $2 THEN now() END, CASE WHEN $3 THEN now() END, $4,
                      $2::int";
    client.execute(sql, &[&name, &finished, &rolled_back, &logs]).await.unwrap();
}

/// A session of a service, and its pid.
async fn session(world: &World, service: &str) -> (Client, i32) {
    let (service, account) = world.team.service(service).unwrap();
    let client =
        world.cluster.connect_as(account.login(&service.database, "prisma-migrate-1")).await.unwrap();
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    (client, pid)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_is_told_by_prismas_own_rule() {
    let world = World::start().await;
    let asset = world.cluster.connect("asset_service_db").await.unwrap();
    let calm = world.told("migrations asset-service").await;
    let good = "OK: 3 migrations are applied in asset_service_db, none failed; the latest is ";
    assert!(calm.starts_with(good), "{calm}");
    assert!(
        calm.contains("\n20250915140000_email_unique | applied | 2025-09-15 14:55:00 UTC | 3.0 s | 2\n"),
        "{calm}"
    );

    row(&asset, "7_given_up", (false, true, Some("boo"))).await;
    let told = world.told("migrations asset-service").await;
    assert!(told.starts_with("OK: 3 migrations are applied"), "rolled back is not open: {told}");
    assert!(told.contains("\n7_given_up | rolled back | "), "{told}");

    // Failed once, applied later without `migrate resolve`: Prisma still refuses.
    let logs = "Database error code: 23505\n\nKey (email)=(jane.doe@example.com) is duplicated.";
    row(&asset, "8_<b>&'x'", (false, false, Some(logs))).await;
    row(&asset, "8_<b>&'x'", (true, false, None)).await;
    let failed = world.ask("Ana Example", "migrations asset-service").await.unwrap();
    let told = words(&failed);
    assert!(
        told.starts_with("CRITICAL: asset-service: 8_<b>&'x' failed. Deploys are blocked (P3009)"),
        "{told}"
    );
    assert!(told.contains("\n8_<b>&'x' | failed | ") && told.contains(" | 2 | 23505\n"), "{told}");
    assert!(!told.contains("jane.doe"), "{told}");
    let open = "SELECT count(*) FROM _prisma_migrations WHERE finished_at IS NULL AND rolled_back_at IS NULL";
    assert_eq!(asset.query_one(open, &[]).await.unwrap().get::<_, i64>(0), 1);
    asset
        .execute("UPDATE _prisma_migrations SET rolled_back_at = now() WHERE logs LIKE 'Data%'", &[])
        .await
        .unwrap();
    let told = world.told("migrations asset-service").await;
    assert!(told.starts_with("OK: 4 migrations are applied in asset_service_db"), "{told}");

    row(&asset, "9_started", (false, false, None)).await;
    // The same lock in another database is another lock.
    let (elsewhere, _) = session(&world, "auth-service").await;
    elsewhere.query(LOCK, &[]).await.unwrap();
    let told = world.told("migrations asset-service").await;
    assert!(told.starts_with("CRITICAL: asset-service: 9_started did not finish."), "{told}");
    assert!(told.contains("\n9_started | started, not finished | "), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_locks_holder_is_told_and_offered_when_it_does_nothing() {
    let world = World::start().await;
    let asset = world.cluster.connect("asset_service_db").await.unwrap();
    row(&asset, "9_started", (false, false, None)).await;
    let (holder, pid) = session(&world, "asset-service").await;
    holder.query(LOCK, &[]).await.unwrap();
    let (waiter, second) = session(&world, "asset-service").await;
    let waiting = tokio::spawn(async move { waiter.query(LOCK, &[]).await });
    let line = format!("\n{second} | waits | prisma-migrate-1 | active | ");
    let held = world.until("migrations asset-service", |answer| words(answer).contains(&line)).await;
    let told = words(&held);
    assert!(
        told.starts_with(&format!("WARNING: asset-service: 9_started is running (pid {pid}).\n")),
        "{told}"
    );
    assert!(told.contains(&format!("\n{pid} | holds | prisma-migrate-1 | idle | ")), "{told}");
    let [(_, TokenPurpose::RunCommand { command, arguments, .. })] = held.button_purposes.as_slice() else {
        panic!("the idle holder alone: {:?}", held.button_purposes)
    };
    assert_eq!((command.as_str(), arguments["pid"].as_str()), ("kill", pid.to_string().as_str()));
    assert!(arguments.contains_key("backend_start"), "{arguments:?}");

    let busy = tokio::spawn(async move {
        let _ = holder.query("SELECT pg_sleep(600)", &[]).await;
    });
    let active = format!("\n{pid} | holds | prisma-migrate-1 | active | ");
    let held = world.until("migrations asset-service", |answer| words(answer).contains(&active)).await;
    assert!(held.button_purposes.is_empty(), "it works: {}", words(&held));
    // A session that began later than the migration did not start it.
    let before =
        "UPDATE _prisma_migrations SET started_at = now() - interval '2 days' WHERE finished_at IS NULL";
    asset.execute(before, &[]).await.unwrap();
    let told = world.told("migrations asset-service").await;
    assert!(told.starts_with("CRITICAL: asset-service: 9_started did not finish."), "{told}");
    assert!(told.contains("\n9_started | started, not finished | ") && told.contains(&active), "{told}");
    busy.abort();
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ledger_and_no_right_are_not_an_empty_ledger() {
    let world = World::start().await;
    let asset = world.cluster.connect("asset_service_db").await.unwrap();
    let hidden = "WARNING: asset-service doesn't let countersign_read read Prisma's migration table";
    asset.batch_execute("REVOKE SELECT ON _prisma_migrations FROM countersign_read").await.unwrap();
    let told = world.told("migrations asset-service").await;
    assert!(
        told.starts_with(&format!("{hidden}: GRANT SELECT ON public._prisma_migrations TO countersign_read")),
        "{told}"
    );
    assert!(told.contains("\n- | no privilege\n"), "{told}");
    asset
        .batch_execute(
            "GRANT SELECT ON _prisma_migrations TO countersign_read; CREATE SCHEMA \"Own\";
             ALTER TABLE _prisma_migrations SET SCHEMA \"Own\"",
        )
        .await
        .unwrap();
    let told = world.told("migrations asset-service").await;
    assert!(
        told.starts_with(&format!("{hidden}: GRANT USAGE ON SCHEMA \"Own\" TO countersign_read")),
        "its schema is closed: {told}"
    );
    asset.batch_execute("GRANT USAGE ON SCHEMA \"Own\" TO countersign_read").await.unwrap();
    let told = world.told("migrations asset-service").await;
    assert!(
        told.starts_with("OK: 3 migrations are applied") && told.contains("(\"Own\"._prisma_migrations)"),
        "{told}"
    );

    asset.batch_execute("TRUNCATE \"Own\"._prisma_migrations").await.unwrap();
    let told = world.told("migrations asset-service").await;
    assert!(told.starts_with("OK: 0 migrations are applied in asset_service_db, none failed.\n"), "{told}");
    asset.batch_execute("DROP TABLE \"Own\"._prisma_migrations").await.unwrap();
    let told = world.told("migrations asset-service").await;
    assert!(
        told.starts_with("WARNING: asset_service_db has no Prisma migration table (_prisma_migrations).\n"),
        "{told}"
    );
    for lie in ["None.\n", "applied in"] {
        assert!(!told.contains(lie), "{told}");
    }
    asset
        .batch_execute(
            "CREATE TABLE _prisma_migrations (id int); GRANT SELECT ON _prisma_migrations TO PUBLIC",
        )
        .await
        .unwrap();
    let answer = world.ask("Ana Example", "migrations asset-service").await.unwrap();
    assert_eq!(severity(&answer), Severity::Warning);
    assert!(
        words(&answer).contains(
            "Not checked on asset-service: migration status, migrations (asset-service has a table _prisma_migrations that is not Prisma's)"
        ),
        "{}",
        words(&answer)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_services_stand_in_a_line_each() {
    let world = World::start().await;
    let auth = world.cluster.connect("auth_service_db").await.unwrap();
    auth.batch_execute("DROP TABLE _prisma_migrations").await.unwrap();
    let told = world.told("migrations").await;
    assert!(
        told.starts_with(
            "CRITICAL: campaign-service: 20260301100000_member_role_enum failed. Deploys are blocked"
        ),
        "{told}"
    );
    assert!(
        told.contains("\nasset-service | none failed | 3 | 0 | 20250915140000_email_unique | 2025-09-15"),
        "{told}"
    );
    assert!(told.contains("\nauth-service | no migration table | - | - | - | -\n"), "{told}");
    assert_eq!(told.lines().filter(|line| line.contains("-service | none failed | ")).count(), 8, "{told}");
    let campaign = world.cluster.connect("campaign_service_db").await.unwrap();
    campaign
        .execute("UPDATE _prisma_migrations SET rolled_back_at = now() WHERE finished_at IS NULL", &[])
        .await
        .unwrap();
    let told = world.told("migrations").await;
    assert!(
        told.starts_with("OK: No failed migration in any database that has a Prisma migration table.\n"),
        "{told}"
    );
}

/// A migrations directory as Prisma lays it out.
fn directory(migrations: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("migration_lock.toml"), "provider = \"postgresql\"").unwrap();
    for (name, script) in migrations {
        std::fs::create_dir(directory.path().join(name)).unwrap();
        std::fs::write(directory.path().join(name).join("migration.sql"), script).unwrap();
    }
    directory
}

/// The line for a shell that an answer gives for the service's repository.
fn in_repository<'a>(told: &'a str, purpose: &str) -> &'a str {
    let line =
        told.split("\nIn the service's repository, ").nth(1).and_then(|rest| rest.split(purpose).next());
    line.unwrap_or_else(|| panic!("no line that {purpose}: {told}"))
}

/// Types a line in a directory whose git repository is elsewhere: each directory beside the migrations would count as one.
fn shell(line: &str, directory: &Path, repository: &Path) -> String {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", line])
        .current_dir(directory)
        .env("GIT_DIR", repository)
        .env("GIT_WORK_TREE", directory);
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_come_and_what_was_edited_is_told_by_the_migrations_directory() {
    let mut world = World::start().await;
    let asset = world.cluster.connect("asset_service_db").await.unwrap();
    asset.batch_execute("TRUNCATE _prisma_migrations").await.unwrap();
    let applied = async |name: &str, script: &str| {
        row(&asset, name, (true, false, None)).await;
        let sql = "UPDATE _prisma_migrations SET checksum = encode(sha256(convert_to($2, 'UTF8')), 'hex') WHERE migration_name = $1";
        asset.execute(sql, &[&name, &script]).await.unwrap();
    };
    applied("1_init", "CREATE TABLE a ();\n").await;
    applied("2_more", "CREATE TABLE b ();\n").await;
    row(&asset, "3_again", (false, true, Some("boo"))).await;
    // git gave the first one other ends of lines: Prisma takes it all the same.
    let files = directory(&[
        ("1_init", "CREATE TABLE a ();\r\n"),
        ("2_more", "CREATE TABLE b ();\n"),
        ("3_again", "CREATE TABLE c ();"),
        ("4_new", "CREATE TABLE d ();"),
    ]);
    let path = files.path().to_owned();
    world
        .change(|config| {
            let asset = config.services.iter_mut().find(|service| service.name == "asset-service");
            asset.unwrap().migrations = Some(path.clone());
        })
        .await;
    let told = world.told("migrations asset-service").await;
    let good = "OK: 2 migrations are applied in asset_service_db, none failed; the latest is 2_more; pending: 3_again, 4_new.\n";
    assert!(told.starts_with(good), "{told}");
    assert!(told.contains("\n4_new | pending | "), "{told}");
    assert!(told.contains("\n3_again | rolled back, pending | "), "{told}");
    assert!(told.contains("\n1_init | applied | "), "{told}");

    // Only its own service's directory counts, and who has none is asked all the same.
    let all = world.told("migrations").await;
    assert!(all.contains("\nasset-service | none failed | 2 | 1 | 2 | 2_more | "), "{all}");
    assert!(all.contains("\nuser-service | none failed | 3 | 0 | - | "), "{all}");

    let repository = tempfile::tempdir().unwrap();
    let typed = |line: &str| shell(line, &path, repository.path());
    let commit =
        "git add --all && git -c user.name=eve -c user.email=eve@example.com commit --quiet --message";
    typed(&format!("git init --quiet && {commit} first"));
    std::fs::write(path.join("2_more/migration.sql"), "CREATE TABLE b (id int);\n").unwrap();
    typed(&format!("{commit} edited"));
    let told = world.told("migrations asset-service").await;
    assert!(told.starts_with("WARNING: asset-service: 2_more was edited after it was applied"), "{told}");
    let edit = typed(in_repository(&told, " shows the edit."));
    assert!(edit.contains("+CREATE TABLE b (id int);") && !edit.contains("CREATE TABLE d"), "{edit}");
    assert!(told.contains("\n2_more | applied, edited since | "), "{told}");

    std::fs::remove_dir_all(path.join("2_more")).unwrap();
    let told = world.told("migrations asset-service").await;
    assert!(
        told.starts_with(
            "WARNING: asset-service: 2_more is applied but missing from the migrations directory"
        ),
        "{told}"
    );
    let history = typed(in_repository(&told, " shows the branches that have it."));
    assert!(history.contains("edited") && history.contains("refs/heads/"), "{history}");

    asset.batch_execute("ALTER TABLE _prisma_migrations RENAME TO away").await.unwrap();
    let told = world.told("migrations asset-service").await;
    assert!(told.starts_with("WARNING: asset_service_db has no Prisma migration table"), "{told}");
    assert!(told.contains("\n4_new | pending\n3_again | pending\n1_init | pending\n"), "{told}");
    let steps = "To create it: migrate asset-service. To adopt a database that has the tables already: migrate-resolve asset-service\n";
    assert!(told.ends_with(steps), "{told}");
    asset.batch_execute("ALTER TABLE away RENAME TO _prisma_migrations").await.unwrap();

    for (spoil, says) in [
        (
            "4_new/migration.sql",
            "the migrations directory has 4_new without a migration.sql to read (entity not found)",
        ),
        ("", "the migrations directory can't be read (entity not found)"),
    ] {
        let spoiled = path.join(spoil);
        if spoil.is_empty() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&spoiled) }
            .unwrap();
        let told = world.told("migrations asset-service").await;
        assert!(told.starts_with(&format!("WARNING: asset-service: {says}")), "{told}");
        assert!(
            told.contains("\ncountersign check, typed on Countersign's machine, says what to correct.\n"),
            "{told}"
        );
        assert!(!told.contains("pending |") && told.contains("\n1_init | applied | "), "{told}");
    }
}

/// Its owner's code would run as the reader: types' casts to JSON, and expressions that the planner computes where they are constant.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_would_run_its_owners_code_is_not_read() {
    let world = World::start().await;
    let admin = world.cluster.connect("asset_service_db").await.unwrap();
    let functions = "CREATE TYPE planted AS ENUM ('a');
        CREATE FUNCTION planted(planted) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'PLANTED'; RETURN '1'; END $$;
        CREATE CAST (planted AS json) WITH FUNCTION planted(planted);
        CREATE FUNCTION planted_text(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE LOG 'PLANTED'; RETURN $1; END $$;
        ALTER DATABASE asset_service_db SET constraint_exclusion = on";
    admin.batch_execute(functions).await.unwrap();
    let heard = || std::fs::read_to_string(world.cluster.log_path()).unwrap().matches("PLANTED").count();
    let alter = "ALTER TABLE _prisma_migrations";
    // Row security would hide rows, by its owner's function; a superuser sees them all.
    let policy = "CREATE POLICY planted_policy ON _prisma_migrations USING (planted_text('x') = 'x')";
    admin.batch_execute(&format!("{alter} ENABLE ROW LEVEL SECURITY; {policy}")).await.unwrap();
    let before = heard();
    let told = world.told("migrations asset-service").await;
    assert!(told.contains("public._prisma_migrations isn't read: it has a type"), "{told}");
    assert_eq!(heard(), before, "{told}");
    assert!(told.ends_with("In psql, \\d+ public._prisma_migrations shows what was added.\n"), "{told}");
    let undo = "DROP POLICY planted_policy ON _prisma_migrations";
    admin.batch_execute(&format!("{undo}; {alter} DISABLE ROW LEVEL SECURITY")).await.unwrap();
    for (plant, undo) in [
        (
            "CREATE INDEX planted_index ON _prisma_migrations ((planted_text('x') || id))",
            "DROP INDEX planted_index",
        ),
        (
            "CREATE INDEX planted_index ON _prisma_migrations (id) WHERE planted_text('x') = 'x'",
            "DROP INDEX planted_index",
        ),
        (
            &format!("{alter} ADD CONSTRAINT planted_check CHECK (planted_text('x') = 'x' OR id <> '')"),
            &format!("{alter} DROP CONSTRAINT planted_check"),
        ),
        (
            "CREATE TABLE planted_child () INHERITS (_prisma_migrations); CREATE INDEX ON planted_child ((planted_text('x') || id))",
            "DROP TABLE planted_child",
        ),
        // The last, since the rows can't be changed back.
        (&format!("{alter} ALTER migration_name TYPE planted USING 'a'"), ""),
    ] {
        admin.batch_execute(plant).await.unwrap();
        let rows = "SELECT json_agg(m) FROM _prisma_migrations m WHERE checksum <> ''";
        let before_all = heard();
        let other = world.cluster.connect("asset_service_db").await.unwrap();
        other.query(rows, &[]).await.unwrap();
        let before = heard();
        assert!(before > before_all, "{plant}");
        let told = world.told("migrations asset-service").await;
        assert!(told.contains("public._prisma_migrations isn't read: it has a type"), "{told}");
        assert!(!told.contains("has no Prisma migration table"), "{told}");
        assert_eq!(heard(), before, "{plant}: {told}");
        admin.batch_execute(undo).await.unwrap();
    }
}
