//! A neutral reply as lines for a terminal, none wider than it: a pure function. The verdict first, then who asked what of which
//! environment, then the rest in its order. No text can send an escape sequence.

use super::style::{Style, StyledText, columns, continued, padded, styled, to_ansi, wrapped};
use super::{ButtonLines, escape, table};
use crate::model::{Block, Button, Heading, Reply, Severity, Span, Text, bar};

/// The terminal's abilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Columns.
    pub width: usize,
    pub colours: bool,
}

/// Labels of facts wider than this don't push their values further to the right.
const MAX_LABEL: usize = 24;

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
    let requester = heading.who.as_ref().map_or(String::new(), |who| format!("{} requested ", who.id));
    let mut line = styled(&escape::line(&format!("{requester}{}", heading.asked)), Style::Faint);
    if let Some(environment) = &heading.environment {
        line.extend(styled(" on ", Style::Faint));
        let name = escape::line(&environment.name);
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

/// Text in its styles; what is to be typed stands in backticks, since not every terminal has colours.
fn text(text: &Text, plain: Style) -> StyledText {
    let spans = text.0.iter().map(|span| match span {
        Span::Plain(words) => styled(&escape::lines(words), plain),
        Span::Strong(words) => styled(&escape::lines(words), Style::Strong),
        Span::Code(words) => styled(&format!("`{}`", escape::lines(words)), Style::Code),
        Span::Person(person) | Span::Ping(person) => styled(&escape::line(&person.id), Style::Strong),
    });
    spans.flatten().collect()
}

/// Lines of a reply while they are put together.
pub(super) struct TerminalPage {
    pub width: usize,
    pub lines: Vec<StyledText>,
}

impl TerminalPage {
    pub fn blank(&mut self) {
        self.lines.push(StyledText::new());
    }

    /// Adds text, wrapped to the page.
    pub fn wrap(&mut self, text: &[(char, Style)]) {
        self.lines.extend(wrapped(text, self.width));
    }

    /// Adds one paragraph of a person's or a database's text.
    pub fn paragraph(&mut self, text: &str, style: Style) {
        self.wrap(&styled(&escape::line(text), style));
    }

    fn block(&mut self, block: &Block, lines: &ButtonLines) {
        match block {
            Block::Verdict { tone, text: words } => {
                self.wrap(&[severity_label(*tone), text(words, Style::Strong)].concat());
            }
            Block::Text(words) => self.wrap(&text(words, Style::Plain)),
            Block::Note(words) => self.wrap(&text(words, Style::Faint)),
            Block::Facts(facts) => {
                let label = |label: &str| styled(&escape::line(label), Style::Strong);
                let pairs = facts.iter().map(|(name, value)| (label(name), text(value, Style::Plain)));
                self.labelled(pairs.collect());
            }
            Block::Table(table) => {
                table::render(table, self);
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
                for line in escape::lines(text).lines() {
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
            self.lines.extend(continued(&escape::line(line), self.width));
        }
    }

    /// Labels, and values beside them that wrap under themselves.
    pub fn labelled(&mut self, pairs: Vec<(StyledText, StyledText)>) {
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
