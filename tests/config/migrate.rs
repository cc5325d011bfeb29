//! The section `[migrate]`, and what a service says instead.

use super::{MINIMAL, all_set, problems};
use countersign::config::{Config, EnvValue, MigrateSettings};
use secrecy::ExposeSecret;
use std::path::Path;
use std::time::Duration;

const GOOD: &str = "[migrate]\ndeploy = [\"npx\", \"prisma\", \"migrate\", \"deploy\"]\ndirectory = \"services/{service}\"\n";

fn loaded(text: &str) -> Config {
    Config::parse("deploy/x.toml", text, &all_set).unwrap_or_else(|problems| panic!("{problems}"))
}

fn migrate(config: &Config) -> &MigrateSettings {
    config.services[0].migrate.as_ref().expect("a command")
}

fn plain<'a>(migrate: &'a MigrateSettings, name: &str) -> Option<&'a str> {
    match migrate.env.get(name)? {
        EnvValue::Plain(text) => Some(text),
        EnvValue::Secret(_) => None,
    }
}

/// What is reported of a `[migrate]` that begins at line 33.
#[track_caller]
fn reports(section: &str, expected: &[&str]) {
    assert_eq!(problems(&format!("{MINIMAL}[migrate]\n{section}\n")), expected);
}

#[test]
fn without_it_nothing_is_deployed_and_with_it_there_are_defaults() {
    assert!(loaded(MINIMAL).services[0].migrate.is_none());
    let config = loaded(&format!("{MINIMAL}{GOOD}"));
    let migrate = migrate(&config);
    assert_eq!(migrate.deploy, ["npx", "prisma", "migrate", "deploy"]);
    assert_eq!(migrate.directory, Path::new("deploy/services/{service}"));
    assert_eq!((migrate.url.as_str(), migrate.schema.as_str()), ("DATABASE_URL", "public"));
    assert_eq!((migrate.timeout, migrate.resolve.is_none()), (Duration::from_secs(1800), true));
    assert_eq!(plain(migrate, "PATH"), Some("hush-path"), "its own, as in every program");
    assert_eq!(
        migrate.env.keys().collect::<Vec<_>>(),
        ["HOME", "PATH"],
        "and nothing else of the environment"
    );
}

#[test]
fn a_service_says_what_differs_and_a_secret_stays_one() {
    let own = "database = \"asset_service_db\"\n[services.migrate]\nwithin = \"2h\"\nschema = \"Own\"\n\
               env = { NPM_TOKEN = { env = \"NPM\" }, PATH = \"/opt/node/bin\" }";
    let text = MINIMAL.replace("database = \"asset_service_db\"", own);
    let config =
        loaded(&format!("{text}{GOOD}url = \"DB\"\n[migrate.env]\nCI = \"1\"\nNPM_TOKEN = \"none\"\n"));
    let migrate = migrate(&config);
    assert_eq!((migrate.timeout, migrate.schema.as_str()), (Duration::from_secs(7200), "Own"));
    assert_eq!((migrate.url.as_str(), migrate.deploy[0].as_str()), ("DB", "npx"));
    assert_eq!((plain(migrate, "CI"), plain(migrate, "PATH")), (Some("1"), Some("/opt/node/bin")));
    let Some(EnvValue::Secret(token)) = migrate.env.get("NPM_TOKEN") else { panic!("a secret") };
    assert_eq!(token.expose_secret(), "hush-npm");
    assert!(!format!("{config:?}").contains("hush-npm"));
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let at = |line: usize, column: usize, what: &str| format!("deploy/x.toml:{line}:{column}: {what}");
    reports(
        "deploy = [\"npx prisma migrate deploy\"]\ndirectory = \"/srv/{sevice}\"\nwithin = \"0s\"",
        &[
            &at(34, 11, "`deploy` is an array of words, as [\"npx\", \"prisma\"]: no shell splits it"),
            &at(35, 13, "`directory` can't fill in `sevice`; did you mean `service`?"),
            &at(36, 10, "`within` must be more than 0s and at most 1d, not 0s"),
        ],
    );
    reports(
        "deploy = [\"./prisma\", \"{migration}\"]\ndirectory = \"x\"\nresolve = [\"npx\", \"{migraton}\"]",
        &[
            &at(34, 11, "`deploy` must begin with a program's name or its absolute path, not `./prisma`"),
            &at(34, 23, "`deploy` can't fill in `migration`; known here: service, database, environment"),
            &at(36, 11, "`resolve` must say where {migration} goes"),
            &at(36, 11, "`resolve` must say where {as} goes"),
            &at(36, 19, "`resolve` can't fill in `migraton`; did you mean `migration`?"),
        ],
    );
    reports(
        "deploy = []\ndirectory = \"x\"\nurl = \"DATABASE URL\"\nenv = { \"A-B\" = \"1\", N = 7 }\nschema = \"\"\nwithn = \"1h\"",
        &[
            &at(34, 10, "`deploy` must name a program"),
            &at(36, 7, "`DATABASE URL` is no variable's name: letters, digits and `_`"),
            &at(37, 17, "`A-B` is no variable's name: letters, digits and `_`"),
            &at(
                37,
                26,
                "`N` must be a secret kept outside this file, { env = \"VARIABLE\" } or { file = \"path\" }, not a whole number",
            ),
            &at(
                38,
                10,
                "`schema` must be a PostgreSQL name: 1 to 63 bytes, no control characters, not empty",
            ),
            &at(39, 1, "unknown key `withn`; did you mean `within`?"),
        ],
    );
    reports(
        "within = \"1h\"\nenv = { DATABASE_URL = \"postgresql://\" }",
        &[
            &at(18, 1, "`deploy` is missing: neither `[migrate]` nor this service's `migrate` has it"),
            &at(18, 1, "`directory` is missing: neither `[migrate]` nor this service's `migrate` has it"),
            &at(18, 1, "`DATABASE_URL` is set by Countersign and can't be in `env`"),
        ],
    );
}
