//! How every question's answer looks, in Slack and in an 80-column terminal: golden pictures. The list is the catalog's, so a
//! command that is new has no picture yet and fails. Values that differ every time are made equal before an answer is
//! rendered, so that the widths that follow from them are equal too.

use crate::checks::check;
use crate::harness::{World, severity};
use crate::next_steps::type_back;
use crate::record::open;
use countersign::catalog::Command;
use countersign::chat::terminal::ButtonLines;
use countersign::chat::terminal::render::Screen;
use countersign::chat::{slack, terminal};
use countersign::command_line;
use countersign::config::{MaintenanceWindow, WindowReport};
use countersign::demo::sample::SampleIncident;
use countersign::model::{
    Block, EnvironmentTag, Heading, Person, Reply, Risk, Severity, Span, Table, Text, TokenPurpose,
};
use countersign::sql::Answer;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Asked while the sample's incident goes on; the others on a quiet server.
const IN_THE_INCIDENT: [&str; 5] = ["blocked", "connections", "idle", "locks", "long"];

/// Whose rows are ordered by sizes and counts that are others every time. All others keep the order that they came in.
const ANY_ORDER: [&str; 6] = ["autovacuum", "bloat", "connections", "sizes", "slow", "storage"];

/// A number, a size, a time or a hash is another every time.
fn steady(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split(' ') {
        let hash = word.len() >= 12 && word.chars().all(|c| c.is_ascii_hexdigit());
        words.push(if hash { "<hash>".to_owned() } else { without_digits(word) });
    }
    let mut text = words.join(" ");
    for (spans, one) in [("9 min 9 s", "9 s"), ("9 h 9 min", "9 s")] {
        text = text.replace(spans, one);
    }
    text
}

/// "1,234.5" and "7" are both "9"; a bar is half full.
fn without_digits(word: &str) -> String {
    let mut out = String::new();
    for c in word.chars() {
        let c = match c {
            '0'..='9' => '9',
            '░' => '▓',
            c => c,
        };
        let again = out.ends_with(c) && ['9', '▓'].contains(&c);
        let joined = c == '9' && (out.ends_with("9.") || out.ends_with("9,"));
        match (again, joined) {
            (true, _) => {}
            (_, true) => drop(out.pop()),
            _ => out.push(c),
        }
    }
    out.replace('▓', "▓▓▓▓▓░░░░░")
}

fn steady_text(text: &mut Text) {
    for span in &mut text.0 {
        match span {
            Span::Plain(words) | Span::Strong(words) | Span::Code(words) => *words = steady(words),
            Span::Person(_) | Span::Ping(_) => {}
        }
    }
}

fn steady_table(table: &mut Table, sorted: bool) {
    for row in &mut table.rows {
        row.cells.iter_mut().for_each(|cell| cell.text = steady(&cell.text));
        row.buttons.iter_mut().for_each(|button| button.label = steady(&button.label));
    }
    if sorted {
        table.rows.sort_by_key(|row| row.cells.iter().map(|cell| cell.text.clone()).collect::<Vec<_>>());
    }
}

fn steady_block(block: &mut Block, sorted: bool) {
    match block {
        Block::Verdict { text, .. } | Block::Text(text) | Block::Note(text) => steady_text(text),
        Block::Facts(facts) => facts.iter_mut().for_each(|(_, text)| steady_text(text)),
        Block::Table(table) => steady_table(table, sorted),
        Block::Code { text, .. } => *text = steady(text),
        Block::Progress { .. } | Block::Buttons(_) | Block::Links(_) => {}
    }
}

/// What stands for an answer's buttons in a terminal.
fn lines(world: &World, answer: &Answer) -> ButtonLines {
    let line = |meaning: &TokenPurpose| {
        let TokenPurpose::RunCommand { command, arguments, .. } = meaning else { panic!("{meaning:?}") };
        let command = world.app.catalog.find(command).unwrap();
        let arguments: BTreeMap<_, _> =
            arguments.iter().map(|(name, value)| (name.clone(), steady(value))).collect();
        format!(
            "countersign run {} --env production",
            command_line::to_line(&command.name, &command.header.args, &arguments)
        )
    };
    answer.button_purposes.iter().map(|(token, meaning)| (token.clone(), line(meaning))).collect()
}

/// The texts of rich text, with marks for what is bold or code.
fn inline(elements: &Value) -> String {
    let shown = |element: &Value| {
        let text = element["text"].as_str().unwrap_or_default();
        match (&element["style"]["bold"], &element["style"]["code"]) {
            (Value::Bool(true), _) => format!("*{text}*"),
            (_, Value::Bool(true)) => format!("`{text}`"),
            _ => text.to_owned(),
        }
    };
    elements.as_array().into_iter().flatten().map(shown).collect()
}

/// A block of Slack's as lines that tell a reviewer its kind and all it says.
fn picture(block: &Value) -> Vec<String> {
    let all = |key: &str| block[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value["text"].as_str().unwrap_or_default().to_owned();
    match block["type"].as_str().unwrap_or_default() {
        "rich_text" => {
            let part = |part: &Value| {
                let item = |item: &Value| format!("- {}", inline(&item["elements"]));
                let inline = inline(&part["elements"]);
                match part["type"].as_str().unwrap_or_default() {
                    "rich_text_preformatted" => inline.lines().map(|line| format!("    {line}")).collect(),
                    "rich_text_list" => part["elements"].as_array().into_iter().flatten().map(item).collect(),
                    _ => vec![inline],
                }
            };
            all("elements").iter().flat_map(part).collect()
        }
        "table" => {
            let setting = |setting: &Value| match (&setting["align"], &setting["is_wrapped"]) {
                (_, Value::Bool(true)) => "wrapped".to_owned(),
                (align, _) => align.as_str().unwrap_or_default().to_owned(),
            };
            let settings: Vec<String> = all("column_settings").iter().map(setting).collect();
            let row = |row: &Value| {
                let cells: Vec<String> = row.as_array().into_iter().flatten().map(text).collect();
                format!("| {} |", cells.join(" | "))
            };
            let rows = all("rows");
            std::iter::once(format!("table: {}", settings.join(", "))).chain(rows.iter().map(row)).collect()
        }
        "context" => all("elements").iter().map(|element| format!("small: {}", text(element))).collect(),
        "actions" => {
            let button = |button: &Value| match button["style"].as_str() {
                Some(style) => format!("[{} · {style}]", text(&button["text"])),
                None => format!("[{}]", text(&button["text"])),
            };
            all("elements").iter().map(button).collect()
        }
        other => panic!("a block that has no picture yet: {other}"),
    }
}

/// Compares an answer with its pictures. Returns the message as Slack gets it, with its own numbers, names and times.
async fn looks(world: &World, command: &Command, line: &str) -> Value {
    let mut answer = world.ask("Ana Example", line).await.unwrap_or_else(|why| panic!("{line}: {why}"));
    type_back(world, line, &answer).await;
    // The first block is a verdict, whatever it says.
    let _: Severity = severity(&answer);
    let sorted = ANY_ORDER.contains(&command.name.as_str());
    let heading = |line: &str| Heading {
        requester: Some(Person { id: "ana".to_owned(), account: Some("U0ANA".to_owned()) }),
        command: line.trim_end_matches(" --env production").to_owned(),
        environment: Some(EnvironmentTag { name: "production".to_owned(), production: true }),
        run: Some(9),
    };
    let message =
        slack::render::render(&Reply { blocks: answer.blocks.clone(), ..Reply::new(heading(line)) });
    holds_all(&message.blocks, &answer.blocks);
    let body = json!({ "channel": "C0GOLDEN", "text": message.text, "blocks": message.blocks });
    answer.blocks.iter_mut().for_each(|block| steady_block(block, sorted));
    let lines = lines(world, &answer);
    let reply = Reply { blocks: answer.blocks, ..Reply::new(heading(&steady(line))) };
    let screen = Screen { width: 80, colours: false };
    insta::assert_snapshot!(
        format!("{}-terminal", command.name),
        terminal::render::render(&reply, &lines, screen)
    );
    let rendered = slack::render::render(&reply);
    check(&rendered).unwrap_or_else(|why| panic!("{line}: {why}"));
    let blocks: Vec<String> = rendered.blocks.iter().flat_map(picture).collect();
    let shown = format!("notification: {}\n{}", rendered.text, blocks.join("\n"));
    insta::assert_snapshot!(format!("{}-slack", command.name), shown);
    json!({ "method": "chat.postMessage", "body": body })
}

/// What the answers are about, besides the sample: statements, runs, and statistics that nobody else changes.
async fn settle(world: &World) {
    let superuser = world.cluster.connect("asset_service_db").await.unwrap();
    let quiet = ["ALTER SYSTEM SET autovacuum_naptime = '1d'", "SELECT pg_reload_conf()", "CHECKPOINT"];
    for sql in quiet {
        superuser.batch_execute(sql).await.unwrap();
    }
    open(world, "kill 4711", (Some("production"), Risk::Danger)).await;
    // Once before they are counted: then nothing is read from the disk.
    world.work().await;
    for sql in ["ANALYZE", "SELECT pg_stat_statements_reset()", "SELECT pg_stat_statements_reset()"] {
        superuser.batch_execute(sql).await.unwrap();
    }
    drop(superuser);
    world.work().await;
}

/// Every text of a message, one after another, each space an ordinary one.
fn texts(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let own = ["text", "fallback"].iter().filter_map(|key| fields.get(*key)?.as_str());
            let own: String = own.map(|text| text.replace('\u{a0}', " ")).collect();
            own + &fields.values().map(texts).collect::<String>()
        }
        Value::Array(values) => values.iter().map(texts).collect(),
        _ => String::new(),
    }
}

/// Nothing of a table is missing in its message: no column, no row and no character.
fn holds_all(message: &[Value], blocks: &[Block]) {
    let shown: String = message.iter().map(texts).collect();
    let tables = blocks.iter().filter_map(|block| match block {
        Block::Table(table) => Some(table),
        _ => None,
    });
    for cell in tables.flat_map(|table| &table.rows).flat_map(|row| &row.cells) {
        let words = cell.text.trim_start_matches(['│', '└', ' ', '-']);
        assert!(shown.contains(words), "{words} is missing in {shown}");
    }
}

/// Leaves the messages for the schema checks and the browser.
fn leave(messages: &[Value]) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../payloads");
    std::fs::create_dir_all(&directory).unwrap();
    let lines: Vec<String> = messages.iter().map(Value::to_string).collect();
    std::fs::write(directory.join("golden.jsonl"), lines.join("\n") + "\n").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_has_its_picture() {
    let mut world = World::start().await;
    world
        .change(|config| {
            config.schedule.push(MaintenanceWindow {
                name: "Full backup".to_owned(),
                run: "backup all".to_owned(),
                environments: vec!["production".to_owned()],
                // Once a year: it was never run, and is late on all days but that one.
                cron: "0 2 1 1 *".parse().unwrap(),
                zone: jiff::tz::TimeZone::UTC,
                grace: std::time::Duration::from_secs(3600),
                catch_up: std::time::Duration::ZERO,
                channel: None,
                notify: Vec::new(),
                report: WindowReport::Problems,
            });
        })
        .await;
    settle(&world).await;
    let mut messages = Vec::new();
    let reading = || world.app.catalog.iter().filter(|command| command.header.risk == Risk::Read);
    for command in reading().filter(|command| !IN_THE_INCIDENT.contains(&command.name.as_str())) {
        let example = command.header.example.as_str();
        let line = match command.name.as_str() {
            "show" => "show 1",
            "environments" | "home" | "services" => &format!("{example} --env production"),
            "slow" => "slow asset-service --by calls",
            _ => example,
        };
        messages.push(looks(&world, command, line).await);
    }
    let incident = SampleIncident::start(&world.cluster, &world.team).await.unwrap();
    let head = incident.pids().head;
    // Whoever began last has been there for a second: the five of the tree that wait, their head, and the report.
    let all = |table: &Table| table.rows.len() == 7;
    world
        .until("long --over 1s", |told| {
            told.blocks.iter().any(|block| matches!(block, Block::Table(table) if all(table)))
        })
        .await;
    for command in reading().filter(|command| IN_THE_INCIDENT.contains(&command.name.as_str())) {
        let line = match command.name.as_str() {
            "idle" | "long" => format!("{} --over 1s", command.name),
            "locks" => format!("locks {head}"),
            _ => command.header.example.clone(),
        };
        messages.push(looks(&world, command, &line).await);
    }
    leave(&messages);
}
