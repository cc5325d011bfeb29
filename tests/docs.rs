//! The README and the pages in docs/: what they say of commands comes from `commands/`, and what they tell to type is understood.

use countersign::actions::effect_guard_tables;
use countersign::catalog::{Catalog, sql_files};
use countersign::command_line::{self, ChoiceSource, KnownNames};
use countersign::config::Config;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use strum::IntoEnumIterator;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The README and every page in docs/, with their paths.
fn pages() -> Vec<(PathBuf, String)> {
    let in_docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let paths: Vec<PathBuf> = in_docs.chain([root().join("README.md")]).collect();
    assert!(paths.len() > 5, "{paths:?}");
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn between<'t>(text: &'t str, open: &str, close: &str) -> &'t str {
    let (_, after) = text.split_once(open).unwrap_or_else(|| panic!("{open} is missing"));
    after.split_once(close).unwrap_or_else(|| panic!("{close} is missing")).0
}

/// The fenced blocks of a page: their language and their text.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let blocks = text.split("```").skip(1).step_by(2);
    blocks
        .map(|block| block.split_once('\n').expect("a block begins on the line after its language"))
        .collect()
}

/// The commands of a shell's block or of a line: without continued lines, comments and `sudo`.
fn commands(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let commands = text.lines().filter_map(|line| line.split(" #").next()).map(words);
    commands.map(|line| line.trim_start_matches("sudo ").to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Runs the program; what it prints on its outputs is the second of the result.
fn output_of(program: &str, arguments: &[&str]) -> (bool, String) {
    let output = std::process::Command::new(program).args(arguments).output().expect("the program");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("text"))
}

/// True if the program takes the line, but for its effect: an option behind it asks for the help.
fn is_understood_by_countersign(line: &str) -> (bool, String) {
    let arguments = line.split(['>', '|']).next().expect("the command").split(' ');
    let arguments: Vec<&str> = arguments.filter(|word| !word.is_empty()).skip(1).chain(["--help"]).collect();
    // Its arguments are a command's: another test binds them.
    if arguments[0] == "run" {
        return (true, String::new());
    }
    output_of(env!("CARGO_BIN_EXE_countersign"), &arguments)
}

/// Lines of a page that are code: what is in single backticks, and the lines of its fenced blocks.
fn code(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, part) in text.split("```").enumerate() {
        if at % 2 == 1 {
            found.extend(part.lines().skip(1).map(str::trim));
        } else {
            found.extend(part.split('`').skip(1).step_by(2));
        }
    }
    found
}

#[test]
fn the_command_table_is_the_catalog() {
    let table =
        between(include_str!("../docs/commands.md"), "<!-- countersign commands -->\n", "<!-- end -->");
    let now = Catalog::built_in().expect("the commands").markdown();
    assert_eq!(
        table.trim(),
        now.trim(),
        "run `cargo run -- commands` and paste its table into docs/commands.md"
    );
}

#[test]
fn the_effect_guards_of_the_security_page_are_those_of_the_actions() {
    let tables = between(include_str!("../docs/security.md"), "<!-- effect guards -->\n", "<!-- end -->");
    let now = effect_guard_tables(&Catalog::built_in().expect("the commands"));
    assert_eq!(tables, now, "paste these tables into docs/security.md:\n{now}");
}

#[test]
fn the_test_command_of_the_readme_is_the_one_that_ci_runs() {
    for file in [include_str!("../README.md"), include_str!("../.ci/run")] {
        assert!(file.contains("make test"));
    }
}

#[test]
fn the_example_of_a_custom_command_is_the_file() {
    let page = include_str!("../docs/custom-commands.md");
    let example = between(page, "<!-- deploy/commands/trim-audit-log.sql -->\n```sql\n", "```\n<!-- end -->");
    assert_eq!(example, include_str!("../deploy/commands/trim-audit-log.sql"));
}

#[test]
fn the_choices_of_a_custom_commands_form_are_those_that_there_are() {
    let page = std::fs::read_to_string(root().join("docs/custom-commands.md")).unwrap();
    let sentence = between(&page, "`choices_from` names their live choices: ", ".");
    let named: BTreeSet<&str> = code(sentence).into_iter().collect();
    assert_eq!(named, ChoiceSource::iter().map(<&str>::from).collect());
}

#[test]
fn every_link_within_the_project_leads_somewhere() {
    let mut links = 0;
    for (path, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = path.with_file_name(file);
            assert!(target.exists(), "{}: {link}", path.display());
            let anchor = |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            let has_heading = || {
                let page = std::fs::read_to_string(&target).unwrap();
                page.lines().any(|line| line.starts_with('#') && anchor(line) == heading)
            };
            assert!(heading.is_empty() || has_heading(), "{}: {link}", path.display());
            links += 1;
        }
    }
    assert!(links > 20, "{links} links");
}

#[test]
fn every_command_that_a_page_tells_to_type_is_understood() {
    let catalog = Catalog::built_in().unwrap().with_directory(&root().join("deploy/commands")).unwrap();
    let text = include_str!("../deploy/countersign.example.toml");
    let config = Config::parse("deploy/x.toml", text, &|_| Some("set".to_owned())).unwrap();
    let known = KnownNames::of(&config, &catalog);
    let mut typed = 0;
    for (path, text) in pages() {
        for line in code(&text) {
            let lowercase = line.to_lowercase();
            let prefixes = ["/db ", "@countersign ", "countersign run "];
            let Some(prefix) = prefixes.into_iter().find(|prefix| lowercase.starts_with(prefix)) else {
                continue;
            };
            // The terminal's own option.
            let line = line[prefix.len()..].trim_end_matches(" --json");
            let parsed = command_line::parse_command(&catalog, &line.into(), &known);
            assert!(parsed.is_ok_and(|parsed| parsed.is_some()), "{}: {line}", path.display());
            typed += 1;
        }
    }
    assert!(typed > 10, "{typed} commands");
}

#[test]
fn every_block_of_a_page_is_run_or_checked() {
    let makefile = include_str!("../Makefile");
    let known = output_of(env!("CARGO"), &["install", "--help"]).1;
    // tests/terminal/install.rs runs these, and what else such a block has.
    let steps = between(include_str!("../docs/install.md"), "## From nothing to the first answer", "\n## ");
    let copy = "sqlite3 /var/lib/countersign/countersign.db";
    for (path, text) in pages() {
        let steps = if path.ends_with("install.md") { steps } else { "" };
        for (language, block) in blocks(&text) {
            match language {
                "sh" => {}
                "toml" => is_a_part_of_a_configuration(&path, block),
                "sql" => is_sql_of_a_team(&path, block),
                // Read by the walk, a proxy and Kubernetes.
                "ini" | "nginx" | "yaml" => continue,
                other => panic!("{}: a block in {other:?}: {block}", path.display()),
            }
            for line in if language == "sh" { commands(block) } else { Vec::new() } {
                let words: Vec<&str> = line.split(' ').collect();
                let (is_right, why) = match words[0] {
                    "countersign" => is_understood_by_countersign(&line),
                    "make" => (makefile.contains(&format!("\n{}:", words[1])), String::new()),
                    "cargo" => {
                        assert_eq!(words[1], "install", "{line}");
                        let mut options = words[2..].iter().filter(|word| word.starts_with("--"));
                        (options.all(|option| known.contains(option)), known.clone())
                    }
                    _ => (steps.contains(block.trim_end()) || line.starts_with(copy), String::new()),
                };
                assert!(is_right, "{}: {line}: {why}", path.display());
            }
        }
    }
}

/// Some line of a page in which the program is called, between backticks.
#[test]
fn every_line_of_the_program_on_a_page_is_one_that_it_takes() {
    let mut lines = 0;
    for (path, text) in pages() {
        for line in
            code(&text).into_iter().filter(|line| line.starts_with("countersign ") && !line.contains('#'))
        {
            let (is_understood, why) = is_understood_by_countersign(line);
            assert!(is_understood, "{}: {line}: {why}", path.display());
            lines += 1;
        }
    }
    assert!(lines > 15, "{lines} lines");
}

/// Adds the block to the configuration that `init` writes.
fn is_a_part_of_a_configuration(path: &Path, block: &str) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("countersign.toml");
    let options = ["init", "--platform", "slack", "--environment", "production", "--person", "ana"];
    let more = ["--server", "db.example.com", "--service", "a=b", "--directory", ".", "--config"];
    let arguments = [&options[..], &more[..], &[file.to_str().unwrap()]].concat();
    let (is_written, why) = output_of(env!("CARGO_BIN_EXE_countersign"), &arguments);
    assert!(is_written, "{why}");
    let text = std::fs::read_to_string(&file).unwrap() + "\n" + block;
    let parsed = Config::parse(file.to_str().unwrap(), &text, &|_| Some("set".to_owned()));
    assert!(parsed.is_ok(), "{}: {block}{}", path.display(), parsed.unwrap_err());
}

/// The block is a custom command or a reviewed file that is accepted at start.
fn is_sql_of_a_team(path: &Path, block: &str) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("from-a-page.sql"), block).unwrap();
    if block.contains("[preview]") {
        let catalog = Catalog::built_in().unwrap().with_directory(directory.path());
        assert!(catalog.is_ok(), "{}: {:?}", path.display(), catalog.err());
    } else {
        let catalog = Catalog::built_in().unwrap();
        let files = sql_files::check(directory.path(), catalog.find("run-sql").unwrap());
        assert!(files.is_ok(), "{}: {:?}", path.display(), files.err());
    }
}

#[test]
fn a_proxy_forwards_the_paths_that_are_served() {
    let sources = [
        include_str!("../src/chat/slack/routes.rs"),
        include_str!("../src/chat/teams/routes.rs"),
        include_str!("../src/http/mod.rs"),
    ];
    let routes = sources.iter().flat_map(|source| source.split(".route(\"").skip(1));
    let served: BTreeSet<&str> = routes.map(|rest| rest.split('"').next().unwrap()).collect();
    let page = include_str!("../docs/install.md");
    let table = between(page, "| path | caller |\n|---|---|\n", "\n\n");
    let told = table.lines().flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    assert_eq!(told.collect::<BTreeSet<&str>>(), served);
    // The expression of nginx, written out; probes needn't come from outside.
    let forwarded = between(page, "location ~ ^/(", ")$ {")
        .replace("slack/(commands|interactions|events)", "slack/commands|slack/interactions|slack/events");
    let forwarded: BTreeSet<String> = forwarded.split('|').map(|path| format!("/{path}")).collect();
    let public =
        served.iter().filter(|path| !["/healthz", "/readyz"].contains(path)).map(|path| (*path).to_owned());
    assert_eq!(forwarded, public.collect());
    let prefixes = page.split("- { path: ").skip(1).filter_map(|rest| rest.split(',').next());
    let prefixes: Vec<&str> = prefixes.collect();
    assert!(
        forwarded.iter().all(|path| prefixes.iter().any(|prefix| path.starts_with(prefix))),
        "{prefixes:?}"
    );
}
