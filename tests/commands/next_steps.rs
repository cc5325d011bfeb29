//! Next steps: every line that an answer gives to type, every sentence of a command's header and every button is typed back, on the server
//! that the answer came from.

use crate::harness::{World, severity, words};
use countersign::actions::{self, Implementation};
use countersign::catalog::{Catalog, Command, Header};
use countersign::command_line::{self, ArgSpec, KnownNames};
use countersign::model::{Block, Severity, Span, Text, TokenPurpose};
use countersign::sql::Answer;

/// What a person types for the parts of a line that are theirs to choose.
const CHOICES: [(&str, &str); 9] = [
    ("<service>", "asset-service"),
    ("<run>", "1"),
    ("<pid>", "4711"),
    ("<index>", "assets_pkey"),
    ("<table>", "assets"),
    ("<environment>", "production"),
    ("<command>", "kill"),
    ("<part of a name>", "autovacuum"),
    ("<name>", "production"),
];

/// A value for a column of a header's template.
fn value(column: &str) -> &'static str {
    match column.trim_start_matches('_') {
        "service" => "asset-service",
        "server" => "primary",
        "typed" | "table" => "assets",
        "unsafe_name" => "fsync",
        "unvacuumed_name" => "autovacuum",
        column if column.contains("pid") || column == "deadlocked" => "4711",
        column if column.contains("run") => "1",
        column => panic!("which value has {column}?"),
    }
}

/// The line with each `{column}` filled in.
fn filled(template: &str) -> String {
    let mut parts = template.split('{');
    let mut line = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (column, rest) = part.split_once('}').unwrap_or_else(|| panic!("{template}"));
        line += value(column);
        line += rest;
    }
    line
}

/// A command line to type; `None` for code that isn't one: a name, a value, an option, SQL.
fn typed<'c>(catalog: &'c Catalog, code: &str) -> Option<(&'c Command, String)> {
    let command = catalog.find(code.split_whitespace().next()?)?;
    let line = CHOICES.iter().fold(code.to_owned(), |line, (choice, typed)| line.replace(choice, typed));
    Some((command, line))
}

/// A command's bare name says where to look: it needn't be complete.
fn is_bare(code: &str) -> bool {
    !code.contains(' ')
}

fn codes(text: &Text) -> impl Iterator<Item = &str> {
    text.0.iter().filter_map(|span| if let Span::Code(code) = span { Some(code.as_str()) } else { None })
}

/// True if a piece of code is a step: a line to type here, on Countersign's machine or in a service's repository, or a statement to copy.
/// An explanation is none.
fn is_step(catalog: &Catalog, code: &str) -> bool {
    let first = code.split_whitespace().next().unwrap_or_default();
    let copied = ["ALTER", "CREATE", "DROP", "GRANT", "REVOKE", "SELECT", "git", "\\d+"];
    // In a header, a statement may be a value of the row.
    let is_filled_in = ["{_fix}", "{_step}", "{_raise}"].contains(&code);
    is_filled_in
        || catalog.find(first).is_some() && first != "help"
        || code == "countersign check"
        || copied.contains(&first)
}

/// Fails for a warning or a critical verdict without a next step.
pub fn has_next_step(catalog: &Catalog, line: &str, answer: &Answer) {
    if severity(answer) < Severity::Warning || !answer.button_purposes.is_empty() {
        return;
    }
    let texts = answer.blocks.iter().filter_map(|block| match block {
        Block::Verdict { text, .. } | Block::Text(text) | Block::Note(text) => Some(text),
        _ => None,
    });
    assert!(
        texts.flat_map(codes).any(|code| is_step(catalog, code)),
        "{line}: no next step in {}",
        words(answer)
    );
}

/// Types an answer's next steps back and clicks its buttons, as Ana.
pub async fn type_back(world: &World, line: &str, answer: &Answer) {
    let texts = answer.blocks.iter().filter_map(|block| match block {
        Block::Verdict { text, .. } | Block::Text(text) | Block::Note(text) => Some(text),
        _ => None,
    });
    // The verdict of a run names what was requested.
    let texts = texts.skip(usize::from(line.starts_with("show ")));
    let codes: Vec<String> = texts.flat_map(codes).map(str::to_owned).collect();
    for code in codes {
        if let Some(sql) = statement(&code) {
            is_accepted(world, &sql).await;
        } else if let Some((command, step)) = typed(&world.app.catalog, &code) {
            let has_example_values = step != code;
            if !(is_bare(&code) && world.understand(&code).is_err()) {
                run(world, line, (command, &step, has_example_values)).await;
            }
        }
    }
    for (_, purpose) in &answer.button_purposes {
        let TokenPurpose::RunCommand { command, environment, arguments } = purpose else {
            panic!("{purpose:?}")
        };
        assert_eq!(environment.as_deref(), Some("production"), "{line}: {purpose:?}");
        let command = world.app.catalog.find(command).unwrap();
        let step = command_line::to_line(&command.name, &command.header.args, arguments);
        run(world, line, (command, &step, false)).await;
    }
}

/// True for a line that leaves values open: in chat a form asks for them, and a terminal shows what to type.
fn opens_form(world: &World, step: &str) -> bool {
    let known = KnownNames::of(&world.app.config, &world.app.catalog);
    let Ok(Some(parsed)) = command_line::parse_incomplete(&world.app.catalog, &step.into(), &known) else {
        return false;
    };
    let usage = parsed.command.usage();
    let is_missing = |spec: &ArgSpec| spec.is_missing(&parsed.values);
    !parsed.values.is_empty()
        && parsed.command.header.args.iter().any(is_missing)
        && world.understand(step).is_err_and(|refused| refused.to_string().contains(&usage))
}

/// What reads is answered; what acts is planned, up to its card. With example values it only has to be understood.
async fn run(world: &World, line: &str, (command, step, is_example): (&Command, &str, bool)) {
    if opens_form(world, step) {
        return;
    }
    let understood = world.understand(step).unwrap_or_else(|why| panic!("{line} says `{step}`: {why}"));
    assert_eq!(understood.0.name, command.name, "{line} says `{step}`");
    if let Some(Implementation::Action(_)) = actions::find(command) {
        if !is_example {
            world.plan(step).await.unwrap_or_else(|why| panic!("{line} says `{step}`: {why}"));
        }
        return;
    }
    world.ask("Ana Example", step).await.unwrap_or_else(|why| panic!("{line} says `{step}`: {why}"));
}

/// SQL to copy, as it can run in a transaction.
fn statement(code: &str) -> Option<String> {
    let verb = code.split(' ').next()?;
    let is_sql = ["ALTER", "DROP", "GRANT", "CREATE"].contains(&verb) && code.contains(' ');
    is_sql.then(|| code.replace(" CONCURRENTLY", ""))
}

async fn is_accepted(world: &World, sql: &str) {
    // `slow` shows the services' statements, not the tests'.
    let mut config = world.cluster.superuser_config("asset_service_db");
    let (admin, connection) =
        config.options("-c pg_stat_statements.track=none").connect(tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let undone = format!("BEGIN; {sql}; ROLLBACK");
    admin.batch_execute(&undone).await.unwrap_or_else(|why| panic!("{sql}: {why}"));
    drop(admin);
    connection.await.unwrap().unwrap();
}

/// Every sentence of a header.
fn sentences(header: &Header) -> Vec<&str> {
    let single = [&header.next, &header.verdict, &header.verdict_empty, &header.details];
    let mut sentences: Vec<&str> = single.into_iter().flatten().map(String::as_str).collect();
    sentences.extend(
        header
            .next_by
            .values()
            .chain(header.limits.values())
            .chain(header.on_error.values())
            .map(String::as_str),
    );
    sentences.extend(header.thresholds.values().filter_map(|threshold| threshold.message.as_deref()));
    sentences.extend(header.thresholds.values().filter_map(|threshold| threshold.next.as_deref()));
    sentences
}

/// Whatever a server's state, each line in the sentences of a header is one that can be typed.
#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_every_header_is_understood() {
    let world = World::start().await;
    let catalog = &world.app.catalog;
    let mut typed_back = 0;
    for command in catalog.iter() {
        for sentence in sentences(&command.header) {
            // Every second part is code.
            for code in sentence.split('`').skip(1).step_by(2).filter(|code| !is_bare(code)) {
                let Some((_, line)) = typed(catalog, code) else { continue };
                let line = filled(&line);
                if !opens_form(&world, &line) {
                    world.understand(&line).unwrap_or_else(|why| panic!("{}: `{line}`: {why}", command.name));
                }
                typed_back += 1;
            }
        }
        // Whatever is found, there is a step: in its sentence, of its own, or of every answer with rows.
        let always = command.header.next.is_some() && command.header.row_action_if.is_none();
        for (key, threshold) in command.header.thresholds.iter().filter(|_| !always && !command.custom) {
            let sentences =
                [threshold.message.as_deref().unwrap_or("{value}"), threshold.next.as_deref().unwrap_or("")];
            let mut codes = sentences.iter().flat_map(|sentence| sentence.split('`').skip(1).step_by(2));
            // A statement's column `_step` is a sentence of its own.
            let is_computed = command.header.next_by.contains_key("_step");
            let has_step = sentences[0].is_empty() || is_computed || codes.any(|code| is_step(catalog, code));
            assert!(has_step || command.name == "backups", "{}: {key} has no next step", command.name);
        }
        if let Some(action) = &command.header.row_action {
            let line = filled(action);
            world.understand(&line).unwrap_or_else(|why| panic!("{}: {line}: {why}", command.name));
            typed_back += 1;
        }
    }
    assert!(typed_back > 20, "{typed_back}");
}
