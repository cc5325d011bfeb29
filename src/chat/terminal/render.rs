//! A neutral reply as lines for a terminal: a pure function. The verdict first, then who asked what of which environment,
//! then the rest in its order. No line is wider than the terminal. Nothing that a person or a database wrote can send an
//! escape sequence.

use super::Lines;
use super::escape;
use super::style::{Style, StyledText, continued, inked, padded, wrapped, written};
use super::table;
use crate::model::{Block, Button, Heading, Reply, Severity, Span, Text, bar};

/// What kind of terminal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Columns.
    pub width: usize,
    pub colours: bool,
}

/// Labels of facts wider than this don't push their values further to the right.
const WIDEST_LABEL: usize = 24;

/// The reply, each line with its end. `lines` tells what its buttons stand for.
pub fn render(reply: &Reply, lines: &Lines, screen: Screen) -> String {
    let mut page = TerminalPage { width: screen.width, lines: Vec::new() };
    let first = usize::from(matches!(reply.blocks.first(), Some(Block::Verdict { .. })));
    let (verdict, rest) = reply.blocks.split_at(first);
    verdict.iter().for_each(|block| page.block(block, lines));
    page.extend(wrapped(&heading(&reply.heading), screen.width));
    let mut before = None;
    for block in rest {
        if !(is_prose(block) && before.is_some_and(is_prose)) {
            page.lines.push(StyledText::new());
        }
        page.block(block, lines);
        before = Some(block);
    }
    page.lines.iter().map(|line| written(line, screen.colours) + "\n").collect()
}

fn is_prose(block: &Block) -> bool {
    matches!(block, Block::Verdict { .. } | Block::Text(_) | Block::Note(_) | Block::Progress { .. })
}

/// "ana requested health on PRODUCTION · #128".
fn heading(heading: &Heading) -> StyledText {
    let mut line = StyledText::new();
    let mut add = |text: &str, ink| line.extend(inked(text, ink));
    match &heading.who {
        Some(who) => add(
            &format!("{} requested {}", escape::line(&who.id), escape::line(&heading.asked)),
            Style::Faint,
        ),
        None => add(&escape::line(&heading.asked), Style::Faint),
    }
    if let Some(environment) = &heading.environment {
        add(" on ", Style::Faint);
        let name = escape::line(&environment.name);
        match environment.production {
            true => add(&name.to_uppercase(), Style::Critical),
            false => add(&name, Style::Strong),
        }
    }
    if let Some(run) = heading.run {
        add(&format!(" · #{run}"), Style::Faint);
    }
    line
}

/// The word of a tone, and its ink.
fn word(tone: Severity) -> (&'static str, Style) {
    match tone {
        Severity::Neutral => ("", Style::Strong),
        Severity::Ok => ("OK: ", Style::Ok),
        Severity::Warning => ("WARNING: ", Style::Warning),
        Severity::Critical => ("CRITICAL: ", Style::Critical),
    }
}

/// Text in inks; what is to be typed stands in backticks, since not every terminal has colours.
fn text(text: &Text, plain: Style) -> StyledText {
    let mut line = StyledText::new();
    for span in &text.0 {
        match span {
            Span::Plain(words) => line.extend(inked(&escape::lines(words), plain)),
            Span::Strong(words) => line.extend(inked(&escape::lines(words), Style::Strong)),
            Span::Code(words) => line.extend(inked(&format!("`{}`", escape::lines(words)), Style::Code)),
            Span::Person(person) | Span::Ping(person) => {
                line.extend(inked(&escape::line(&person.id), Style::Strong));
            }
        }
    }
    line
}

/// Lines as they come together.
pub(super) struct TerminalPage {
    pub width: usize,
    pub lines: Vec<StyledText>,
}

impl TerminalPage {
    pub fn extend(&mut self, lines: Vec<StyledText>) {
        self.lines.extend(lines);
    }

    /// A title, with nothing of its own below it yet.
    pub fn title(&mut self, title: &str) {
        self.extend(wrapped(&inked(&escape::line(title), Style::Strong), self.width));
    }

    fn block(&mut self, block: &Block, lines: &Lines) {
        match block {
            Block::Verdict { tone, text: words } => {
                let (word, ink) = word(*tone);
                self.extend(wrapped(&[inked(word, ink), text(words, Style::Strong)].concat(), self.width));
            }
            Block::Text(words) => self.extend(wrapped(&text(words, Style::Plain), self.width)),
            Block::Note(words) => self.extend(wrapped(&text(words, Style::Faint), self.width)),
            Block::Facts(facts) => self.facts(facts),
            Block::Table(found) => {
                table::render(found, self);
                let buttons: Vec<&Button> = found.rows.iter().flat_map(|row| &row.buttons).collect();
                if buttons.iter().any(|button| lines.contains_key(&button.token)) {
                    self.lines.push(StyledText::new());
                }
                self.buttons(&buttons, lines);
            }
            Block::Code { title, text } => {
                title.iter().for_each(|title| self.title(title));
                escape::lines(text).lines().for_each(|line| self.extend(continued(line, self.width)));
            }
            Block::Progress { percent, label } => {
                let label = escape::line(label);
                let words =
                    percent.map_or(label.clone(), |percent| format!("{} · {label}", bar(percent.into())));
                self.extend(wrapped(&inked(&words, Style::Plain), self.width));
            }
            Block::Buttons(buttons) => self.buttons(&buttons.iter().collect::<Vec<_>>(), lines),
        }
    }

    /// What a click would do, to type. A button that nobody can type is left out.
    fn buttons(&mut self, buttons: &[&Button], lines: &Lines) {
        for line in buttons.iter().filter_map(|button| lines.get(&button.token)) {
            self.extend(continued(&escape::line(line), self.width));
        }
    }

    fn facts(&mut self, facts: &[(String, Text)]) {
        let labels: Vec<StyledText> =
            facts.iter().map(|(l, _)| inked(&escape::line(l), Style::Strong)).collect();
        self.labelled(
            labels.into_iter().zip(facts.iter().map(|(_, value)| text(value, Style::Plain))).collect(),
        );
    }

    /// Labels, and values beside them that wrap under themselves.
    pub fn labelled(&mut self, pairs: Vec<(StyledText, StyledText)>) {
        let widest = pairs.iter().map(|(label, _)| super::style::columns(label)).max().unwrap_or(0);
        let indent = widest.min(WIDEST_LABEL).min(self.width / 2) + 2;
        for (label, value) in pairs {
            let mut labels = wrapped(&label, indent - 2).into_iter();
            let mut values = wrapped(&value, self.width - indent).into_iter();
            loop {
                let (left, right) = match (labels.next(), values.next()) {
                    (None, None) => break,
                    (left, right) => (left.unwrap_or_default(), right.unwrap_or_default()),
                };
                let left = if right.is_empty() { left } else { padded(left, indent, false) };
                self.lines.push([left, right].concat());
            }
        }
    }
}
