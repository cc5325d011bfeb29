//! A neutral reply as lines for a terminal, none wider than it: a pure function. The verdict first, then who asked what of which
//! environment, then the rest in its order. No text can send an escape sequence.

use super::ButtonLines;
use super::style::{
    Style, StyledText, columns, continued, cut, escaped_line, escaped_lines, padded, styled, to_ansi,
    trimmed, wrapped,
};
use crate::model::{Block, Button, Heading, Reply, Row, Severity, Shape, Span, Table, Text, bar};

/// The terminal's abilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Columns.
    pub width: usize,
    pub colours: bool,
}

/// Labels of facts wider than this don't push their values further to the right.
const MAX_LABEL: usize = 24;
const GAP: usize = 2;
/// A column of words isn't squeezed further than this: three letters a line are not read.
const MIN_WIDTH: usize = 8;
/// Lines of one cell. More of it is in `--json`.
const MAX_CELL_LINES: usize = 4;
const MAX_QUERY_LINES: usize = 6;

/// Renders the reply, each line with its end. `lines` has the lines that its buttons stand for.
pub fn render(reply: &Reply, lines: &ButtonLines, screen: Screen) -> String {
    let mut page = TerminalPage { width: screen.width, lines: Vec::new() };
    let mut blocks = reply.blocks.iter().peekable();
    if let Some(verdict) = blocks.next_if(|block| matches!(block, Block::Verdict { .. })) {
        page.block(verdict, lines);
    }
    page.wrap(&heading(&reply.heading));
    let mut follows_prose = false;
    for block in blocks {
        if !(is_prose(block) && follows_prose) {
            page.blank();
        }
        page.block(block, lines);
        follows_prose = is_prose(block);
    }
    page.lines.iter().map(|line| to_ansi(line, screen.colours) + "\n").collect()
}

fn is_prose(block: &Block) -> bool {
    matches!(block, Block::Verdict { .. } | Block::Text(_) | Block::Note(_) | Block::Progress { .. })
}

/// "ana requested health on PRODUCTION · #128".
fn heading(heading: &Heading) -> StyledText {
    let requester =
        heading.requester.as_ref().map_or(String::new(), |person| format!("{} requested ", person.id));
    let mut line = styled(&escaped_line(&format!("{requester}{}", heading.command)), Style::Faint);
    if let Some(environment) = &heading.environment {
        line.extend(styled(" on ", Style::Faint));
        let name = escaped_line(&environment.name);
        line.extend(if environment.production {
            styled(&name.to_uppercase(), Style::Critical)
        } else {
            styled(&name, Style::Strong)
        });
    }
    if let Some(run) = heading.run {
        line.extend(styled(&format!(" · #{run}"), Style::Faint));
    }
    line
}

fn severity_label(severity: Severity) -> StyledText {
    match severity {
        Severity::Neutral => StyledText::new(),
        Severity::Ok => styled("OK: ", Style::Ok),
        Severity::Warning => styled("WARNING: ", Style::Warning),
        Severity::Critical => styled("CRITICAL: ", Style::Critical),
    }
}

/// Text in its styles; text to type is in backticks, since not every terminal has colours.
fn text(text: &Text, plain: Style) -> StyledText {
    let spans = text.0.iter().map(|span| match span {
        Span::Plain(words) => styled(&escaped_lines(words), plain),
        Span::Strong(words) => styled(&escaped_lines(words), Style::Strong),
        Span::Code(words) => styled(&format!("`{}`", escaped_lines(words)), Style::Code),
        Span::Person(person) | Span::Ping(person) => styled(&escaped_line(&person.id), Style::Strong),
    });
    spans.flatten().collect()
}

struct TerminalPage {
    width: usize,
    lines: Vec<StyledText>,
}

impl TerminalPage {
    fn blank(&mut self) {
        self.lines.push(StyledText::new());
    }

    fn wrap(&mut self, text: &[(char, Style)]) {
        self.lines.extend(wrapped(text, self.width));
    }

    /// Adds one paragraph of a person's or a database's text.
    fn paragraph(&mut self, text: &str, style: Style) {
        self.wrap(&styled(&escaped_line(text), style));
    }

    fn block(&mut self, block: &Block, lines: &ButtonLines) {
        match block {
            Block::Verdict { tone, text: words } => {
                self.wrap(&[severity_label(*tone), text(words, Style::Strong)].concat());
            }
            Block::Text(words) => self.wrap(&text(words, Style::Plain)),
            Block::Note(words) => self.wrap(&text(words, Style::Faint)),
            Block::Facts(facts) => {
                let label = |label: &str| styled(&escaped_line(label), Style::Strong);
                let pairs = facts.iter().map(|(name, value)| (label(name), text(value, Style::Plain)));
                self.labelled(pairs.collect());
            }
            Block::Table(table) => {
                self::table(table, self);
                let buttons = || table.rows.iter().flat_map(|row| &row.buttons);
                if buttons().any(|button| lines.contains_key(&button.token)) {
                    self.blank();
                }
                self.buttons(buttons(), lines);
            }
            Block::Code { title, text } => {
                if let Some(title) = title {
                    self.paragraph(title, Style::Strong);
                }
                for line in escaped_lines(text).lines() {
                    self.lines.extend(continued(line, self.width));
                }
            }
            Block::Progress { percent, label } => match percent {
                Some(percent) => {
                    self.paragraph(&format!("{} · {label}", bar((*percent).into())), Style::Plain);
                }
                None => self.paragraph(label, Style::Plain),
            },
            Block::Buttons(buttons) => self.buttons(buttons.iter(), lines),
        }
    }

    /// The lines to type instead of a click. A button without one is left out.
    fn buttons<'a>(&mut self, buttons: impl Iterator<Item = &'a Button>, lines: &ButtonLines) {
        for line in buttons.filter_map(|button| lines.get(&button.token)) {
            self.lines.extend(continued(&escaped_line(line), self.width));
        }
    }

    /// Labels, and values beside them that wrap under themselves.
    fn labelled(&mut self, pairs: Vec<(StyledText, StyledText)>) {
        let widest = pairs.iter().map(|(label, _)| columns(label)).max().unwrap_or(0);
        let indent = widest.min(MAX_LABEL).min(self.width / 2) + 2;
        for (label, value) in pairs {
            let labels = wrapped(&label, indent - 2);
            let values = wrapped(&value, self.width - indent);
            for number in 0..labels.len().max(values.len()) {
                let label = labels.get(number).cloned().unwrap_or_default();
                self.lines.push(match values.get(number) {
                    Some(value) if !value.is_empty() => {
                        [padded(label, indent, false), value.clone()].concat()
                    }
                    _ => label,
                });
            }
        }
    }
}

/// Numbers are aligned right and never cut; words wrap, and are cut with "…" after a few lines. A table of too many columns is
/// shown row by row. Query text stands beneath.
fn table(table: &Table, page: &mut TerminalPage) {
    if let Some(title) = &table.title {
        page.paragraph(title, Style::Strong);
    }
    if table.rows.is_empty() {
        page.paragraph(table.empty.as_deref().unwrap_or("None."), Style::Plain);
        return;
    }
    let (query_columns, cell_columns): (Vec<usize>, Vec<usize>) =
        (0..table.columns.len()).partition(|at| table.columns[*at].shape == Shape::Query);
    let shown: Vec<TableColumn> = cell_columns.iter().map(|at| TableColumn::new(table, *at)).collect();
    match widths(&shown, page.width) {
        Some(widths) => grid(&shown, &widths, page),
        None => records(&shown, page),
    }
    queries(table, &query_columns, shown.first(), page);
    if table.total > table.rows.len() {
        let words = format!("{} of {} rows", table.rows.len(), table.total);
        page.lines.push(styled(&words, Style::Faint));
    }
}

struct TableColumn {
    /// Numbers: aligned right, and never wrapped.
    is_right: bool,
    title: StyledText,
    cells: Vec<StyledText>,
}

impl TableColumn {
    fn new(table: &Table, at: usize) -> Self {
        let column = &table.columns[at];
        TableColumn {
            is_right: column.shape == Shape::Right,
            title: styled(&escaped_line(&column.title), Style::Strong),
            cells: table.rows.iter().map(|row| cell(row, at)).collect(),
        }
    }

    fn texts(&self) -> impl Iterator<Item = &StyledText> {
        self.cells.iter().chain([&self.title])
    }

    fn width(&self) -> usize {
        self.texts().map(|text| columns(text)).max().unwrap_or(0)
    }

    fn longest_word(&self) -> usize {
        let words = self.texts().flat_map(|text| text.split(|(c, _)| *c == ' '));
        words.map(columns).max().unwrap_or(0)
    }
}

/// A cell's text. A judged value has a sign that needs no colour.
fn cell(row: &Row, at: usize) -> StyledText {
    let Some(cell) = row.cells.get(at) else { return StyledText::new() };
    let (sign, style) = match cell.tone {
        Severity::Neutral => ("", Style::Plain),
        Severity::Ok => ("", Style::Ok),
        Severity::Warning => ("! ", Style::Warning),
        Severity::Critical => ("!! ", Style::Critical),
    };
    styled(&format!("{sign}{}", escaped_line(&cell.text)), style)
}

/// Widths of the columns; `None` if they can't be shown side by side.
fn widths(shown: &[TableColumn], page_width: usize) -> Option<Vec<usize>> {
    let mut widths: Vec<usize> = shown.iter().map(TableColumn::width).collect();
    let words: Vec<usize> = shown.iter().map(TableColumn::longest_word).collect();
    let room = page_width.checked_sub(GAP * shown.len().saturating_sub(1))?;
    while widths.iter().sum::<usize>() > room {
        // No word is cut while another column still has words to wrap.
        let may_shrink = |at: &usize| !shown[*at].is_right && widths[*at] > MIN_WIDTH;
        let has_words = |at: &usize| may_shrink(at) && widths[*at] > words[*at];
        let widest = (0..widths.len()).filter(has_words).max_by_key(|at| widths[*at]);
        let widest = widest.or_else(|| (0..widths.len()).filter(may_shrink).max_by_key(|at| widths[*at]))?;
        widths[widest] -= 1;
    }
    Some(widths)
}

fn grid(shown: &[TableColumn], widths: &[usize], page: &mut TerminalPage) {
    let mut add_row = |cells: Vec<StyledText>| {
        let cells = cells.iter().zip(widths);
        let cells: Vec<Vec<StyledText>> =
            cells.map(|(cell, width)| cut(wrapped(cell, *width), MAX_CELL_LINES, *width)).collect();
        for number in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let mut line = StyledText::new();
            for ((lines, column), width) in cells.iter().zip(shown).zip(widths) {
                let part = lines.get(number).cloned().unwrap_or_default();
                line.extend(padded(part, *width, column.is_right));
                line.extend(styled(&" ".repeat(GAP), Style::Plain));
            }
            page.lines.push(trimmed(line));
        }
    };
    add_row(shown.iter().map(|column| column.title.clone()).collect());
    add_row(widths.iter().map(|width| styled(&"─".repeat(*width), Style::Faint)).collect());
    for row in 0..shown.first().map_or(0, |column| column.cells.len()) {
        add_row(shown.iter().map(|column| column.cells[row].clone()).collect());
    }
}

fn records(shown: &[TableColumn], page: &mut TerminalPage) {
    for row in 0..shown.first().map_or(0, |column| column.cells.len()) {
        if row > 0 {
            page.blank();
        }
        let pairs = shown.iter().map(|column| (column.title.clone(), column.cells[row].clone()));
        page.labelled(pairs.collect());
    }
}

/// Each row's query text, behind the row's first cell.
fn queries(table: &Table, places: &[usize], first_column: Option<&TableColumn>, page: &mut TerminalPage) {
    let mut pairs = Vec::new();
    for (number, row) in table.rows.iter().enumerate() {
        let queries = places.iter().filter_map(|at| row.cells.get(*at));
        for query in queries.filter(|query| !query.text.trim().is_empty()) {
            let label = first_column.map(|column| column.cells[number].clone()).unwrap_or_default();
            pairs.push((label, styled(&escaped_line(&query.text), Style::Code)));
        }
    }
    if pairs.is_empty() {
        return;
    }
    page.blank();
    let widest = pairs.iter().map(|(label, _)| columns(label)).max().unwrap_or(0);
    let label_width = widest.min(page.width / 3);
    let width = page.width - label_width - GAP;
    for (label, query) in pairs {
        let mut label = cut(wrapped(&label, label_width), 1, label_width).pop().unwrap_or_default();
        for line in cut(wrapped(&query, width), MAX_QUERY_LINES, width) {
            let label = std::mem::take(&mut label);
            page.lines.push([padded(label, label_width + GAP, false), line].concat());
        }
    }
}
