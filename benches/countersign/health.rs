//! `health` over ten databases, from the command to the whole answer, beside the same statements asked in other ways.

use crate::house::{Bot, House, PRODUCTION};
use crate::load::Wire;
use crate::process::Processors;
use crate::report::{Goals, ROUNDS, Rounds, Table, in_turn, tell};
use crate::requests::ANA;
use anyhow::{Context, ensure};
use countersign::catalog::{Catalog, OWN_ROLES, Scope, Section, shared_query};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Row, Statement};

/// Asked so often in a round; the round's number is their median. The ten psql runs count once.
const REPEATS: usize = 15;

/// Of the bare queries' time.
const MOST: f64 = 1.25;

const PAUSE: Duration = Duration::from_millis(5);

/// What `health` asks: of each service's database, and once of the server.
struct Questions {
    /// Of a database, sent in one go; the first has one row.
    database: Vec<String>,
    /// The checks, sent in one go.
    server: Vec<String>,
}

struct Asker<'a> {
    house: &'a House,
    bot: &'a Bot,
    questions: Questions,
    warm: Vec<(Client, Vec<Statement>)>,
    /// The server's own, on one connection.
    server: (Client, Vec<Statement>),
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Bot,
    Parallel,
    Psql,
}

const WAYS: [(Way, &str); 3] = [
    (Way::Bot, "countersign, command → whole answer"),
    (Way::Parallel, "bare queries on warm parallel connections"),
    (Way::Psql, "ten psql, one after another"),
];

pub async fn measure(house: &House, goals: &mut Goals) -> anyhow::Result<()> {
    let bot = house.bot("health", Processors::All, "").await?;
    let asker = Asker::new(house, &bot).await?;
    let mut times = vec![Rounds::default(); WAYS.len()];
    asker.ask(Way::Bot).await?;
    for round in 0..ROUNDS {
        tell(&format!("health, round {} of {ROUNDS}", round + 1));
        for (at, (way, _)) in in_turn(round, WAYS.into_iter().enumerate()) {
            let mut repeats = Rounds::default();
            for _ in 0..if way == Way::Psql { 1 } else { REPEATS } {
                repeats.add(asker.ask(way).await?);
                // Countersign closes its record after it has answered. One question at a time is measured, not a queue.
                tokio::time::sleep(PAUSE).await;
            }
            times[at].add(repeats.median());
        }
    }
    let mut table = Table::new(&["Health of ten databases", "ms", "× bare"]);
    let bare = times[1].median();
    for ((_, name), time) in WAYS.iter().zip(&times) {
        let ms = time.median();
        table.row([(*name).to_owned(), format!("{ms:.1}"), format!("{:.2}", ms / bare)]);
    }
    table.print("### Health");
    goals.at_most("health of ten databases, warm, × bare", MOST, times[0].median() / bare);
    Ok(())
}

impl Questions {
    /// The statements of the command itself, for that major version.
    fn of_health(major: u32) -> anyhow::Result<Questions> {
        let catalog = Catalog::built_in().map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))?;
        let health = catalog.find("health").context("there is no command health")?;
        let of = |scope: Scope| {
            let sections = health.sections(major).iter().filter(|section| section.scope == scope);
            sections.flat_map(statements).collect::<Vec<String>>()
        };
        Ok(Questions { database: of(Scope::Database), server: of(Scope::Server) })
    }
}

/// The statement of a section without parameters, which psql doesn't take, behind the queries that it shares with other commands.
fn statements(section: &Section) -> Vec<String> {
    let mut statements = Vec::new();
    let statement = without_parameters(&section.sql, &section.parameters, "NULL::text", &mut statements);
    statements.push(statement);
    statements
}

/// `other` is the value of what the program finds out elsewhere; the shared queries come before the statement.
fn without_parameters(sql: &str, parameters: &[String], other: &str, statements: &mut Vec<String>) -> String {
    let mut sql = sql.to_owned();
    for (at, name) in parameters.iter().enumerate() {
        let value = match shared_query(name) {
            Some(query) => {
                let query = without_parameters(&query.sql, &query.parameters, "'[]'", statements);
                statements.push(query);
                "'[]'"
            }
            None if name == OWN_ROLES => "'{countersign_read,countersign_act}'",
            None => other,
        };
        sql = sql.replace(&format!("${}::text", at + 1), value);
    }
    sql
}

impl Asker<'_> {
    async fn new<'a>(house: &'a House, bot: &'a Bot) -> anyhow::Result<Asker<'a>> {
        let questions = Questions::of_health(house.cluster.version_num() / 10_000)?;
        let mut warm = Vec::new();
        for (service, _) in &house.team.services {
            let client = house.cluster.connect(&service.database).await?;
            let statements = questions.database.iter().map(|sql| client.prepare(sql));
            let statements = futures::future::try_join_all(statements).await?;
            warm.push((client, statements));
        }
        let server = house.cluster.connect("postgres").await?;
        let checks = questions.server.iter().map(|sql| server.prepare(sql));
        let checks = futures::future::try_join_all(checks).await?;
        Ok(Asker { house, bot, questions, warm, server: (server, checks) })
    }

    /// In milliseconds.
    async fn ask(&self, way: Way) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let end = match way {
            Way::Bot => return self.bot().await,
            Way::Parallel => self.parallel().await?,
            Way::Psql => tokio::task::block_in_place(|| self.psql())?,
        };
        Ok((end - begun).as_secs_f64() * 1e3)
    }

    async fn bot(&self) -> anyhow::Result<f64> {
        let signed = self.bot.signer.command(ANA, &format!("health --env {PRODUCTION}"))?;
        let arrival = self.bot.signer.sink.expect(&signed.answer);
        let mut wire = Wire::connect(self.bot.process.address)?;
        let begun = Instant::now();
        let acknowledged = tokio::task::block_in_place(|| wire.ask(&signed.bytes))?;
        ensure!(acknowledged.status == 200 && acknowledged.body.is_empty(), "health was not taken on");
        let (arrived, answer) = arrival.await?;
        for (service, _) in &self.house.team.services {
            ensure!(answer.contains(&service.name), "{} is not in the answer: {answer}", service.name);
        }
        Ok((arrived - begun).as_secs_f64() * 1e3)
    }

    async fn parallel(&self) -> anyhow::Result<Instant> {
        let all = self.warm.iter().map(ask_all);
        let (answers, _) = tokio::try_join!(futures::future::try_join_all(all), ask_all(&self.server))?;
        ensure!(answers.iter().all(|answers| answers[0].len() == 1), "a database gave no row");
        Ok(Instant::now())
    }

    fn psql(&self) -> anyhow::Result<Instant> {
        let cluster = &self.house.cluster;
        for (at, (service, _)) in self.house.team.services.iter().enumerate() {
            let mut psql = Command::new(cluster.bin_dir().join("psql"));
            psql.args(["--no-psqlrc", "--quiet"]);
            psql.args(self.questions.database.iter().flat_map(|sql| ["--command", sql]));
            if at == 0 {
                psql.args(self.questions.server.iter().flat_map(|sql| ["--command", sql]));
            }
            psql.env("PGHOST", cluster.host()).env("PGPORT", cluster.port().to_string());
            psql.env("PGUSER", cluster.superuser()).env("PGPASSWORD", cluster.superuser_password());
            psql.env("PGDATABASE", &service.database).stdout(Stdio::null());
            let status = psql.status().context("starting psql")?;
            ensure!(status.success(), "psql: {status}");
        }
        Ok(Instant::now())
    }
}

/// Sends all in one go.
async fn ask_all(
    (client, statements): &(Client, Vec<Statement>),
) -> Result<Vec<Vec<Row>>, tokio_postgres::Error> {
    futures::future::try_join_all(statements.iter().map(|statement| client.query(statement, &[]))).await
}
