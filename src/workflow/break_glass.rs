//! Break-glass: one person acts without approval in an emergency. It needs a role of its own, works for few commands, rarely,
//! and with a reason and the environment's name typed out. Everyone who could have approved is notified at once, and one of
//! them has to review it.

use super::authenticate::Authenticator;
use crate::app::App;
use crate::catalog::Command;
use crate::command_line::TypedLine;
use crate::error::{Error, Result};
use crate::model::{ChatAccount, Person, Risk, Run};
use crate::sql::{duration, moment};

/// A command that somebody wants to run without approval.
pub(super) struct BreakGlassAttempt<'a> {
    pub command: &'a Command,
    pub person: &'a Person,
    pub sender: &'a ChatAccount,
    pub environment: Option<&'a str>,
    /// By the policy of now.
    pub risk: Risk,
    pub line: &'a TypedLine,
}

/// Passes if every condition of break-glass holds.
///
/// # Errors
/// [`Error::User`]: the condition that doesn't hold, and what to do instead.
pub(super) async fn authorize(authenticator: &Authenticator, attempt: BreakGlassAttempt<'_>) -> Result<()> {
    let name = &attempt.command.name;
    let access = &authenticator.app.access;
    let break_glass = access.break_glass().ok_or_else(|| {
        Error::instead(
            "Break-glass is not set up: the configuration has no [break_glass].",
            format!("Request it as usual: `{name}` needs an approval."),
        )
    })?;
    if !break_glass.commands.contains(name) {
        let allowed = break_glass.commands.join("`, `");
        return Err(Error::instead(
            format!("`{name}` can't be run with break-glass."),
            format!("Break-glass works for `{allowed}` only. Request this as usual, without break-glass."),
        ));
    }
    if !access.may_break_glass(attempt.person, attempt.command) {
        return Err(Error::instead(
            format!("Break-glass needs the role {}, which you don't have.", break_glass.role),
            "Request it as usual, without break-glass: it needs an approval.",
        ));
    }
    authenticator.require_role_group(attempt.sender, &[&break_glass.role]).await?;
    if attempt.risk != Risk::Danger {
        return Err(Error::instead(
            format!("`{name}` needs no approval here."),
            "Type it without break-glass.",
        ));
    }
    if attempt.line.environment.is_none() || attempt.line.reason.is_none() {
        return Err(Error::instead(
            "Break-glass needs the environment's name and a reason.",
            format!("Add `--env {}` and `--reason \"…\"`.", attempt.environment.unwrap_or("<name>")),
        ));
    }
    Ok(())
}

/// Start of the period in which nobody else may have used break-glass. The store checks it when the run is opened, so that
/// of two attempts at once one is allowed.
pub(super) fn rate_limit_start(app: &App) -> Option<jiff::Timestamp> {
    let every = app.access.break_glass()?.every;
    jiff::Timestamp::now().checked_sub(every).ok()
}

/// Break-glass was used too recently.
pub(super) fn rate_limit_error(app: &App, last: &Run) -> Error {
    let every = app.access.break_glass().map_or(0.0, |break_glass| break_glass.every.as_secs_f64());
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
