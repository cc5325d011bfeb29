//! The README and the pages in docs/: what they say of commands comes from `commands/`, and what they tell to type is understood.

use countersign::catalog::Catalog;
use countersign::command_line::{self, KnownNames};
use countersign::config::Config;
use std::path::{Path, PathBuf};

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
