//! Wrong inputs made from the catalogue: every argument of every command that acts, wrong in every way, in a line that works
//! otherwise. Each gets an answer that names what is wrong and says what to type instead, and nothing is changed: no row, no
//! schema, no session, no run.

use crate::invalid_arguments::Odd;
use crate::invalid_commands_harness::Conversation;
use countersign::catalog::Command;
use countersign::command_line::ArgType;
use countersign::model::{ActiveFreeze, Audience, Block, Reply, Risk, Span, Text};
use countersign::store::FreezeChange;
use countersign::workflow::Completion;

/// Who types it: on call and approver.
const CARA: usize = 2;

/// As a person reads it: what is to be copied in backticks.
fn read(blocks: &[Block]) -> String {
    let words = |text: &Text| -> String {
        let span = |span: &Span| match span {
            Span::Plain(text) | Span::Strong(text) => text.clone(),
            Span::Code(code) => format!("`{code}`"),
            Span::Person(person) | Span::Ping(person) => person.id.clone(),
        };
        text.0.iter().map(span).collect()
    };
    let block = |block: &Block| match block {
        Block::Verdict { text, .. } | Block::Text(text) | Block::Note(text) => words(text) + " ",
        _ => String::new(),
    };
    blocks.iter().map(block).collect()
}

/// What is wrong with the answer to a wrong line.
fn vague(odd: &Odd, reply: &Reply, commands: &[&Command]) -> Option<&'static str> {
    let said = read(&reply.blocks);
    let named = |name: &String| said.to_lowercase().contains(&name.to_lowercase());
    // A number as long as a card's isn't repeated.
    let hidden = || {
        odd.names.iter().any(|name| name.len() >= 19) && (said.contains("“?”") || said.contains(" run ? "))
    };
    if !odd.names.iter().any(named) && !hidden() {
        return Some("what is wrong isn't named");
    }
    // Without the quoted word, which may hold what is right as well.
    let rest = match (said.find('“'), said.find('”')) {
        (Some(from), Some(to)) if from < to => said[..from].to_owned() + &said[to..],
        _ => said,
    };
    let copied = |command: &&Command| rest.contains(&format!("`{}", command.name));
    if !odd.instead.iter().any(|right| rest.contains(right.as_str())) && !commands.iter().any(copied) {
        return Some("it says nothing of what to type");
    }
    (reply.audience != Audience::Asker).then_some("everyone reads it")
}

/// What fits the type and is still wrong: runs in other states, sessions that may not be touched, columns of no time.
async fn semantic(place: &Conversation, command: &Command) -> Vec<Odd> {
    let mut all = Vec::new();
    for control in place.controls(command) {
        for (spec, right) in &control.values {
            let others = match (spec.kind, spec.name.as_str()) {
                (ArgType::Pid, _) => place.other_pids().await,
                (ArgType::Run, _) => place.other_runs(&command.name),
                (ArgType::Text, "column") => {
                    ["id", "details", "xmin", "Created_At2"].map(str::to_owned).into()
                }
                (ArgType::Text, "table") => {
                    ["audit_logs_pkey", "audit_logs_id_seq", "public.nothing"].map(str::to_owned).into()
                }
                // The beginning of a name is enough, where no other begins so.
                (ArgType::Text, "window") => place.other_windows(right),
                _ => Vec::new(),
            };
            for other in others {
                let line = control.line().replacen(right.as_str(), &other, 1);
                let names = if spec.kind == ArgType::Run { format!("#{other}") } else { other };
                all.push(Odd { line, names: vec![names], instead: vec![right.clone()] });
            }
        }
    }
    all
}

async fn answers(place: &Conversation, command: &Command, commands: &[&Command]) -> (usize, Vec<String>) {
    let mut wrong = Vec::new();
    for control in place.controls(command) {
        let line = format!("{} --dry-run", control.line());
        let (ending, reply) = place.say(CARA, &line).await;
        let said = reply.map(|reply| read(&reply.blocks)).unwrap_or_default();
        assert!(ending == Completion::Answered && said.contains("Dry run"), "{line} has to work: {said}");
    }
    let mut odd = semantic(place, command).await;
    odd.extend(place.controls(command).iter().flat_map(|control| control.odd()));
    for odd in &odd {
        let (ending, reply) = place.say(CARA, &odd.line).await;
        let shown: String = odd.line.chars().take(150).collect();
        let why = match (ending, &reply) {
            (Completion::Refused, Some(reply)) => vague(odd, reply, commands),
            _ => Some("it is not refused"),
        };
        if let Some(why) = why {
            let said = reply.map(|reply| read(&reply.blocks));
            wrong.push(format!("{shown:?}: {why} ({:?}, {:?}): {said:?}", odd.names, odd.instead));
        }
    }
    (odd.len(), wrong)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_argument_of_every_command_that_acts() {
    let place = Conversation::set().await;
    let before = place.everything().await;
    let commands: Vec<&Command> = place.flow.app.catalog.iter().collect();
    let mut typed = 0;
    let mut wrong = Vec::new();
    let acts = |command: &&&Command| command.header.risk != Risk::Read;
    for command in commands.iter().filter(acts) {
        // There is nothing to lift otherwise.
        let frozen = (command.name == "unfreeze").then(|| ActiveFreeze {
            by: countersign::model::Person { id: "ana".to_owned(), account: None },
            at: "2025-11-01T10:00:00Z".parse().unwrap(),
            reason: None,
        });
        let store = &place.flow.app.audit.store;
        let freeze = FreezeChange { from: None, to: frozen.clone(), while_executing: None };
        assert!(store.change_freeze(freeze).await.unwrap());
        let (lines, said) = answers(&place, command, &commands).await;
        let lift = FreezeChange { from: frozen, to: None, while_executing: None };
        assert!(store.change_freeze(lift).await.unwrap());
        typed += lines;
        wrong.extend(said);
    }
    assert!(wrong.is_empty(), "{} of {typed}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(typed > 1_000, "only {typed} lines were made");
    let after = place.everything().await;
    let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "{changed:#?}");
}
