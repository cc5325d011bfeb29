//! The real `prisma migrate deploy`: what is known of its ledger, lock and output is so.

use crate::harness::found;
use crate::migrate_harness::Shop;
use countersign::model::RunState;
use std::path::{Path, PathBuf};

const FIRST: &str = "20250101000000_init";
const SECOND: &str = "20250202000000_slow";
const THIRD: &str = "20250303000000_unique";

/// Whoever sets it has Prisma installed, as `make` does: without it, and without Prisma, the stand-in plays it.
const ASKED: &str = "COUNTERSIGN_TEST_PRISMA";

fn installed() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/prisma/node_modules");
    let found = tools.join("prisma/build/index.js").is_file();
    assert!(
        found || std::env::var(ASKED).is_err(),
        "{ASKED} is set, and `make tools` has installed no Prisma"
    );
    found.then_some(tools)
}

async fn shop() -> Shop {
    let Some(packages) = installed() else { return Shop::open("", "").await };
    let program = packages.join("prisma/build/index.js");
    let deploy = format!("[\"node\", \"{}\", \"migrate\", \"deploy\"]", program.display());
    // It wants to see a file of that name, and reads it for queries only.
    let variables =
        format!("CHECKPOINT_DISABLE = \"1\", PRISMA_QUERY_ENGINE_LIBRARY = \"{}\"", program.display());
    let shop = Shop::with(&deploy, &variables, "").await;
    let own = shop.scene.directory.path().join("shop");
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/prisma");
    for (from, to) in [("prisma.config.mjs", "prisma.config.mjs"), ("schema.prisma", "prisma/schema.prisma")]
    {
        std::fs::copy(ours.join(from), own.join(to)).unwrap();
    }
    std::fs::write(own.join("prisma/migrations/migration_lock.toml"), "provider = \"postgresql\"\n").unwrap();
    std::os::unix::fs::symlink(packages, own.join("node_modules")).unwrap();
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn prisma_itself_is_followed_believed_by_its_ledger_and_barred_by_its_failure() {
    let shop = shop().await;
    shop.writes(FIRST, "CREATE TABLE items (name text);");
    shop.writes(SECOND, "CREATE TABLE orders (id int); SELECT pg_advisory_xact_lock(4711);");
    let (gate, _) = shop.application().await;
    gate.batch_execute("SELECT pg_advisory_lock(4711)").await.unwrap();
    // Defaults of a role and of a database that would end a migration, or have it fail.
    let (owner, database) = (&shop.owner, &shop.database);
    let defaults = format!(
        "ALTER ROLE \"{owner}\" SET statement_timeout = '1s'; ALTER DATABASE {database} SET default_transaction_isolation = serializable;
         ALTER ROLE \"{owner}\" IN DATABASE {database} SET idle_in_transaction_session_timeout = '1s'"
    );
    shop.client.batch_execute(&defaults).await.unwrap();
    // What Prisma would call in place of PostgreSQL's own is named before it starts.
    let planted = "CREATE FUNCTION pg_advisory_lock(int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'PLANTED'; END $$;
        CREATE FUNCTION same(varchar, varchar) RETURNS bool LANGUAGE sql AS 'SELECT true';
        CREATE OPERATOR = (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = same)";
    shop.client.batch_execute(planted).await.unwrap();
    for (drop, what) in [
        ("DROP FUNCTION pg_advisory_lock(integer)", "FUNCTION pg_advisory_lock(integer)"),
        (
            "DROP OPERATOR =(character varying, character varying)",
            "OPERATOR =(character varying,character varying)",
        ),
    ] {
        let what = what.replacen(' ', " public.", 1);
        let named =
            format!("Prisma would call {what} in place of PostgreSQL's own, with the rights of the login");
        shop.refuses("migrate shop", &[&named]).await;
        shop.client.batch_execute(drop).await.unwrap();
    }
    let card = shop.runs("migrate shop").await;
    shop.scene.until(&card, "1 of 2 applied").await;
    let long = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'countersign #% migration' AND wait_event = 'advisory'
                AND clock_timestamp() - query_start > interval '1.5 s'";
    found("a statement longer than its role's limit", async || {
        shop.client.query_opt(long, &[]).await.unwrap()
    })
    .await;
    shop.refuses(
        "migrate shop",
        &["Prisma's lock on shop_", "is held by pid ", "(countersign #1 migration)"],
    )
    .await;
    gate.batch_execute("SELECT pg_advisory_unlock(4711)").await.unwrap();
    let (run, told) = shop.ended(&card, "migrate").await;
    assert_eq!(run.state, RunState::Succeeded, "{told}");
    assert!(told.contains("2 migrations applied to shop_"), "{told}");
    assert!(told.contains("All migrations have been successfully applied."), "{told}");
    assert_eq!(shop.ledger().await, [format!("{FIRST} applied"), format!("{SECOND} applied")]);
    shop.refuses("migrate shop", &["No migrations are pending: 2 migrations applied"]).await;

    let twice = "('jane.doe@example.com'), ('jane.doe@example.com')";
    shop.writes(
        THIRD,
        &format!("INSERT INTO items (name) VALUES {twice}; CREATE UNIQUE INDEX ON items (name);"),
    );
    let (run, told) = shop.migrates().await;
    assert_eq!(run.state, RunState::Failed, "{told}");
    assert!(
        told.contains("No migration was applied to shop_") && told.contains(&format!("failed {THIRD}")),
        "{told}"
    );
    assert!(told.contains("Prisma's log of ") && !told.contains("jane"), "{told}");
    assert_eq!(shop.ledger().await[2], format!("{THIRD} failed"));
    shop.refuses("migrate shop", &["P3009", &format!("migrate-resolve shop {THIRD} --as rolled-back")]).await;
    let way_out = shop.runs(&format!("migrate-resolve shop {THIRD} --as rolled-back")).await;
    let (run, told) = shop.ended(&way_out, "migrate-resolve").await;
    assert_eq!(run.state, RunState::Succeeded, "{told}");
    shop.writes(THIRD, "CREATE INDEX ON items (name);");
    let (run, told) = shop.migrates().await;
    assert_eq!(run.state, RunState::Succeeded, "Prisma goes on from what was resolved: {told}");
    assert_eq!(shop.ledger().await[3], format!("{THIRD} applied"));
    shop.keeps_secrets();
}
