//! Rows of a table that has no room side by side on a phone, each as a line: "pid 4711 · for 12 s · asset-api". Rows that
//! differ by their name only are one line.

use super::part::{MessageFormat, RenderedPart, TableLayout};

/// The characters that draw a tree, before a row's first value.
pub const TREE_CHARS: [char; 8] = ['│', '└', '├', '─', '|', '+', ' ', '\u{a0}'];

/// Titles whose values need no label in a line.
const SELF_EVIDENT: [&str; 21] = [
    "#",
    "app",
    "check",
    "command",
    "database",
    "details",
    "environment",
    "event",
    "extension",
    "index",
    "migration",
    "note",
    "outcome",
    "role",
    "run",
    "sequence",
    "server",
    "service",
    "setting",
    "state",
    "table",
];

/// A number with its unit has at most so many characters.
const MAX_UNBROKEN: usize = 16;

/// The part that a text has in a line. Its severity is the mark that it begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextRole {
    /// A tree's branches, a column's title, or what separates two values.
    Label,
    /// The row's first value.
    Name,
    Value,
}

/// A table's row as a line of text.
#[derive(Debug)]
pub struct RowLine {
    pub texts: Vec<(String, TextRole)>,
    /// The query texts that belong to it.
    pub queries: Vec<String>,
}

/// A row's values, and the names of the rows that have all of them in common.
struct RowGroup {
    names: Vec<String>,
    values: Vec<String>,
    queries: Vec<String>,
}

/// Draws the rows as lines.
pub fn row_lines<F: MessageFormat>(layout: &TableLayout<'_, F>, part: &mut RenderedPart) -> Vec<RowLine> {
    let titles = layout.header(part);
    groups(layout, part).into_iter().map(|group| line(group, &titles)).collect()
}

fn groups<F: MessageFormat>(layout: &TableLayout<'_, F>, part: &mut RenderedPart) -> Vec<RowGroup> {
    let mut groups: Vec<RowGroup> = Vec::new();
    for row in layout.rows {
        let mut values = layout.row(row, part).into_iter();
        let name = values.next();
        let values: Vec<String> = values.collect();
        let queries = layout.queries(row, part);
        let is_branch = name.as_deref().is_some_and(|name| name.starts_with(TREE_CHARS));
        let joins = |group: &&mut RowGroup| {
            !is_branch && !values.is_empty() && group.values == values && group.queries.is_empty()
        };
        match groups.iter_mut().find(joins).filter(|_| queries.is_empty()) {
            Some(group) => group.names.extend(name),
            None => groups.push(RowGroup { names: name.into_iter().collect(), values, queries }),
        }
    }
    groups
}

fn line(group: RowGroup, titles: &[String]) -> RowLine {
    let mut texts = Vec::new();
    let names = group.names.join(", ");
    let name = names.trim_start_matches(TREE_CHARS);
    let branch = &names[..names.len() - name.len()];
    let label = |title: &str| if is_self_evident(title) { String::new() } else { format!("{title} ") };
    let mut titles = titles.iter();
    if !names.is_empty() {
        let prefix = format!("{branch}{}", titles.next().map_or(String::new(), |title| label(title)));
        texts.push((prefix, TextRole::Label));
        texts.push((if name.is_empty() { "-" } else { name }.to_owned(), TextRole::Name));
    }
    for (value, title) in group.values.into_iter().zip(titles).filter(|(value, _)| value != "-") {
        texts.push((format!(" · {}", label(title)), TextRole::Label));
        texts.push((unbroken(value), TextRole::Value));
    }
    texts.retain(|(text, _)| !text.is_empty());
    RowLine { texts, queries: group.queries }
}

/// Keeps a number and its unit on one line.
fn unbroken(value: String) -> String {
    let is_number = value.starts_with(|c: char| c.is_ascii_digit() || ['▓', '░'].contains(&c));
    if is_number && value.chars().count() <= MAX_UNBROKEN { value.replace(' ', "\u{a0}") } else { value }
}

fn is_self_evident(title: &str) -> bool {
    SELF_EVIDENT.contains(&title)
}

/// The characters of the longest piece that a client doesn't break, tree branches included.
pub fn longest_word(text: &str) -> usize {
    let branches = text.chars().take_while(|c| TREE_CHARS.contains(c)).count();
    let words = text.trim_start_matches(TREE_CHARS).split([' ', '-']);
    branches + words.map(|word| word.chars().count()).max().unwrap_or(0)
}
