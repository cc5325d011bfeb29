//! The language of the product and of its code: banned words in what people read, and habits of names and comments in `src/`.
//! Each limit is a constant at the top; a test that fails lists the offenders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Words and phrases that no text for people contains: archaic, translated or elliptical English.
const BANNED: [&str; 22] = [
    "anew",
    "at work",
    "became of",
    "goes on",
    "in need",
    "is at it",
    "kept up by",
    "lack",
    "lacked",
    "lacking",
    "lacks",
    "mend",
    "mended",
    "mending",
    "mends",
    "nobody",
    "of use to",
    "stands",
    "to come",
    "whom",
    "whose",
    "without success",
];

/// Banned words in the catalogue, the documents and the changelog.
const MAX_BANNED_IN_DOCUMENTS: usize = 0;
/// Banned words in the texts of the code.
const MAX_BANNED_IN_CODE: usize = 0;
/// Banned words in the golden snapshots.
const MAX_BANNED_IN_SNAPSHOTS: usize = 0;
/// Doc comments whose first word is a question word, in percent of all doc comments.
const MAX_QUESTION_DOCS_PERCENT: f64 = 3.0;
/// Parameters of functions that are tuple patterns.
const MAX_TUPLE_PARAMETERS: usize = 4;
/// Match arms on a bare `true` or `false`.
const MAX_BOOLEAN_ARMS: usize = 0;
/// Files called `words.rs`.
const MAX_WORDS_FILES: usize = 0;
/// Names of public types that two modules define.
const MAX_SHARED_TYPE_NAMES: usize = 0;

/// First words of a doc comment that asks instead of naming a thing.
const QUESTION_WORDS: [&str; 6] = ["What", "Whether", "Who", "How", "Where", "Why"];

/// Names that modules may share, because Rust's own habit gives them.
const SHARED_NAMES: [&str; 3] = ["Error", "Result", "Options"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a directory of the package, in order.
fn files_below(directory: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files_below(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Path inside the package and text of each file below a directory with one of the extensions.
fn texts(directory: &str, extensions: &[&str]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    files_below(&root().join(directory), &mut files);
    files.retain(|path| path.extension().is_some_and(|ext| extensions.iter().any(|known| ext == *known)));
    assert!(!files.is_empty(), "{directory} has no {extensions:?}");
    let text = |path: &PathBuf| {
        let inside = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        (inside, std::fs::read_to_string(path).unwrap())
    };
    files.iter().map(text).collect()
}

/// Fails with the offenders if there are more than allowed.
#[track_caller]
fn at_most(limit: usize, offenders: &[String]) {
    assert!(
        offenders.len() <= limit,
        "{} offenders, {limit} allowed:\n{}",
        offenders.len(),
        offenders.join("\n")
    );
}

/// Banned words of a line, as whole words in any case; and "Nothing" as a subject.
fn banned_in(line: &str) -> Vec<&'static str> {
    let lower = line.to_lowercase();
    let mut found: Vec<&str> = BANNED.into_iter().filter(|phrase| has_phrase(&lower, phrase)).collect();
    if has_phrase(line, "Nothing") {
        found.push("Nothing");
    }
    found
}

fn has_phrase(line: &str, phrase: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(phrase)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + phrase.len()..].starts_with(is_part))
}

fn banned_lines(texts: &[(String, String)]) -> Vec<String> {
    let mut offenders = Vec::new();
    for (path, text) in texts {
        for (number, line) in text.lines().enumerate() {
            for phrase in banned_in(line) {
                offenders.push(format!("{path}:{}: “{phrase}” in: {}", number + 1, line.trim()));
            }
        }
    }
    offenders
}

#[test]
fn documents_and_catalogue_use_no_banned_word() {
    let mut all = texts("commands", &["sql", "toml"]);
    all.extend(texts("deploy", &["sql", "toml"]));
    all.extend(texts("manifest", &["yaml", "json"]));
    all.extend(texts("docs", &["md"]));
    for name in ["README.md", "CHANGELOG.md"] {
        all.push((name.to_owned(), std::fs::read_to_string(root().join(name)).unwrap()));
    }
    at_most(MAX_BANNED_IN_DOCUMENTS, &banned_lines(&all));
}

/// Texts in quotes, line by line, of the code that people meet: without its tests and the demo's surroundings.
#[test]
fn texts_in_the_code_use_no_banned_word() {
    let is_met = |path: &str| !path.starts_with("src/demo/") && !path.ends_with("tests.rs");
    let mut offenders = Vec::new();
    for (path, text) in texts("src", &["rs"]).into_iter().filter(|(path, _)| is_met(path)) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        for (number, line) in lines {
            let quoted = line.split('"').skip(1).step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
            let banned = BANNED.into_iter().filter(|phrase| has_phrase(&quoted, phrase));
            offenders.extend(
                banned.map(|phrase| format!("{path}:{}: “{phrase}” in: {}", number + 1, line.trim())),
            );
        }
    }
    at_most(MAX_BANNED_IN_CODE, &offenders);
}

#[test]
fn golden_snapshots_show_no_banned_word() {
    at_most(MAX_BANNED_IN_SNAPSHOTS, &banned_lines(&texts("tests", &["snap"])));
}

/// Path, line number and text of the first line of every doc comment.
fn doc_comments() -> Vec<(String, usize, String)> {
    let mut docs = Vec::new();
    for (path, text) in texts("src", &["rs"]) {
        let mut before = "";
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let marker =
                ["///", "//!"].into_iter().find(|marker| line.starts_with(marker)).unwrap_or_default();
            if !marker.is_empty() && marker != before {
                docs.push((path.clone(), number + 1, line[marker.len()..].trim().to_owned()));
            }
            before = marker;
        }
    }
    docs
}

#[test]
fn doc_comments_name_things_instead_of_asking() {
    let docs = doc_comments();
    let asks = |doc: &str| {
        let first = doc.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        QUESTION_WORDS.contains(&first)
    };
    let offenders: Vec<String> = docs
        .iter()
        .filter(|(_, _, doc)| asks(doc))
        .map(|(path, number, doc)| format!("{path}:{number}: {doc}"))
        .collect();
    let percent = 100.0 * offenders.len() as f64 / docs.len() as f64;
    assert!(
        percent <= MAX_QUESTION_DOCS_PERCENT,
        "{percent:.1} % of {} doc comments open with a question word:\n{}",
        docs.len(),
        offenders.join("\n")
    );
}

/// Rust code with comments and the contents of literals blanked; every other byte stays in its place.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_or_comment(bytes, at);
        for byte in code[at..end].iter_mut().filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).unwrap()
}

/// End of the comment or literal that begins here; the same position if none does.
fn literal_or_comment(bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start..];
    let find = |needle: &[u8], from: usize| {
        rest[from..].windows(needle.len()).position(|part| part == needle).map(|at| start + from + at)
    };
    let joined = start > 0 && (bytes[start - 1].is_ascii_alphanumeric() || bytes[start - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => find(b"\n", 0).unwrap_or(bytes.len()),
        [b'/', b'*', ..] => find(b"*/", 2).map_or(bytes.len(), |at| at + 2),
        [b'r', b'"' | b'#', ..] if !joined => {
            let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
            if rest.get(1 + hashes) != Some(&b'"') {
                return start; // r#name
            }
            let close = [b"\"", "#".repeat(hashes).as_bytes()].concat();
            find(&close, 2 + hashes).map_or(bytes.len(), |at| at + close.len())
        }
        [b'"', ..] => {
            let mut at = start + 1;
            while at < bytes.len() && bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            (at + 1).min(bytes.len())
        }
        [b'\'', b'\\', ..] => find(b"'", 3).map_or(bytes.len(), |at| at + 1),
        // A character, of one to four bytes; otherwise a lifetime.
        [b'\'', ..] => (2..=5)
            .find(|end| {
                rest.get(*end) == Some(&b'\'')
                    && std::str::from_utf8(&rest[1..*end]).is_ok_and(|c| c.chars().count() == 1)
            })
            .map_or(start, |end| start + end + 1),
        _ => start,
    }
}

/// Path and blanked code of every source file.
fn sources() -> Vec<(String, String)> {
    texts("src", &["rs"]).into_iter().map(|(path, text)| (path, code_only(&text))).collect()
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Position behind each occurrence of a keyword.
fn behind_keyword(code: &str, keyword: &str) -> Vec<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let ends = code.match_indices(keyword).filter(|(at, _)| !code[..*at].ends_with(is_part));
    ends.map(|(at, _)| at + keyword.len())
        .filter(|end| code[*end..].starts_with(char::is_whitespace))
        .collect()
}

/// The parameters of the function whose name follows, as they are written.
fn parameters(code: &str) -> Vec<String> {
    let mut parameters = vec![String::new()];
    let (mut depth, mut angles) = (0i32, 0i32);
    let mut previous = ' ';
    for c in code.chars() {
        match c {
            '<' if depth == 0 => angles += 1,
            '>' if depth == 0 && previous != '-' => angles -= 1,
            '(' if depth == 0 && angles > 0 => {} // `F: Fn(&str)` among the generics
            '{' | ';' if depth == 0 => break,
            '(' | '[' | '{' => {
                depth += 1;
                if depth == 1 {
                    previous = c;
                    continue;
                }
            }
            ')' if depth == 0 => {}
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            ',' if depth == 1 => {
                parameters.push(String::new());
                previous = c;
                continue;
            }
            _ => {}
        }
        if depth > 0 {
            parameters.last_mut().unwrap().push(c);
        }
        previous = c;
    }
    parameters.iter().map(|parameter| parameter.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn parameters_have_names() {
    let mut offenders = Vec::new();
    for (path, code) in sources() {
        for behind in behind_keyword(&code, "fn") {
            let is_tuple = |parameter: &&String| parameter.trim_start_matches(['&', ' ']).starts_with('(');
            for parameter in parameters(&code[behind..]).iter().filter(is_tuple) {
                offenders.push(format!("{path}:{}: {parameter}", line_of(&code, behind)));
            }
        }
    }
    at_most(MAX_TUPLE_PARAMETERS, &offenders);
}

#[test]
fn conditions_are_no_match_arms() {
    let mut offenders = Vec::new();
    for (path, code) in sources() {
        for arm in ["true =>", "false =>"] {
            for (at, _) in code.match_indices(arm) {
                if code[..at].trim_end().ends_with(['{', '}', ',', ';']) {
                    offenders.push(format!("{path}:{}: {arm}", line_of(&code, at)));
                }
            }
        }
    }
    at_most(MAX_BOOLEAN_ARMS, &offenders);
}

#[test]
fn no_file_is_called_words() {
    let files = texts("src", &["rs"]);
    let offenders: Vec<String> =
        files.into_iter().map(|(path, _)| path).filter(|path| path.ends_with("/words.rs")).collect();
    at_most(MAX_WORDS_FILES, &offenders);
}

/// Names and the modules that define a public type of that name.
fn public_types() -> BTreeMap<String, BTreeSet<String>> {
    let mut types: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, code) in sources() {
        for line in code.lines().map(str::trim_start).filter(|line| line.starts_with("pub")) {
            // `pub(in crate::store)` is one word here.
            let mut words =
                line.split_whitespace().skip_while(|word| word.starts_with("pub") || word.ends_with(')'));
            if words.next().is_some_and(|kind| ["struct", "enum", "trait", "type", "union"].contains(&kind)) {
                let name = words.next().unwrap_or_default();
                let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                types.entry(name).or_default().insert(path.clone());
            }
        }
    }
    types
}

#[test]
fn a_public_type_has_a_name_of_its_own() {
    let shared = public_types()
        .into_iter()
        .filter(|(name, modules)| modules.len() > 1 && !SHARED_NAMES.contains(&name.as_str()));
    let offenders: Vec<String> = shared
        .map(|(name, modules)| format!("{name}: {}", modules.into_iter().collect::<Vec<_>>().join(", ")))
        .collect();
    at_most(MAX_SHARED_TYPE_NAMES, &offenders);
}

#[test]
fn the_searches_see_what_they_are_for() {
    assert_eq!(banned_in("It lacks a whose"), ["lacks", "whose"]);
    assert!(banned_in("set work_mem; black; goes only").is_empty());
    let code = code_only("let a = \"fn x((a, b): T)\"; // true =>\nlet c = '\"'; fn f<'a>(x: &'a str) {}");
    assert!(!code.contains("true") && code.contains("fn f<'a>(x: &'a str)"), "{code}");
    let signature =
        " f<F: Fn(&str) -> bool>(\n    &self,\n    (a, b): (&A, Vec<(B, C)>),\n    c: F,\n) -> (A, B) {";
    assert_eq!(parameters(signature), ["&self", "(a, b): (&A, Vec<(B, C)>)", "c: F", ""]);
    assert_eq!(parameters(" g() {"), [""]);
    assert!(has_phrase("pub struct", "struct") && !has_phrase("restructure", "struct"));
}
