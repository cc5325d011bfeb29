//! A whole line → a command and its values. Authorisation is not checked here.

use super::{KnownNames, TypedLine, Values, bind, split};
use crate::catalog::{Catalog, Command};
use crate::error::{Error, Result};
use crate::suggest::shown;

/// A line's command and values.
#[derive(Debug, Clone)]
pub struct ParsedCommand<'c> {
    pub command: &'c Command,
    pub values: Values,
    /// With the options that every command has.
    pub line: TypedLine,
}

/// Parses a line; `None` for an empty one.
///
/// # Errors
/// [`Error::User`]: an unknown command, or values that don't fit it, and what to type instead.
pub fn understand<'c>(
    catalog: &'c Catalog,
    typed: &str,
    known: &KnownNames,
) -> Result<Option<ParsedCommand<'c>>> {
    let is_switch = |command: &str, option: &str| {
        let spec = catalog.find(command).and_then(|c| c.header.args.iter().find(|arg| arg.name == option));
        spec.is_some_and(|spec| spec.switch)
    };
    let line = split(typed, &is_switch)?;
    if line.command.is_empty() {
        return Ok(None);
    }
    let Some(command) = catalog.find(&line.command) else {
        let problem = format!("There is no command “{}”.", shown(&line.command));
        return Err(match catalog.suggest(&line.command) {
            Some(near) => Error::instead(problem, format!("Did you mean `{}`?", near.usage())),
            None => Error::instead(problem, "Type `help` for what there is."),
        });
    };
    let values = bind(&command.header.args, &line, known, &command.usage())?;
    Ok(Some(ParsedCommand { command, values, line }))
}
