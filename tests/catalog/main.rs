//! The runbook as it is built in, and every mistake in a command file with its place: a mistake stops the start.

use countersign::actions;
use countersign::catalog::{Body, Catalog, Scope, sql_files};
use countersign::command_line::{self, KnownNames, OptionKind};
use countersign::config::{Config, ThresholdOverride};
use countersign::model::{LoginKind, Risk};
use countersign::toml_reader::{Problem, Problems};
use std::path::Path;

mod hostile;

pub fn built_in() -> Catalog {
    Catalog::built_in().unwrap_or_else(|wrong| panic!("{wrong:#?}"))
}

fn known(catalog: &Catalog) -> KnownNames {
    KnownNames {
        services: vec!["asset-service".into()],
        environments: vec!["production".into(), "staging".into()],
        commands: catalog.iter().map(|command| command.name.clone()).collect(),
        slash_commands: vec!["db".to_owned()],
    }
}

#[test]
fn every_file_is_a_command_with_code_and_an_example_that_binds() {
    let catalog = built_in();
    assert_eq!(actions::missing(&catalog), [""; 0], "coded commands without code");
    let mut files = 0;
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("commands")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().split('@').next().unwrap().to_owned();
        assert!(catalog.find(&name).is_some(), "{} is no command", path.display());
        files += 1;
    }
    assert!(files >= catalog.iter().count());
    for command in catalog.iter() {
        let kinds = |_: &str, option: &str| {
            let arg = command.header.args.iter().find(|arg| arg.name == option)?;
            Some(if arg.switch { OptionKind::Switch } else { OptionKind::Word })
        };
        let line = command_line::split(&command.header.example, &kinds).unwrap();
        assert_eq!(line.command, command.name, "the example of {}", command.name);
        command_line::bind(&command.header.args, &line, &known(&catalog), &command.usage())
            .unwrap_or_else(|wrong| panic!("the example of {}: {wrong}", command.name));
        if command.header.risk != Risk::Read {
            assert!(command.header.scope != Scope::Database || matches!(command.body, Body::Coded));
        }
    }
}

#[test]
fn what_reads_asks_as_the_reader_and_always_has_a_verdict() {
    for command in built_in().iter().filter(|command| command.header.risk == Risk::Read) {
        assert_eq!(command.header.login, LoginKind::Reader, "{}", command.name);
        if let Body::Sql(_) = command.body {
            let header = &command.header;
            assert!(
                header.verdict_empty.is_some() && header.verdict.is_some(),
                "{} has no verdict",
                command.name
            );
        }
    }
}

const GOOD: &str = r#"/*
summary = "Tables"
group   = "team"
risk    = "read"
scope   = "database"
args    = [{ name = "service", type = "service", positional = true, help = "one" }]
example = "mine"
*/
SELECT relname::text FROM pg_class WHERE relname = :'database'
"#;

/// The catalog with a team's directory that holds these files.
fn team(files: &[(&str, &str)]) -> Result<Catalog, Problems> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    built_in().with_directory(directory.path())
}

/// The places and words of the mistakes in one file of a team.
fn mistakes(name: &str, text: &str) -> Vec<String> {
    let wrong = team(&[(name, text)]).expect_err("a mistake");
    wrong.0.iter().map(Problem::to_string).collect()
}

fn mistake_with(line: &str, instead: &str) -> String {
    assert!(GOOD.contains(line), "{line} is no part of the good file");
    let found = mistakes("mine.sql", &GOOD.replacen(line, instead, 1));
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn a_team_adds_commands() {
    let catalog = team(&[("mine.sql", GOOD), ("mine@17.sql", "SELECT 'new'::text AS relname")]).unwrap();
    let mine = catalog.find("mine").unwrap();
    assert!(mine.custom);
    assert_eq!(mine.sections(16)[0].parameters, ["database"]);
    assert!(mine.sections(17)[0].sql.contains("new"));
    assert_eq!(mine.usage(), "mine [service]");
}

#[test]
fn a_mistake_has_its_place() {
    let mut unlike = Vec::new();
    let mut starts = |mistake: String, place: &str, what: &str| {
        if !mistake.starts_with(&format!("{place}: ")) || !mistake.contains(what) {
            unlike.push(format!("{mistake} is not {place} {what}"));
        }
    };
    starts(mistake_with("\"read\"", "\"raed\""), "mine.sql:4:11", "`raed`; did you mean `read`?");
    starts(mistake_with("\"read\"", "\"write\""), "mine.sql:4:11", "read or danger");
    starts(mistake_with("type = \"service\"", "type = \"servant\""), "mine.sql:6:39", "servant");
    starts(mistake_with(":'database'", ":'databse'"), "mine.sql:9:52", "`:'databse'` is no argument");
    starts(mistake_with(":'database'", "'open"), "mine.sql:9:52", "a string is not closed");
    starts(mistake_with(":'database'", "''; DROP TABLE x"), "mine.sql:9:54", "one statement");
    starts(mistake_with("SELECT", "-- ## A [servre]\nSELECT"), "mine.sql:9:1", "`servre` is no scope");
    starts(mistake_with("SELECT", "-- ## A [server if servce]\nSELECT"), "mine.sql:9:1", "argument");
    starts(mistake_with("SELECT", "-- ## A\n-- ## B\nSELECT"), "mine.sql:10:1", "no statement");
    starts(mistake_with("group ", "timeout = \"soon\"\ngroup "), "mine.sql:3:11", "duration");
    starts(mistake_with("group ", "row_action = \"kil {pid}\"\ngroup "), "mine.sql:1:1", "`kil`");
    starts(mistake_with("*/", "[thresholds]\nx = {}\n*/"), "mine.sql:9:1", "`warning` or `critical`");
    starts(mistake_with("*/", "[thresholds]\n\"used pct\" = { warning = 1 }\n*/"), "mine.sql:9:1", "no key");
    starts(mistake_with("*/", "[on_error]\n42p01 = \"x\"\n*/"), "mine.sql:9:1", "SQLSTATE");
    starts(mistake_with("/*", ""), "mine.sql:1:1", "header");
    starts(mistake_with("*/", ""), "mine.sql:1:1", "not closed");
    assert_eq!(unlike, [""; 0]);
}

#[test]
fn a_header_reports_all_its_mistakes_with_suggestions() {
    let header = "group   = \"team\"\nrisk    = \"read\"";
    let wrong = "gruop   = \"team\"\nrisk    = \"raed\"\ntimeout = \"soon\"\ntop = -1";
    assert_eq!(
        mistakes("mine.sql", &GOOD.replacen(header, wrong, 1)),
        [
            "mine.sql:1:3: missing key `group`",
            "mine.sql:3:1: unknown key `gruop`; did you mean `group`?",
            "mine.sql:4:11: `risk` can't be `raed`; did you mean `read`?",
            "mine.sql:5:11: `timeout` is a duration such as \"5s\"",
            "mine.sql:6:7: `top` is a number of rows, not -1",
        ]
    );
    // The statements are checked at the same time.
    let both = GOOD.replacen("summary", "sumary", 1).replacen(":'database'", ":'databse'", 1);
    assert_eq!(
        mistakes("mine.sql", &both),
        [
            "mine.sql:1:3: missing key `summary`",
            "mine.sql:2:1: unknown key `sumary`; did you mean `summary`?",
            "mine.sql:9:52: `:'databse'` is no argument of this command",
        ]
    );
}

#[test]
fn a_reviewed_sql_file_reports_all_its_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let file = "/*\nsumary = \"Drops\"\nlogin = \"raeder\"\n*/\nVACUUM public.t";
    std::fs::write(directory.path().join("drop.sql"), file).unwrap();
    let catalog = built_in();
    let problems = sql_files::check(directory.path(), catalog.find("run-sql").unwrap()).unwrap_err();
    let lines: Vec<String> = problems.0.iter().map(Problem::to_string).collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert_eq!(
        lines[..2],
        [
            "drop.sql:1:3: missing key `summary`",
            "drop.sql:2:1: unknown key `sumary`; did you mean `summary`?",
        ]
    );
    assert!(lines[2].starts_with("drop.sql:3:9: `login` can't be `raeder`"), "{lines:#?}");
    assert!(lines[3].starts_with("drop.sql:5:1: `VACUUM` can't be run here"), "{lines:#?}");
}

#[test]
fn thresholds_are_named_by_identifiers() {
    for command in built_in().iter() {
        for key in command.header.thresholds.keys() {
            assert!(key.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}: {key}", command.name);
        }
    }
    limited("health", "wraparound_pct", (Some(40.0), None)).unwrap();
}

#[test]
fn names_and_kinds_are_checked_too() {
    assert!(mistakes("Mine.sql", GOOD)[0].contains("lower-case"));
    assert!(mistakes("kill.sql", GOOD)[0].contains("can't be replaced"));
    assert!(mistakes("mine.toml", "summary = \"x\"")[0].contains("code is built in"));
    assert!(mistakes("nobody@17.sql", "SELECT 1")[0].contains("no `nobody.sql`"));
    for built_in in ["kill@17.sql", "blocked@17.sql"] {
        assert!(mistakes(built_in, "SELECT 1")[0].contains("is built in and can't be replaced"));
    }
    let both = team(&[("a.sql", "SELECT 1"), ("b.sql", "SELECT 1")]).expect_err("two mistakes");
    assert_eq!(both.0.len(), 2, "all mistakes at once");
    assert!(built_in().with_directory(Path::new("/nowhere/at/all")).is_err());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("latin.sql"), b"-- caf\xe9").unwrap();
    std::fs::write(directory.path().join("mine.sql"), "SELECT 1").unwrap();
    let wrong = built_in().with_directory(directory.path()).expect_err("two mistakes");
    assert_eq!(wrong.0.len(), 2, "a file that can't be read hides no other: {wrong:?}");
    assert!(wrong.0[0].file.ends_with("latin.sql"), "{wrong:?}");
}

fn limited(
    command: &str,
    column: &str,
    (warning, critical): (Option<f64>, Option<f64>),
) -> Result<Catalog, Vec<String>> {
    let text = include_str!("../../deploy/countersign.example.toml");
    let mut config = Config::parse("deploy/x.toml", text, &|_| Some("set".to_owned())).unwrap();
    let limit = ThresholdOverride { command: command.into(), column: column.into(), warning, critical };
    config.environments[0].limits = vec![limit];
    built_in().with_limits(&config.environments)
}

#[test]
fn a_teams_limits_stand_in_for_ours_in_one_environment() {
    let catalog = limited("health", "connections_pct", (Some(40.0), None)).unwrap();
    let health = catalog.find("health").unwrap();
    let limits = |environment: &str| {
        let threshold = &catalog.adjusted(health, environment).header.thresholds["connections_pct"];
        (threshold.warning, threshold.critical)
    };
    assert_eq!(limits("production"), (Some(40.0), Some(90.0)));
    assert_eq!(limits("staging"), (Some(90.0), Some(98.0)), "as deploy/countersign.example.toml has it");
    assert_eq!(limits("elsewhere"), (Some(75.0), Some(90.0)));
    // A value that is limits when it falls is watched from above.
    limited("health", "cache_hit_pct", (Some(90.0), Some(80.0))).unwrap();
}

#[test]
fn limits_are_checked_too() {
    for (command, column, limits, wrong) in [
        ("helth", "blocked", (Some(1.0), None), "there is no command `helth`"),
        ("help", "blocked", (Some(1.0), None), "`help` has no thresholds"),
        (
            "health",
            "connections_pct",
            (Some(95.0), None),
            "`health.connections_pct` would be acted on at 90 and watched from 95",
        ),
        ("health", "cache_hit_pct", (Some(80.0), Some(90.0)), "would be acted on at 90 and watched from 80"),
    ] {
        let told = limited(command, column, limits).unwrap_err().join("\n");
        assert!(
            told.starts_with("thresholds of the environment `production`: ") && told.contains(wrong),
            "{told}"
        );
    }
    let told = limited("health", "connexions", (None, None)).unwrap_err().join("\n");
    assert!(
        told.contains("`health` has no threshold for `connexions`; it has _cut_off, _paused, _prepared_s, "),
        "{told}"
    );
}
