//! From the pieces of a chat's markup to the text that a person typed to the bot. Quotes, dashes and characters that can't be seen
//! are none of a platform's: `command_line` reads those, for every door.

use crate::model::{Mention, TypedText};
use crate::sql_lexer::is_invisible;

/// Punctuation between an address and what it is about: "@Countersign: health", "@Countersign, health".
const ADDRESS_PUNCTUATION: &str = ":,;.!?…>→：，、；。！？؛،؟";

/// Signs that close what was opened before the mention.
const CLOSING: &str = ")]}”’»\"'";

/// Marks of bold, italic, crossed-out text and code.
const MARKS: [char; 4] = ['*', '_', '~', '`'];

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// A mention of the bot.
    Bot,
    Person(Mention),
}

/// The words for a link: its label, and its address where the label doesn't show that.
pub(super) fn link_text(target: &str, label: Option<&str>) -> String {
    let scheme = ["mailto:", "tel:"].into_iter().find(|scheme| target.starts_with(scheme));
    let address = &target[scheme.map_or(0, str::len)..];
    let Some(label) = label.map(str::trim).filter(|label| !label.is_empty()) else {
        return address.to_owned();
    };
    let bare = |text: &str| {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        text.trim_end_matches('/').to_lowercase()
    };
    match label.strip_suffix('…') {
        // What looked like a telephone number.
        _ if scheme == Some("tel:") => label.to_owned(),
        Some(start) if bare(address).starts_with(&bare(start)) => address.to_owned(),
        _ if bare(label) == bare(address) => label.to_owned(),
        _ => format!("{label} ({address})"),
    }
}

/// The text of a message: behind the first mention of the bot, if it has one. Every mention of the bot goes.
pub(super) fn typed_text(pieces: Vec<Piece>) -> TypedText {
    let mut text = TypedText::default();
    let mut addressed = false;
    for piece in pieces {
        match piece {
            Piece::Text(piece) => text.line.push_str(&piece.replace(TypedText::MENTION, "")),
            Piece::Bot if addressed => text.line.push(' '),
            Piece::Bot => {
                addressed = true;
                text.before = std::mem::take(&mut text.line);
            }
            Piece::Person(mention) => {
                text.line.push(TypedText::MENTION);
                text.mentions.push(mention);
            }
        }
    }
    if addressed {
        text = with_line(text);
    }
    without_leading_people(text)
}

/// Finds the line of a message that mentions the bot: what is behind the mention, or where there is nothing, what is before it.
fn with_line(text: TypedText) -> TypedText {
    let TypedText { before, line, mentions } = text;
    let has_words = |part: &str| part.contains(|c: char| c.is_alphanumeric() || c == TypedText::MENTION);
    let line = behind_punctuation(&line);
    if !has_words(&before) {
        // Of what is no word, marks that began before the mention count: "*@Countersign health*".
        let marks = before.replace(|c: char| !MARKS.contains(&c), "");
        let line = format!("{marks} {line}").trim().to_owned();
        return TypedText { before: String::new(), line, mentions };
    }
    if !has_words(line) {
        let is_emoji_code =
            before.trim_end().rsplit(char::is_whitespace).next().is_some_and(begins_with_emoji_code);
        let is_end = |c: char| is_blank(c) || !is_emoji_code && ADDRESS_PUNCTUATION.contains(c);
        let line = before.trim_matches(is_blank).trim_end_matches(is_end).to_owned();
        return TypedText { before: String::new(), line, mentions };
    }
    TypedText { before, line: line.to_owned(), mentions }
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || is_invisible(c)
}

fn behind_punctuation(line: &str) -> &str {
    // "@Countersign's health", "(@Countersign) health": directly behind the mention.
    let line = line.strip_prefix(|c| CLOSING.contains(c)).unwrap_or(line);
    let line = line.strip_prefix("s ").unwrap_or(line);
    let rest = line.trim_start_matches(is_blank);
    let behind = rest.trim_start_matches(|c| ADDRESS_PUNCTUATION.contains(c));
    let is_arrow = |c: char| ['-', '–', '—', '>'].contains(&c);
    let dashed = rest.trim_start_matches(is_arrow);
    let rest = if behind.len() < rest.len() && !begins_with_emoji_code(rest) {
        behind
    } else if dashed.starts_with(is_blank) {
        // "@Countersign - health", "@Countersign -> health"; without the blank it is an option.
        dashed
    } else {
        rest
    };
    rest.trim()
}

/// ":wave: health"
fn begins_with_emoji_code(text: &str) -> bool {
    let code = text.strip_prefix(':').and_then(|text| text.split_once(':'));
    code.is_some_and(|(code, _)| !code.is_empty() && !code.contains(char::is_whitespace))
}

/// A command doesn't begin with a person: whoever else is greeted is no part of it.
fn without_leading_people(mut text: TypedText) -> TypedText {
    let before = text.before.matches(TypedText::MENTION).count();
    let (mut line, mut people) = (text.line.as_str(), 0);
    while let Some(rest) = line.trim_start_matches(is_blank).strip_prefix(TypedText::MENTION) {
        line = behind_punctuation(rest);
        people += 1;
    }
    text.line = line.to_owned();
    text.mentions.drain(before..before + people);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &str) -> TypedText {
        let pieces = message.split('|').map(|piece| match piece {
            "BOT" => Piece::Bot,
            "BEN" => Piece::Person(Mention { id: Some("U0BEN".to_owned()), name: "U0BEN".to_owned() }),
            text => Piece::Text(text.to_owned()),
        });
        typed_text(pieces.collect())
    }

    #[test]
    fn the_line_is_what_is_said_to_the_bot() {
        for (message, line) in [
            ("health", "health"),
            ("|BOT| health", "health"),
            ("|BOT|: health", "health"),
            ("|BOT|, health", "health"),
            ("|BOT| - health", "health"),
            ("|BOT| --env staging", "--env staging"),
            ("hey |BOT| health", "health"),
            ("health |BOT|", "health"),
            ("health, |BOT|  ", "health"),
            ("|BOT| |BOT| health", "health"),
            ("|BOT|\u{a0}|BOT|\u{a0}health", "health"),
            ("|BOT| |BEN| health", "health"),
            ("|BEN| |BOT| health", "health"),
            ("*|BOT| health*", "* health*"),
            ("(|BOT|) health", "health"),
            ("“|BOT|” health", "health"),
            ("|BOT|'s health", "health"),
            ("|BOT| → health", "health"),
            ("|BOT| -> health", "health"),
            ("|BOT|。health", "health"),
            ("|BOT|؟ health", "health"),
            ("|BOT| :wave: health", ":wave: health"),
            ("health |BOT|?", "health"),
            ("|BOT|", ""),
            ("|BOT| \u{200b}", ""),
        ] {
            assert_eq!(read(message).line, line, "{message}");
        }
    }

    #[test]
    fn a_mention_keeps_its_place() {
        let text = read("ask |BEN| or |BOT| history --who |BEN");
        assert_eq!(
            (text.before.as_str(), text.line.as_str()),
            ("ask \u{fffc} or ", "history --who \u{fffc}")
        );
        assert_eq!((text.mentions.len(), text.words().as_str()), (2, "history --who U0BEN"));
    }
}
