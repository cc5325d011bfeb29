//! Every question, in each of its forms, on every major version of PostgreSQL: in peace, in an incident, and of databases
//! with nothing in them. The catalog says what there is to ask.

use crate::checks::{check, inert};
use crate::harness::{World, severity, words};
use crate::installed::servers;
use countersign::actions::backup;
use countersign::catalog::{Body, Command, Scope};
use countersign::chat::slack::render::render;
use countersign::command_line::{ArgSpec, ArgType, Values, as_word};
use countersign::demo::sample::{ROLES_SQL, SampleIncident};
use countersign::model::{EnvironmentTag, Heading, Person, Reply, Risk, Severity};
use countersign::sql::{self, Answer, QueryRequest, SectionResult};

/// Something to ask.
pub struct Form<'w> {
    pub command: &'w Command,
    pub values: Values,
}

impl Form<'_> {
    /// The line as it is typed.
    pub fn line(&self) -> String {
        let args = self.command.header.args.iter();
        let typed = args.filter_map(|arg| {
            let value = as_word(self.values.get(&arg.name)?);
            Some(match arg {
                ArgSpec { positional: true, .. } => format!(" {value}"),
                ArgSpec { switch: true, name, .. } => format!(" --{name}"),
                ArgSpec { name, .. } => format!(" --{name} {value}"),
            })
        });
        self.command.name.clone() + &typed.collect::<String>()
    }
}

/// Every SQL command that reads, with each choice of its arguments, and with and without those that may be left out. Other
/// values are its example's.
pub fn forms(world: &World) -> Vec<Form<'_>> {
    let asks_a_server = |command: &&Command| {
        let header = &command.header;
        matches!(command.body, Body::Sql(_))
            && header.risk == Risk::Read
            && matches!(header.scope, Scope::Server | Scope::Database)
    };
    let mut forms = Vec::new();
    for command in world.app.catalog.iter().filter(asks_a_server) {
        let (_, example, _) = world.understand(&command.header.example).unwrap();
        let mut found = vec![Values::new()];
        for arg in command.header.args.iter().filter(|arg| !arg.hidden) {
            let values = values_of(arg, example.get(&arg.name));
            let with = |value: &Option<String>, mut form: Values| {
                form.extend(value.clone().map(|value| (arg.name.clone(), value)));
                form
            };
            found =
                found.iter().flat_map(|form| values.iter().map(|value| with(value, form.clone()))).collect();
        }
        forms.extend(found.into_iter().map(|values| Form { command, values }));
    }
    assert!(forms.len() > 10, "the catalog has few questions");
    forms
}

fn values_of(arg: &ArgSpec, example: Option<&String>) -> Vec<Option<String>> {
    let mut values: Vec<Option<String>> = match arg.kind {
        _ if arg.switch => vec![Some("true".to_owned())],
        ArgType::Service => vec![Some("asset-service".to_owned())],
        ArgType::Choice => arg.choices.iter().cloned().map(Some).collect(),
        _ => example.cloned().map(Some).into_iter().collect(),
    };
    // A default is bound where nobody says anything: no command sees it absent.
    if values.is_empty() || !arg.required && arg.default.is_none() {
        values.push(None);
    }
    values
}

/// Of a query that waits in the incident.
const LITERAL: &str = "jane.doe";

/// What the asked failed at, if it may.
type Excuse = fn(&Command, &str) -> bool;

fn no_excuse(_: &Command, _: &str) -> bool {
    false
}

/// A database without an extension may say that it lacks it, in the command's own words.
fn own_words(command: &Command, why: &str) -> bool {
    command.header.on_error.values().any(|told| told == why) || why.starts_with("has no pg_stat_statements: ")
}

/// Asks everything; each complaint names the question.
async fn ask_all(world: &World, excuse: Excuse) -> Vec<String> {
    let mut complaints = Vec::new();
    for form in forms(world) {
        let question = QueryRequest {
            command: form.command,
            environment: "production",
            values: &form.values,
            application_name: "countersign test",
        };
        let sections = sql::run(&world.app.environments, &question).await.unwrap();
        let answer = sql::present(form.command, &world.app.catalog, "production", &sections);
        let mut wrong = unanswered(&form, &sections, excuse);
        wrong.extend(unpresentable(&form, &sections, &answer));
        complaints.extend(wrong.into_iter().map(|what| format!("{}: {what}", form.line())));
    }
    complaints
}

/// Among them what didn't answer within the server's statement_timeout.
fn unanswered(form: &Form<'_>, sections: &[SectionResult], excuse: Excuse) -> Vec<String> {
    let failures = sections.iter().flat_map(|section| &section.failures);
    let grave = failures.filter(|(_, why)| !excuse(form.command, why));
    let mut wrong: Vec<String> =
        grave.map(|(target, why)| format!("{} answers: {why}", target.label())).collect();
    if sections.iter().all(|section| section.target_count == 0) {
        wrong.push("nobody was asked".to_owned());
    }
    wrong
}

/// What a person would not see as it is meant.
fn unpresentable(form: &Form<'_>, sections: &[SectionResult], answer: &Answer) -> Vec<String> {
    let told = words(answer);
    let mut wrong = Vec::new();
    let verdict = told.lines().next().unwrap_or_default();
    if told.contains(LITERAL) {
        wrong.push(format!("a literal of somebody's query: {told}"));
    }
    if verdict.contains(['{', '}']) {
        wrong.push(format!("a verdict with a gap: {verdict}"));
    }
    let silent = sections.iter().all(|section| section.rows.is_empty() && section.failures.is_empty());
    if silent && form.command.header.verdict_empty.is_none() {
        wrong.push("no word for an empty answer".to_owned());
    }
    wrong.extend(unfit(&form.line(), answer));
    wrong
}

/// What Slack would refuse, or bring to life.
fn unfit(line: &str, answer: &Answer) -> Option<String> {
    let heading = Heading {
        requester: Some(Person { id: "Ana Example".to_owned(), account: Some("U0ANA".to_owned()) }),
        command: line.to_owned(),
        environment: Some(EnvironmentTag { name: "production".to_owned(), production: true }),
        run: None,
    };
    let reply = Reply { blocks: answer.blocks.clone(), ..Reply::new(heading) };
    let rendered = render(&reply);
    let live = rendered.blocks.iter().try_for_each(inert);
    check(&rendered).and(live).err().map(|limit| format!("for Slack: {limit}"))
}

/// The coded commands that look at servers answer their examples.
async fn ask_coded(world: &World) -> Vec<String> {
    let looks = |command: &&Command| {
        let header = &command.header;
        matches!(command.body, Body::Coded) && header.risk == Risk::Read && header.scope != Scope::None
    };
    let mut complaints = Vec::new();
    for command in world.app.catalog.iter().filter(looks) {
        let line = &command.header.example;
        let wrong = match world.ask("Ana Example", line).await {
            Ok(answer) => unfit(line, &answer),
            Err(why) => Some(why.to_string()),
        };
        complaints.extend(wrong.map(|what| format!("{line}: {what}")));
    }
    complaints
}

/// A backup is planned with a client that is new enough for the server, or refused with what to install.
async fn plan_backup(world: &World, major: u32) -> Option<String> {
    let clients = backup::find_installations(&world.app.config.backups).await;
    let refused =
        match (world.plan("backup asset-service").await, clients.iter().map(|tool| tool.major).max()) {
            (Ok(_), Some(newest)) if newest >= major => return None,
            (Ok(_), newest) => return Some(format!("a backup is planned with a client of {newest:?}")),
            (Err(why), _) => why.to_string(),
        };
    let needs =
        format!("asset_service_db can't be dumped: it needs pg_dump {major} or newer, and Countersign has ");
    let install = format!("Install postgresql-client-{major} ");
    let clear = refused.starts_with(&needs) && refused.contains(&install);
    let too_old = clients.iter().all(|tool| tool.major < major);
    (!clear || !too_old).then(|| format!("backup: {refused}"))
}

/// A queued ALTER TABLE, a tree of waiting sessions, a long report, a forgotten prepared transaction, and a forgotten slot.
async fn make_trouble(world: &World) -> SampleIncident {
    let server = world.cluster.connect("postgres").await.unwrap();
    // First: a slot waits for the transactions that are open.
    server.batch_execute("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')").await.unwrap();
    let billing = world.cluster.connect("billing_service_db").await.unwrap();
    let orphan = "BEGIN; LOCK TABLE \"User\"; PREPARE TRANSACTION 'orphan'";
    billing.batch_execute(orphan).await.unwrap();
    SampleIncident::start(&world.cluster, &world.team).await.unwrap()
}

/// Ends the trouble, and leaves the services databases that hold nothing but what roles.sql grants.
async fn empty(world: &World, trouble: SampleIncident) {
    trouble.end().await.unwrap();
    let billing = world.cluster.connect("billing_service_db").await.unwrap();
    billing.batch_execute("ROLLBACK PREPARED 'orphan'").await.unwrap();
    let server = world.cluster.connect("postgres").await.unwrap();
    server.batch_execute("SELECT pg_drop_replication_slot('forgotten')").await.unwrap();
    for (service, _) in &world.team.services {
        let database = &service.database;
        let anew = [
            format!("DROP DATABASE {database} WITH (FORCE)"),
            format!("CREATE DATABASE {database} OWNER dbadmin"),
        ];
        for sql in anew {
            server.batch_execute(&sql).await.unwrap();
        }
        let admin = world.cluster.connect_as(world.team.admin.login(database, "roles.sql")).await.unwrap();
        admin.batch_execute(ROLES_SQL).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_major_answers_every_question() {
    let mut complaints = Vec::new();
    for bin_dir in servers() {
        let world = World::on(Some(bin_dir)).await;
        let major = world.cluster.version_num() / 10_000;
        let mut note = |when: &str, found: Vec<String>| {
            complaints.extend(found.into_iter().map(|what| format!("PostgreSQL {major}, {when}: {what}")));
        };
        world.work().await;
        note("in peace", ask_all(&world, no_excuse).await);
        note("in peace", ask_coded(&world).await);
        note("in peace", plan_backup(&world, major).await.into_iter().collect());
        let trouble = make_trouble(&world).await;
        note("in an incident", ask_all(&world, no_excuse).await);
        let blocked = world.ask("Ana Example", "blocked").await.unwrap();
        assert_eq!(severity(&blocked), Severity::Critical, "the trouble is over: {}", words(&blocked));
        empty(&world, trouble).await;
        note("with nothing in it", ask_all(&world, own_words).await);
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The majors that this house supports.
const SUPPORTED: std::ops::RangeInclusive<u32> = 13..=18;

/// `make compat` asks each of them; a variant that it never chooses has never run.
#[tokio::test]
async fn every_variant_is_some_majors() {
    let catalog = countersign::catalog::Catalog::built_in().unwrap();
    for command in catalog.iter() {
        let Body::Sql(variants) = &command.body else { continue };
        for countersign::catalog::Variant { min_major, sections, .. } in variants {
            let chosen =
                SUPPORTED.clone().any(|major| std::ptr::eq(command.sections(major), sections.as_slice()));
            assert!(chosen, "{}@{min_major} is for no major of {SUPPORTED:?}", command.name);
        }
    }
}
