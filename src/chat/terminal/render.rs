//! A neutral reply as lines for a terminal, none wider than the terminal: a pure function. The verdict first, then who asked what of which
//! environment, then the rest in its order. No text can send an escape sequence.

use super::ButtonLines;
use super::style::{
    Style, StyledText, break_code, cut, display_width, escaped_line, escaped_lines, padded, styled, to_ansi,
    trimmed, wrapped,
};
use crate::model::{Block, Button, ColumnKind, Heading, Reply, Row, Severity, Span, Table, Text, bar};

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
/// A column of words isn't squeezed further than this: nobody can read three letters a line.
const MIN_WIDTH: usize = 8;
/// Lines of one cell. More of it is in `--json`.
const MAX_CELL_LINES: usize = 4;
const MAX_QUERY_LINES: usize = 6;

/// Renders the reply; each line ends with a newline. `button_lines` has the lines that its buttons stand for.
pub fn render(reply: &Reply, button_lines: &ButtonLines, screen: Screen) -> String {
    let mut page = TerminalPage { width: screen.width, lines: Vec::new() };
    let mut blocks = reply.blocks.iter().peekable();
    if let Some(verdict) = blocks.next_if(|block| matches!(block, Block::Verdict { .. })) {
        page.block(verdict, button_lines);
    }
    page.wrap(&heading(&reply.heading));
    let mut follows_prose = false;
    for block in blocks {
        if !(is_prose(block) && follows_prose) {
            page.blank();
        }
        page.block(block, button_lines);
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

    fn block(&mut self, block: &Block, button_lines: &ButtonLines) {
        match block {
            Block::Verdict { severity, text: words } => {
                self.wrap(&[severity_label(*severity), text(words, Style::Strong)].concat());
            }
            Block::Text(words) => self.wrap(&text(words, Style::Plain)),
            Block::Note(words) => self.wrap(&text(words, Style::Faint)),
            Block::Facts(facts) => {
                let label = |label: &str| styled(&escaped_line(label), Style::Strong);
                let pairs = facts.iter().map(|(name, value)| (label(name), text(value, Style::Plain)));
                self.add_labelled_values(pairs.collect());
            }
            Block::Table(table) => {
                self::table(table, self);
                let buttons = || table.rows.iter().flat_map(|row| &row.buttons);
                if buttons().any(|button| button_lines.contains_key(&button.token)) {
                    self.blank();
                }
                self.buttons(buttons(), button_lines);
            }
            Block::Code { title, text } => {
                if let Some(title) = title {
                    self.paragraph(title, Style::Strong);
                }
                for line in escaped_lines(text).lines() {
                    self.lines.extend(break_code(line, self.width));
                }
            }
            Block::Progress { percent, label } => match percent {
                Some(percent) => {
                    self.paragraph(&format!("{} · {label}", bar((*percent).into())), Style::Plain);
                }
                None => self.paragraph(label, Style::Plain),
            },
            Block::Buttons(buttons) => self.buttons(buttons.iter(), button_lines),
            Block::Links(links) => {
                for link in links {
                    self.paragraph(&link.label, Style::Strong);
                    self.lines.extend(break_code(&escaped_line(link.url.as_str()), self.width));
                }
            }
        }
    }

    /// The lines to type instead of a click. A button without one is left out.
    fn buttons<'a>(&mut self, buttons: impl Iterator<Item = &'a Button>, button_lines: &ButtonLines) {
        for line in buttons.filter_map(|button| button_lines.get(&button.token)) {
            self.lines.extend(break_code(&escaped_line(line), self.width));
        }
    }

    /// Adds labels, each with its value beside it; a wrapped value stays in its column.
    fn add_labelled_values(&mut self, pairs: Vec<(StyledText, StyledText)>) {
        let widest = pairs.iter().map(|(label, _)| display_width(label)).max().unwrap_or(0);
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
        (0..table.columns.len()).partition(|index| table.columns[*index].kind == ColumnKind::Query);
    let columns: Vec<TableColumn> =
        cell_columns.iter().map(|index| TableColumn::new(table, *index)).collect();
    match widths(&columns, page.width) {
        Some(widths) => grid(&columns, &widths, page),
        None => rows_as_pairs(&columns, page),
    }
    queries(table, &query_columns, columns.first(), page);
    if table.total > table.rows.len() {
        let words = format!("{} of {} rows", table.rows.len(), table.total);
        page.lines.push(styled(&words, Style::Faint));
    }
}

struct TableColumn {
    /// Numbers: aligned right, and never wrapped.
    is_right_aligned: bool,
    title: StyledText,
    cells: Vec<StyledText>,
}

impl TableColumn {
    fn new(table: &Table, index: usize) -> Self {
        let column = &table.columns[index];
        TableColumn {
            is_right_aligned: column.kind == ColumnKind::Right,
            title: styled(&escaped_line(&column.title), Style::Strong),
            cells: table.rows.iter().map(|row| cell(row, index)).collect(),
        }
    }

    fn texts(&self) -> impl Iterator<Item = &StyledText> {
        self.cells.iter().chain([&self.title])
    }

    fn width(&self) -> usize {
        self.texts().map(|text| display_width(text)).max().unwrap_or(0)
    }

    fn longest_word(&self) -> usize {
        let words = self.texts().flat_map(|text| text.split(|(c, _)| *c == ' '));
        words.map(display_width).max().unwrap_or(0)
    }
}

/// A cell's text. A value with a severity gets a sign, so that it shows without colour.
fn cell(row: &Row, index: usize) -> StyledText {
    let Some(cell) = row.cells.get(index) else { return StyledText::new() };
    let (sign, style) = match cell.severity {
        Severity::Neutral => ("", Style::Plain),
        Severity::Ok => ("", Style::Ok),
        Severity::Warning => ("! ", Style::Warning),
        Severity::Critical => ("!! ", Style::Critical),
    };
    styled(&format!("{sign}{}", escaped_line(&cell.text)), style)
}

/// Widths of the columns; `None` if they can't be shown side by side.
fn widths(columns: &[TableColumn], page_width: usize) -> Option<Vec<usize>> {
    let mut widths: Vec<usize> = columns.iter().map(TableColumn::width).collect();
    let longest_words: Vec<usize> = columns.iter().map(TableColumn::longest_word).collect();
    let room = page_width.checked_sub(GAP * columns.len().saturating_sub(1))?;
    while widths.iter().sum::<usize>() > room {
        // No word is cut while another column still has words to wrap.
        let may_shrink = |index: &usize| !columns[*index].is_right_aligned && widths[*index] > MIN_WIDTH;
        let can_still_wrap = |index: &usize| may_shrink(index) && widths[*index] > longest_words[*index];
        let widest = (0..widths.len()).filter(can_still_wrap).max_by_key(|index| widths[*index]);
        let widest =
            widest.or_else(|| (0..widths.len()).filter(may_shrink).max_by_key(|index| widths[*index]))?;
        widths[widest] -= 1;
    }
    Some(widths)
}

fn grid(columns: &[TableColumn], widths: &[usize], page: &mut TerminalPage) {
    let mut add_row = |cells: Vec<StyledText>| {
        let cells = cells.iter().zip(widths);
        let cells: Vec<Vec<StyledText>> =
            cells.map(|(cell, width)| cut(wrapped(cell, *width), MAX_CELL_LINES, *width)).collect();
        for number in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let mut line = StyledText::new();
            for ((lines, column), width) in cells.iter().zip(columns).zip(widths) {
                let part = lines.get(number).cloned().unwrap_or_default();
                line.extend(padded(part, *width, column.is_right_aligned));
                line.extend(styled(&" ".repeat(GAP), Style::Plain));
            }
            page.lines.push(trimmed(line));
        }
    };
    add_row(columns.iter().map(|column| column.title.clone()).collect());
    add_row(widths.iter().map(|width| styled(&"─".repeat(*width), Style::Faint)).collect());
    for row in 0..columns.first().map_or(0, |column| column.cells.len()) {
        add_row(columns.iter().map(|column| column.cells[row].clone()).collect());
    }
}

fn rows_as_pairs(columns: &[TableColumn], page: &mut TerminalPage) {
    for row in 0..columns.first().map_or(0, |column| column.cells.len()) {
        if row > 0 {
            page.blank();
        }
        let pairs = columns.iter().map(|column| (column.title.clone(), column.cells[row].clone()));
        page.add_labelled_values(pairs.collect());
    }
}

/// Each row's query text, behind the row's first cell.
fn queries(
    table: &Table,
    query_columns: &[usize],
    first_column: Option<&TableColumn>,
    page: &mut TerminalPage,
) {
    let mut pairs = Vec::new();
    for (number, row) in table.rows.iter().enumerate() {
        let queries = query_columns.iter().filter_map(|index| row.cells.get(*index));
        for query in queries.filter(|query| !query.text.trim().is_empty()) {
            let label = first_column.map(|column| column.cells[number].clone()).unwrap_or_default();
            pairs.push((label, styled(&escaped_line(&query.text), Style::Code)));
        }
    }
    if pairs.is_empty() {
        return;
    }
    page.blank();
    let widest = pairs.iter().map(|(label, _)| display_width(label)).max().unwrap_or(0);
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
