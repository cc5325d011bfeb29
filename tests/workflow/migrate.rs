//! `migrate` and `migrate-resolve` as they should go: what is shown, what is asked, and what the ledger says afterwards.

use crate::forms::fields;
use crate::harness::{ANA, BEN, Scene, Twist, found, servers};
use crate::migrate_harness::Shop;
use countersign::model::RunState;
use sha2::{Digest, Sha256};

const FIRST: &str = "20250101000000_init";
const SECOND: &str = "20250202000000_more";
const THIRD: &str = "20250303000000_unique";

/// Two rows that no unique index allows, and that are nobody's business.
const BROKEN: &str = "INSERT INTO items (name) VALUES ('jane.doe@example.com'), ('jane.doe@example.com'); CREATE UNIQUE INDEX items_name ON items (name);";

async fn shop(stand_in: &str) -> Shop {
    let shop = Shop::open(stand_in, "").await;
    shop.writes(FIRST, "CREATE TABLE items (name text);");
    shop.writes(SECOND, "CREATE TABLE orders (id int); CREATE INDEX ON orders (id);");
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_come_is_shown_approved_applied_and_told_by_the_ledger() {
    let shop = shop("").await;
    let card = shop.scene.card(ANA, "migrate shop --env staging").await;
    let shown = card.plain();
    for words in [
        "Applies 2 migrations to shop_",
        "Prisma has never applied a migration here",
        FIRST,
        SECOND,
        "prisma.py migrate deploy",
        "ACCESS EXCLUSIVE",
        "Prisma has no down migrations",
        "no session holds Prisma's lock",
        "DATABASE_URL",
        &shop.owner,
        "30 min 0 s; then it is ended",
        &format!("port {}, the server itself", shop.scene.servers.cluster.port()),
    ] {
        assert!(shown.contains(words), "{words} is missing:\n{shown}");
    }
    assert!(!shop.has("items").await && !shop.has("_prisma_migrations").await, "nothing before the approval");
    shop.refuses("migrate shop", &["already holds the lock on", &format!("migration of {}", shop.database)])
        .await;
    shop.scene.click_button(BEN, &card.at(), "Approve").await;
    let (run, told) = shop.ended(&card.at(), "migrate").await;
    assert_eq!(run.state, RunState::Succeeded, "{told}");
    assert!(told.contains(&format!("2 migrations applied to {}, in ", shop.database)), "{told}");
    assert!(told.contains("All migrations have been successfully applied."), "{told}");
    assert_eq!(shop.ledger().await, [format!("{FIRST} applied"), format!("{SECOND} applied")]);
    assert!(shop.has("items").await && shop.has("orders").await);
    let checksum = hex::encode(Sha256::digest("CREATE TABLE items (name text);"));
    let sql = "SELECT count(*) FROM _prisma_migrations WHERE checksum = $1 AND applied_steps_count = 1";
    assert_eq!(shop.client.query_one(sql, &[&checksum]).await.unwrap().get::<_, i64>(0), 1);
    assert_eq!(run.events.last().unwrap().facts["applied"], serde_json::json!([FIRST, SECOND]));
    assert_eq!((shop.sessions().await, shop.processes()), (0, Vec::new()));
    shop.keeps_secrets();

    shop.refuses(
        "migrate shop",
        &["No migrations are pending: 2 migrations applied", "No approval is requested"],
    )
    .await;
    shop.writes(FIRST, "CREATE TABLE items (name text, price int);");
    shop.refuses(
        "migrate shop",
        &["No migrations are pending", &format!("Edited after it was applied: {FIRST}")],
    )
    .await;
    shop.writes(THIRD, "SELECT 1;");
    let card = shop.scene.card(ANA, "migrate shop --env staging").await.plain();
    assert!(card.contains("2 applied, none failed") && card.contains("edited since applied "), "{card}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_migration_is_told_bars_the_way_and_is_resolved() {
    let shop = shop("").await;
    shop.writes(THIRD, BROKEN);
    let (run, told) = shop.migrates().await;
    assert_eq!(run.state, RunState::Partial, "{told}");
    for words in [
        "2 of 3 migrations applied to shop_",
        "the command ended with code 1",
        &format!("failed {THIRD}"),
        "P3018",
        "could not create unique index",
        "Prisma's log of",
        &format!("migrate-resolve shop {THIRD} --as rolled-back"),
    ] {
        assert!(told.contains(words), "{words} is missing:\n{told}");
    }
    let stored = run.text("outcome").unwrap_or_default();
    assert!(!told.contains("jane") && !stored.contains("jane"), "{told}\n{stored}");
    assert_eq!(shop.ledger().await[2], format!("{THIRD} failed"));
    let logs = "SELECT logs LIKE '%jane.doe@example.com%' FROM _prisma_migrations WHERE logs IS NOT NULL";
    assert!(
        shop.client.query_one(logs, &[]).await.unwrap().get::<_, bool>(0),
        "the data are there to be hidden"
    );

    let way_out = format!("migrate-resolve shop {THIRD} --as rolled-back");
    shop.refuses("migrate shop", &[&format!("{THIRD} failed in shop_"), "P3009", &way_out]).await;
    shop.client.batch_execute("GRANT SELECT ON _prisma_migrations TO countersign_read").await.unwrap();
    let listed = shop.scene.asks(ANA, "migrations shop --env staging").await;
    let step = "mark it as applied or rolled back: /db migrate-resolve shop --env staging";
    assert!(listed.plain().contains(step), "{}", listed.plain());
    shop.scene.click_button(ANA, &listed.at(), "Migrate-resolve shop…").await;
    let form = shop.scene.opened(ANA, None, "the form of the next step").await;
    assert_eq!(fields(&form), ["migration", "as", "reason"]);
    let offered = shop.scene.offers(ANA, &form, "migration", "").await;
    assert_eq!(offered[0], (THIRD.to_owned(), format!("{THIRD} · unresolved")), "{offered:?}");
    shop.scene.without_forms();
    for (line, words) in [
        (
            format!("migrate-resolve shop {} --as rolled-back", &THIRD[..18]),
            format!("Did you mean /db migrate-resolve shop {THIRD} --as rolled-back"),
        ),
        (
            "migrate-resolve shop xyzzy --as rolled-back".to_owned(),
            "/db migrations shop --env staging lists them".to_owned(),
        ),
        (
            format!("migrate-resolve shop {FIRST} --as rolled-back"),
            "doesn't roll back a migration that succeeded".to_owned(),
        ),
        (format!("migrate-resolve shop {FIRST} --as applied"), "is applied already".to_owned()),
        (format!("migrate-resolve shop {THIRD}"), "Missing <as>".to_owned()),
        (format!("migrate-resolve shop {THIRD} --as done"), "is not one of applied, rolled-back".to_owned()),
        (format!("migrate-resolve all {THIRD} --as applied"), "one database at a time".to_owned()),
        ("migrate".to_owned(), "Missing <service>".to_owned()),
        ("migrate all".to_owned(), "one database at a time".to_owned()),
        ("migrate shpo".to_owned(), "Did you mean".to_owned()),
        ("migrate asset-service".to_owned(), "write Prisma's migration table".to_owned()),
    ] {
        shop.refuses(&line, &[&words]).await;
    }

    let card = shop.runs(&way_out).await;
    let (run, told) = shop.ended(&card, "migrate-resolve").await;
    assert_eq!(run.state, RunState::Succeeded, "{told}");
    assert!(told.contains(&format!("{THIRD} is rolled-back in the migration history of shop_")), "{told}");
    assert!(told.contains(&format!("Pending: {THIRD}")), "{told}");
    assert_eq!(shop.ledger().await[2], format!("{THIRD} rolled back"));
    shop.refuses(&way_out, &["is rolled back already"]).await;
    shop.writes(THIRD, "CREATE UNIQUE INDEX items_name ON items (name);");
    let (run, told) = shop.migrates().await;
    assert_eq!(run.state, RunState::Succeeded, "{told}");
    assert!(shop.has("items_name").await);
    shop.keeps_secrets();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_database_is_taken_over_by_prismas_baseline() {
    let shop = shop("").await;
    shop.client
        .batch_execute(&format!("SET ROLE \"{}\"; CREATE TABLE items (name text); RESET ROLE", shop.owner))
        .await
        .unwrap();
    let card = shop.runs(&format!("migrate-resolve shop {FIRST} --as applied")).await;
    let (run, told) = shop.ended(&card, "migrate-resolve").await;
    assert_eq!(run.state, RunState::Succeeded, "{told}");
    assert_eq!(shop.ledger().await, [format!("{FIRST} applied")]);
    shop.refuses(&format!("migrate-resolve shop {SECOND} --as rolled-back"), &["was never started"]).await;
    let (run, told) = shop.migrates().await;
    assert_eq!(run.state, RunState::Succeeded, "{told}");
    assert!(told.contains("1 migration applied to"), "{told}");
    assert!(shop.has("orders").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_with_the_head_of_what_it_waits_for() {
    let shop = shop("").await;
    shop.client
        .batch_execute(&format!("SET ROLE \"{}\"; CREATE TABLE busy (id int); RESET ROLE", shop.owner))
        .await
        .unwrap();
    shop.writes(THIRD, "ALTER TABLE busy ADD COLUMN name text;");
    let superuser =
        shop.scene.servers.cluster.superuser_config(&shop.database).application_name("shop-api").clone();
    let (api, connection) = superuser.connect(tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let pid: i32 = api.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    api.batch_execute("BEGIN; SELECT * FROM busy").await.unwrap();
    let card = shop.runs("migrate shop").await;
    let waits =
        shop.scene.until(&card, &format!("for pid {pid} (shop-api, idle in transaction for ")).await.plain();
    assert!(waits.contains("2 of 3 applied · has waited ") && waits.contains("66 %"), "{waits}");
    assert!(waits.contains(&format!("Applying migration `{THIRD}`")), "its output as it comes: {waits}");
    assert!(shop.processes().len() >= 2, "the stand-in and its psql");
    shop.keeps_secrets();
    shop.refuses("migrate shop", &["is held by pid ", "migration), which has been "]).await;
    api.batch_execute("COMMIT").await.unwrap();
    let (run, told) = shop.ended(&card, "migrate").await;
    assert_eq!(run.state, RunState::Succeeded, "{told}");
    drop(api);
    connection.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_it_was_shown_voids_it() {
    let shop = shop("").await;
    let (holder, pid) = {
        let config = shop
            .scene
            .servers
            .cluster
            .superuser_config(&shop.database)
            .application_name("prisma-stuck")
            .clone();
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        (client, pid)
    };
    let lock =
        async |how: &str| holder.query(&format!("SELECT pg_advisory_{how}(72707369)"), &[]).await.unwrap();
    lock("lock").await;
    let who = format!("is held by pid {pid} (prisma-stuck), which has been idle for ");
    shop.refuses("migrate shop", &[&who, &format!("/db kill {pid} --env staging releases the lock")]).await;
    lock("unlock").await;

    let voided = async |words: &str, change: NewEvent| {
        let card = shop.scene.card(ANA, "migrate shop --env staging").await;
        change.make(&shop, &holder).await;
        shop.scene.click_button(BEN, &card.at(), "Approve").await;
        let (run, told) = shop.ended(&card.at(), "migrate").await;
        assert_eq!(run.state, RunState::Invalidated, "{told}");
        assert!(told.contains(words) && told.contains("Nothing was done."), "{words} is missing: {told}");
        assert!(!shop.has("items").await);
    };
    voided(&who, NewEvent::Lock).await;
    lock("unlock").await;
    voided("The migrations directory has changed since the plan was made.", NewEvent::File).await;
    voided("Prisma's migration history has changed since the plan was made.", NewEvent::Ledger).await;
    let lock = format!("Another Countersign instance holds the lock on migration of {}.", shop.database);
    voided(&lock, NewEvent::Elsewhere).await;
}

enum NewEvent {
    Lock,
    File,
    Ledger,
    Elsewhere,
}

impl NewEvent {
    async fn make(&self, shop: &Shop, holder: &tokio_postgres::Client) {
        match self {
            NewEvent::Lock => drop(holder.query("SELECT pg_advisory_lock(72707369)", &[]).await.unwrap()),
            NewEvent::File => shop.writes(SECOND, "DROP TABLE items;"),
            NewEvent::Ledger => {
                let owner = &shop.owner;
                let make = format!(
                    "SET ROLE \"{owner}\"; CREATE TABLE _prisma_migrations (id varchar(36), checksum varchar(64), finished_at timestamptz,
                     migration_name varchar(255), logs text, rolled_back_at timestamptz, started_at timestamptz DEFAULT now(), applied_steps_count int);
                     INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) VALUES ('1', 'x', '0_other', now()); RESET ROLE"
                );
                shop.client.batch_execute(&make).await.unwrap();
            }
            NewEvent::Elsewhere => {
                let digest = Sha256::digest(format!("migration of {}", shop.database));
                let key = i32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
                holder.query("SELECT pg_advisory_lock($1, $2)", &[&0x4353_474E_i32, &key]).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_where_countersign_runs_is_told_before_anybody_is_asked() {
    let port = format!("port = {}", servers().await.cluster.port());
    let section = |deploy: &str, directory: &str| {
        format!("[migrate]\ndeploy = [\"{deploy}\", \"{{service}}\"]\ndirectory = \"{directory}\"\n")
    };
    for (more, instead, words) in [
        (String::new(), vec![], "No deploy command is configured for asset-service"),
        (section("no-such-prisma", "/tmp"), vec![], "The program no-such-prisma is not installed"),
        (section("true", "/no/{service}"), vec![], "/no/asset-service doesn't exist"),
        (section("true", "/tmp"), vec![(port.as_str(), "port = 6432")], "is a connection pooler's"),
    ] {
        let scene = Scene::with(Twist { more: &more, instead, ..Twist::default() }).await;
        let told = scene.asks(ANA, "migrate asset-service --env staging").await.plain();
        assert!(told.contains(words), "{words} is missing: {told}");
        assert!(scene.runs_of("migrate").await.is_empty());
    }
    let nobody = section("true", "/tmp");
    let scene = Scene::with(Twist { more: &nobody, ..Twist::default() }).await;
    let told = scene.asks(ANA, "migrate-resolve asset-service x --as applied --env staging").await.plain();
    assert!(
        told.contains("write Prisma's migration table") || told.contains("There is no migration"),
        "{told}"
    );
    found("no run", async || scene.runs_of("migrate-resolve").await.is_empty().then_some(())).await;
}
