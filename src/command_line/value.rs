//! One word → one value of its type, in canonical form, or what to type instead.

use super::{ArgSpec, ArgType, shown};
use crate::catalog::{Catalog, nearest};
use crate::config::Config;
use crate::error::{Error, Result};

/// The names that the configuration knows.
#[derive(Debug, Clone, Default)]
pub struct KnownNames {
    pub services: Vec<String>,
    pub environments: Vec<String>,
    pub commands: Vec<String>,
}

impl KnownNames {
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
    let wrong = |what: String| Error::instead(what, format!("`{}`: {}.", spec.name, spec.help));
    let said = shown(word);
    match spec.kind {
        ArgType::Text if word.trim().is_empty() => Err(wrong("It is empty.".to_owned())),
        ArgType::Text => Ok(word.to_owned()),
        ArgType::Int => match word.parse::<i64>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err(wrong(format!("“{said}” is not a whole number: type one such as 10."))),
        },
        ArgType::Pid => match word.parse::<i32>() {
            Ok(pid) if pid > 0 => Ok(pid.to_string()),
            Ok(0) => Err(Error::instead(
                "0 is no session: a lock held by “pid 0” belongs to a prepared transaction.",
                "`blocked` shows its name.",
            )),
            _ => Err(Error::instead(
                format!("“{said}” is not a process id."),
                "Type the number from the pid column of `blocked` or `long`, such as `4711`.",
            )),
        },
        ArgType::Run => match word.trim_start_matches('#').parse::<i64>() {
            Ok(run) if run > 0 => Ok(run.to_string()),
            _ => Err(Error::instead(
                format!("“{said}” is not the number of a run."),
                "`history` and `pending` show them: type `show 128`.",
            )),
        },
        ArgType::Duration => match duration_seconds(word) {
            Some(seconds) if seconds > 0 => Ok(format!("{seconds} s")),
            Some(_) => Err(wrong(format!(
                "“{said}” is nothing. A duration of nothing would mean everything: type 30s, 5m, 2h or 7d."
            ))),
            None => Err(wrong(format!("“{said}” is not a duration: type 30s, 5m, 2h or 7d."))),
        },
        ArgType::Choice => match spec.choices.iter().find(|choice| choice.eq_ignore_ascii_case(word)) {
            Some(choice) => Ok(choice.clone()),
            None => Err(wrong(format!("“{said}” is not one of {}.", spec.choices.join(", ")))),
        },
        ArgType::Service => name(word, "service", &known.services, true),
        ArgType::Environment => name(word, "environment", &known.environments, false),
        ArgType::Command => name(word, "command", &known.commands, false),
    }
}

/// A name of the configuration. A service may be told without its ending: "asset" for "asset-service" where that is clear.
fn name(word: &str, what: &str, known: &[String], all: bool) -> Result<String> {
    let said = word.to_lowercase();
    if all && said == "all" {
        return Ok(said);
    }
    if let Some(exact) = known.iter().find(|name| **name == said) {
        return Ok(exact.clone());
    }
    let beginning: Vec<&String> = known.iter().filter(|name| name.starts_with(&format!("{said}-"))).collect();
    if let [only] = beginning.as_slice() {
        return Ok((*only).clone());
    }
    let problem = format!("There is no {what} “{}”.", shown(word));
    match nearest(&said, known.iter().map(String::as_str)) {
        Some(near) => Err(Error::instead(problem, format!("Did you mean `{near}`?"))),
        None => Err(Error::instead(problem, format!("There are: {}.", known.join(", ")))),
    }
}

/// "30s", "5m", "2h", "7d", also "300 s" → seconds. At most ten years.
pub fn duration_seconds(word: &str) -> Option<u64> {
    let word = word.trim().to_lowercase();
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = word[..digits].parse().ok()?;
    let unit = match word[digits..].trim() {
        "s" | "sec" | "seconds" => 1,
        "m" | "min" | "minutes" => 60,
        "h" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => 86_400,
        _ => return None,
    };
    number.checked_mul(unit).filter(|seconds| *seconds <= 315_360_000)
}
