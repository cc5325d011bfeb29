//! One word → one value of its type, in canonical form, or what to type instead.

use super::{ArgSpec, ArgType};
use crate::catalog::Catalog;
use crate::clock::duration_seconds;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::suggest::{nearest, shown};

/// The names that the configuration knows.
#[derive(Debug, Clone, Default)]
pub struct KnownNames {
    pub services: Vec<String>,
    pub environments: Vec<String>,
    pub commands: Vec<String>,
}

impl KnownNames {
    /// The names of a configuration and a catalog.
    pub fn of(config: &Config, catalog: &Catalog) -> KnownNames {
        KnownNames {
            services: config.services.iter().map(|service| service.name.clone()).collect(),
            environments: config.environments.iter().map(|environment| environment.name.clone()).collect(),
            commands: catalog.iter().map(|command| command.name.clone()).collect(),
        }
    }
}

/// Checks a word against the argument's type.
///
/// # Errors
/// [`Error::User`], with what to type instead.
pub fn check(spec: &ArgSpec, word: &str, known: &KnownNames) -> Result<String> {
    let wrong = |problem: String| Error::instead(problem, format!("`{}`: {}.", spec.name, spec.help));
    let typed = shown(word);
    match spec.kind {
        ArgType::Text if word.trim().is_empty() => Err(wrong(format!("`{}` is empty.", spec.name))),
        ArgType::Text => Ok(word.to_owned()),
        ArgType::Int => match word.parse::<i64>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err(wrong(format!("“{typed}” is not a whole number: type one such as 10."))),
        },
        ArgType::Pid => match word.parse::<i32>() {
            Ok(pid) if pid > 0 => Ok(pid.to_string()),
            Ok(0) => Err(Error::instead(
                "0 is no session: a lock held by “pid 0” belongs to a prepared transaction.",
                "`blocked` shows its name.",
            )),
            _ => Err(Error::instead(
                format!("“{typed}” is not a process id."),
                "Type the number from the pid column of `blocked` or `long`, such as `4711`.",
            )),
        },
        ArgType::Run => match word.trim_start_matches('#').parse::<i64>() {
            Ok(run) if run > 0 => Ok(run.to_string()),
            _ => Err(Error::instead(
                format!("“{typed}” is not the number of a run."),
                "`history` and `pending` show them: type `show 128`.",
            )),
        },
        ArgType::Duration => match duration_seconds(word) {
            Some(seconds) if seconds > 0 => Ok(format!("{seconds} s")),
            Some(_) => Err(wrong(format!(
                "“{typed}” is zero, which would match everything: type 30s, 5m, 2h or 7d."
            ))),
            None => Err(wrong(format!("“{typed}” is not a duration: type 30s, 5m, 2h or 7d."))),
        },
        ArgType::Choice => match spec.choices.iter().find(|choice| choice.eq_ignore_ascii_case(word)) {
            Some(choice) => Ok(choice.clone()),
            None => Err(wrong(format!("“{typed}” is not one of {}.", spec.choices.join(", ")))),
        },
        ArgType::Service => name(word, "service", &known.services, true),
        ArgType::Environment => name(word, "environment", &known.environments, false),
        ArgType::Command => name(word, "command", &known.commands, false),
    }
}

/// A name of the configuration. A service's ending may be left out where the rest is unambiguous: "asset" for "asset-service".
fn name(word: &str, what: &str, known: &[String], all: bool) -> Result<String> {
    let typed = word.to_lowercase();
    if all && typed == "all" {
        return Ok(typed);
    }
    if let Some(exact) = known.iter().find(|name| **name == typed) {
        return Ok(exact.clone());
    }
    let beginning: Vec<&String> =
        known.iter().filter(|name| name.starts_with(&format!("{typed}-"))).collect();
    if let [only] = beginning.as_slice() {
        return Ok((*only).clone());
    }
    let problem = format!("There is no {what} “{}”.", shown(word));
    match nearest(&typed, known.iter().map(String::as_str)) {
        Some(near) => Err(Error::instead(problem, format!("Did you mean `{near}`?"))),
        None => Err(Error::instead(problem, format!("There are: {}.", known.join(", ")))),
    }
}
