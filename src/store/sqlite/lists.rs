//! Lists of runs: the filters, each by an index, and the search in texts. Nothing here writes.

use super::connection::DbResult;
use super::rows::{self, to_json_word};
use super::{queries, search};
use crate::model::{RunId, RunState};
use crate::store::{Filter, RunPage};
use jiff::Timestamp;
use rusqlite::{Connection, ToSql, params_from_iter};
use std::collections::BTreeMap;

/// The states of the index `runs_active`, in its order.
const ACTIVE: [RunState; 4] =
    [RunState::Pending, RunState::Approved, RunState::Running, RunState::Interrupted];

/// The states of the index `runs_failed`, in its order.
const FAILED: [RunState; 5] =
    [RunState::Failed, RunState::Partial, RunState::Stopped, RunState::Interrupted, RunState::Invalidated];

/// Runs that a search without the index reads.
const MOST_SCANNED: usize = 2_000;

/// Candidates of the index that a search compares.
const MOST_COMPARED: usize = 20_000;

/// A statement that finds runs, newest first, and its values in order.
#[derive(Default)]
struct Statement {
    conditions: Vec<String>,
    values: Vec<Box<dyn ToSql>>,
    /// A condition has chosen the index.
    has_index: bool,
}

impl Statement {
    fn condition(&mut self, condition: &str) {
        self.conditions.push(condition.to_owned());
    }

    /// A condition with one `?`.
    fn with(&mut self, condition: &str, value: impl ToSql + 'static) {
        self.condition(condition);
        self.values.push(Box::new(value));
    }

    /// Equality of an indexed column. Only the first such condition may choose the index: SQLite takes no index for a column behind
    /// a plus sign.
    fn equal(&mut self, column: &str, value: Option<&String>) {
        if let Some(value) = value {
            let plus = if self.has_index { "+" } else { "" };
            self.with(&format!("{plus}{column} = ?"), value.clone());
            self.has_index = true;
        }
    }

    /// Of some states: with the condition of a partial index that has them all, where there is one.
    fn states(&mut self, states: &[RunState]) -> DbResult<()> {
        if states.is_empty() {
            return Ok(());
        }
        for indexed in [&ACTIVE[..], &FAILED[..]] {
            if states.iter().all(|state| indexed.contains(state)) {
                self.condition(&in_states(indexed)?);
                self.has_index = true;
                break;
            }
        }
        self.condition(&in_states(states)?);
        Ok(())
    }

    /// The conditions of a filter, in the order in which they leave the fewest runs. `is_search` if the search's index comes first.
    fn of(filter: &Filter, is_search: bool) -> DbResult<Statement> {
        let mut statement = Statement { has_index: is_search, ..Statement::default() };
        statement.states(&filter.states)?;
        if filter.break_glass {
            statement.condition("break_glass <> 0");
            statement.has_index = true;
        }
        if !filter.include_reads {
            // Without the plus sign there are two indexes for it.
            statement.condition(if statement.has_index { "+risk <> 'read'" } else { "risk <> 'read'" });
        }
        statement.equal("requester", filter.requester.as_ref());
        statement.equal("command", filter.command.as_ref());
        statement.equal("environment", filter.environment.as_ref());
        if let Some(since) = filter.since.map(Timestamp::as_microsecond) {
            // Numbers grow with time, so that the list ends where the time does; the clock may have been set back a little.
            statement.with(
                "id >= coalesce((SELECT min(id) FROM (SELECT id FROM runs WHERE opened_at >= ?
                                                       ORDER BY opened_at LIMIT 100)), 9223372036854775807)",
                since,
            );
            statement.with("+opened_at >= ?", since);
        }
        if let Some(before) = filter.before {
            statement.with("id < ?", before);
        }
        Ok(statement)
    }

    fn sql(&self, columns: &str, source: &str, order: &str) -> String {
        let conditions =
            if self.conditions.is_empty() { "true".to_owned() } else { self.conditions.join(" AND ") };
        format!("SELECT {columns} FROM {source} WHERE {conditions} ORDER BY {order} DESC")
    }
}

/// "state IN ('pending', 'approved')", letter for letter as an index has it.
fn in_states(states: &[RunState]) -> DbResult<String> {
    let words = states.iter().map(|state| Ok(format!("'{}'", to_json_word(state)?)));
    Ok(format!("state IN ({})", words.collect::<DbResult<Vec<_>>>()?.join(", ")))
}

/// Newest first. The index finds candidates for a text; they are compared here, since SQLite knows only ASCII's capitals.
pub(super) fn list(connection: &Connection, filter: &Filter) -> DbResult<RunPage> {
    let text = filter.text.as_ref().map(|text| text.to_lowercase());
    let expression = text.as_deref().and_then(search::expression);
    let mut statement = Statement::of(filter, expression.is_some())?;
    // The request is only read for a text: without it most filters need nothing but their index.
    let columns = if text.is_some() { "id, request" } else { "id" };
    let most = if expression.is_some() { MOST_COMPARED } else { MOST_SCANNED };
    let sql = match expression {
        None => statement.sql(columns, "runs", "id"),
        Some(expression) => {
            statement.with("search MATCH ?", expression);
            // A range of the index itself; the one of the runs would be looked at after it.
            let end = filter.before.map_or(i64::MAX, search::first_rowid);
            statement.with("search.rowid < ?", end);
            statement.sql(columns, "search CROSS JOIN runs ON runs.id = search.rowid >> 20", "search.rowid")
        }
    };
    let page_size = filter.page_size();
    let counted = page_size.saturating_add(Filter::COUNT_BEYOND_PAGE);
    let (mut page, mut compared, mut ids) = (RunPage::default(), 0, Vec::new());
    let mut last = None;
    let mut prepared = rows::prepare(connection, &sql)?;
    let mut candidates = prepared.query(params_from_iter(&statement.values))?;
    while let Some(row) = candidates.next()? {
        let id: RunId = row.get(0)?;
        // Several events of one run can match.
        if last.replace(id) == Some(id) {
            continue;
        }
        if let Some(text) = &text {
            if compared == most {
                page.unsearched_from = Some(id);
                break;
            }
            compared += 1;
            if !mentions(connection, id, &rows::json(row, 1)?, text)? {
                continue;
            }
        }
        if page.total == counted {
            page.has_more = true;
            break;
        }
        page.total += 1;
        if ids.len() < page_size {
            ids.push(id);
        }
    }
    page.runs = queries::runs_of(connection, &ids)?;
    Ok(page)
}

/// The part of a request that a list searches.
#[derive(serde::Deserialize)]
struct SearchedRequest {
    command: String,
    arguments: BTreeMap<String, String>,
}

/// True if the run's command, arguments or texts contain `text`, which is in lower case. "kill 4711" matches as typed.
fn mentions(connection: &Connection, run: RunId, request: &SearchedRequest, text: &str) -> DbResult<bool> {
    if search::request_words(&request.command, &request.arguments).to_lowercase().contains(text) {
        return Ok(true);
    }
    let sql = "SELECT text FROM events JOIN event_texts USING (seq) WHERE run = ?1";
    let texts: Vec<String> = rows::all(connection, sql, [run], rows::value)?;
    Ok(texts.iter().any(|stored| stored.to_lowercase().contains(text)))
}
