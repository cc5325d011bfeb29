//! What a custom command that reads may show, and of whom; and where it can't be analysed.

use super::planted;
use crate::harness::{World, words};
use crate::installed::{on_each_server, servers};
use countersign::app::App;
use countersign::preflight::{self, CheckContext};
use std::path::Path;

fn file(sql: &str, header: &str) -> String {
    format!(
        "/*\nsummary = \"Mine\"\ngroup = \"team\"\nrisk = \"read\"\nscope = \"server\"\nexample = \"mine\"\n{header}*/\n{sql}\n"
    )
}

const SEES: &str = "needs_pg_read_all_stats = true\n";

/// Adds the commands to those that the bot knows.
async fn adopt(world: &mut World, directory: &Path, commands: &[(&str, String)]) {
    for (name, text) in commands {
        std::fs::write(directory.join(format!("{name}.sql")), text).unwrap();
    }
    let directory = directory.to_path_buf();
    world.change(|config| config.commands = Some(directory)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_all_majors_other_sessions_are_shown_if_the_header_says_so() {
    on_each_server(async |bin_dir| {
        let (mut world, superuser) = planted(bin_dir).await;
        superuser.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let statements = [
            ("activity", "SELECT count(*) FROM pg_stat_activity", "the view pg_stat_activity"),
            ("locking", "SELECT count(*) FROM pg_catalog.pg_locks", "the view pg_locks"),
            ("progress", "SELECT count(*) FROM pg_stat_progress_vacuum", "the view pg_stat_progress_vacuum"),
            (
                "outer",
                "SELECT count(*) FROM public.activity",
                "the view pg_stat_activity through the view public.activity",
            ),
            ("blocking", "SELECT cardinality(pg_blocking_pids(1)) AS a", "pg_blocking_pids(integer)"),
            (
                "statements",
                "SELECT count(*) FROM public.pg_stat_statements",
                "the view public.pg_stat_statements",
            ),
        ];
        for (name, sql, _) in statements {
            std::fs::write(directory.path().join(format!("{name}-with.sql")), file(sql, SEES)).unwrap();
        }
        let without = statements.map(|(name, sql, _)| (name, file(sql, "")));
        adopt(&mut world, directory.path(), &without).await;
        for (name, _, shown) in statements {
            let told = world.told(name).await;
            assert!(told.contains(&format!("it would read {shown}")), "{name}: {shown}\n{told}");
            assert!(told.contains("set needs_pg_read_all_stats = true in its header"), "{told}");
            let told = world.told(&format!("{name}-with")).await;
            assert!(told.contains("1 rows."), "{name}: {told}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_all_majors_text_is_redacted_by_what_it_contains() {
    on_each_server(async |bin_dir| {
        let (mut world, superuser) = planted(bin_dir).await;
        for sql in [
            "ALTER SYSTEM SET primary_conninfo = 'host=h password=LEAKconninfo'",
            "SELECT pg_reload_conf()",
            "INSERT INTO public.notes (note) VALUES ('postgres://u:LEAKurl@h/d'), ('api_key=LEAKkey')",
        ] {
            superuser.batch_execute(sql).await.unwrap();
        }
        let leaky = world.cluster.connect("postgres").await.unwrap();
        leaky.batch_execute("SET application_name = 'leaky'; SELECT 'LEAKliteral', 4711471").await.unwrap();
        let from = "FROM pg_stat_activity WHERE application_name = 'leaky'";
        let query = format!(
            "SELECT pid, query, query AS q, 'x: ' || query AS z, upper(query) AS u, array_agg(query) OVER () AS l, \
             (SELECT a.query) AS s, state AS state {from}"
        ).replace("FROM pg_stat_activity", "FROM pg_stat_activity AS a");
        // What is cut out of a text has lost its quotes.
        let cut = format!(
            "SELECT pid, query AS q, split_part(query, '''', 2) AS a, substring(query from 'LEAK[a-z]*') AS b, replace(query, '''', '') AS c, \
             string_to_array(query, '''') AS d, encode(convert_to(query, 'UTF8'), 'base64') AS e, right(query, 20) AS f {from}"
        );
        let commands = [
            ("cut", file(&cut, SEES)),
            ("activity", file(&query, SEES)),
            ("view", file("SELECT query AS q FROM public.activity WHERE query LIKE '%LEAKlit%'", SEES)),
            (
                "plain",
                file(&format!("SELECT query AS q {from}"), &format!("{SEES}plain_columns = [\"q\"]\n")),
            ),
            (
                "conninfo",
                file(
                    "SELECT name, setting, setting || '' AS s FROM pg_settings WHERE name = 'primary_conninfo'",
                    "",
                ),
            ),
            ("notes", file("SELECT id, note, note || '!' AS n, mood::text AS mood FROM public.notes", "")),
        ];
        let directory = tempfile::tempdir().unwrap();
        adopt(&mut world, directory.path(), &commands).await;
        for name in ["cut", "activity", "view", "conninfo", "notes"] {
            let told = if name == "conninfo" {
                // Reloading takes a moment.
                words(&world.until(name, |answer| words(answer).contains("password=")).await)
            } else {
                world.told(name).await
            };
            assert!(!told.to_uppercase().contains("LEAK"), "{name}: {told}");
            assert!(!told.contains("4711471"), "{name}: {told}");
        }
        let told = world.told("cut").await;
        assert!(told.contains("SELECT '?'") && told.contains("hidden: part of a statement's text"), "{told}");
        let told = world.told("activity").await;
        assert!(told.contains("x: SET application_name = ?; SELECT '?'") && told.contains("idle"), "{told}");
        assert!(world.told("notes").await.contains("happy"));
        assert!(world.told("plain").await.contains("LEAKliteral"), "the header says so");
    })
    .await;
}

/// The findings of `countersign check` about production.
async fn findings(world: &World) -> String {
    let App { config, catalog, environments, access, schedule, .. } = &world.app;
    let context = CheckContext { config, catalog, environments, access, schedule };
    let report = preflight::check(&context, None).await;
    let findings = report.sections.into_iter().flat_map(|(_, findings)| findings);
    let lines = findings
        .map(|found| format!("{}: {} {}\n", found.subject, found.details, found.fix.unwrap_or_default()));
    lines.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_temporary_tables_nothing_is_asked() {
    let (mut world, superuser) = planted(servers().pop().unwrap()).await;
    let directory = tempfile::tempdir().unwrap();
    let commands = [
        ("mine", file("SELECT 1 AS a", "")),
        ("evil", file("SELECT * FROM public.evil_view", "")),
        ("seen", file("SELECT count(*) FROM pg_stat_activity", SEES)),
        ("unseen", file("SELECT count(*) FROM pg_stat_activity", "")),
    ];
    adopt(&mut world, directory.path(), &commands).await;
    let checks = findings(&world).await;
    assert!(checks.contains("`seen` on primary: shows other roles' sessions, as its header says: it reads the view pg_stat_activity"), "{checks}");
    assert!(checks.contains("`evil` on primary: isn't asked: it would call public.evil(text)"), "{checks}");
    assert!(
        checks.contains("`unseen` on primary: isn't asked: it would read the view pg_stat_activity"),
        "{checks}"
    );
    assert!(!checks.contains("`mine`") && !checks.contains("TEMPORARY"), "{checks}");
    superuser.batch_execute("REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC").await.unwrap();
    let told = world.told("mine").await;
    let grant = "GRANT TEMPORARY ON DATABASE postgres TO countersign_read";
    assert!(told.contains(grant), "{told}");
    let checks = findings(&world).await;
    assert_eq!(checks.matches(grant).count(), 1, "{checks}");
    superuser.batch_execute(grant).await.unwrap();
    assert!(world.told("mine").await.contains("1 rows."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replicas_statements_are_analysed_on_its_primary() {
    let (mut world, _) = planted(servers().pop().unwrap()).await;
    world.add_replica().await;
    let directory = tempfile::tempdir().unwrap();
    let commands = [
        ("mine", file("SELECT count(*)::int AS notes FROM public.notes", "")),
        ("evil", file("SELECT * FROM public.evil_view", "")),
    ];
    adopt(&mut world, directory.path(), &commands).await;
    let told = words(&world.until("mine", |answer| !words(answer).contains("No whole answer")).await);
    assert!(told.contains("primary | 1") && told.contains("replica | 1"), "{told}");
    let told = world.told("evil").await;
    assert!(told.contains("primary, replica: isn't asked: it would call public.evil(text)"), "{told}");
    world.change(|config| config.environments[0].servers.retain(|server| server.name == "replica")).await;
    let told = world.told("mine").await;
    assert!(told.contains("it is a replica, and custom SQL is analysed on its primary"), "{told}");
    // Its first session ended with the change to a server that is followed.
    let superuser = world.cluster.connect("postgres").await.unwrap();
    let called = superuser.query_one("SELECT is_called FROM public.alarm", &[]).await.unwrap();
    assert!(!called.get::<_, bool>(0));
}

/// The view converts every text, whichever columns are selected of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_cannot_be_converted_is_told_in_words() {
    let mut world = World::start().await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    superuser.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let create = "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    superuser.batch_execute(create).await.unwrap();
    let ascii = world.cluster.connect("ascii").await.unwrap();
    let odd = r"SET pg_stat_statements.track = 'all';
        DO $$ BEGIN EXECUTE 'SELECT count(*) AS caf' || convert_from('\xe9', 'SQL_ASCII') || ' FROM pg_class'; END $$";
    ascii.batch_execute(odd).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let commands = [
        ("texts", "SELECT left(query, 20) AS start FROM public.pg_stat_statements", "22021"),
        ("calls", "SELECT sum(calls)::bigint AS calls FROM public.pg_stat_statements", "22021"),
        ("bytes", r"SELECT convert_from(decode('e9', 'hex'), 'UTF8') AS word", "22021"),
    ];
    adopt(&mut world, directory.path(), &commands.map(|(name, sql, _)| (name, file(sql, SEES)))).await;
    for (name, _, code) in commands {
        let told = world.told(name).await;
        let words = format!(
            "primary can't convert one of the texts that the file reads (SQLSTATE {code}): let the file leave that column out; of pg_stat_statements, the command slow shows the numbers without the texts"
        );
        assert!(told.contains(&words), "{name}: {told}");
    }
    superuser.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    let told = world.told("calls").await;
    assert!(told.contains("1 rows."), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_section_that_is_not_asked_is_not_among_what_was_looked_at() {
    let (mut world, _) = planted(servers().pop().unwrap()).await;
    let directory = tempfile::tempdir().unwrap();
    let notes = "SELECT count(*)::int AS notes FROM public.notes";
    let both = format!(
        "-- ## Notes\n{notes};\n-- ## Texts\n-- Looked at: evil texts\nSELECT * FROM public.evil_view"
    );
    let header = "verdict = \"All is well.\"\nrows_severity = \"ok\"\n";
    adopt(&mut world, directory.path(), &[("mine", file(notes, header)), ("both", file(&both, header))])
        .await;
    let told = world.told("mine").await;
    assert!(told.starts_with("OK: All is well.\nLooked at: mine on primary.\n"), "{told}");
    let told = world.told("both").await;
    let refused =
        "WARNING: Not checked on primary: evil texts (primary isn't asked: it would call public.evil(text)";
    assert!(told.starts_with(refused), "{told}");
    assert!(told.contains("\nLooked at: notes on primary.\n") && !told.contains("All is well"), "{told}");
}
