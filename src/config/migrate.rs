//! The section `[migrate]`, and a service's own `migrate` instead: the deployment of a service's migrations, by an argv and never
//! by a shell's line.

use super::secrets::opt_secret;
use super::validate::{braces, duration, identifier, is_variable_name, reject, unknown_braces};
use super::{EnvValue, LoadContext, MigrateSettings};
use crate::suggest::quoted;
use crate::toml_reader::Reader;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An index on a large table takes a while; what takes longer than a day has nobody who still watches it.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30 * 60);
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Prisma's own name for it, and its schema unless the URL names another.
pub(super) const URL_VARIABLE: &str = "DATABASE_URL";
pub(super) const SCHEMA: &str = "public";

/// Names for the braces of a command's words.
const DEPLOY_NAMES: [&str; 3] = ["service", "database", "environment"];
const RESOLVE_NAMES: [&str; 5] = ["service", "database", "environment", "migration", "as"];

/// One section; `None` for the keys that it leaves out.
#[derive(Default, Clone)]
pub(super) struct MigrateSection {
    deploy: Option<Vec<String>>,
    resolve: Option<Vec<String>>,
    directory: Option<PathBuf>,
    url: Option<String>,
    schema: Option<String>,
    timeout: Option<Duration>,
    env: BTreeMap<String, EnvValue>,
}

/// A service's own, over what holds for all. `None` if neither is there.
pub(super) fn of_service(
    service: &mut Reader<'_>,
    for_all: Option<&MigrateSection>,
    context: &LoadContext<'_>,
) -> Option<MigrateSettings> {
    let own = service.opt_table("migrate", |table| section(table, context));
    if own.is_none() && for_all.is_none() {
        return None;
    }
    let (own, all) = (own.unwrap_or_default(), for_all.cloned().unwrap_or_default());
    let (deploy, directory) = (own.deploy.or(all.deploy), own.directory.or(all.directory));
    for (key, missing) in [("deploy", deploy.is_none()), ("directory", directory.is_none())] {
        if missing {
            let places = "neither `[migrate]` nor this service's `migrate` has it";
            service.problem_at(service.position(), format!("`{key}` is missing: {places}"));
        }
    }
    // The variables that any program needs.
    let inherited = |name: &str| Some((name.to_owned(), EnvValue::Plain((context.env_var)(name)?)));
    let mut env: BTreeMap<_, _> = ["PATH", "HOME"].into_iter().filter_map(inherited).collect();
    env.extend(all.env);
    env.extend(own.env);
    let url = own.url.or(all.url).unwrap_or_else(|| URL_VARIABLE.to_owned());
    if env.contains_key(&url) {
        let message = format!("{} is set by Countersign and can't be in `env`", quoted(&url));
        service.problem_at(service.position(), message);
    }
    Some(MigrateSettings {
        deploy: deploy.unwrap_or_default(),
        resolve: own.resolve.or(all.resolve),
        directory: directory.unwrap_or_default(),
        url,
        schema: own.schema.or(all.schema).unwrap_or_else(|| SCHEMA.to_owned()),
        timeout: own.timeout.or(all.timeout).unwrap_or(TIMEOUT),
        env,
    })
}

pub(super) fn section(table: &mut Reader<'_>, context: &LoadContext<'_>) -> MigrateSection {
    let deploy = argv(table, "deploy", &DEPLOY_NAMES);
    let resolve = argv(table, "resolve", &RESOLVE_NAMES);
    if let Some(resolve) = &resolve {
        for name in ["migration", "as"] {
            if !resolve.iter().any(|word| braces(word).any(|placeholder| placeholder == name)) {
                table.problem("resolve", format!("`resolve` must say where {{{name}}} goes"));
            }
        }
    }
    let directory = table.opt_string("directory");
    if let Some(directory) = &directory {
        for message in unknown_braces("`directory`", directory, &DEPLOY_NAMES) {
            table.problem("directory", message);
        }
        if directory.is_empty() {
            reject(table, "directory", directory, "a path");
        }
    }
    MigrateSection {
        deploy,
        resolve,
        directory: directory.map(|directory| context.directory.join(directory)),
        url: table.opt_string("url").inspect(|name| variable(table, "url", name)),
        schema: table.has("schema").then(|| identifier(table, "schema")),
        timeout: duration(table, "within", LONGEST_TIMEOUT),
        env: table.opt_table("env", |env| variables(env, context)).unwrap_or_default(),
    }
}

/// A program and its words. A relative path would mean another program in every directory.
fn argv(table: &mut Reader<'_>, key: &str, names: &[&str]) -> Option<Vec<String>> {
    if !table.has(key) {
        return None;
    }
    let words = table.located_strings(key);
    table.needs_entry(key, &format!("`{key}` must name a program"));
    for word in &words {
        for message in unknown_braces(&format!("`{key}`"), &word.value, names) {
            table.problem_at(word.at, message);
        }
        if word.value.chars().any(char::is_control) {
            table.problem_at(word.at, format!("a word of `{key}` has control characters"));
        }
    }
    if let Some(program) = words.first() {
        let relative = program.value.contains('/') && !Path::new(&program.value).is_absolute();
        if program.value.is_empty() || relative {
            let rule = "must begin with a program's name or its absolute path";
            table.problem_at(program.at, format!("`{key}` {rule}, not {}", quoted(&program.value)));
        } else if program.value.contains(char::is_whitespace) && words.len() == 1 {
            let rule = "is an array of words, as [\"npx\", \"prisma\"]: no shell splits it";
            table.problem_at(program.at, format!("`{key}` {rule}"));
        }
    }
    Some(words.into_iter().map(|word| word.value).collect())
}

/// Variables of the child: a text, or a secret kept elsewhere.
fn variables(table: &mut Reader<'_>, context: &LoadContext<'_>) -> BTreeMap<String, EnvValue> {
    let mut variables = BTreeMap::new();
    for key in table.keys() {
        variable(table, &key.value, &key.value);
        let value = if table.is_string(&key.value) {
            table.opt_string(&key.value).map(EnvValue::Plain)
        } else {
            opt_secret(table, &key.value, context).map(EnvValue::Secret)
        };
        variables.extend(value.map(|value| (key.value, value)));
    }
    variables
}

fn variable(table: &mut Reader<'_>, key: &str, name: &str) {
    if !is_variable_name(name) {
        table.problem(key, format!("{} is no variable's name: letters, digits and `_`", quoted(name)));
    }
}
