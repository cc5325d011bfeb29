//! A neutral reply into an Adaptive Card 1.5, within Teams' limits: a pure function. What doesn't fit is cut at characters, and
//! the card says so. Text of a person or a database can neither ping, link nor format. Nothing is sent here.

use super::parse::{BUTTON_KEY, VIEW_KEY};
use super::text_run::{self, RULES, TextStyle, block, indented, inline, inlines, line};
use crate::chat::render::budget::MessageBudget;
use crate::chat::render::part::{LineStyle, MessageFormat, ParagraphStyle, RenderedPart, TableLayout};
use crate::chat::render::rows::{TREE_CHARS, TextRole, longest_word, row_lines};
use crate::chat::render::text::{self, TextRules, mark};
use crate::model::{Button, ButtonStyle, ColumnKind, Link, Person, Reply, Severity, Span, Text};
use crate::platform::TooLarge;
use serde_json::{Value, json};

/// A card's bytes of JSON. Teams says 100 KB for a whole message of a bot today, said 40 KB before, and 28 KB for cards in its older
/// pages (<https://learn.microsoft.com/microsoftteams/platform/bots/how-to/format-your-bot-messages>); clouds and clients differ.
/// This is below the oldest, and leaves 3 KB for the message around the card.
pub(super) const MAX_CARD_BYTES: usize = 25_000;
/// People who get a view of their own without asking for it
/// (<https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/universal-actions-for-adaptive-cards/user-specific-views>).
pub(super) const MAX_USER_IDS: usize = 60;
/// An account's id in such a list. Teams' own are around 95 characters; a longer one is not an account id.
const MAX_USER_ID_BYTES: usize = 110;
/// Bytes of those ids in a card: each with its quotes and comma, and the action that they are for.
const MAX_REFRESH_BYTES: usize = MAX_USER_IDS * (MAX_USER_ID_BYTES + 3) + 600;
/// Actions that Teams shows of a set; the rest goes into a menu
/// (<https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-reference>).
const MAX_VISIBLE_ACTIONS: usize = 6;
/// A button's data: an opaque token, which is 32 characters long.
const MAX_TOKEN_BYTES: usize = 200;
/// Our own limit of the notification's text: a phone shows two lines of it.
const MAX_SUMMARY_BYTES: usize = 1_000;
/// Bytes of a button's label.
const MAX_BUTTON_LABEL: usize = 60;
/// Characters of the labels that a phone shows side by side.
const PHONE_BUTTON_ROW_CHARS: usize = 40;
/// Characters that a button takes beside its label.
const BUTTON_PADDING: usize = 4;
/// Characters that a phone shows side by side.
const PHONE_TABLE_CHARS: usize = 44;
/// Characters that a cell takes beside its text.
const CELL_PADDING: usize = 2;
/// Longest cell that isn't wrapped.
const MAX_UNWRAPPED: usize = 24;
/// Bytes of a row's first cell beside its query.
const MAX_FIRST_CELL: usize = 40;

/// The person or the people that a card is for.
#[derive(Debug, Clone, Copy, Default)]
pub struct View<'a> {
    /// The person who looks: buttons for others are left out. `None`: the view for everyone, without buttons for some.
    pub viewer: Option<&'a Person>,
    /// In the view for everyone, the ids (`29:…`) of those who are shown a view of their own, by `refresh`; at most 60.
    pub user_ids: &'a [String],
    /// The token that requests a view, by `refresh` and by a button for those whom the 60 leave out. `None`: the card has no
    /// views.
    pub token: Option<&'a str>,
}

/// A card, ready to send.
#[derive(Debug, Clone, PartialEq)]
pub struct TeamsCard {
    /// The AdaptiveCard object.
    pub card: Value,
    /// Text of notifications: who asked what of which environment, and the verdict. Plain.
    pub summary: String,
}

/// Renders the reply as a card, cut where it must be.
pub fn render(reply: &Reply, view: &View<'_>) -> TeamsCard {
    let filter = view.viewer.map_or(ButtonFilter::ForEveryone, ButtonFilter::ForPerson);
    let token = view.token.filter(|token| AdaptiveCard::is_token(token));
    let mut card = empty_card();
    if let Some(refresh) = token.and_then(|token| refresh(token, view.user_ids)) {
        card["refresh"] = refresh;
    }
    let has_buttons_for_some = reply.buttons().any(|button| !button.visible_to.is_empty());
    let view_button = token.filter(|_| view.viewer.is_none() && has_buttons_for_some).map(view_button);
    let room = MAX_CARD_BYTES - size(&card) - view_button.as_ref().map_or(0, size);
    let mut budget = MessageBudget::new(reply, AdaptiveCard { filter, room });
    budget.squeeze();
    let mut body = budget.into_blocks();
    body.extend(view_button);
    if body.is_empty() {
        body.push(line("-", TextStyle::PLAIN));
    }
    let mentions = text_run::take_mentions(&mut body);
    if !mentions.is_empty() {
        card["msteams"]["entities"] = Value::Array(mentions);
    }
    card["body"] = Value::Array(body);
    let (summary, _) = RULES.shorten(&text::summary(reply), MAX_SUMMARY_BYTES);
    let summary = if summary.trim().is_empty() { "-".to_owned() } else { summary };
    TeamsCard { card, summary }
}

/// Checks that the reply fits into one message, whoever looks: with the buttons for everybody, and room for the views.
pub fn check_size(reply: &Reply) -> Result<(), TooLarge> {
    let view_button = size(&view_button(&"0".repeat(MAX_TOKEN_BYTES)));
    let room = MAX_CARD_BYTES - size(&empty_card()) - MAX_REFRESH_BYTES - view_button;
    MessageBudget::new(reply, AdaptiveCard { filter: ButtonFilter::All, room }).check_size()
}

/// The reply as text without a card.
pub fn text_alone(reply: &Reply) -> String {
    RULES.shorten(&text::whole(reply), MAX_CARD_BYTES).0
}

pub(super) fn empty_card() -> Value {
    json!({
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.5",
        "msteams": { "width": "Full", "entities": [] },
        "body": [],
    })
}

pub(super) fn heading_block(spans: &[Span], is_production: bool) -> Value {
    let style = if is_production { "attention" } else { "emphasis" };
    let items = vec![block(inlines(spans, TextStyle::PLAIN))];
    json!({ "type": "Container", "style": style, "bleed": true, "items": items })
}

/// Bytes that a value takes of a card, with the comma after it.
pub(super) fn size(value: &Value) -> usize {
    value.to_string().len() + 1
}

/// The person or the people whose buttons a card shows.
#[derive(Debug, Clone, Copy)]
enum ButtonFilter<'a> {
    /// All buttons, to measure.
    All,
    ForEveryone,
    ForPerson(&'a Person),
}

struct AdaptiveCard<'a> {
    filter: ButtonFilter<'a>,
    /// Bytes that the body may take.
    room: usize,
}

impl MessageFormat for AdaptiveCard<'_> {
    const RULES: TextRules = RULES;
    const UNIT: &'static str = "bytes";
    /// Our own limit: none is documented, and a card within its bytes hardly has more.
    const MAX_BLOCKS: usize = 250;
    const MAX_TEXT: usize = MAX_CARD_BYTES;
    const MAX_LABEL: usize = 150;
    const MAX_BUTTONS: usize = 60;
    /// More makes no card that anyone scrolls through.
    const MAX_ROWS: usize = 100;
    /// Our own limit: none is documented, and nobody reads more.
    const MAX_COLUMNS: usize = 20;
    const MAX_TABLE_TEXT: usize = MAX_CARD_BYTES;
    const PART_OVERHEAD: usize = 240;
    const NOTE_SIZE: usize = 200;

    fn max_size(&self) -> usize {
        self.room
    }

    fn size(&self, block: &Value) -> usize {
        size(block)
    }

    /// On a red background for production.
    fn heading(spans: &[Span], is_production: bool) -> Value {
        heading_block(spans, is_production)
    }

    fn paragraph(text: &Text, max: usize, style: ParagraphStyle) -> (Vec<Value>, usize) {
        let (severity, style) = match style {
            ParagraphStyle::Verdict(severity) => (severity, TextStyle::BOLD),
            ParagraphStyle::Plain => (Severity::Neutral, TextStyle::PLAIN),
            ParagraphStyle::Note => (Severity::Neutral, TextStyle::SMALL),
        };
        let (spans, missing) = RULES.spans(text, max);
        let blocks = text_run::paragraph(&spans, mark(severity), style);
        (text_run::coloured(severity, blocks), missing)
    }

    fn line(text: &str, style: LineStyle) -> Value {
        let style = match style {
            LineStyle::Plain => TextStyle::PLAIN,
            LineStyle::Bold => TextStyle::BOLD,
            LineStyle::Small => TextStyle::SMALL,
        };
        line(text, style)
    }

    fn code(title: Option<&str>, text: &str) -> Vec<Value> {
        let title = title.map(|title| line(title, TextStyle::BOLD));
        let lines = line(&indented(text), TextStyle::CODE);
        let lines = json!({ "type": "Container", "style": "emphasis", "items": [lines] });
        title.into_iter().chain([lines]).collect()
    }

    /// No `FactSet`, which would read its values as Markdown.
    fn facts(facts: Vec<(String, Vec<Span>)>) -> Vec<Value> {
        let mut spans = Vec::new();
        for (label, value) in facts {
            let new_line = if spans.is_empty() { "" } else { "\n" };
            spans.push(Span::Strong(format!("{new_line}{label} ")));
            spans.extend(value);
        }
        let block = block(inlines(&spans, TextStyle::PLAIN));
        [block].into_iter().chain(text_run::mentions(&spans)).collect()
    }

    fn shows(&self, button: &Button) -> bool {
        match self.filter {
            ButtonFilter::All => true,
            ButtonFilter::ForEveryone => button.visible_to.is_empty(),
            ButtonFilter::ForPerson(viewer) => {
                button.visible_to.is_empty() || button.visible_to.iter().any(|person| person.id == viewer.id)
            }
        }
    }

    fn is_token(token: &str) -> bool {
        let is_plain = token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        is_plain && !token.is_empty() && token.len() <= MAX_TOKEN_BYTES
    }

    fn buttons(buttons: &[&Button]) -> Vec<Value> {
        action_rows(buttons.iter().map(|button| {
            let label = action_label(&button.label);
            (action(button, &label), label)
        }))
    }

    fn links(links: &[Link]) -> Vec<Value> {
        action_rows(links.iter().map(|link| {
            let label = action_label(&link.label);
            (json!({ "type": "Action.OpenUrl", "title": label, "url": link.url.as_str() }), label)
        }))
    }

    /// A table whose columns fit side by side on a phone is a native `Table`; a wider one is shown row by row, because a phone would break
    /// its words into letters.
    fn table(layout: &TableLayout<'_, Self>, part: &mut RenderedPart) -> usize {
        let texts: Vec<Vec<&str>> =
            layout.columns.iter().map(|column| column_texts(layout, column.0)).collect();
        let min_widths: Vec<usize> = texts.iter().map(|texts| min_column_width(texts)).collect();
        if min_widths.iter().sum::<usize>() <= PHONE_TABLE_CHARS {
            grid(layout, &widths(&texts, &min_widths), part);
        } else {
            rows_as_text(layout, part);
        }
        layout.rows.len()
    }
}

fn action_label(text: &str) -> String {
    let (label, _) = RULES.shorten(text, MAX_BUTTON_LABEL);
    if label.trim().is_empty() { "-".to_owned() } else { label }
}

/// Actions with their labels in rows that a phone shows in full: Teams hides in a menu the ones that it has no room for.
fn action_rows(actions: impl Iterator<Item = (Value, String)>) -> Vec<Value> {
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let mut width = 0;
    for (action, label) in actions {
        let button_width = label.chars().count() + BUTTON_PADDING;
        width += button_width;
        match rows.last_mut() {
            Some(row) if width <= PHONE_BUTTON_ROW_CHARS && row.len() < MAX_VISIBLE_ACTIONS => {
                row.push(action)
            }
            _ => {
                rows.push(vec![action]);
                width = button_width;
            }
        }
    }
    rows.into_iter().map(|actions| json!({ "type": "ActionSet", "actions": actions })).collect()
}

/// For everyone it is an `Action.Submit`, which arrives as a message without text; for some an `Action.Execute`, whose answer may
/// be the clicker's own view, with a `Submit` for clients that don't know it.
fn action(button: &Button, label: &str) -> Value {
    let data = json!({ BUTTON_KEY: button.token });
    let for_everyone = button.visible_to.is_empty();
    let mut action = if for_everyone { submit(label, &data) } else { execute(label, BUTTON_KEY, &data) };
    let style = match button.style {
        ButtonStyle::Plain => return action,
        ButtonStyle::Primary => "positive",
        ButtonStyle::Danger => "destructive",
    };
    if !for_everyone {
        action["fallback"]["style"] = json!(style);
    }
    action["style"] = json!(style);
    action
}

/// Its data arrives as the `value` of a message activity without text, and nothing is echoed
/// (<https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-actions#adaptive-cards-actions>).
fn submit(title: &str, data: &Value) -> Value {
    json!({ "type": "Action.Submit", "title": title, "data": data })
}

pub(super) fn execute(title: &str, verb: &str, data: &Value) -> Value {
    json!({
        "type": "Action.Execute",
        "title": title,
        "verb": verb,
        "data": data,
        "fallback": submit(title, data),
    })
}

/// For those who are shown the view for everyone and may have buttons of their own.
fn view_button(token: &str) -> Value {
    let action = execute("What can I do?", VIEW_KEY, &json!({ VIEW_KEY: token }));
    json!({ "type": "ActionSet", "actions": [action] })
}

/// Makes the clients of those accounts request their own view by themselves; `None` if there are none.
fn refresh(token: &str, user_ids: &[String]) -> Option<Value> {
    let is_plausible = |id: &&String| !id.is_empty() && size(&json!(id)) <= MAX_USER_ID_BYTES + 3;
    let ids: Vec<&String> = user_ids.iter().filter(is_plausible).take(MAX_USER_IDS).collect();
    let action = json!({ "type": "Action.Execute", "verb": VIEW_KEY, "data": { VIEW_KEY: token } });
    (!ids.is_empty()).then(|| json!({ "action": action, "userIds": ids }))
}

type TeamsLayout<'a, 'b> = TableLayout<'a, AdaptiveCard<'b>>;

fn column_texts<'a>(layout: &TeamsLayout<'a, '_>, at: usize) -> Vec<&'a str> {
    let cells = layout.rows.iter().filter_map(|row| row.cells.get(at));
    std::iter::once(layout.table.columns[at].title.as_str())
        .chain(cells.map(|cell| cell.text.as_str()))
        .collect()
}

/// Characters that a column needs to break no word, with its edges.
fn min_column_width(texts: &[&str]) -> usize {
    texts.iter().map(|text| longest_word(text)).max().unwrap_or(0) + CELL_PADDING
}

/// Widths of the columns, in parts of the whole: no word is broken, and what room is left goes to those that need it.
fn widths(texts: &[Vec<&str>], min_widths: &[usize]) -> Vec<usize> {
    let unwrapped_width = |texts: &Vec<&str>| {
        let lengths = texts.iter().map(|text| text.chars().take(MAX_UNWRAPPED).count());
        lengths.max().unwrap_or(0) + CELL_PADDING
    };
    let shortfalls: Vec<usize> = texts
        .iter()
        .zip(min_widths)
        .map(|(texts, width)| unwrapped_width(texts).saturating_sub(*width))
        .collect();
    let spare = PHONE_TABLE_CHARS.saturating_sub(min_widths.iter().sum());
    let total_shortfall = shortfalls.iter().sum::<usize>().max(1);
    let width = |(min_width, shortfall): (&usize, &usize)| {
        min_width + (spare * shortfall / total_shortfall).min(*shortfall)
    };
    min_widths.iter().zip(&shortfalls).map(width).collect()
}

/// Side by side; query text beneath, each with its row's first cell. Teams takes the first row as the
/// header by default; clients disagree about the name of the property that would say otherwise, so it is left out.
fn grid(layout: &TeamsLayout<'_, '_>, widths: &[usize], part: &mut RenderedPart) {
    if !layout.columns.is_empty() {
        let table_row = |texts: &[String], style: TextStyle| {
            let cell =
                |text: &String| json!({ "type": "TableCell", "items": [line(&indented(text), style)] });
            json!({ "type": "TableRow", "cells": texts.iter().map(cell).collect::<Vec<_>>() })
        };
        let mut rows = vec![table_row(&layout.header(part), TextStyle::BOLD)];
        rows.extend(layout.rows.iter().map(|row| table_row(&layout.row(row, part), TextStyle::PLAIN)));
        let columns = layout.columns.iter().zip(widths).map(|((_, column), width)| match column.kind {
            ColumnKind::Right => json!({ "width": width, "horizontalCellContentAlignment": "right" }),
            _ => json!({ "width": width }),
        });
        let columns: Vec<Value> = columns.collect();
        part.blocks.push(json!({ "type": "Table", "columns": columns, "rows": rows }));
    }
    let mut lines = Vec::new();
    for row in layout.rows {
        let first = layout.first_cell(row).map_or(String::new(), |first| {
            format!("{} \u{a0}", RULES.shorten(first.trim_matches(TREE_CHARS), MAX_FIRST_CELL).0)
        });
        lines.extend(layout.queries(row, part).iter().map(|query| format!("{first}{query}")));
    }
    if !lines.is_empty() {
        part.blocks.extend(AdaptiveCard::code(None, &lines.join("\n")));
    }
}

/// Row by row: "pid 4711 · asset-api · for ⚠️ 12 min", and its query on a line of its own.
fn rows_as_text(layout: &TeamsLayout<'_, '_>, part: &mut RenderedPart) {
    for mut row in row_lines(layout, part) {
        if let Some((first, _)) = row.texts.first_mut() {
            *first = indented(first);
        }
        let text = |(text, role): &(String, TextRole)| match role {
            TextRole::Label => inline(text, TextStyle::SMALL),
            TextRole::Name => inline(text, TextStyle::BOLD),
            TextRole::Value => inline(text, TextStyle::PLAIN),
        };
        let mut inlines: Vec<Value> = row.texts.iter().map(text).collect();
        for query in &row.queries {
            inlines.push(inline(&format!("\n{}", indented(query)), TextStyle::CODE));
        }
        if !inlines.is_empty() {
            let mut text_block = block(inlines);
            text_block["separator"] = json!(true);
            part.blocks.push(text_block);
        }
    }
}
