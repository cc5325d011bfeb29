//! `slow` on every major version of PostgreSQL, with each version of pg_stat_statements that it has: a server that was
//! upgraded keeps the extension's old version until somebody updates it.

use crate::checks;
use crate::harness::{World, words};
use crate::installed::on_each_server;
use countersign::chat::slack::render::render;
use countersign::model::{Heading, Reply};
use countersign::sql::Value;

const PASSWORD: &str = "hunter2-Xk81";
const EMAIL: &str = "zoe.fox@example.com";

/// What somebody typed. Utility statements are in the statistics as they were typed.
const TYPED: [&str; 7] = [
    "ALTER ROLE typist PASSWORD 'hunter2-Xk81'",
    r#"SELECT id FROM "User" WHERE email = 'zoe.fox@example.com'"#,
    r#"EXPLAIN SELECT id FROM "User" WHERE email = 'zoe.fox@example.com'"#,
    r#"CREATE TEMP TABLE found AS SELECT id FROM "User" WHERE email = 'zoe.fox@example.com'"#,
    r#"PREPARE by_email AS SELECT id FROM "User" WHERE email = 'zoe.fox@example.com'"#,
    r#"DO $$ BEGIN PERFORM FROM "User" WHERE email = 'zoe.fox@example.com'; END $$"#,
    "DEALLOCATE by_email; DROP TABLE found",
];

/// How often. The statements are fewer than `slow` shows of one database: whatever the order, each is among them.
const ROUNDS: i64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn majors_count_right_and_show_no_literal() {
    on_each_server(async |bin_dir| {
        let world = World::on(Some(bin_dir)).await;
        let typist = world.cluster.connect("asset_service_db").await.unwrap();
        let admin = world.cluster.connect("asset_service_db").await.unwrap();
        admin.batch_execute("SET pg_stat_statements.track = 'none'; CREATE ROLE typist").await.unwrap();
        let versions = "SELECT version FROM pg_available_extension_versions WHERE name = 'pg_stat_statements'
                        ORDER BY string_to_array(version, '.')::int[]";
        let versions = admin.query(versions, &[]).await.unwrap();
        assert!(versions.len() >= 4, "one version would be no upgrade");
        for version in versions {
            let version: &str = version.get(0);
            let anew = format!(
                "DROP EXTENSION pg_stat_statements; CREATE EXTENSION pg_stat_statements VERSION '{version}'"
            );
            admin.batch_execute(&anew).await.unwrap();
            admin.query("SELECT pg_stat_statements_reset()", &[]).await.unwrap();
            for sql in (0..ROUNDS).flat_map(|_| TYPED) {
                typist.batch_execute(sql).await.unwrap();
            }
            let which =
                format!("PostgreSQL {}, pg_stat_statements {version}", world.cluster.version_num() / 10_000);
            assert_kept(&admin, &which).await;
            for by in ["total", "mean", "calls", "io"] {
                assert_shown(&world, by, &which).await;
            }
        }
    })
    .await;
}

/// Or nothing would be proved.
async fn assert_kept(admin: &tokio_postgres::Client, which: &str) {
    let sql = "SELECT count(*) FROM pg_stat_statements WHERE strpos(query, $1) > 0";
    for literal in [PASSWORD, EMAIL] {
        let kept: i64 = admin.query_one(sql, &[&literal]).await.unwrap().get(0);
        assert!(kept > 0, "{which} has not kept {literal}");
    }
}

async fn assert_shown(world: &World, by: &str, which: &str) {
    let line = format!("slow asset-service --by {by}");
    let sections = world.sections(&line).await.unwrap();
    let answer = world.ask("Ana Example", &line).await.unwrap();
    let told = words(&answer);
    assert!(sections.iter().all(|section| section.failures.is_empty()), "{which}: {told}");
    let reply = Reply {
        blocks: answer.blocks.clone(),
        ..Reply::new(Heading { requester: None, command: line, environment: None, run: None })
    };
    let rendered = checks::words(&render(&reply));
    for shown in [&told, &rendered] {
        for literal in [PASSWORD, EMAIL, "hunter2", "zoe.fox"] {
            assert!(!shown.contains(literal), "{which} shows {literal}: {shown}");
        }
        assert!(shown.contains("ALTER ROLE typist PASSWORD …"), "{which}: {shown}");
    }
    let section = &sections[0];
    let column = |name: &str| section.columns.iter().position(|column| column == name).unwrap();
    let (query, calls, total) = (column("query"), column("calls"), column("total_ms"));
    let selecting = section.rows.iter().find(
        |found| matches!(&found.values[query], Value::Text(text) if text == r#"SELECT id FROM "User" WHERE email = $1"#),
    );
    let selecting = selecting.unwrap_or_else(|| panic!("{which} has lost the SELECT: {told}"));
    assert_eq!(selecting.values[calls], Value::Int(ROUNDS), "{which}");
    assert!(selecting.values[total].number().unwrap() > 0.0, "{which}");
}
