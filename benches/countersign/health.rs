//! `health` over ten databases, from the command to the whole answer, beside the same statements asked in other ways.

use crate::house::{Bot, House, PRODUCTION};
use crate::load::Wire;
use crate::process::Conversation;
use crate::report::{Goals, ROUNDS, Rounds, Table, in_turn, tell};
use crate::requests::ANA;
use anyhow::{Context, ensure};
use countersign::catalog::{Catalog, OWN_ROLES, Scope, Section, shared_query};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Statement};

/// Asked so often in a round; the round's number is their median. The ten psql runs count once.
const REPEATS: usize = 15;

const PAUSE: Duration = Duration::from_millis(5);

/// What `health` asks: of each service's database, and once of the server.
struct Questions {
    service: String,
    /// The checks, sent in one go.
    server: Vec<String>,
}

struct Asker<'a> {
    house: &'a House,
    bot: &'a Bot,
    questions: Questions,
    warm: Vec<(Client, Statement)>,
    /// The server's own, on one connection.
    server: (Client, Vec<Statement>),
    /// One connection, and the service's question with the database's name bound.
    single: (Client, Statement),
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Bot,
    Parallel,
    Single,
    Psql,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Bot, "countersign, command → whole answer"),
    (Way::Parallel, "bare queries on warm parallel connections"),
    (Way::Single, "one pooled connection asks the ten in turn"),
    (Way::Psql, "ten psql, one after another"),
];

pub async fn measure(house: &House, goals: &mut Goals) -> anyhow::Result<()> {
    let bot = house.bot("health", (Conversation::Anywhere, "")).await?;
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
    goals.at_most("health of ten databases, warm, × bare", 2.0, times[0].median() / bare);
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
        let [service] = of(Scope::Database).try_into().ok().context("health has grown: measure it anew")?;
        Ok(Questions { service, server: of(Scope::Server) })
    }
}

/// The statement of a section without parameters, which psql doesn't take, behind the queries that it shares with other commands.
fn statements(section: &Section) -> Vec<String> {
    let mut statements = Vec::new();
    let mut sql = section.sql.clone();
    for (at, name) in section.parameters.iter().enumerate() {
        let value = match shared_query(name) {
            Some(query) => {
                // Its own parameter is the positions that the program reads elsewhere first.
                statements.push(query.sql.replace("$1", "'[]'"));
                "'[]'"
            }
            None if name == OWN_ROLES => "'{countersign_read,countersign_act}'",
            None => "NULL::text",
        };
        sql = sql.replace(&format!("${}::text", at + 1), value);
    }
    statements.push(sql);
    statements
}

impl Asker<'_> {
    async fn new<'a>(house: &'a House, bot: &'a Bot) -> anyhow::Result<Asker<'a>> {
        let questions = Questions::of_health(house.cluster.version_num() / 10_000)?;
        let mut warm = Vec::new();
        for (service, _) in &house.team.services {
            let client = house.cluster.connect(&service.database).await?;
            let statement = client.prepare(&questions.service).await?;
            warm.push((client, statement));
        }
        let server = house.cluster.connect("postgres").await?;
        let checks = questions.server.iter().map(|sql| server.prepare(sql));
        let checks = futures::future::try_join_all(checks).await?;
        let client = house.cluster.connect("postgres").await?;
        let named = questions.service.replace("current_database()", "$1::text::name");
        ensure!(named != questions.service, "health no longer asks of the current database");
        let statement = client.prepare(&named).await?;
        Ok(Asker { house, bot, questions, warm, server: (server, checks), single: (client, statement) })
    }

    /// In milliseconds.
    async fn ask(&self, way: Way) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let end = match way {
            Way::Bot => return self.bot().await,
            Way::Parallel => self.parallel().await?,
            Way::Single => self.single().await?,
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
        let all = self.warm.iter().map(|(client, statement)| client.query(statement, &[]));
        let (rows, _) = tokio::try_join!(futures::future::try_join_all(all), self.checks())?;
        ensure!(rows.iter().all(|rows| rows.len() == 1), "a database gave no row");
        Ok(Instant::now())
    }

    async fn single(&self) -> anyhow::Result<Instant> {
        let (client, statement) = &self.single;
        for (service, _) in &self.house.team.services {
            let rows = client.query(statement, &[&service.database]).await?;
            ensure!(rows.len() == 1, "{} gave no row", service.database);
        }
        self.checks().await?;
        Ok(Instant::now())
    }

    async fn checks(&self) -> Result<(), tokio_postgres::Error> {
        let (client, checks) = &self.server;
        futures::future::try_join_all(checks.iter().map(|check| client.query(check, &[]))).await.map(drop)
    }

    fn psql(&self) -> anyhow::Result<Instant> {
        let cluster = &self.house.cluster;
        for (at, (service, _)) in self.house.team.services.iter().enumerate() {
            let mut psql = Command::new(cluster.bin_dir().join("psql"));
            psql.args(["--no-psqlrc", "--quiet", "--command", &self.questions.service]);
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
