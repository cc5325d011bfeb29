//! Defaults that a database or a role sets for its sessions: ours have settings of their own, whatever they are. Only a database that
//! is read-only stays so.

use crate::all_commands::{ask_every_question, carry_out_every_change, scene, server};
use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use crate::installed::on_each_server;
use crate::maintenance_harness::{approves, gated, make, one};
use countersign::catalog::Catalog;
use countersign::model::RunState;
use tokio_postgres::Client;

const DATABASE: &str = "asset_service_db";

const LOGINS: [&str; 4] =
    ["countersign_read", "countersign_act", "countersign_maintain", "countersign_owner"];

/// Settings that a role may change and that decide what a statement means, what it may do or how a value is written, each with
/// a value that isn't ours and the version that introduced it.
const DEFAULTS: [(&str, &str, u32); 27] = [
    ("default_transaction_isolation", "serializable", 13),
    ("default_transaction_deferrable", "on", 13),
    ("statement_timeout", "1ms", 13),
    ("lock_timeout", "1ms", 13),
    ("idle_in_transaction_session_timeout", "1ms", 13),
    ("idle_session_timeout", "2s", 14),
    ("transaction_timeout", "2s", 17),
    ("standard_conforming_strings", "off", 13),
    ("escape_string_warning", "on", 13),
    ("quote_all_identifiers", "on", 13),
    ("DateStyle", "German", 13),
    ("IntervalStyle", "sql_standard", 13),
    ("TimeZone", "Asia/Tokyo", 13),
    ("bytea_output", "escape", 13),
    ("xmlbinary", "hex", 13),
    ("xmloption", "document", 13),
    ("extra_float_digits", "-15", 13),
    ("row_security", "off", 13),
    ("array_nulls", "off", 13),
    ("transform_null_equals", "on", 13),
    ("client_min_messages", "error", 13),
    ("client_encoding", "LATIN1", 13),
    ("application_name", "somebody", 13),
    ("plan_cache_mode", "force_generic_plan", 13),
    ("check_function_bodies", "off", 13),
    ("exit_on_error", "on", 13),
    ("search_path", "nowhere", 13),
];

/// One after another by the databases and by each login.
async fn set_defaults(servers: &Servers) {
    let superuser = servers.cluster.connect("postgres").await.unwrap();
    let major = servers.cluster.version_num() / 10_000;
    let known = DEFAULTS.iter().filter(|(_, _, since)| *since <= major);
    for (at, (name, value, _)) in known.enumerate() {
        let scopes: Vec<String> = if at % 2 == 0 {
            [DATABASE, "postgres"].map(|database| format!("DATABASE {database}")).to_vec()
        } else {
            LOGINS.map(|login| format!("ROLE {login}")).to_vec()
        };
        for scope in scopes {
            superuser.batch_execute(&format!("ALTER {scope} SET {name} = '{value}'")).await.unwrap();
        }
    }
    spare_others(servers).await;
    // Those who own the tables are all that our logins are members of.
    superuser.batch_execute(&format!("ALTER DATABASE {DATABASE} SET role = 'asset_svc'")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_works_as_without_them() {
    on_each_server(async |bin_dir| {
        let servers = server(bin_dir).await;
        let superuser = servers.cluster.connect("postgres").await.unwrap();
        let members = "GRANT asset_svc TO countersign_act, countersign_owner, countersign_maintain";
        superuser.batch_execute(members).await.unwrap();
        set_defaults(servers).await;
        let scene = scene(servers, "").await;
        let catalog = Catalog::built_in().unwrap();
        ask_every_question(&scene, &catalog).await;
        carry_out_every_change(&scene, &catalog).await;
        // Sessions that are kept outlast what ends an idle one.
        let kept = "SELECT count(*) FROM pg_stat_activity
                    WHERE usename = 'countersign_read' AND state = 'idle' AND clock_timestamp() - state_change > interval '2.5 s'";
        found("a session that was idle for long", async || {
            (one::<i64>(&superuser, kept).await > 0).then_some(())
        })
        .await;
        ask_every_question(&scene, &catalog).await;
    })
    .await;
}

/// Time limits, each with the version that introduced it.
const LIMITS: [(&str, u32); 5] = [
    ("statement_timeout", 13),
    ("lock_timeout", 13),
    ("idle_in_transaction_session_timeout", 13),
    ("idle_session_timeout", 14),
    ("transaction_timeout", 17),
];

/// The sessions of the test itself have no time limit.
async fn spare_others(servers: &Servers) {
    let superuser = servers.cluster.connect("postgres").await.unwrap();
    let major = servers.cluster.version_num() / 10_000;
    // Until it is spared, this session has the limits, too.
    for (name, _) in LIMITS.iter().filter(|(_, since)| *since <= major) {
        superuser.batch_execute(&format!("SET {name} = 0")).await.unwrap();
    }
    for (name, _) in LIMITS.iter().filter(|(_, since)| *since <= major) {
        for role in [servers.cluster.superuser(), "asset_svc"] {
            superuser.batch_execute(&format!("ALTER ROLE {role} SET {name} = 0")).await.unwrap();
        }
    }
}

/// Waits until work of ours has waited for longer than every limit.
async fn waits_for_long(superuser: &Client) {
    let sql = "SELECT FROM pg_stat_activity WHERE usename LIKE 'countersign%' AND state = 'active' AND wait_event_type = 'Lock'
               AND clock_timestamp() - query_start > interval '1.5 s'";
    found("work that lasts", async || superuser.query_opt(sql, &[]).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_work_outlasts_the_limits_of_its_database_and_role() {
    on_each_server(async |bin_dir| {
        let servers = server(bin_dir).await;
        let superuser = servers.cluster.connect(DATABASE).await.unwrap();
        make(&superuser, "asset-service", "big").await;
        // Before 14 no role reads all tables.
        superuser.batch_execute("GRANT SELECT ON big TO countersign_act").await.unwrap();
        let major = servers.cluster.version_num() / 10_000;
        for (at, (name, _)) in LIMITS.iter().filter(|(_, since)| *since <= major).enumerate() {
            let scopes =
                if at % 2 == 0 { LOGINS.map(|login| format!("ROLE {login}")).to_vec() } else { Vec::new() };
            for scope in scopes.into_iter().chain([format!("DATABASE {DATABASE}")]) {
                superuser.batch_execute(&format!("ALTER {scope} SET {name} = '1s'")).await.unwrap();
            }
        }
        spare_others(servers).await;
        let scene = scene(servers, "").await;
        let gate = gated(&scene, "asset-service", "big").await;
        for command in ["vacuum", "analyze", "reindex", "vacuum-full"] {
            let card = scene.asks(ANA, &format!("{command} asset-service big --env production")).await;
            if card.button("Approve").is_some() {
                scene.until_noted(&card).await;
                scene.click_button(BEN, &card.at(), "Approve").await;
            }
            waits_for_long(&superuser).await;
            gate.batch_execute("SELECT pg_advisory_unlock(4711)").await.unwrap();
            succeeds(&scene, command, major).await;
            gate.batch_execute("SELECT pg_advisory_lock(4711)").await.unwrap();
        }
        gate.batch_execute("SELECT pg_advisory_unlock(4711)").await.unwrap();
        gate.batch_execute("BEGIN; LOCK TABLE big").await.unwrap();
        scene.say(ANA, "backup asset-service --env production").await;
        waits_for_long(&superuser).await;
        gate.batch_execute("COMMIT").await.unwrap();
        succeeds(&scene, "backup", major).await;
    })
    .await;
}

async fn succeeds(scene: &Scene, command: &str, major: u32) {
    let is_over = async || {
        scene
            .runs_of(command)
            .await
            .into_iter()
            .find(|run| run.state != RunState::Running && run.state != RunState::Approved)
    };
    let run = found("the end of the run", is_over).await;
    assert_eq!(run.state, RunState::Succeeded, "PostgreSQL {major}: {run:?}");
}

const INSERT: &str = "/* summary = \"Adds a row\" */\nINSERT INTO public.kept (id, at) VALUES (2, now())";

const PURGE: &str = "purge asset-service kept --column at --older-than 90d --env production";
const RUN_SQL: &str = "run-sql add asset-service --env production";

/// What the settings below protect: purge deletes a row of it, and the reviewed file adds one.
const KEPT: &str = "CREATE TABLE kept (id int PRIMARY KEY, at timestamptz);
    INSERT INTO kept VALUES (1, now() - interval '365 days'); GRANT ALL ON kept TO countersign_act";

async fn set_read_only(superuser: &Client, scope: &str, value: &str) {
    let change = if value == "on" {
        "SET default_transaction_read_only = on"
    } else {
        "RESET default_transaction_read_only"
    };
    superuser.batch_execute(&format!("ALTER {scope} {change}")).await.unwrap();
    superuser.query("SELECT pg_reload_conf()", &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_only_is_written_by_no_command() {
    let servers = Servers::alone(60).await;
    let superuser = servers.cluster.connect(DATABASE).await.unwrap();
    superuser.batch_execute(KEPT).await.unwrap();
    let twist = Twist { servers: Some(servers), more: "\n[sql]\ndirectory = \"sql\"\n", ..Twist::default() };
    let mut scene = Scene::without_bot(twist).await;
    std::fs::create_dir(scene.directory.path().join("sql")).unwrap();
    std::fs::write(scene.directory.path().join("sql/add.sql"), INSERT).unwrap();
    scene.bot = Some(scene.stage.bot().await.expect("a bot"));
    for scope in ["SYSTEM", "DATABASE asset_service_db", "ROLE countersign_act"] {
        // A card from before, and a session that has begun.
        for line in [PURGE, RUN_SQL] {
            let card = scene.card(ANA, line).await;
            set_read_only(&superuser, scope, "on").await;
            let told = approves(&scene, card).await.plain();
            assert!(
                told.contains("Nothing was changed.") || told.contains("No row was deleted."),
                "{scope}, {line}: {told}"
            );
            let told = scene.asks(ANA, line).await;
            assert!(told.button("Approve").is_none(), "{scope}, {line}: {}", told.plain());
            let told = told.plain();
            assert!(
                told.contains("read-only for this login (default_transaction_read_only)"),
                "{scope}, {line}: {told}"
            );
            set_read_only(&superuser, scope, "off").await;
            let now = "SELECT current_setting('default_transaction_read_only') = 'off'";
            found("the setting's end", async || one::<bool>(&superuser, now).await.then_some(())).await;
            let told = scene.asks(ANA, &format!("{line} --dry-run")).await.plain();
            assert!(!told.contains("(default_transaction_read_only)"), "{scope}, {line}: {told}");
        }
        assert_eq!(one::<i64>(&superuser, "SELECT sum(id) FROM kept").await, 1, "{scope}");
    }
    let card = scene.card(ANA, RUN_SQL).await;
    approves(&scene, card).await;
    assert_eq!(one::<i64>(&superuser, "SELECT sum(id) FROM kept").await, 3);
}
