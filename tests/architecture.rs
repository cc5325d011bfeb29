//! The invariants of `lib.rs` that a search through the sources can check. Each exception is named here with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A source file, its tests and comments apart.
struct Source {
    /// Below the package, with slashes: "src/workflow/executor.rs".
    path: String,
    /// Everything.
    text: String,
    /// Without comments, and without what stands behind `#[cfg(test)]`.
    code: String,
}

impl Source {
    /// "workflow" for everything below src/workflow/.
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split(['/', '.']).next().unwrap_or_default()
    }

    fn lines_with(&self, what: &str) -> Vec<String> {
        let lines = self.code.lines().filter(|line| line.contains(what));
        lines.map(|line| format!("{}: {}", self.path, line.trim())).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources(directory: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    files(&root().join(directory), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "{directory} holds no source");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code = own
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n");
        let path = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        Source { path, code, text }
    };
    paths.into_iter().map(read).collect()
}

/// The modules of the map in `lib.rs`, each with its row.
fn map() -> BTreeMap<String, usize> {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    let mut map = BTreeMap::new();
    for (row, line) in rows.enumerate() {
        let names = line.split(" | ").next().unwrap_or_default();
        for name in names.split(['`', '[', ']', ',', ' ']).filter(|name| !name.is_empty()) {
            map.insert(name.to_owned(), row);
        }
    }
    map
}

#[test]
fn the_map_names_every_module() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let declared: Vec<&str> = declared.collect();
    let map = map();
    let mapped: Vec<&str> = map.keys().map(String::as_str).collect();
    assert_eq!(mapped, declared);
}

#[test]
fn modules_import_only_what_stands_above_them() {
    let map = map();
    let mut wrong = Vec::new();
    for source in sources("src").iter().filter(|source| !["lib", "main"].contains(&source.module())) {
        let here = map[source.module()];
        for (at, _) in source.code.match_indices("crate::") {
            let rest = &source.code[at + "crate::".len()..];
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let allowed = map.get(&name).is_some_and(|there| name == source.module() || *there <= here);
            if !allowed {
                wrong.push(format!("{} imports {name}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The files of `src/workflow/`, callers first: each imports only from files below it.
const WORKFLOW: [&str; 26] = [
    "mod",
    "ingress",
    "supervisor",
    "scheduler",
    "reconciler",
    "requests",
    "watch",
    "queries",
    "decisions",
    "executor",
    "reminders",
    "answers",
    "outbox",
    "delivery",
    "webhook_notices",
    "next_steps",
    "card",
    "incident_card",
    "links",
    "eligibility",
    "forms",
    "form_fields",
    "intent",
    "authenticate",
    "home",
    "platforms",
];

/// Files of `src/workflow/` that import no other: anyone may call them.
const WORKFLOW_LEAVES: [&str; 5] = ["in_flight", "refusals", "replies", "scheduled_start", "work_queue"];

#[test]
fn workflow_calls_one_way() {
    let mut upward = Vec::new();
    for source in sources("src/workflow") {
        let name = source.path.trim_start_matches("src/workflow/").trim_end_matches(".rs").to_owned();
        let position = WORKFLOW.iter().position(|file| *file == name);
        if position.is_none() && !WORKFLOW_LEAVES.contains(&name.as_str()) {
            upward.push(format!("{name} has no place in the order"));
        }
        for (index, _) in source.code.match_indices("super::") {
            let rest = &source.code[index + "super::".len()..];
            let import: String = rest.chars().take_while(|c| c.is_lowercase() || *c == '_').collect();
            let is_below = WORKFLOW
                .iter()
                .position(|file| *file == import)
                .is_some_and(|below| position.is_some_and(|here| here < below));
            // The ingress is the part of `Workflow` that takes events in.
            let is_workflow = name == "ingress" && rest.starts_with("Workflow");
            if !is_below && !is_workflow && !WORKFLOW_LEAVES.contains(&import.as_str()) {
                let line = rest.lines().next().unwrap_or_default();
                upward.push(format!("{name} imports {line}"));
            }
        }
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

/// Lines with one of the words, in files that `allowed` doesn't name.
fn only(words: &[&str], allowed: &[&str]) {
    let elsewhere = |source: &&Source| {
        !source.path.ends_with("/tests.rs") && !allowed.iter().any(|place| source.path.starts_with(place))
    };
    let all = sources("src");
    let found =
        all.iter().filter(elsewhere).flat_map(|source| words.iter().flat_map(|word| source.lines_with(word)));
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    let inside =
        all.iter().any(|source| !elsewhere(&source) && words.iter().any(|word| source.code.contains(word)));
    assert!(inside, "{words:?} is nowhere: this test looks for something that has another name now");
}

/// Names of the entries of a directory, without their endings.
fn stems(directory: &str, extension: Option<&str>) -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| extension.is_none_or(|extension| path.extension().is_some_and(|own| own == extension)))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn actions_are_named_after_their_commands() {
    let commands = stems("commands", Some("toml")).into_iter().map(|name| name.replace('-', "_"));
    let shared = ["mod", "sql_command", "support"].map(str::to_owned);
    let expected: BTreeSet<String> = commands.chain(shared).collect();
    assert_eq!(stems("src/actions", None), expected);
}

#[test]
fn only_config_reads_the_environment() {
    // main.rs hands `config` the way to read a variable; the demo makes its own throwaway directories.
    only(&["std::env", "env::var", "temp_dir("], &["src/main.rs", "src/config", "src/demo"]);
}

#[test]
fn only_workflow_sends() {
    // The trait's own methods, by the ways in which a platform is held. `chat` implements them.
    let held = ["platform.answer(", "platform.post(", "platform.edit(", "platform.send_direct("];
    only(&held, &["src/workflow"]);
    only(&["dyn Platform"], &["src/workflow", "src/chat/mod.rs"]);
}

#[test]
fn only_sql_actions_and_postgres_touch_a_target() {
    // The demo makes the servers that it plays on.
    // `pg_connect` opens one connection, for the store as well, whose server is none of the targets.
    let users = ["src/sql", "src/actions", "src/preflight", "src/postgres", "src/demo"];
    let of_store = ["src/pg_connect", "src/store/postgres"];
    only(&["tokio_postgres"], &[&users[..], &of_store[..]].concat());
    only(
        &[".acquire(", ".acquire_single_use("],
        &["src/sql", "src/actions", "src/preflight", "src/postgres"],
    );
}

#[test]
fn only_slack_knows_block_kit() {
    let names = ["rich_text", "mrkdwn", "plain_text", "block_actions", "response_url\"", "slack_morphism"];
    only(&names, &["src/chat/slack", "src/demo/fake_slack"]);
}

#[test]
fn only_teams_knows_adaptive_cards() {
    only(&["AdaptiveCard", "Action.", "TextRun", "adaptiveCard"], &["src/chat/teams", "src/demo/fake_teams"]);
}

/// The chat platforms: the directories of `src/chat/`, without the rendering that they share.
fn platforms() -> Vec<String> {
    let directories =
        stems("src/chat", None).into_iter().filter(|name| root().join("src/chat").join(name).is_dir());
    directories.filter(|name| name != "render").collect()
}

#[test]
fn no_platform_imports_another() {
    let platforms = platforms();
    assert!(platforms.len() >= 3, "{platforms:?}");
    for one in &platforms {
        let inside = format!("src/chat/{one}/");
        let own = sources("src").into_iter().filter(|source| source.path.starts_with(&inside));
        let others = || platforms.iter().filter(|other| *other != one).map(|other| format!("{other}::"));
        let found: Vec<String> = own
            .flat_map(|source| others().flat_map(|other| source.lines_with(&other)).collect::<Vec<_>>())
            .collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[test]
fn only_chat_and_config_tell_platforms_apart() {
    // `config` reads which platforms there are, and which accounts a person has on each.
    let kinds: Vec<String> = platforms().iter().map(|name| kind(name)).collect();
    let chats: Vec<&str> =
        kinds.iter().map(String::as_str).filter(|kind| !kind.ends_with("Terminal")).collect();
    only(&chats, &["src/chat", "src/model", "src/config"]);
    // A new platform is registered in `chat/mod.rs`: no other module names one.
    let modules: Vec<String> = platforms().iter().map(|name| format!("crate::chat::{name}")).collect();
    let modules: Vec<&str> =
        modules.iter().map(String::as_str).filter(|name| !name.ends_with("terminal")).collect();
    for source in sources("src").iter().filter(|source| !source.path.starts_with("src/chat/")) {
        let found: Vec<String> = modules.iter().flat_map(|module| source.lines_with(module)).collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// The variant of `PlatformKind` of a platform's directory.
fn kind(directory: &str) -> String {
    format!("PlatformKind::{}{}", directory[..1].to_uppercase(), &directory[1..])
}

#[test]
fn nothing_panics_outside_the_tests() {
    let mut found = Vec::new();
    for source in sources("src").iter().filter(|source| !source.path.ends_with("/tests.rs")) {
        for word in [".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "unimplemented!("] {
            found.extend(source.lines_with(word));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Rows of tokio-postgres panic on a value of another type, and on text that is no UTF-8: `PgRow` has neither.
#[test]
fn rows_are_read_through_pg_row_only() {
    let mut found = Vec::new();
    for source in sources("src").iter().filter(|source| source.path != "src/pg_connect/row.rs") {
        let is_demo = source.module() == "demo";
        for word in ["tokio_postgres::Row", "Row, Statement", "try_get(", "query_one(", "query_opt("] {
            found.extend(source.lines_with(word).into_iter().filter(|_| !is_demo));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A file longer than this is two.
const LONGEST_FILE: usize = 500;

/// Files of the tests that are one long table or one contract.
const LONG_TESTS: [&str; 1] = ["tests/fake_slack/main.rs"];

#[test]
fn files_are_short_and_say_what_lives_in_them() {
    let mut wrong = Vec::new();
    for source in sources("src").iter().chain(&sources("tests")) {
        let lines = source.text.lines().count();
        if lines > LONGEST_FILE && !LONG_TESTS.contains(&source.path.as_str()) {
            wrong.push(format!("{}: {lines} lines", source.path));
        }
        if !source.text.starts_with("//!") {
            wrong.push(format!("{}: says not what lives here", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_skipped_or_silenced() {
    let mut found = Vec::new();
    for source in
        sources("src").iter().chain(&sources("tests")).filter(|source| source.path != "tests/architecture.rs")
    {
        for word in ["#[ignore", "#[allow(", "#![allow(", "dbg!("] {
            found.extend(source.lines_with(word));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
