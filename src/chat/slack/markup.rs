//! Slack's markup of what a person typed: `&lt;` is `<`, `<http://db.example|db.example>` is `db.example`, `<@U1|ana>` is a person.
//! Source: <https://api.slack.com/reference/surfaces/formatting#retrieving-messages>.

use crate::chat::typed_text::{Piece, link_text, typed_text};
use crate::model::{Mention, TypedText};

/// The text of a message that mentions the bot, which has one of these ids; without an id, whoever is mentioned first is the bot.
pub(super) fn mentioning_text(text: &str, mut bots: Vec<String>) -> TypedText {
    if bots.is_empty() {
        let first = pieces(text, &[]).into_iter().find_map(|piece| match piece {
            Piece::Person(mention) => mention.id,
            _ => None,
        });
        bots.extend(first);
    }
    let own = pieces(&without_quoted_lines(text), &bots);
    // A mention that is a part of the quoted lines still calls the bot.
    let pieces = if own.contains(&Piece::Bot) { own } else { pieces(text, &bots) };
    typed_text(pieces)
}

/// The text without lines that quote another message. Behind `>>>` all is quoted.
fn without_quoted_lines(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.trim_start().starts_with("&gt;&gt;&gt;"));
    let lines: Vec<&str> = lines.filter(|line| !line.trim_start().starts_with("&gt;")).collect();
    lines.join("\n")
}

/// The pieces of a text. A mention of one of the bots is [`Piece::Bot`].
pub(super) fn pieces(text: &str, bots: &[String]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('<') {
        let Some((inner, after)) = tail.split_once('>') else { break };
        pieces.push(Piece::Text(unescape(before)));
        pieces.push(entity(inner, bots));
        rest = after;
    }
    pieces.push(Piece::Text(unescape(rest)));
    pieces
}

/// The ampersand last, so that an escaped escape stays one.
fn unescape(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// The piece for an entity, given without its angle brackets.
fn entity(inner: &str, bots: &[String]) -> Piece {
    let (target, label) = inner.split_once('|').unwrap_or((inner, ""));
    let label = Some(label).filter(|label| !label.is_empty());
    let with_sigil = |sigil: char, name: &str| format!("{sigil}{}", name.trim_start_matches(sigil));
    let text = match target.chars().next() {
        Some('@') => {
            let id = &target[1..];
            let is_bot = bots.iter().any(|bot| bot == id);
            let mention = Mention { id: Some(id.to_owned()), name: id.to_owned() };
            return if is_bot { Piece::Bot } else { Piece::Person(mention) };
        }
        Some('#') => with_sigil('#', label.unwrap_or(target)),
        Some('!') if target.starts_with("!date") => label.unwrap_or_default().to_owned(),
        Some('!') => with_sigil('@', label.unwrap_or(&target[1..])),
        _ => link_text(target, label),
    };
    Piece::Text(unescape(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_what_was_typed() {
        for (wire, line) in [
            ("plain words", "plain words"),
            ("a &lt; b &amp;&amp; c &gt; d", "a < b && c > d"),
            ("&amp;lt;", "&lt;"),
            ("&nbsp; & &", "&nbsp; & &"),
            ("<http://db.example.com|db.example.com>:5432", "db.example.com:5432"),
            ("<https://x.example/?a=1&amp;b=2>", "https://x.example/?a=1&b=2"),
            ("<https://x.example/OPS-12|the ticket>", "the ticket (https://x.example/OPS-12)"),
            ("<https://x.example/OPS-12|https://x.example/OPS-12>", "https://x.example/OPS-12"),
            ("<mailto:a@b.example|a@b.example> <mailto:a@b.example>", "a@b.example a@b.example"),
            ("kill <tel:4711|4711> <tel:+4711|4711> <tel:4711>", "kill 4711 4711 4711"),
            ("to <@U1|ana> <@U1> <#C1|general> <#C1>", "to U1 U1 #general #C1"),
            ("<!here> <!subteam^S1|@dba> <!date^1^{date}|today>", "@here @dba today"),
            ("an open < end", "an open < end"),
            ("<>", ""),
        ] {
            assert_eq!(typed_text(pieces(wire, &[])).words(), line, "{wire}");
        }
    }

    #[test]
    fn every_mention_of_the_bot_goes() {
        for (wire, line) in [
            ("hey <@UBO> and <@UBOT|countersign>  history --who <@U7|cy>", "history --who U7"),
            ("<@UBOT> <@UBOT> health", "health"),
            ("&gt; <@U7> wrote this\n&gt; and that\n<@UBOT> health", "health"),
            ("health <@UBOT>\n&gt;&gt;&gt; all\nof this", "health"),
            ("&gt; <@UBOT> health", "health"),
            ("<@UBOT>", ""),
        ] {
            assert_eq!(mentioning_text(wire, vec!["UBOT".to_owned()]).words(), line, "{wire}");
        }
        assert_eq!(mentioning_text("<@U1> health <@U1>", Vec::new()).words(), "health");
    }
}
