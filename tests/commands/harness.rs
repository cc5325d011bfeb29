//! A team's servers, its configuration, and one way to ask: as `flow` does, without a chat around it.

use crate::next_steps::has_next_step;
use countersign::actions::{self, Call, Implementation};
use countersign::app::App;
use countersign::catalog::{Command, Scope};
use countersign::command_line::{self, KnownNames, ParsedCommand};
use countersign::config::Config;
use countersign::demo::free_port;
use countersign::demo::postgres::{Cluster, Options};
use countersign::demo::sample::{LoginAccount, Sample, Team};
use countersign::error::Result;
use countersign::model::{Block, Conversation, Person, Plan, PlatformKind, Severity};
use countersign::sql::{self, Answer, QueryRequest, SectionResult};
use std::fmt::Write as _;
use std::path::PathBuf;
use tokio::sync::{Semaphore, SemaphorePermit};

pub struct World {
    pub app: App,
    pub team: Team,
    pub cluster: Cluster,
    /// Production's second server, if it has one.
    pub replica: Option<Cluster>,
    /// Its third, if it has one.
    pub cascaded: Option<Cluster>,
    _directory: tempfile::TempDir,
    _turn: SemaphorePermit<'static>,
}

/// Two servers at a time: `health` gives up on a server after 5 s, and a dozen that start at once can take that long.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Ana acts everywhere, Ben approves everywhere, Eli looks at staging alone. Nothing answers on staging.
const PEOPLE: &str = r#"
[[people]]
name = "Ana Example"
slack = ["U0ANA"]
roles = ["on-call"]
[[people]]
name = "Ben Example"
slack = ["U0BEN"]
roles = ["approver"]
[[people]]
name = "Eli Sample"
slack = ["U0ELI"]
roles = ["developer"]
[[access]]
role = "on-call"
environments = ["*"]
run = ["*"]
[[access]]
role = "approver"
environments = ["*"]
run = ["read"]
approve = ["danger"]
[[access]]
role = "developer"
environments = ["staging"]
run = ["read", "write"]
"#;

/// For what is awaited and must come: ample for a busy machine.
pub const SOON: std::time::Duration = std::time::Duration::from_secs(60);

/// Ample: unoptimized cryptography on a busy machine logs in slowly.
const PATIENT: &str = "30s";

fn environment((name, patience): (&str, &str), ports: &[(&str, u16)], reader: &str) -> String {
    let server =
        |(name, port): &(&str, u16)| format!(r#"{{ name = "{name}", host = "127.0.0.1", port = {port} }}"#);
    let servers = ports.iter().map(server).collect::<Vec<_>>().join(", ");
    format!(
        r#"
[[environments]]
name = "{name}"
production = {}
tls = "off"
connect_timeout = "{patience}"
connect_hints = ['psql "host={{host}} port={{port}} dbname={{database}} user=YOUR_ROLE"', 'echo ${{HOME}} {{service}}']
servers = [{servers}]
logins.reader = {{ user = "{reader}", password = {{ env = "READER" }} }}
logins.operator = {{ user = "countersign_act", password = {{ env = "OPERATOR" }} }}
"#,
        name == "production"
    )
}

impl World {
    pub async fn start() -> World {
        World::on(None).await
    }

    /// On a server of that installation; on the newest of the machine's own without one.
    pub async fn on(bin_dir: Option<PathBuf>) -> World {
        World::with(Options { bin_dir, ..Options::default() }).await
    }

    /// On a server with those options.
    pub async fn with(options: Options) -> World {
        let turn = TURNS.acquire().await.unwrap();
        let (cluster, team) = Sample::light().start(options).await.unwrap();
        cluster.protect().await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let app = app((&[&cluster], PATIENT), &team, (&team.reader, directory.path())).await;
        World { app, team, cluster, replica: None, cascaded: None, _directory: directory, _turn: turn }
    }

    /// Production gets a second server, `replica`, that streams from its first over the slot `replica`.
    pub async fn add_replica(&mut self) {
        let superuser = self.cluster.connect("postgres").await.unwrap();
        superuser.query("SELECT pg_create_physical_replication_slot('replica')", &[]).await.unwrap();
        // It is stopped like a crash, and commits without waiting for the disk.
        superuser.batch_execute("CHECKPOINT").await.unwrap();
        self.replica = Some(self.cluster.replica("replica").await.unwrap());
        let reader = self.team.reader.clone();
        self.renew(&reader, PATIENT).await;
    }

    /// Production gets a third server, `cascaded`, that streams from the second over the slot `cascaded`.
    pub async fn add_cascaded_replica(&mut self) {
        let replica = self.replica.as_mut().expect("a replica");
        let superuser = replica.connect("postgres").await.unwrap();
        superuser.query("SELECT pg_create_physical_replication_slot('cascaded', true)", &[]).await.unwrap();
        superuser.batch_execute("CHECKPOINT").await.unwrap();
        self.cascaded = Some(replica.replica("cascaded").await.unwrap());
        let reader = self.team.reader.clone();
        self.renew(&reader, PATIENT).await;
    }

    /// Each service asks two things of its own database, so that there is something to count.
    pub async fn work(&self) {
        for (service, account) in &self.team.services {
            let client =
                self.cluster.connect_as(account.login(&service.database, &service.name)).await.unwrap();
            for sql in ["SELECT count(*) FROM \"User\"", "SELECT max(id) FROM audit_logs WHERE id < 5"] {
                client.query(sql, &[]).await.unwrap();
            }
        }
    }

    /// Takes the faults of the sample away: a sequence near its end, a failed migration, interrupted builds of indexes, no backups.
    pub async fn heal(&self) {
        for (service, _) in &self.team.services {
            let superuser = self.cluster.connect(&service.database).await.unwrap();
            let heal = "UPDATE pg_index SET indisvalid = true, indisready = true WHERE NOT (indisvalid AND indisready);
                        DELETE FROM \"_prisma_migrations\" WHERE finished_at IS NULL AND rolled_back_at IS NULL;
                        SELECT setval(seqrelid, 1) FROM pg_sequence WHERE pg_sequence_last_value(seqrelid) > 1000000000";
            superuser.batch_execute(heal).await.unwrap();
            crate::backups::backup(self, (&service.database, 1), 3).await;
        }
    }

    /// The same servers, seen through another reader.
    pub async fn read_as(&mut self, reader: &LoginAccount) {
        self.renew(reader, PATIENT).await;
    }

    /// The same servers, for somebody who waits no longer than this for a connection.
    pub async fn wait_only(&mut self, patience: &str) {
        let reader = self.team.reader.clone();
        self.renew(&reader, patience).await;
    }

    async fn renew(&mut self, reader: &LoginAccount, patience: &str) {
        let directory = tempfile::tempdir().unwrap();
        let servers: Vec<&Cluster> =
            std::iter::once(&self.cluster).chain(&self.replica).chain(&self.cascaded).collect();
        self.app = app((&servers, patience), &self.team, (reader, directory.path())).await;
        self._directory = directory;
    }

    /// The same servers, for a bot with another configuration.
    pub async fn change(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = self.app.config.clone();
        change(&mut config);
        self.app = countersign::bootstrap::assemble(config).await.unwrap_or_else(|wrong| panic!("{wrong:#}"));
    }

    /// Asks as `flow` does: the line is split, bound, allowed and answered.
    pub async fn ask(&self, who: &str, typed: &str) -> Result<Answer> {
        let answer = self.answer(who, typed).await?;
        if !self.understand(typed)?.0.custom {
            has_next_step(&self.app.catalog, typed, &answer);
        }
        Ok(answer)
    }

    async fn answer(&self, who: &str, typed: &str) -> Result<Answer> {
        let (command, values, environment) = self.understand(typed)?;
        let person = Person { id: who.to_owned(), account: None };
        assert!(
            self.app.access.may_run(&person, command, environment.as_deref()),
            "{who} may not run {typed}: flow would have refused"
        );
        let Some(Implementation::Query(look)) = actions::find(command) else {
            let sections = self.sections(typed).await?;
            let environment = environment.unwrap_or_default();
            return Ok(sql::present(command, &self.app.catalog, &environment, &sections));
        };
        look(&self.call((command, &values, environment.as_deref()), &person, &conversation())).await
    }

    /// What a command that acts would do, for Ana.
    pub async fn plan(&self, typed: &str) -> Result<Plan> {
        let (command, values, environment) = self.understand(typed)?;
        let Some(Implementation::Action(act)) = actions::find(command) else {
            panic!("{typed} does not act")
        };
        let person = Person { id: "Ana Example".to_owned(), account: None };
        act.plan(&self.call((command, &values, environment.as_deref()), &person, &conversation())).await
    }

    fn call<'a>(
        &'a self,
        (command, values, environment): (&'a Command, &'a command_line::Values, Option<&'a str>),
        person: &'a Person,
        conversation: &'a Conversation,
    ) -> Call<'a> {
        let asker = format!("countersign {}", person.id);
        Call { app: &self.app, command, person, conversation, environment, values, asker, run: None }
    }

    /// Asks again until the answer is as it must become.
    pub async fn until(&self, typed: &str, fits: impl Fn(&Answer) -> bool) -> Answer {
        let last = std::sync::Mutex::new(String::new());
        let asking = async {
            loop {
                // Until then a server may be between two states, and its sections in different ones.
                let answer = self.answer("Ana Example", typed).await.unwrap();
                if fits(&answer) {
                    return answer;
                }
                *last.lock().unwrap() = words(&answer);
            }
        };
        let answer = tokio::time::timeout(SOON, asking).await;
        answer.unwrap_or_else(|_| panic!("{typed} stays as it is: {}", last.lock().unwrap()))
    }

    /// What Ana is told, in words.
    pub async fn told(&self, typed: &str) -> String {
        words(&self.ask("Ana Example", typed).await.unwrap_or_else(|why| panic!("{typed}: {why}")))
    }

    /// A SQL command's rows before anyone presents them.
    pub async fn sections(&self, typed: &str) -> Result<Vec<SectionResult>> {
        let (command, values, environment) = self.understand(typed)?;
        let environment = environment.unwrap_or_default();
        let question = QueryRequest {
            command,
            environment: &environment,
            values: &values,
            application_name: "countersign test",
        };
        actions::run_sql_query(&self.app, &question).await
    }

    pub fn understand(&self, typed: &str) -> Result<(&Command, command_line::Values, Option<String>)> {
        let known = KnownNames::of(&self.app.config, &self.app.catalog);
        let understood = command_line::parse_command(&self.app.catalog, &typed.into(), &known)?;
        let ParsedCommand { command, values, line } = understood.unwrap_or_else(|| panic!("nothing typed"));
        let needed = (command.header.scope != Scope::None).then(|| "production".to_owned());
        Ok((command, values, line.environment.or(needed)))
    }
}

pub fn conversation() -> Conversation {
    Conversation { platform: PlatformKind::Slack, workspace: "T1".into(), id: "C1".into(), thread: None }
}

async fn app(
    (servers, patience): (&[&Cluster], &str),
    team: &Team,
    (reader, directory): (&LoginAccount, &std::path::Path),
) -> App {
    let nobody = free_port().unwrap();
    let mut text =
        "listen = \"127.0.0.1:8080\"\nstore.path = \"x.db\"\nbackups.directory = \"b\"\n".to_owned();
    let ports: Vec<(&str, u16)> = ["primary", "replica", "cascaded"]
        .into_iter()
        .zip(servers.iter().map(|server| server.port()))
        .collect();
    text += &environment(("production", patience), &ports, &reader.user);
    text += &environment(("staging", patience), &[("primary", nobody)], &reader.user);
    for (service, _) in &team.services {
        let (name, database) = (&service.name, &service.database);
        writeln!(text, "[[services]]\nname = \"{name}\"\ndatabase = \"{database}\"\nsize = \"small\"")
            .unwrap();
    }
    text += PEOPLE;
    let secret = |name: &str| match name {
        "READER" => Some(reader.password.clone()),
        _ => Some(team.operator.password.clone()),
    };
    let name = directory.join("x.toml");
    let config =
        Config::parse(&name.to_string_lossy(), &text, &secret).unwrap_or_else(|wrong| panic!("{wrong}"));
    countersign::bootstrap::assemble(config).await.unwrap_or_else(|wrong| panic!("{wrong:#}"))
}

/// An answer in words, a line for each block and row; a verdict begins with its severity.
pub fn words(answer: &Answer) -> String {
    let mut out = String::new();
    for block in &answer.blocks {
        match block {
            Block::Verdict { severity, text } => {
                writeln!(out, "{}: {}", format!("{severity:?}").to_uppercase(), text.words())
            }
            Block::Text(text) | Block::Note(text) => writeln!(out, "{}", text.words()),
            Block::Code { text, .. } => writeln!(out, "{text}"),
            Block::Facts(facts) => {
                facts.iter().try_for_each(|(name, text)| writeln!(out, "{name}: {}", text.words()))
            }
            Block::Table(table) => {
                let titles = table.columns.iter().map(|column| column.title.as_str()).collect::<Vec<_>>();
                writeln!(out, "[{}] {}", table.title.as_deref().unwrap_or_default(), titles.join(" | "))
                    .unwrap();
                table.rows.iter().try_for_each(|row| {
                    let cells = row.cells.iter().map(|cell| cell.text.as_str()).collect::<Vec<_>>();
                    writeln!(out, "{}", cells.join(" | "))
                })
            }
            other => writeln!(out, "{other:?}"),
        }
        .unwrap();
    }
    out
}

/// The verdict's severity; an answer without a verdict in front fails the test.
pub fn severity(answer: &Answer) -> Severity {
    match answer.blocks.first() {
        Some(Block::Verdict { severity, .. }) => *severity,
        other => panic!("no verdict in front but {other:?}"),
    }
}
