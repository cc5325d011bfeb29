//! Fits a reply into one message: what doesn't fit gives way part by part, and says so. How a part looks and what it weighs is
//! the platform's [`PlatformLimits`]; nothing here knows which.

use super::table_layout::Layout;
use super::text::{TextRules, grouped};
use crate::model::{Block, Reply, Row, Shape, Table};
use crate::platform::TooLarge;
use serde_json::Value;

/// A part shorter than this is left out whole rather than cut.
const WORTH_CUTTING: usize = 400;
/// Query text is cut to this length before rows are left out.
const QUERY_FLOOR: usize = 200;
/// Only the first rows offer buttons: a wall of buttons hides the table.
const ROWS_WITH_BUTTONS: usize = 5;

/// How much of a part may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartLimit {
    /// Rows, facts or buttons.
    pub rows: usize,
    /// Units of text: of the whole part, or of each of its rows' values.
    pub text: usize,
}

/// What a part became.
#[derive(Debug, Default)]
pub struct RenderedPart {
    pub blocks: Vec<Value>,
    /// Why it isn't shown whole.
    pub cut: Option<String>,
}

impl RenderedPart {
    pub fn cut_if(&mut self, cut: bool, why: impl FnOnce() -> String) {
        if cut && self.cut.is_none() {
            self.cut = Some(why());
        }
    }
}

/// How a platform shows the parts of a reply, and how much one message of it holds.
pub trait PlatformLimits {
    /// How it counts text.
    const MANNER: TextRules;
    /// What [`size`](Form::size) counts: "characters".
    const UNIT: &'static str;
    /// Blocks of a message.
    const BLOCKS: usize;
    /// What the words that say what is missing take of a part, and what else a part weighs that isn't its text.
    const SPARE: usize;
    /// What the note takes that parts were left out.
    const NOTE: usize;
    /// Columns of a table that stand side by side.
    const TABLE_COLUMNS: usize;
    /// What the cells of a table may hold together.
    const TABLE_TEXT: usize;

    /// What a message holds, in [`UNIT`](Form::UNIT)s.
    fn room(&self) -> usize;
    /// How much of a part may be shown at all.
    fn widest(&self, block: &Block) -> PartLimit;
    /// Renders what the cap allows.
    fn render(&self, block: &Block, cap: PartLimit) -> RenderedPart;
    /// What a block weighs.
    fn size(&self, block: &Value) -> usize;
}

/// A reply while it is being fitted.
pub struct MessageBudget<'a, F> {
    pub form: F,
    pub heading: RenderedPart,
    pub parts: Vec<BudgetPart<'a>>,
    pub dropped: usize,
}

pub struct BudgetPart<'a> {
    pub block: &'a Block,
    pub piece: RenderedPart,
    cap: PartLimit,
    size: usize,
}

impl BudgetPart<'_> {
    /// Tables and code give way before sentences do.
    fn bulky(&self) -> bool {
        matches!(self.block, Block::Table(_) | Block::Code { .. })
    }
}

impl<'a, F: PlatformLimits> MessageBudget<'a, F> {
    /// Everything, however much it is.
    pub fn of(reply: &'a Reply, form: F, mut heading: RenderedPart) -> Self {
        // No part that shows anything makes less than one block: the rest can't be shown in any case.
        let parts = reply.blocks.iter().take(F::BLOCKS * 2).map(|block| {
            let cap = form.widest(block);
            let piece = form.render(block, cap);
            BudgetPart { block, cap, size: weight(&form, &piece), piece }
        });
        let parts: Vec<BudgetPart> = parts.collect();
        let dropped = reply.blocks.len() - parts.len();
        heading.cut_if(dropped > 0, || format!("it has {} parts", grouped(reply.blocks.len())));
        MessageBudget { form, heading, parts, dropped }
    }

    fn size(&self) -> usize {
        weight(&self.form, &self.heading) + self.parts.iter().map(|part| part.size).sum::<usize>()
    }

    fn blocks(&self) -> usize {
        self.heading.blocks.len() + self.parts.iter().map(|part| part.piece.blocks.len()).sum::<usize>()
    }

    /// Whether nothing has to give way.
    pub fn whole(&self) -> Result<(), TooLarge> {
        let (size, blocks) = (self.size(), self.blocks());
        let cut = self.heading.cut.as_ref();
        let cut = cut.or_else(|| self.parts.iter().find_map(|part| part.piece.cut.as_ref()));
        let why = if let Some(cut) = cut {
            cut.clone()
        } else if size > self.form.room() {
            let (size, most) = (grouped(size), grouped(self.form.room()));
            format!("it has {size} {}; a message holds {most}", F::UNIT)
        } else if blocks > F::BLOCKS {
            format!("it has {blocks} blocks; a message holds {}", F::BLOCKS)
        } else {
            return Ok(());
        };
        Err(TooLarge { why })
    }

    /// Cuts until all limits hold: the bulkiest part first, whole parts from the end as the last resort. Every round
    /// makes the draft smaller, so it ends.
    pub fn squeeze(&mut self) {
        loop {
            let (own_text, own_blocks) = if self.dropped > 0 { (F::NOTE, 1) } else { (0, 0) };
            let excess = self.size().saturating_sub(self.form.room() - own_text);
            let crowded = self.blocks() > F::BLOCKS - own_blocks;
            if excess == 0 && !crowded {
                return;
            }
            let bulky = self.parts.iter().any(|part| part.bulky() && part.size >= WORTH_CUTTING);
            let largest = match crowded {
                true if self.parts.len() > F::BLOCKS => None,
                true => self
                    .parts
                    .iter_mut()
                    .filter(|part| part.piece.blocks.len() > 5)
                    .max_by_key(|part| part.size),
                false => self
                    .parts
                    .iter_mut()
                    .filter(|part| part.size >= WORTH_CUTTING && (part.bulky() || !bulky))
                    .max_by_key(|part| part.size),
            };
            let form = &self.form;
            let smaller = largest.is_some_and(|part| {
                let excess = if crowded { part.size / 2 } else { excess.min(part.size) };
                tighten(form, part, excess.max(1))
            });
            if !smaller && !self.drop_last() {
                return;
            }
        }
    }

    /// Leaves out the last part, but buttons only when nothing else is left. Whether there was one.
    fn drop_last(&mut self) -> bool {
        let last = self.parts.iter().rposition(|part| !matches!(part.block, Block::Buttons(_)));
        let Some(at) = last.or(self.parts.len().checked_sub(1)) else { return false };
        self.parts.remove(at);
        self.dropped += 1;
        true
    }

    /// What stands where parts were left out.
    pub fn dropped_note(&self) -> Option<String> {
        (self.dropped > 0).then(|| format!("… {} more parts did not fit", grouped(self.dropped)))
    }
}

fn weight<F: PlatformLimits>(form: &F, piece: &RenderedPart) -> usize {
    piece.blocks.iter().map(|block| form.size(block)).sum()
}

/// Whether the part became smaller.
fn tighten<F: PlatformLimits>(form: &F, part: &mut BudgetPart, excess: usize) -> bool {
    let before = (part.size, part.piece.blocks.len());
    part.cap = tighter::<F>(part.block, part.cap, (part.size, excess));
    part.piece = form.render(part.block, part.cap);
    part.size = weight(form, &part.piece);
    (part.size, part.piece.blocks.len()) < before
}

/// A tighter cap for a part that is `size` long and should lose `excess`.
fn tighter<F: PlatformLimits>(block: &Block, cap: PartLimit, (size, excess): (usize, usize)) -> PartLimit {
    let share = |rows: usize| rows * size.saturating_sub(excess) / size.max(1);
    let fewer = |cap: PartLimit| PartLimit { rows: share(cap.rows).clamp(1, cap.rows - 1), ..cap };
    let narrower = |cap: PartLimit| PartLimit { text: cap.text.min(size) / 2, ..cap };
    match block {
        Block::Table(table) => {
            // Shorter queries first, then fewer rows, then shorter cells.
            let longest = longest_query::<F>(table, cap);
            match cap.rows > 1 {
                _ if longest > QUERY_FLOOR => PartLimit { text: (longest / 2).max(QUERY_FLOOR), ..cap },
                true => fewer(cap),
                false => narrower(cap),
            }
        }
        Block::Facts(_) | Block::Buttons(_) if cap.rows > 1 => fewer(cap),
        Block::Facts(_) => narrower(cap),
        _ => PartLimit { text: cap.text.min(size).saturating_sub(excess + F::SPARE), ..cap },
    }
}

fn longest_query<F: PlatformLimits>(table: &Table, cap: PartLimit) -> usize {
    let queries = table.columns.iter().enumerate().filter(|(_, column)| column.shape == Shape::Query);
    let cells =
        queries.flat_map(|(at, _)| table.rows.iter().take(cap.rows).filter_map(move |row| row.cells.get(at)));
    let length = |text: &str| text.chars().take(cap.text).map(F::MANNER.units).sum::<usize>().min(cap.text);
    cells.map(|cell| length(&cell.text)).max().unwrap_or(0)
}

/// The rows whose buttons stand below their table, of those that are shown.
pub fn rows_with_buttons(table: &Table, shown: usize) -> &[Row] {
    &table.rows[..shown.min(ROWS_WITH_BUTTONS).min(table.rows.len())]
}

/// "12 of 340 rows · 20 of 24 columns": what of a table isn't shown, and why it isn't, told to its piece.
pub fn counted(table: &Table, layout: &Layout<'_>, shown: usize, piece: &mut RenderedPart) -> String {
    let (columns, all_columns) = (layout.columns.len(), layout.all_columns);
    let total = table.total.max(table.rows.len());
    let mut said = Vec::new();
    if shown < total {
        said.push(format!("{} of {} rows", grouped(shown), grouped(total)));
    }
    if columns < all_columns {
        said.push(format!("{columns} of {all_columns} columns"));
    }
    piece.cut_if(shown < table.rows.len(), || {
        format!("a table has {} rows; a message holds {}", grouped(table.rows.len()), grouped(shown))
    });
    piece.cut_if(columns < all_columns, || {
        format!("a table has {all_columns} columns; a message holds {columns}")
    });
    said.join(" · ")
}
