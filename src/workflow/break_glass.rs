//! Break-glass: one person acts without a second, in need. A role of its own, few commands, seldom, with a reason and the
//! environment's name typed out; everyone who could have approved is told at once, and one of them has to review it.

use super::Workflow;
use super::intent::Intent;
use crate::command_line::TypedLine;
use crate::error::{Error, Result};
use crate::model::{Risk, Run};
use crate::sql::{duration, moment};

impl Workflow {
    /// # Errors
    /// [`Error::User`]: which of the conditions isn't fulfilled, and how to go on.
    pub(super) async fn allow_break_glass(&self, intent: &Intent<'_>, line: &TypedLine) -> Result<()> {
        let name = &intent.command.name;
        let access = &self.app.access;
        let break_glass = access.break_glass().ok_or_else(|| {
            Error::instead(
                "Break-glass is not set up: the configuration has no [break_glass].",
                format!("Request it as usual: `{name}` needs an approval."),
            )
        })?;
        if !break_glass.commands.contains(name) {
            let can = break_glass.commands.join("`, `");
            return Err(Error::instead(
                format!("`{name}` can't be run with break-glass."),
                format!("Break-glass works for `{can}` only. Request this as usual, without break-glass."),
            ));
        }
        if !access.may_break_glass(&intent.person, intent.command) {
            return Err(Error::instead(
                format!("Break-glass needs the role {}, which you don't have.", break_glass.role),
                "Request it as usual, without break-glass: it needs an approval.",
            ));
        }
        self.narrowed(&intent.incoming.sender, &[&break_glass.role]).await?;
        if intent.policy.risk != Risk::Danger {
            return Err(Error::instead(
                format!("`{name}` needs no approval here."),
                "Type it without break-glass.",
            ));
        }
        if line.environment.is_none() || line.reason.is_none() {
            return Err(Error::instead(
                "Break-glass needs the environment's name and a reason.",
                format!(
                    "Add `--env {}` and `--reason \"…\"`.",
                    intent.environment.as_deref().unwrap_or("<name>")
                ),
            ));
        }
        Ok(())
    }

    /// From when on nobody else may have acted alone. The store looks when the run is opened, so that of two at once one does.
    pub(super) fn break_glass_since(&self, intent: &Intent<'_>) -> Option<jiff::Timestamp> {
        let every = self.app.access.break_glass().filter(|_| intent.break_glass)?.every;
        jiff::Timestamp::now().checked_sub(every).ok()
    }

    pub(super) fn too_soon(&self, last: &Run) -> Error {
        let every = self.app.access.break_glass().map_or(0.0, |break_glass| break_glass.every.as_secs_f64());
        Error::instead(
            format!(
                "{} used break-glass at {} (#{}). One emergency action per {} is allowed without approval.",
                last.request.requester.id,
                moment(last.opened_at),
                last.id,
                duration(every)
            ),
            "Request it as usual, without break-glass: it needs an approval.",
        )
    }
}
