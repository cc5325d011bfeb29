//! Replies without a platform: what people read, as values. Nothing here knows Block Kit or Adaptive Cards.

use super::{Button, EventKind, Link, Person};
use serde::{Deserialize, Serialize};

/// A judgement: a colour and a word, never a colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing to judge.
    #[default]
    Neutral,
    /// All is well, or it is done.
    Ok,
    /// Worth a look.
    Warning,
    /// Act now; or: it failed.
    Critical,
}

/// The worst judgement of some blocks.
pub fn severity_of(blocks: &[Block]) -> Severity {
    let severities = blocks.iter().filter_map(|block| match block {
        Block::Verdict { severity, .. } => Some(*severity),
        _ => None,
    });
    severities.max().unwrap_or_default()
}

/// The part of what was asked that has an answer. An answer's verdict, its run's outcome and the exit status follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coverage {
    /// All of it.
    #[default]
    Whole,
    /// Some targets or checks have no answer: the answer names them.
    Partial,
    /// Nothing of it.
    None,
}

impl Coverage {
    /// Coverage of so many answers to so many questions.
    pub fn of(answered: usize, asked: usize) -> Coverage {
        match answered {
            _ if answered >= asked => Coverage::Whole,
            0 => Coverage::None,
            _ => Coverage::Partial,
        }
    }

    /// The event that closes the run of such an answer.
    pub fn outcome(self) -> EventKind {
        match self {
            Coverage::Whole => EventKind::Succeeded,
            Coverage::Partial => EventKind::Partial,
            Coverage::None => EventKind::Failed,
        }
    }
}

/// One run of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    Plain(String),
    Strong(String),
    /// A command, a name or a value to copy.
    Code(String),
    /// A person, shown by name and without a ping.
    Person(Person),
    /// A person to be notified: the one intended ping.
    Ping(Person),
}

/// The kind of a block's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordKind {
    /// Sentences, and names in them.
    Prose,
    /// Values that have to be told apart: those in code, and the names of roles.
    Identity,
}

/// A replacement of words.
pub type WordMap<'a> = dyn Fn(WordKind, &str) -> String + 'a;

/// Titles of columns with names of roles.
const ROLE_COLUMNS: [&str; 3] = ["role", "owner", "member of"];

/// A paragraph. Text of a person or a database goes in as a value; the renderer escapes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Text(pub Vec<Span>);

impl Text {
    pub fn new() -> Self {
        Text::default()
    }
    pub fn plain(mut self, text: impl Into<String>) -> Self {
        self.0.push(Span::Plain(text.into()));
        self
    }
    pub fn strong(mut self, text: impl Into<String>) -> Self {
        self.0.push(Span::Strong(text.into()));
        self
    }
    pub fn code(mut self, text: impl Into<String>) -> Self {
        self.0.push(Span::Code(text.into()));
        self
    }
    pub fn person(mut self, person: &Person) -> Self {
        self.0.push(Span::Person(person.clone()));
        self
    }
    pub fn ping(mut self, person: &Person) -> Self {
        self.0.push(Span::Ping(person.clone()));
        self
    }
    /// Replaces the words of every span but people's names.
    pub fn map_words(&mut self, map: &WordMap<'_>) {
        for span in &mut self.0 {
            match span {
                Span::Plain(words) | Span::Strong(words) => *words = map(WordKind::Prose, words),
                Span::Code(words) => *words = map(WordKind::Identity, words),
                Span::Person(_) | Span::Ping(_) => {}
            }
        }
    }
    /// The words alone, for logs, notifications and tests.
    pub fn words(&self) -> String {
        self.0
            .iter()
            .map(|span| match span {
                Span::Plain(t) | Span::Strong(t) | Span::Code(t) => t.as_str(),
                Span::Person(p) | Span::Ping(p) => p.id.as_str(),
            })
            .collect()
    }
}

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Self {
        Text::new().plain(text)
    }
}

/// Requester, command and environment: every answer begins with them, since others can't see a slash command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heading {
    pub requester: Option<Person>,
    /// The command as it was understood: "kill 4711".
    pub command: String,
    pub environment: Option<EnvironmentTag>,
    /// The run in the history, once there is one.
    pub run: Option<i64>,
}

/// An environment's name, and whether it is one to be careful with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentTag {
    pub name: String,
    /// Shown in a warning colour and capitals.
    pub production: bool,
}

/// Readers of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    Everyone,
    /// The asker alone: mistakes, `--private`, externally shared channels.
    Asker,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub heading: Heading,
    pub audience: Audience,
    pub blocks: Vec<Block>,
    /// A plan is shown whole or not at all; anything else may be cut by the platform, which says so.
    pub indivisible: bool,
    /// The token by which a client asks for its user's own view, of a card on which not everyone has the same buttons.
    pub view: Option<String>,
    /// Sent as text alone, without blocks, buttons or a card: for a platform that has refused those.
    #[serde(skip)]
    pub text_only: bool,
    /// The part of the question that is answered.
    #[serde(skip)]
    pub coverage: Coverage,
}

impl Reply {
    pub fn new(heading: Heading) -> Self {
        Reply {
            heading,
            audience: Audience::Everyone,
            blocks: Vec::new(),
            indivisible: false,
            view: None,
            text_only: false,
            coverage: Coverage::Whole,
        }
    }
    pub fn with(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }
    pub fn ephemeral(mut self) -> Self {
        self.audience = Audience::Asker;
        self
    }
    /// The buttons of all blocks and rows.
    pub fn buttons(&self) -> impl Iterator<Item = &Button> {
        self.blocks.iter().flat_map(|block| match block {
            Block::Buttons(buttons) => buttons.iter().collect(),
            Block::Table(table) => table.rows.iter().flat_map(|row| &row.buttons).collect(),
            _ => Vec::new(),
        })
    }
    /// The worst severity of the answer.
    pub fn severity(&self) -> Severity {
        let severities = self.blocks.iter().map(|block| match block {
            Block::Verdict { severity, .. } => *severity,
            _ => Severity::Neutral,
        });
        severities.max().unwrap_or_default()
    }
}

/// A part of an answer, in the order in which a person reads it: a verdict first, one next step last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Block {
    /// The answer in a line.
    Verdict {
        #[serde(rename = "tone")]
        severity: Severity,
        text: Text,
    },
    /// A paragraph.
    Text(Text),
    /// Labels and values, two columns on a wide screen.
    Facts(Vec<(String, Text)>),
    /// Rows.
    Table(Table),
    /// Query text or lines to copy, shown as written in a fixed-width font. Already redacted.
    Code { title: Option<String>, text: String },
    /// A share done, 0 to 100, with a word on what remains.
    Progress { percent: Option<u8>, label: String },
    /// A row of buttons.
    Buttons(Vec<Button>),
    /// A row of links.
    Links(Vec<Link>),
    /// Small print.
    Note(Text),
}

impl Block {
    /// Replaces the words of a block. SQL, buttons and links stay as they are: code, and the columns of query text.
    pub fn map_words(&mut self, map: &WordMap<'_>) {
        match self {
            Block::Verdict { text, .. } | Block::Text(text) | Block::Note(text) => text.map_words(map),
            Block::Facts(facts) => facts.iter_mut().for_each(|(_, value)| value.map_words(map)),
            Block::Table(table) => table.map_words(map),
            Block::Progress { label, .. } => *label = map(WordKind::Prose, label),
            Block::Code { .. } | Block::Buttons(_) | Block::Links(_) => {}
        }
    }
}

/// A share of the whole as a bar and in words, "▓▓▓░░░░░░░ 34 %": the same on a phone, in a terminal and read aloud.
pub fn bar(percent: f64) -> String {
    let percent = percent.clamp(0.0, 100.0);
    // Any share at all is visible.
    let full = if percent > 0.0 { ((percent.round() / 10.0) as usize).max(1) } else { 0 };
    format!("{}{} {percent:.0} %", "▓".repeat(full), "░".repeat(10 - full))
}

/// Rows under titles. Cells are formatted for people already.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Table {
    pub title: Option<String>,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    /// Number of rows before any were cut: "12 of 340 rows".
    pub total: usize,
    /// Shown in place of an empty table.
    pub empty: Option<String>,
}

impl Table {
    /// Replaces the words of its title and its cells, except for query text.
    pub fn map_words(&mut self, map: &WordMap<'_>) {
        self.title.iter_mut().for_each(|title| *title = map(WordKind::Prose, title));
        for row in &mut self.rows {
            for (cell, column) in row.cells.iter_mut().zip(&self.columns) {
                let is_role = ROLE_COLUMNS.contains(&column.title.as_str());
                let kind = if is_role { WordKind::Identity } else { WordKind::Prose };
                if column.kind != ColumnKind::Query {
                    cell.text = map(kind, &cell.text);
                }
            }
        }
    }
}

/// A column's title and layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub title: String,
    #[serde(rename = "shape")]
    pub kind: ColumnKind,
}

/// The kind of a column's values, which decides its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnKind {
    Left,
    /// Numbers, sizes, durations.
    Right,
    /// Query text: preformatted, below the table where the platform's cells are narrow.
    Query,
}

/// A row, and the buttons that belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Row {
    pub cells: Vec<Cell>,
    pub buttons: Vec<Button>,
}

/// A value with its judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    pub text: String,
    #[serde(rename = "tone")]
    pub severity: Severity,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell { text: text.into(), severity: Severity::Neutral }
    }
}
