//! Custom commands call PostgreSQL's own functions on the allowlist and nothing else, however a call is spelt and wherever the
//! application hides it. A call would leave a trace that no rollback takes back.

mod generated;
mod output;
mod spellings;

use crate::harness::{World, words};
use crate::installed::on_each_server;
use countersign::catalog::allowlist::{self, Purpose};
use countersign::catalog::bind::bind_names;
use countersign::catalog::{Catalog, Section};
use countersign::demo::postgres::Cluster;
use countersign::model::LoginKind;
use countersign::postgres::{Address, BoundSql, QueryError};
use countersign::sql::analysis;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::Client;

const PLANTED: &str = include_str!("planted.sql");

/// Sequence calls, advisory locks, large objects: traces that stay.
async fn traces(superuser: &Client) -> Vec<String> {
    let sql = "SELECT 'the function was called' FROM public.alarm WHERE is_called
               UNION ALL SELECT 'a lock is held' FROM pg_locks WHERE locktype = 'advisory'
               UNION ALL SELECT 'a large object was made' FROM pg_largeobject_metadata";
    superuser.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A reader's session that nobody may end.
async fn bystander(world: &World) -> Client {
    let account = world.team.reader.login("postgres", "bystander");
    world.cluster.connect_as(account).await.unwrap()
}

fn section(sql: &str) -> Section {
    Section { sql: bind_names(sql).unwrap().sql, ..Section::default() }
}

/// Analyses one statement as the bot does before it runs it.
async fn analyzed(world: &World, sql: &str) -> Result<(), String> {
    let address = Address::new("production", "primary", LoginKind::Reader);
    let section = section(sql);
    let found = analysis::check(&world.app.environments, &address, "test", |_| vec![&section]).await;
    found.map(drop).map_err(|error| error.to_string())
}

fn file(sql: &str, risk: &str) -> String {
    let args = r#"args = [{ name = "table", type = "text", default = "public.alarm", help = "one" }]"#;
    let (login, preview) = match risk {
        "danger" => ("login = \"operator\"\n", "-- ## Before [preview]\nSELECT 1 AS count;\n-- ## Then\n"),
        _ => ("needs_pg_read_all_stats = true\n", ""),
    };
    format!(
        "/*\nsummary = \"Mine\"\ngroup = \"team\"\nrisk = \"{risk}\"\nscope = \"server\"\n{args}\n{login}example = \"mine\"\n*/\n\
         {preview}{sql}\n"
    )
}

/// The files that the program accepts at its start, under the names of their positions.
fn accepted(directory: &Path, statements: &[String], risk: &str) -> Vec<(usize, String)> {
    let name = |at: usize| format!("{risk}-{at}");
    for (at, sql) in statements.iter().enumerate() {
        std::fs::write(directory.join(format!("{}.sql", name(at))), file(sql, risk)).unwrap();
    }
    let problems = Catalog::built_in().unwrap().with_directory(directory).err().unwrap_or_default();
    for problem in &problems.0 {
        // A file with two mistakes is removed once.
        drop(std::fs::remove_file(directory.join(&problem.file)));
    }
    let names = (0..statements.len()).map(|at| (at, name(at)));
    names.filter(|(_, name)| directory.join(format!("{name}.sql")).exists()).collect()
}

/// A server of that installation with what an application planted, and its superuser.
async fn planted(bin_dir: PathBuf) -> (World, Client) {
    let world = World::on(Some(bin_dir)).await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    superuser.batch_execute(PLANTED).await.unwrap();
    (world, superuser)
}

fn major(cluster: &Cluster) -> u32 {
    cluster.version_num() / 10_000
}

#[tokio::test(flavor = "multi_thread")]
async fn on_all_majors_a_call_off_the_list_is_refused_however_it_is_spelt() {
    on_each_server(async |bin_dir| {
        let (mut world, superuser) = planted(bin_dir).await;
        let bystander = bystander(&world).await;
        let (reads, changes) = (spellings::reads(), spellings::changes());
        let mut wrong = Vec::new();
        // The server's analysis refuses each by itself, whatever the check at the start overlooks.
        for sql in reads.iter().chain(&changes) {
            match analyzed(&world, sql).await {
                Err(reason) if reason.starts_with("isn't asked: it would ") => {}
                // No type of another schema can stand before a literal: it isn't there any more.
                Err(reason) if reason.contains("(SQLSTATE 42601)") && sql.contains("evil_domain 'x'") => {}
                found => wrong.push(format!("{found:?}: {sql}")),
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let names =
            [accepted(directory.path(), &reads, "read"), accepted(directory.path(), &changes, "danger")];
        let path = directory.path().to_path_buf();
        world.change(|config| config.commands = Some(path)).await;
        for (at, name) in &names[0] {
            let told = words(&world.ask("Ana Example", name).await.unwrap());
            if !(told.contains("isn't asked: it would ") || told.contains("(SQLSTATE ")) {
                wrong.push(format!("is answered: {}\n{told}", reads[*at]));
            }
        }
        for (at, name) in &names[1] {
            if world.plan(name).await.is_ok() {
                wrong.push(format!("has a plan: {}", changes[*at]));
            }
        }
        wrong.extend(traces(&superuser).await);
        bystander.query("SELECT 1", &[]).await.expect("a session that nobody ended");
        assert!(wrong.is_empty(), "PostgreSQL {}:\n{}", major(&world.cluster), wrong.join("\n"));
        assert!(names.iter().all(|names| names.len() > 5), "{names:?}: the server has something to refuse");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_all_majors_what_computes_and_looks_is_asked() {
    on_each_server(async |bin_dir| {
        let (world, _superuser) = planted(bin_dir).await;
        let mut wrong = Vec::new();
        for (purpose, sql) in (spellings::READS.map(|sql| (Purpose::Read, sql)).into_iter())
            .chain(spellings::ACTS.map(|sql| (Purpose::Act, sql)))
        {
            let bound = bind_names(sql).unwrap();
            if let Err(errors) = allowlist::check(sql, &bound, purpose) {
                wrong.push(format!("{sql}: {errors:?}"));
            }
            if let Err(reason) = analyzed(&world, sql).await {
                wrong.push(format!("{sql}: {reason}"));
            }
        }
        assert!(wrong.is_empty(), "PostgreSQL {}:\n{}", major(&world.cluster), wrong.join("\n"));
    })
    .await;
}

/// A change between the judgement and the statement, each after a statement that is asked.
const MEANWHILE: [(&str, &str); 4] = [
    (
        "SELECT a FROM public.outer_shifting",
        "CREATE OR REPLACE VIEW public.shifting AS SELECT public.evil('v') AS a",
    ),
    (
        "SELECT note FROM public.indexed_later",
        "CREATE INDEX ON public.indexed_later ((public.evil('x') || note)); SELECT setval('public.alarm', 1, false)",
    ),
    (
        "SELECT mail::text AS a FROM public.checked_later",
        "ALTER DOMAIN public.email ADD CHECK (public.evil(VALUE) IS NOT NULL) NOT VALID",
    ),
    (
        "SELECT to_json(mood)::text AS a FROM public.cast_later",
        "CREATE FUNCTION public.evil_mood(public.mood) RETURNS json LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM nextval('public.alarm'); RETURN '1'; END $$; \
         CREATE CAST (public.mood AS json) WITH FUNCTION public.evil_mood(public.mood)",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn on_all_majors_an_object_that_was_changed_meanwhile_is_not_used() {
    on_each_server(async |bin_dir| {
        let (world, superuser) = planted(bin_dir).await;
        let views = "CREATE VIEW public.shifting AS SELECT note AS a FROM public.notes; \
                     CREATE VIEW public.outer_shifting AS SELECT a FROM public.shifting; \
                     CREATE TABLE public.indexed_later AS SELECT note FROM public.notes; \
                     CREATE TABLE public.checked_later AS SELECT mail FROM public.notes; \
                     CREATE TABLE public.cast_later AS SELECT mood FROM public.notes; \
                     GRANT SELECT ON ALL TABLES IN SCHEMA public TO countersign_read";
        superuser.batch_execute(views).await.unwrap();
        let address = Address::new("production", "primary", LoginKind::Reader);
        for (sql, change) in [("SELECT 1 AS a", "SELECT 1")].into_iter().chain(MEANWHILE) {
            let client = world.app.environments.acquire_single_use(&address, "test").await.unwrap();
            let transaction = analysis::begin(&client, Duration::MAX).await.unwrap();
            let analysis = analysis::analyze(&transaction, sql).await.unwrap();
            let statement = BoundSql { sql, values: &[] };
            superuser.batch_execute(change).await.unwrap();
            match analysis.query(&transaction, statement).await {
                Ok(_) if change == "SELECT 1" => {}
                Err(QueryError::Refused { code, message }) if code == "40001" => {
                    assert!(message.contains("was changed meanwhile; ask again"), "{message}");
                }
                found => panic!("PostgreSQL {}: {sql}: {found:?}", major(&world.cluster)),
            }
        }
        assert_eq!(traces(&superuser).await, Vec::<String>::new());
    })
    .await;
}
