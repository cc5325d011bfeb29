//! Our own SQL is resolved by PostgreSQL's own names alone. Databases are full of better and of equal matches, which other roles
//! created; each writes a line into the server's log when a login of ours calls it, and no command, check or dump does.

use crate::all_commands::{ask_every_question, carry_out_every_change, finer_logins, scene, server};
use crate::harness::{Scene, Servers};
use crate::installed::servers;
use countersign::access::Access;
use countersign::catalog::Catalog;
use countersign::postgres::Environments;
use countersign::preflight::{CheckContext, check};
use std::collections::BTreeSet;
use std::path::Path;
use tokio_postgres::Client;

const DATABASES: [&str; 2] = ["asset_service_db", "postgres"];

/// Each has a schema of its own name, which the usual search_path has first.
const LOGINS: [&str; 4] =
    ["countersign_read", "countersign_act", "countersign_maintain", "countersign_owner"];
const FINER_LOGINS: [&str; 2] = ["countersign_signal", "countersign_dump"];

/// Names in the schemas that have a login's name.
const FEW: &str = "= || count current_setting format lower now pg_class pg_has_role pg_roles pg_stat_activity quote_ident set_config";

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Names, and operators in SQL files, of all files below a directory.
fn words(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("demo") {
            words(&path, found);
            continue;
        }
        let is_sql = path.extension().is_some_and(|extension| extension == "sql");
        if !is_sql && path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        found.extend(text.split(|c| !is_name(c)).filter(|word| !word.is_empty()).map(str::to_owned));
        let is_operator = |c: char| "-+*/<>=~!@#%^&|?".contains(c);
        let operators = text.split(|c| !is_operator(c)).filter(|word| is_sql && !word.is_empty());
        let is_comment = |word: &&str| word.contains("--") || word.contains("/*");
        found.extend(operators.filter(|word| !is_comment(word)).map(str::to_owned));
    }
}

async fn plant(client: &Client, schema: &str, words: &str) -> i32 {
    client.execute("SELECT pg_catalog.set_config('planted.schema', $1, false)", &[&schema]).await.unwrap();
    client.execute("SELECT pg_catalog.set_config('planted.words', $1, false)", &[&words]).await.unwrap();
    client.batch_execute(include_str!("planted.sql")).await.unwrap();
    let made = "SELECT pg_catalog.current_setting('planted.made')::int";
    client.query_one(made, &[]).await.unwrap().get(0)
}

/// Functions with the names of an extension's, in its schema.
const BESIDE_THE_EXTENSION: &str = "DO $$ DECLARE wanted record; BEGIN
    FOR wanted IN SELECT * FROM (VALUES
        ('pg_stat_statements', 'text', 'TABLE (queryid int8, calls int8, query text, shared_blks_read int8, dbid oid, userid oid)'),
        ('pg_stat_statements_reset', 'int, oid, int', 'void'), ('pg_stat_statements_reset', 'int, oid, int8', 'void'),
        ('pg_stat_statements_reset', 'oid, oid, int', 'void'), ('pg_stat_statements_reset', 'int8, oid, int8', 'void'),
        -- The extension's own until 16; with its fourth argument's default it is a worse match since.
        ('pg_stat_statements_reset', 'oid, oid, int8', 'void')) AS functions (name, arguments, result)
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN RAISE LOG ''PLANTED %% called by %%'', %L, session_user; END $f$',
                           wanted.name, wanted.arguments, wanted.result, wanted.name);
        EXCEPTION WHEN duplicate_function THEN NULL;
        END;
    END LOOP;
END $$";

/// As the databases' owner, who is no superuser; and where sessions are ended from, as any role could before PostgreSQL 15.
async fn plant_everywhere(servers: &Servers) {
    let mut found = BTreeSet::new();
    words(&Path::new(ROOT).join("src"), &mut found);
    words(&Path::new(ROOT).join("commands"), &mut found);
    let words = found.into_iter().collect::<Vec<_>>().join(" ");
    let owner = &servers.team.admin;
    let all = DATABASES.map(async |database| {
        let superuser = servers.cluster.connect(database).await.unwrap();
        superuser.batch_execute("GRANT CREATE ON SCHEMA public TO dbadmin").await.unwrap();
        let client = servers.cluster.connect_as(owner.login(database, "plants")).await.unwrap();
        assert!(plant(&client, "public", &words).await > 5_000);
        client.batch_execute(BESIDE_THE_EXTENSION).await.unwrap();
        let may_reset = "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO countersign_maintain";
        superuser.batch_execute(may_reset).await.unwrap();
        let first = format!("ALTER DATABASE {database} SET search_path = \"$user\", public, pg_catalog");
        superuser.batch_execute(&first).await.unwrap();
    });
    futures::future::join_all(all).await;
    plant_for(servers, &LOGINS).await;
}

/// In a schema of each login's own.
async fn plant_for(servers: &Servers, logins: &[&str]) {
    for database in DATABASES {
        let superuser = servers.cluster.connect(database).await.unwrap();
        let admin = servers.team.admin.login(database, "plants");
        let client = servers.cluster.connect_as(admin).await.unwrap();
        for login in logins {
            let schema = format!(
                "SET search_path = pg_catalog; CREATE SCHEMA {login} AUTHORIZATION dbadmin; GRANT USAGE ON SCHEMA {login} TO PUBLIC;
                 ALTER ROLE {login} SET search_path = \"$user\", public, pg_catalog"
            );
            superuser.batch_execute(&schema).await.unwrap();
            assert!(plant(&client, login, FEW).await > 100);
        }
    }
}

/// The calls of what was planted by logins of ours, from that offset of the server's log on.
fn calls(servers: &Servers, offset: usize) -> BTreeSet<String> {
    let log = std::fs::read(servers.cluster.log_path()).unwrap();
    let log = String::from_utf8_lossy(&log[offset..]).into_owned();
    let calls = log.lines().filter_map(|line| line.split_once("PLANTED ").map(|(_, call)| call.to_owned()));
    calls.filter(|call| call.contains("called by countersign_")).collect()
}

fn log_size(servers: &Servers) -> usize {
    usize::try_from(std::fs::metadata(servers.cluster.log_path()).unwrap().len()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_planted_name_is_called() {
    // One after another: each dumps thousands of functions.
    for bin_dir in servers() {
        let servers = server(bin_dir).await;
        let sql = "GRANT asset_svc TO countersign_act, countersign_owner, countersign_maintain";
        servers.cluster.connect("postgres").await.unwrap().batch_execute(sql).await.unwrap();
        plant_everywhere(servers).await;
        let major = servers.cluster.version_num() / 10_000;

        // A session that pins nothing would call them.
        let offset = log_size(servers);
        for database in DATABASES {
            let reader = servers.team.reader.login(database, "pins nothing");
            let reader = servers.cluster.connect_as(reader).await.unwrap();
            drop(
                reader
                    .simple_query("SELECT quote_ident(relname) FROM pg_class WHERE relname = 'pg_type'::name")
                    .await,
            );
        }
        assert!(calls(servers, offset).len() > 1, "PostgreSQL {major}: nothing is heard");

        no_login_calls_them(&scene(servers, "").await, &format!("PostgreSQL {major}")).await;
        // One login ends sessions and dumps there. With a login for each purpose:
        let finer = finer_logins(servers, &DATABASES).await;
        plant_for(servers, &FINER_LOGINS).await;
        let which = format!("PostgreSQL {major}, finer logins");
        no_login_calls_them(&scene(servers, &finer).await, &which).await;
    }
}

async fn no_login_calls_them(scene: &Scene, which: &str) {
    let (servers, offset) = (scene.servers, log_size(scene.servers));
    let catalog = Catalog::built_in().unwrap();
    ask_every_question(scene, &catalog).await;
    assert_eq!(calls(servers, offset), BTreeSet::new(), "{which}, commands that read");
    carry_out_every_change(scene, &catalog).await;
    assert_eq!(calls(servers, offset), BTreeSet::new(), "{which}, commands that change");
    let config = scene.stage.checked().unwrap();
    let environments = Environments::new(&config).unwrap();
    let access = Access::new(&config, &catalog).unwrap();
    let context = CheckContext {
        config: &config,
        catalog: &catalog,
        environments: &environments,
        access: &access,
        schedule: &[],
    };
    check(&context, None).await;
    assert_eq!(calls(servers, offset), BTreeSet::new(), "{which}, the check");
}
