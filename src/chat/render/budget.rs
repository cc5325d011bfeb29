//! Fits a reply into one message: what doesn't fit is cut part by part, and the message says so.

use super::part::{self, LineStyle, MessageFormat, PartLimit, RenderedPart};
use super::text::with_thousands_separators;
use crate::model::{Block, ColumnKind, Reply, Table};
use crate::platform::TooLarge;
use serde_json::Value;

/// A part smaller than this is left out whole rather than cut.
const MIN_CUT_SIZE: usize = 400;
/// Query text is cut to this length before rows are left out.
const MIN_QUERY: usize = 200;

/// A reply while it is being fitted.
pub struct MessageBudget<'a, F> {
    format: F,
    heading: RenderedPart,
    pub parts: Vec<BudgetPart<'a>>,
    dropped_parts: usize,
}

/// A part of the reply, as far as it is shown.
pub struct BudgetPart<'a> {
    pub block: &'a Block,
    pub rendered: RenderedPart,
    limit: PartLimit,
    size: usize,
}

impl BudgetPart<'_> {
    /// Tables and code are cut before sentences are.
    fn is_bulky(&self) -> bool {
        matches!(self.block, Block::Table(_) | Block::Code { .. })
    }
}

impl<'a, F: MessageFormat> MessageBudget<'a, F> {
    /// Renders everything, however large it is.
    pub fn new(reply: &'a Reply, format: F) -> Self {
        // Each shown part makes at least one block, so parts beyond the limit can't be shown; twice as many, as some show nothing.
        let parts = reply.blocks.iter().take(F::MAX_BLOCKS * 2).map(|block| {
            let limit = part::max_limit::<F>(block);
            let rendered = part::render(&format, block, limit);
            BudgetPart { block, limit, size: size_of(&format, &rendered), rendered }
        });
        let parts: Vec<BudgetPart> = parts.collect();
        let dropped_parts = reply.blocks.len() - parts.len();
        let mut heading = part::heading::<F>(&reply.heading);
        heading.mark_cut_if(dropped_parts > 0, || {
            format!("it has {} parts", with_thousands_separators(reply.blocks.len()))
        });
        MessageBudget { format, heading, parts, dropped_parts }
    }

    fn size(&self) -> usize {
        size_of(&self.format, &self.heading) + self.parts.iter().map(|part| part.size).sum::<usize>()
    }

    fn block_count(&self) -> usize {
        self.heading.blocks.len() + self.parts.iter().map(|part| part.rendered.blocks.len()).sum::<usize>()
    }

    /// Checks that nothing has to be cut.
    pub fn check_size(&self) -> Result<(), TooLarge> {
        let (size, blocks) = (self.size(), self.block_count());
        let parts = self.parts.iter().map(|part| &part.rendered);
        let reason = if let Some(reason) =
            [&self.heading].into_iter().chain(parts).find_map(|part| part.cut_reason.clone())
        {
            reason
        } else if size > self.format.max_size() {
            let (size, max) =
                (with_thousands_separators(size), with_thousands_separators(self.format.max_size()));
            format!("it has {size} {}; a message holds {max}", F::UNIT)
        } else if blocks > F::MAX_BLOCKS {
            format!("it has {blocks} blocks; a message holds {}", F::MAX_BLOCKS)
        } else {
            return Ok(());
        };
        Err(TooLarge { reason })
    }

    /// Cuts until all limits hold: the bulkiest part first, whole parts from the end as the last resort. Every round makes the
    /// message smaller, so it ends.
    pub fn squeeze(&mut self) {
        loop {
            let (note_size, note_blocks) = if self.dropped_parts > 0 { (F::NOTE_SIZE, 1) } else { (0, 0) };
            let excess = self.size().saturating_sub(self.format.max_size() - note_size);
            let has_too_many_blocks = self.block_count() > F::MAX_BLOCKS - note_blocks;
            if excess == 0 && !has_too_many_blocks {
                return;
            }
            let any_bulky = self.parts.iter().any(|part| part.is_bulky() && part.size >= MIN_CUT_SIZE);
            let must_drop_parts = has_too_many_blocks && self.parts.len() > F::MAX_BLOCKS;
            let is_candidate = |part: &&mut BudgetPart| {
                if has_too_many_blocks {
                    part.rendered.blocks.len() > 5
                } else {
                    part.size >= MIN_CUT_SIZE && (part.is_bulky() || !any_bulky)
                }
            };
            let largest = self.parts.iter_mut().filter(is_candidate).max_by_key(|part| part.size);
            let format = &self.format;
            let became_smaller = largest.filter(|_| !must_drop_parts).is_some_and(|part| {
                let excess = if has_too_many_blocks { part.size / 2 } else { excess.min(part.size) };
                tighten(format, part, excess.max(1))
            });
            if !became_smaller && !self.drop_last() {
                return;
            }
        }
    }

    /// Leaves out the last part, but buttons only when nothing else is left; `false` if there is no part.
    fn drop_last(&mut self) -> bool {
        let last = self.parts.iter().rposition(|part| !matches!(part.block, Block::Buttons(_)));
        let Some(at) = last.or(self.parts.len().checked_sub(1)) else { return false };
        self.parts.remove(at);
        self.dropped_parts += 1;
        true
    }

    /// All blocks in their order, with a note where parts were left out.
    pub fn into_blocks(self) -> Vec<Value> {
        let mut blocks = self.heading.blocks;
        blocks.extend(self.parts.into_iter().flat_map(|part| part.rendered.blocks));
        if self.dropped_parts > 0 {
            let note = format!("… {} more parts did not fit", with_thousands_separators(self.dropped_parts));
            blocks.push(F::line(&note, LineStyle::Small));
        }
        blocks
    }
}

fn size_of<F: MessageFormat>(format: &F, part: &RenderedPart) -> usize {
    part.blocks.iter().map(|block| format.size(block)).sum()
}

/// Renders a part again under a tighter limit; `false` if that didn't make it smaller.
fn tighten<F: MessageFormat>(format: &F, part: &mut BudgetPart, excess: usize) -> bool {
    let before = (part.size, part.rendered.blocks.len());
    part.limit = tighter_limit::<F>(part, excess);
    part.rendered = part::render(format, part.block, part.limit);
    part.size = size_of(format, &part.rendered);
    (part.size, part.rendered.blocks.len()) < before
}

/// A limit under which the part should lose `excess` units.
fn tighter_limit<F: MessageFormat>(part: &BudgetPart, excess: usize) -> PartLimit {
    let (limit, size) = (part.limit, part.size);
    let fewer_rows = || {
        let rows = limit.rows * size.saturating_sub(excess) / size.max(1);
        PartLimit { rows: rows.clamp(1, limit.rows - 1), ..limit }
    };
    let less_text = |text| PartLimit { text, ..limit };
    let half = limit.text.min(size) / 2;
    match part.block {
        // Shorter queries first, then fewer rows, then shorter cells.
        Block::Table(table) => match longest_query::<F>(table, limit) {
            query if query > MIN_QUERY => less_text((query / 2).max(MIN_QUERY)),
            _ if limit.rows > 1 => fewer_rows(),
            _ => less_text(half),
        },
        Block::Facts(_) | Block::Buttons(_) | Block::Links(_) if limit.rows > 1 => fewer_rows(),
        Block::Facts(_) => less_text(half),
        _ => less_text(limit.text.min(size).saturating_sub(excess + F::PART_OVERHEAD)),
    }
}

fn longest_query<F: MessageFormat>(table: &Table, limit: PartLimit) -> usize {
    let queries = table.columns.iter().enumerate().filter(|(_, column)| column.kind == ColumnKind::Query);
    let cells = queries
        .flat_map(|(at, _)| table.rows.iter().take(limit.rows).filter_map(move |row| row.cells.get(at)));
    let length =
        |text: &str| text.chars().take(limit.text).map(F::RULES.units_of).sum::<usize>().min(limit.text);
    cells.map(|cell| length(&cell.text)).max().unwrap_or(0)
}
