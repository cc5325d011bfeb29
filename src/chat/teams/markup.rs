//! Teams' markup of what a person typed: a little HTML, with mentions as `<at>Countersign</at>` that an entity explains.
//! Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/conversations/channel-and-group-conversations>.

use crate::chat::typed_text::{Piece, link_text, typed_text};
use crate::model::{Mention, TypedText};
use html_escape::decode_html_entities;
use serde_json::Value;

/// Tags that begin a new line.
const BLOCKS: &str =
    "br p div li ul ol tr td th table pre h1 h2 h3 h4 h5 h6 hr codeblock dl dt dd section article center";
/// Tags that change the look of text and nothing else.
const INLINE: &str = "b strong i em u s strike del ins code kbd samp tt span font small big sub sup mark q cite label wbr tbody thead attachment readonly";

/// Bytes of HTML that are read: Teams' longest message, of which a command is a small part. Whoever can write to the bot must not make
/// it work for long.
const MAX_HTML: usize = 32 * 1024;
/// Bytes of a tag with its attributes.
const MAX_TAG: usize = 2_048;
/// Entities that are read.
const MAX_MENTIONS: usize = 200;

/// Schema.org types in the HTML of a message.
const REPLY: &str = "schema.skype.com/Reply";
const MENTION: &str = "schema.skype.com/Mention";

/// An entity of an activity that explains a mention. Some clients leave out its text.
#[derive(Debug, Clone)]
pub(super) struct MentionEntity {
    id: Option<String>,
    name: Option<String>,
    /// In plain words.
    text: Option<String>,
}

impl MentionEntity {
    /// The entities of an activity that are mentions. One without an id is the bot's if it has the name that the bot goes by there:
    /// it decides who is spoken to, and nothing else.
    pub(super) fn all(entities: &[Value], bot: &str, bot_name: Option<&str>) -> Vec<MentionEntity> {
        let is_mention = |entity: &&Value| match entity["type"].as_str() {
            Some(kind) => kind == "mention",
            None => entity["mentioned"].is_object(),
        };
        let mentions = entities.iter().filter(is_mention);
        let read = |entity: &Value| {
            let mentioned = &entity["mentioned"];
            let name = mentioned["name"].as_str().map(|name| name.trim().to_owned());
            let text = entity["text"].as_str().map(|text| plain(text).trim().to_owned());
            let mut mention = MentionEntity { id: mentioned["id"].as_str().map(str::to_owned), name, text };
            if mention.id.is_none() && bot_name.is_some_and(|name| mention.explains(name)) {
                mention.id = Some(bot.to_owned());
            }
            mention
        };
        mentions.take(MAX_MENTIONS).map(read).collect()
    }

    /// The words for the mention in the text: those of its own, and the name.
    fn words(&self) -> impl Iterator<Item = &str> {
        self.text.iter().chain(&self.name).map(String::as_str).filter(|words| !words.is_empty())
    }

    /// True if the entity explains a mention with this content.
    fn explains(&self, content: &str) -> bool {
        self.words().any(|words| words == content)
    }
}

/// A message's text, and whether it mentions the bot.
pub(super) struct AddressedText {
    pub text: TypedText,
    pub to_bot: bool,
}

/// Reads a message's text. `html` is the message as the client's HTML, which tells a quoted reply from what was typed; `bots` are
/// the ids of the bot.
pub(super) fn addressed_text(
    text: &str,
    html: Option<&str>,
    entities: &[MentionEntity],
    bots: &[&str],
) -> AddressedText {
    let source = html.filter(|html| html.contains(REPLY)).unwrap_or(text);
    let parts = parts(source);
    let is_bot = |entity: &MentionEntity| {
        entity.id.as_ref().is_some_and(|id| bots.iter().any(|bot| bot.eq_ignore_ascii_case(id)))
    };
    let to_bot = entities.iter().any(is_bot);
    let tags = parts.iter().filter(|part| matches!(part, Part::Mention(_))).count();
    let mut used = vec![false; entities.len()];
    let mut pieces = Vec::new();
    for part in parts {
        let content = match part {
            Part::Text(text) => {
                pieces.push(Piece::Text(text));
                continue;
            }
            Part::Mention(content) => content,
        };
        let explaining = |entity: &(usize, &MentionEntity)| entity.1.explains(&content);
        let mut all = entities.iter().enumerate();
        let found = all.clone().find(|entity| !used[entity.0] && explaining(entity));
        // Without its own entity it is a repetition, or the only mention there is.
        let found = found.or_else(|| all.clone().find(explaining));
        let found = found.or_else(|| all.next().filter(|_| tags == 1 && entities.len() == 1));
        if let Some((at, _)) = found {
            used[at] = true;
        }
        let entity = found.map(|(_, entity)| entity);
        pieces.push(match entity {
            Some(entity) if is_bot(entity) => Piece::Bot,
            entity => {
                let id = entity.and_then(|entity| entity.id.clone());
                Piece::Person(Mention { id, name: content })
            }
        });
    }
    if to_bot && !pieces.contains(&Piece::Bot) {
        pieces = with_bare_mention(pieces, entities.iter().filter(|entity| is_bot(entity)));
    }
    AddressedText { text: typed_text(pieces), to_bot }
}

/// Puts the bot's mention where its text stands without tags.
fn with_bare_mention<'e>(pieces: Vec<Piece>, own: impl Iterator<Item = &'e MentionEntity>) -> Vec<Piece> {
    let names: Vec<&str> = own.flat_map(MentionEntity::words).collect();
    let mut found = Vec::new();
    for piece in pieces {
        let split = match &piece {
            Piece::Text(text) => names.iter().find_map(|name| text.split_once(name)),
            _ => None,
        };
        match split {
            Some((before, behind)) => {
                let before = before.strip_suffix('@').unwrap_or(before).to_owned();
                found.extend([Piece::Text(before), Piece::Bot, Piece::Text(behind.to_owned())]);
            }
            None => found.push(piece),
        }
    }
    found
}

/// A part of a message, out of its HTML.
enum Part {
    Text(String),
    /// The content of a mention, in plain words.
    Mention(String),
}

/// A tag, and the text behind it.
struct Tag<'a> {
    name: String,
    attributes: &'a str,
    is_closing: bool,
    behind: &'a str,
}

impl<'a> Tag<'a> {
    /// The tag that the text begins with.
    fn parse(text: &'a str) -> Option<Tag<'a>> {
        let inner = text.strip_prefix('<')?;
        if let Some((comment, behind)) = inner.strip_prefix("!--").and_then(|inner| inner.split_once("-->")) {
            let name = "!--".to_owned();
            return Some(Tag { name, attributes: comment, is_closing: true, behind });
        }
        let (inner, behind) = inner.split_at(end_of_tag(inner)?);
        let behind = &behind[1..];
        let is_closing = inner.starts_with('/');
        let inner = inner.trim_matches('/');
        let name_end = inner.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
        let (name, attributes) = inner.split_at(name_end);
        let is_tag = attributes.is_empty() || attributes.starts_with(|c: char| c.is_whitespace() || c == '/');
        (is_tag && !name.is_empty()).then(|| Tag {
            name: name.to_lowercase(),
            attributes,
            is_closing,
            behind,
        })
    }

    fn is_listed(&self, names: &str) -> bool {
        names.split(' ').any(|name| name == self.name)
    }

    /// The content up to the closing tag, and the text behind that.
    fn content(&self) -> Option<(&'a str, &'a str)> {
        let closing = format!("</{}>", self.name);
        let is_closing = |at: usize| {
            let text = self.behind.get(at..at + closing.len());
            text.is_some_and(|text| text.eq_ignore_ascii_case(&closing))
        };
        let end = self.behind.match_indices("</").map(|(at, _)| at).find(|at| is_closing(*at))?;
        Some((&self.behind[..end], &self.behind[end + closing.len()..]))
    }

    fn attribute(&self, name: &str) -> Option<String> {
        let (_, value) = self.attributes.split_once(&format!("{name}="))?;
        let quote = value.chars().next().filter(|c| ['"', '\''].contains(c))?;
        value[1..].split(quote).next().map(|value| decode_html_entities(value).into_owned())
    }
}

/// Index of the `>` of a tag, outside of its attributes' quotes.
fn end_of_tag(inner: &str) -> Option<usize> {
    let inner = beginning(inner, MAX_TAG);
    if !inner.starts_with(|c: char| c == '/' || c.is_ascii_alphabetic()) {
        return None;
    }
    let (mut quote, mut before) = (None, ' ');
    let is_end = |(_, c): &(usize, char)| {
        match (quote, *c) {
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'') if before == '=' => quote = Some(*c),
            _ => {}
        }
        before = *c;
        quote.is_none() && *c == '>'
    };
    let end = inner.char_indices().find(is_end).map(|(at, _)| at);
    // A quote that is never closed is no attribute's.
    end.or_else(|| inner.find('>'))
}

/// So many bytes of a text, or a few less to end behind a character.
fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn parts(html: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = beginning(html, MAX_HTML);
    // The kinds of tags that have no end in the rest.
    let mut endless: Vec<String> = Vec::new();
    while let Some(start) = rest.find('<') {
        text.push_str(&decode_html_entities(&rest[..start]));
        rest = &rest[start..];
        let Some(tag) = Tag::parse(rest) else {
            text.push('<');
            rest = &rest[1..];
            continue;
        };
        let is_mention = tag.name == "at" || tag.name == "span" && tag.attributes.contains(MENTION);
        let is_quote = ["quoted", "quote", "blockquote"].contains(&tag.name.as_str());
        let has_content = is_mention || is_quote || tag.name == "a";
        let content = if has_content && !tag.is_closing && !endless.contains(&tag.name) {
            let content = tag.content();
            if content.is_none() {
                endless.push(tag.name.clone());
            }
            content
        } else {
            None
        };
        rest = match content {
            Some((content, behind)) if is_mention => {
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(Part::Mention(plain(content).trim().to_owned()));
                behind
            }
            Some((_, behind)) if is_quote => behind,
            Some((content, behind)) => {
                let address = tag.attribute("href").unwrap_or_default();
                text.push_str(&link_text(&address, Some(&plain(content))));
                behind
            }
            _ if tag.is_listed(BLOCKS) => {
                text.push('\n');
                tag.behind
            }
            _ if is_quote || is_mention || ["a", "!--"].contains(&tag.name.as_str()) => tag.behind,
            _ if tag.is_listed(INLINE) => tag.behind,
            _ if ["img", "emoji"].contains(&tag.name.as_str()) => {
                text.push_str(&tag.attribute("alt").unwrap_or_default());
                tag.behind
            }
            // No tag of Teams: a person's own angle brackets.
            _ => {
                text.push('<');
                &rest[1..]
            }
        };
    }
    text.push_str(&decode_html_entities(rest));
    parts.push(Part::Text(text));
    parts
}

/// The words of a piece of HTML.
fn plain(html: &str) -> String {
    let words = parts(html).into_iter().map(|part| match part {
        Part::Text(text) | Part::Mention(text) => text,
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entity(id: &str, name: &str, text: &Value) -> Value {
        json!({ "type": "mention", "text": text, "mentioned": { "id": id, "name": name } })
    }

    fn read(text: &str, entities: &[Value]) -> AddressedText {
        addressed_text(text, None, &MentionEntity::all(entities, "28:bot", None), &["28:bot"])
    }

    #[test]
    fn every_mention_of_the_bot_goes_and_others_stay() {
        let at = |name: &str| json!(format!("<at>{name}</at>"));
        let bot = |name: &str| entity("28:bot", name, &at(name));
        for (text, entities, line) in [
            ("<at>Countersign</at> health", vec![bot("Countersign")], "health"),
            ("<at>Countersign</at>: health", vec![bot("Countersign")], "health"),
            ("health <at>Countersign</at>", vec![bot("Countersign")], "health"),
            ("<at id=\"0\">Countersign</at>&nbsp;health", vec![bot("Countersign")], "health"),
            ("<at>Countersign</at> health", vec![entity("28:bot", "Countersign", &json!(null))], "health"),
            ("<at>Ops &amp; DB</at> health", vec![entity("28:bot", "Ops & DB", &json!(null))], "health"),
            ("<at>Renamed</at> health", vec![entity("28:bot", "Countersign", &json!(null))], "health"),
            ("<at>Counter</at>&nbsp;<at>Sign</at>&nbsp;health", vec![bot("Counter"), bot("Sign")], "health"),
            ("<at>Countersign</at> <at>Countersign</at> health", vec![bot("Countersign")], "health"),
            ("health", vec![entity("28:bot", "Countersign", &json!(null))], "health"),
            ("@Countersign health", vec![entity("28:bot", "Countersign", &json!(null))], "health"),
            ("@Countersign health", vec![bot("Countersign")], "health"),
            ("<at>Countersign</at> health", vec![entity("28:BOT", "Countersign", &json!(5))], "health"),
            (
                "<at>Countersign</at> health",
                vec![json!({ "type": "mention", "mentioned": { "id": "28:bot", "name": 5 } })],
                "health",
            ),
            ("@Countersign health", vec![entity("28:bot", "Countersign", &json!("Countersign"))], "health"),
            (
                "<at>ana</at> <at>Countersign</at> history --who <at>Ben B</at>",
                vec![
                    entity("29:ana", "ana", &at("ana")),
                    bot("Countersign"),
                    entity("29:b", "Ben B", &at("Ben B")),
                ],
                "history --who Ben B",
            ),
            (
                "<at>Countersign</at> history --who <at>ben</at>",
                vec![bot("Countersign")],
                "history --who ben",
            ),
        ] {
            let read = read(text, &entities);
            assert!(read.to_bot, "{text}");
            assert_eq!(read.text.words(), line, "{text}");
        }
        assert!(!read("<at>ana</at> health", &[entity("29:ana", "ana", &at("ana"))]).to_bot);
        assert!(!read("health", &[]).to_bot);
    }

    #[test]
    fn html_becomes_what_was_typed() {
        for (html, line) in [
            ("<p>health</p>", "health"),
            ("<div>kill 4711<br/>--env staging</div>", "kill 4711 --env staging"),
            ("<b>health</b> <code>--env</code> <span style=\"x\">staging</span>", "health --env staging"),
            ("history --find &quot;a &amp;lt; b&quot;", "history --find \"a &lt; b\""),
            ("kill &#52;711 &mdash;env &laquo;x&raquo;", "kill 4711 —env «x»"),
            ("kill <pid> a < b", "kill <pid> a < b"),
            (
                "see <a href=\"https://x.example/OPS-1?a=1&amp;b=2\">the ticket</a>",
                "see the ticket (https://x.example/OPS-1?a=1&b=2)",
            ),
            ("see <a href='https://x.example/'>x.example</a>", "see x.example"),
            ("<quoted messageId=\"1700000000001\"/> health --env staging", "health --env staging"),
            (
                "<blockquote itemtype=\"http://schema.skype.com/Reply\"><p>old</p></blockquote>\n<p>health</p>",
                "health",
            ),
            ("&unknown; & &#xffffffff;", "&unknown; & &#xffffffff;"),
            ("<at>open", "open"),
            ("<!-- a > b -->health<!-- <p>x</p> -->", "health"),
            ("<table><tr><td>health</td><td>--env staging</td></tr></table>", "health --env staging"),
            ("<img alt=\"a>b\"> <span title='x > y'>health</span> it's <pid>", "a>b health it's <pid>"),
            ("<small>health</small> <kbd>--env</kbd> <ins>staging</ins>", "health --env staging"),
            ("<quote author=\"x\">old</quote> health", "health"),
            ("<a href=\"tel:4711\">4711</a>", "4711"),
        ] {
            let words = read(html, &[]).text.words();
            assert_eq!(words.split_whitespace().collect::<Vec<_>>().join(" "), line, "{html}");
        }
    }

    /// Quadratic work would take minutes here.
    #[test]
    fn a_message_of_nothing_but_tags_is_read_at_once() {
        let entities = vec![entity("28:bot", "x", &json!("<at>x</at>")); 2_000];
        for piece in [
            "<",
            "<b>",
            "<at>",
            "<at>x</at>",
            "<a href=\"x\" ",
            "<x =\"",
            "</b>",
            "&",
            "<!--",
            "<blockquote>",
            "<a>",
        ] {
            for end in ["", ">", "-->"] {
                let text = piece.repeat(200_000 / piece.len()) + end;
                assert!(read(&text, &entities).text.line.len() < 100_000, "{piece}");
            }
        }
    }

    #[test]
    fn a_flat_quotation_is_told_by_the_html() {
        let html = "<blockquote itemscope=\"\" itemtype=\"http://schema.skype.com/Reply\" itemid=\"1\"><strong>Ana</strong>\
            <p>blocked --env staging</p></blockquote><p><span itemtype=\"http://schema.skype.com/Mention\" itemid=\"0\">Countersign</span> health</p>";
        let bot = entity("28:bot", "Countersign", &json!("<at>Countersign</at>"));
        let entities = MentionEntity::all(&[bot], "28:bot", None);
        let text = "Ana blocked --env staging <at>Countersign</at> health";
        assert_eq!(addressed_text(text, Some(html), &entities, &["28:bot"]).text.words(), "health");
    }
}
