//! `break-glass` by itself: who may act alone, with what, and how it is typed. Before a command it is no command of its own.

use super::support::blocks::{answer, verdict};
use super::{Call, Query};
use crate::error::Result;
use crate::model::{Block, Severity, Text};
use crate::sql::{Answer, duration, fill};
use async_trait::async_trait;

pub struct BreakGlass;

#[async_trait]
impl Query for BreakGlass {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        let Some(break_glass) = call.app.access.break_glass() else {
            return Ok(answer(vec![verdict(
                Severity::Neutral,
                "Nobody may act alone: the configuration has no [break_glass].",
            )]));
        };
        let holds = |person: &&crate::config::PersonConfig| person.roles.contains(&break_glass.role);
        let people: Vec<&str> =
            call.app.config.people.iter().filter(holds).map(|person| person.name.as_str()).collect();
        let who = if people.is_empty() { "nobody".to_owned() } else { people.join(", ") };
        let first = break_glass.commands.first().map_or("kill", String::as_str);
        let example = format!(
            "Typed before the command: `break-glass {first} … --env <name> --reason \"…\"`. Everyone who could have approved is told at once, and one of them has to `review` it."
        );
        Ok(answer(vec![
            verdict(
                Severity::Neutral,
                format!(
                    "Once in {} somebody may act without a second person.",
                    duration(break_glass.every.as_secs_f64())
                ),
            ),
            Block::Facts(vec![
                ("role".to_owned(), Text::new().code(break_glass.role.clone())),
                ("people".to_owned(), who.into()),
                ("commands".to_owned(), Text::new().code(break_glass.commands.join(", "))),
            ]),
            Block::Note(fill(&example, &|_| None)),
        ]))
    }
}
