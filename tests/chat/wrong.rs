//! Wrong inputs made from the catalogue: every argument of every command that acts, wrong in every way. Each gets an answer that
//! says what to type instead, and nothing is changed: no row, no schema, no session, no run.

use crate::room::{Room, incident};
use crate::scene::{Scene, Servers, Twist};
use countersign::App;
use countersign::args::{ArgSpec, ArgType};
use countersign::catalog::{Command, Risk};
use countersign::flow::{Ending, Flow};
use countersign::message::{Block, Event, Incoming, PlatformName, Sender, Span};
use countersign::store::{Filter, Store};
use std::sync::Arc;
use std::time::Duration;

/// A value that fits the type, though there may be no such thing.
fn fitting(spec: &ArgSpec) -> String {
    match spec.kind {
        ArgType::Service => "asset-service".to_owned(),
        ArgType::Environment => "staging".to_owned(),
        ArgType::Pid => "2147483647".to_owned(),
        ArgType::Run => "4711".to_owned(),
        ArgType::Duration => "90d".to_owned(),
        ArgType::Int => "1".to_owned(),
        ArgType::Command => "kill".to_owned(),
        ArgType::Choice => spec.choices[0].clone(),
        ArgType::Text => if spec.name == "table" { "assets" } else { "nothing_like_it" }.to_owned(),
    }
}

/// What no argument of the type can be.
fn wrong(spec: &ArgSpec) -> Vec<String> {
    let of_the_type: &[&str] = match spec.kind {
        ArgType::Service => &["nothing", "asset_service_db", "ассет-service"],
        ArgType::Environment => &["mars", "ѕtaging"],
        ArgType::Pid => &["abc", "0", "-1", "99999999999", "4711.5", "٤٧١١", "1e3"],
        ArgType::Run => &["abc", "0", "-1", "99999999999999999999", "#"],
        ArgType::Duration => &["soon", "0s", "5", "-5m", "99999999d", "５m"],
        ArgType::Int => &["lots", "1.5", "99999999999999999999"],
        ArgType::Command => &["shoot", "kіll"],
        ArgType::Choice => &["luck"],
        ArgType::Text => &["no_such_thing", "аssets", "pg_catalog.pg_class", "\u{202e}stessa"],
    };
    let injections =
        ["x'; DROP TABLE assets; --", "$(touch /tmp/x)", "../../etc/passwd", "\\\\x00", "x\"; SELECT 1; --"];
    let mut all: Vec<String> = of_the_type.iter().chain(&injections).map(|word| (*word).to_owned()).collect();
    all.push("x".repeat(40 * 1024));
    all
}

fn quoted(value: &str) -> String {
    let quote = if value.contains('"') { '\'' } else { '"' };
    format!("{quote}{value}{quote}")
}

/// The line with one argument another; `None` leaves it out.
fn line(command: &Command, odd: Option<(&str, Option<&str>)>) -> String {
    let mut line = command.name.clone();
    for spec in command.header.args.iter().filter(|spec| !spec.hidden && !spec.switch) {
        let other = odd.filter(|(name, _)| *name == spec.name).map(|(_, value)| value);
        let value = match other {
            Some(None) => continue,
            Some(Some(value)) => quoted(value),
            None if spec.required => quoted(&fitting(spec)),
            None => continue,
        };
        line.push_str(&if spec.positional {
            format!(" {value}")
        } else {
            format!(" --{} {value}", spec.name)
        });
    }
    line
}

/// Every wrong line of a command.
fn lines(command: &Command) -> Vec<String> {
    let mut lines = vec![
        format!("{} surplus", line(command, None)),
        format!("{} --no-such-option 1", line(command, None)),
    ];
    for spec in command.header.args.iter().filter(|spec| !spec.hidden && !spec.switch) {
        // An optional one that stands behind others needs them.
        lines.extend(wrong(spec).iter().map(|value| line(command, Some((&spec.name, Some(value))))));
        if spec.required {
            lines.push(line(command, Some((&spec.name, None))));
        }
        if !spec.positional {
            lines.push(format!("{} --{}", line(command, None), spec.name));
        }
    }
    lines
}

/// Every table's columns and rows, and every session of somebody else.
async fn everything(scene: &Scene) -> Vec<String> {
    let superuser = scene.superuser().await;
    let sessions = "SELECT pid || ' ' || backend_start FROM pg_stat_activity
                    WHERE backend_type = 'client backend' AND usename !~ '^countersign_' AND pid <> pg_backend_pid() ORDER BY 1";
    let databases = "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1";
    let all =
        |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>();
    let mut seen = all(superuser.query(sessions, &[]).await.expect("the sessions"));
    for database in all(superuser.query(databases, &[]).await.expect("the databases")) {
        let client = scene.servers.cluster.connect(&database).await.expect("the superuser");
        let columns = "SELECT md5(string_agg(concat_ws(' ', table_schema, table_name, column_name, data_type, column_default), ',' ORDER BY 1))
                       FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')";
        let row = client.query_one(columns, &[]).await.expect("the columns");
        seen.push(format!("{database} {:?}", row.get::<_, Option<String>>(0)));
        let tables = "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                      WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1";
        for table in all(client.query(tables, &[]).await.expect("the tables")) {
            let sum = format!(
                "SELECT count(*) || ' ' || COALESCE(md5(string_agg(t::text, ',' ORDER BY t::text)), '') FROM {table} t"
            );
            let row = client.query_one(&sum, &[]).await.expect("the rows");
            seen.push(format!("{database} {table} {}", row.get::<_, String>(0)));
        }
    }
    seen
}

/// Whether an answer says what to type: a word to copy, or a second sentence that tells how to go on.
fn says_what_to_type(blocks: &[Block]) -> bool {
    let code = |block: &Block| match block {
        Block::Verdict { text, .. } | Block::Text(text) => {
            text.0.iter().any(|span| matches!(span, Span::Code(_)))
        }
        _ => false,
    };
    blocks.len() > 1 || blocks.iter().any(code)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_argument_of_every_command_that_acts() {
    let servers = Servers::alone(60).await;
    let scene = Scene::without_bot(Twist { servers: Some(servers), ..Twist::default() }).await;
    let room = Arc::new(Room::default());
    let flow = Flow::new(App::assemble(scene.stage.checked().unwrap()).unwrap(), vec![room.clone()]);
    let (_idle, _) = scene.session("asset-worker-7").await;
    let before = everything(&scene).await;
    let acting: Vec<&Command> =
        flow.app.catalog.iter().filter(|command| command.header.risk != Risk::Read).collect();
    let mut typed = 0;
    let mut vague = Vec::new();
    for command in acting {
        for line in lines(command) {
            let needs_place = command.header.scope != countersign::catalog::Scope::None;
            let line = if needs_place { format!("{line} --env staging") } else { line };
            typed += 1;
            let sender = Sender {
                platform: PlatformName::Slack,
                workspace: incident().workspace,
                account: "U0CARA".to_owned(),
                name: "cara".to_owned(),
            };
            let event = Event::Command { line: line.clone() };
            let incoming =
                Incoming { delivery: typed.to_string(), sender, place: incident(), handle: None, event };
            let ending = flow.handle_wholly(incoming, Duration::from_secs(30)).await;
            let shown: String = line.chars().take(120).collect();
            let answer = room.answers.lock().unwrap().pop();
            assert_eq!(ending, Ending::Refused, "{shown}: {answer:?}");
            let answer = answer.unwrap_or_else(|| panic!("{shown}: no answer"));
            if !says_what_to_type(&answer.blocks) {
                vague.push(format!("{shown}: {:?}", answer.blocks));
            }
        }
    }
    assert!(typed > 200, "only {typed} lines were made");
    assert!(vague.is_empty(), "these say nothing of what to type:\n{}", vague.join("\n"));
    assert_eq!(everything(&scene).await, before);
    let runs = scene.store().list(Filter { reads: true, ..Filter::default() }).await.unwrap().total;
    assert_eq!(runs, 0, "a refusal leaves no run");
}
