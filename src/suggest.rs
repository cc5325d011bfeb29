//! Answers to a misspelt word: the nearest name, "did you mean", and the word quoted back in a form that is safe to show.

/// Characters of a word that a message repeats: enough to find it by.
const MAX_QUOTED: usize = 60;

/// The name that a word most likely means: one that begins so, or the nearest spelling, in which a third of the letters
/// may be wrong, and at least one.
pub fn nearest<'c>(word: &str, names: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = word.to_lowercase();
    let names: Vec<&str> = names.into_iter().collect();
    if word.len() >= 2
        && let Some(longer) = names.iter().find(|name| name.starts_with(&word))
    {
        return Some(longer);
    }
    let allowed = (word.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&word, name), name))
        .filter(|(distance, name)| *distance <= allowed && *distance < name.chars().count())
        .min()
        .map(|(_, name)| name)
}

/// "; did you mean `x`?", or the names to choose from.
pub(crate) fn suggestion<'c>(word: &str, names: impl IntoIterator<Item = &'c str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match nearest(word, names.iter().copied()) {
        Some(name) => format!("; did you mean `{name}`?"),
        None if names.is_empty() => String::new(),
        None => format!("; known here: {}", names.join(", ")),
    }
}

/// A value in backticks, fit for one line: control characters escaped, cut at 60 characters.
pub fn quoted(value: &str) -> String {
    let start: String = value.chars().take(MAX_QUOTED).flat_map(char::escape_debug).collect();
    let more = if value.chars().nth(MAX_QUOTED).is_some() { "…" } else { "" };
    format!("`{start}{more}`")
}

/// Typed text on one line, cut at 60 characters and without control characters: for chat.
pub fn shown(text: &str) -> String {
    let blank = |c: char| if c.is_whitespace() { ' ' } else { c };
    let line: String = text.chars().map(blank).filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
