//! `break-glass` without a command: who may act without approval, with which commands, and how to type it. Before a command it is a
//! prefix.

use super::Call;
use super::support::blocks::{answer, note, verdict};
use crate::error::Result;
use crate::model::{Block, Severity, Text};
use crate::sql::{Answer, duration};

pub async fn query(call: &Call<'_>) -> Result<Answer> {
    let Some(break_glass) = call.app.access.break_glass() else {
        let words = "Break-glass is not configured: every change needs its approval.";
        return Ok(answer(vec![verdict(Severity::Neutral, words)]));
    };
    let people = call.app.config.people.iter().filter(|person| person.roles.contains(&break_glass.role));
    let names: Vec<&str> = people.map(|person| person.name.as_str()).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let first = break_glass.commands.first().map_or("kill", String::as_str);
    let interval = duration(break_glass.interval.as_secs_f64());
    Ok(answer(vec![
        verdict(
            Severity::Neutral,
            format!("One emergency action in {interval} is allowed without approval."),
        ),
        Block::Facts(vec![
            ("role".to_owned(), Text::new().code(break_glass.role.clone())),
            ("people".to_owned(), names.into()),
            ("commands".to_owned(), Text::new().code(break_glass.commands.join(", "))),
        ]),
        note(&format!(
            "Type it before the command: `break-glass {first} … --env <name> --reason \"…\"`. All approvers are notified at once, and one of them must `review` it."
        )),
    ]))
}
