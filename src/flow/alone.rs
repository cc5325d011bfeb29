//! Break-glass: one person acts without a second, in need. A role of its own, few commands, seldom, with a reason and the
//! environment's name typed out; everyone who could have approved is told at once, and one of them has to review it.

use super::Flow;
use super::request::{Intent, unrecorded};
use crate::args::Line;
use crate::catalog::Risk;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::sql::{duration, moment};
use crate::store::Filter;

/// Two at once would each be the first of the hour.
const HELD: &str = "break-glass";

/// A plan that nobody else has to agree to.
pub(super) fn act_alone(mut plan: Plan) -> Plan {
    plan.holds.push(HELD.to_owned());
    plan
}

impl Flow {
    /// # Errors
    /// [`Error::User`]: which of the conditions isn't fulfilled, and how to go on.
    pub(super) async fn allow_alone(&self, intent: &Intent<'_>, line: &Line) -> Result<()> {
        let name = &intent.command.name;
        let access = &self.app.access;
        let alone = access.alone().ok_or_else(|| {
            Error::instead(
                "Nobody may act alone here: the configuration has no [break_glass].",
                format!("Ask as usual: `{name}` waits for a second person."),
            )
        })?;
        if !alone.commands.contains(name) {
            let can = alone.commands.join("`, `");
            return Err(Error::instead(
                format!("`{name}` is never done alone."),
                format!("Only these are: `{can}`. Ask as usual, without break-glass."),
            ));
        }
        if !access.may_act_alone(&intent.person, intent.command) {
            return Err(Error::instead(
                format!("You lack the role {} that may act alone.", alone.role),
                "Ask as usual, without break-glass: it waits for a second person.",
            ));
        }
        self.narrowed(&intent.incoming.sender, &[&alone.role]).await?;
        if intent.policy.risk != Risk::Danger {
            return Err(Error::instead(
                format!("`{name}` needs no second person here."),
                "Type it without break-glass.",
            ));
        }
        if line.environment.is_none() || line.reason.is_none() {
            return Err(Error::instead(
                "Whoever acts alone types the environment's name and a reason.",
                format!(
                    "Add `--env {}` and `--reason \"…\"`.",
                    intent.environment.as_deref().unwrap_or("<name>")
                ),
            ));
        }
        self.not_too_often(alone.every).await
    }

    async fn not_too_often(&self, every: std::time::Duration) -> Result<()> {
        let since = Some(jiff::Timestamp::now() - every);
        let filter = Filter { alone: true, since, limit: 1, ..Filter::default() };
        let listed = self.app.runs.store.list(filter).await.map_err(|why| unrecorded(&why))?;
        let Some(last) = listed.runs.first() else { return Ok(()) };
        Err(Error::instead(
            format!(
                "{} acted alone at {} (#{}); that is for once in {}.",
                last.request.requester.id,
                moment(last.opened_at),
                last.id,
                duration(every.as_secs_f64())
            ),
            "Ask as usual, without break-glass: it waits for a second person.",
        ))
    }
}
