//! What reads a whole database's tables, in one with 100,000 of them: `sizes`, `indexes`, and the plans of `vacuum` and `analyze`, from
//! the command to the whole answer.

use crate::house::{House, PRODUCTION};
use crate::process::Processors;
use crate::report::{Goals, Table, tell};
use anyhow::Context;

/// Tables, each with its primary key; `BENCH_TABLES` in the environment overrides it.
const TABLES: u32 = 100_000;
/// Tables that are made in one transaction: its locks have to fit PostgreSQL's table of them.
const BATCH: u32 = 1_000;
/// The `statement_timeout` that a configuration has by default.
const MOST_MS: f64 = 15_000.0;

/// Each command, and words that only a whole answer has.
const COMMANDS: [(&str, &str); 4] = [
    ("sizes asset-service", "the largest is"),
    ("indexes asset-service", "redundant"),
    ("vacuum asset-service --dry-run", "Dry run"),
    ("analyze asset-service --dry-run", "Dry run"),
];

pub async fn measure(goals: &mut Goals) -> anyhow::Result<()> {
    let tables = std::env::var("BENCH_TABLES").ok().and_then(|count| count.parse().ok()).unwrap_or(TABLES);
    let house = House::with_maintainer().await?;
    fill(&house, tables).await?;
    let bot = house.bot("tables", Processors::All, "").await?;
    let mut table = Table::new(&[&format!("In a database of {tables} tables"), "ms"]);
    for (command, words) in COMMANDS {
        tell(&format!("tables, {command}"));
        let ms = house.answer_time(&bot, &format!("{command} --env {PRODUCTION}"), words).await?;
        table.row([command.to_owned(), format!("{ms:.0}")]);
        goals.at_most(&format!("ms of {command}, {tables} tables"), MOST_MS, ms);
    }
    table.print("### Many tables");
    Ok(())
}

/// Makes tables of the asset service. Their catalogs are vacuumed and analyzed, as autovacuum would do it.
async fn fill(house: &House, tables: u32) -> anyhow::Result<()> {
    let (service, _) = house.team.service("asset-service").context("the sample has no asset-service")?;
    let superuser = house.cluster.connect(&service.database).await?;
    superuser.batch_execute(&format!("SET ROLE {}", service.role)).await?;
    for first in (0..tables).step_by(BATCH as usize) {
        if first % (BATCH * 10) == 0 {
            tell(&format!("tables, {first} of {tables}"));
        }
        let last = (first + BATCH).min(tables) - 1;
        let make = format!(
            "DO $$ BEGIN FOR n IN {first}..{last} LOOP
               EXECUTE format('CREATE TABLE many_%s (id bigint PRIMARY KEY, parent bigint)', n);
             END LOOP; END $$"
        );
        superuser.batch_execute(&make).await.context("making tables")?;
    }
    superuser.batch_execute("RESET ROLE").await?;
    for catalog in ["pg_class", "pg_attribute", "pg_index", "pg_constraint", "pg_depend", "pg_type"] {
        superuser.batch_execute(&format!("VACUUM (ANALYZE) {catalog}")).await?;
    }
    Ok(())
}
