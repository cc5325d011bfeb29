//! Reading runs: one, a list, the orphans, the overdue, and the audit of them all. Nothing here writes.

use super::runs::{StoredRun, word};
use super::session::{CallError, CallResult, SessionSlot, StoreSession};
use crate::metrics::Waiting;
use crate::model::{Run, RunId};
use crate::pg_connect::PgRow;
use crate::store::hash_chain::{AuditedEvent, ChainAudit, EventRow, RunRow, TextRow};
use crate::store::{ChainReport, Filter, RunPage, StoreStatus};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;

/// Runs and events that are read at a time.
const BATCH: i64 = 1_000;

/// A search ends after this time, and the answer says which runs it didn't reach.
const SEARCH_LIMIT: Duration = Duration::from_secs(3);

pub(super) async fn now(slot: &SessionSlot) -> CallResult<Timestamp> {
    let rows = slot.query("SELECT countersign.microseconds(clock_timestamp())", &[]).await?;
    Ok(Timestamp::from_microsecond(rows.first().ok_or(CallError::Lost)?.get(0)?)?)
}

pub(super) async fn get(slot: &SessionSlot, id: RunId) -> CallResult<Option<Run>> {
    let rows = slot.query("SELECT countersign.run_json($1)::text", &[&id]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    row.get::<Option<String>>(0)?.map(|json| read_run(&json)).transpose()
}

fn read_run(json: &str) -> CallResult<Run> {
    serde_json::from_str::<StoredRun>(json)?.read()
}

fn runs(rows: &[PgRow]) -> CallResult<Vec<Run>> {
    rows.iter().map(|row| read_run(&row.get::<String>(0)?)).collect()
}

/// Approved and running runs whose instance is dead, oldest first.
pub(super) async fn orphans(slot: &SessionSlot) -> CallResult<Vec<Run>> {
    let sql = "SELECT countersign.run_json(r.id)::text FROM countersign.runs r
                WHERE r.state IN ('approved', 'running') AND countersign.is_lost(coalesce(r.owner, '')) ORDER BY r.id";
    runs(&slot.query(sql, &[]).await?)
}

/// Runs whose deadline has passed, oldest first.
pub(super) async fn overdue(slot: &SessionSlot) -> CallResult<Vec<Run>> {
    let sql = "SELECT countersign.run_json(r.id)::text FROM countersign.runs r
                WHERE r.state IN ('pending', 'approved') AND r.deadline <= clock_timestamp() ORDER BY r.id";
    runs(&slot.query(sql, &[]).await?)
}

/// The number of what is open, and the time in seconds for which the oldest has been.
pub(super) async fn status(slot: &SessionSlot) -> CallResult<StoreStatus> {
    let sql = "WITH open AS (
            SELECT state, opened_at FROM countersign.runs WHERE state IN ('pending', 'approved', 'running')),
          undelivered AS (
            SELECT r.changed_at FROM countersign.cards c JOIN countersign.runs r ON r.id = c.run WHERE c.is_outdated),
          waiting (kind, since) AS (
            SELECT state, opened_at FROM open UNION ALL SELECT 'undelivered', changed_at FROM undelivered)
        SELECT k.kind, count(w.since), coalesce(extract(epoch FROM clock_timestamp() - min(w.since)), 0)::float8,
               (SELECT max(version) FROM countersign.schema_versions)::bigint
          FROM unnest(ARRAY['pending', 'approved', 'running', 'undelivered']) WITH ORDINALITY k (kind, place)
          LEFT JOIN waiting w ON w.kind = k.kind GROUP BY k.kind, k.place ORDER BY k.place";
    let rows = slot.query(sql, &[]).await?;
    let waiting = |at: usize| {
        let row = rows.get(at).ok_or(CallError::Lost)?;
        let (count, age_s): (i64, f64) = (row.get(1)?, row.get(2)?);
        CallResult::Ok(Waiting {
            count: u64::try_from(count).unwrap_or_default(),
            oldest_age: Duration::try_from_secs_f64(age_s).unwrap_or_default(),
        })
    };
    Ok(StoreStatus {
        schema_version: rows.first().ok_or(CallError::Lost)?.get(3)?,
        pending: waiting(0)?,
        approved: waiting(1)?,
        running: waiting(2)?,
        undelivered_cards: waiting(3)?,
    })
}

/// A filter as a condition with its parameters: only what it asks for, so that the server sees which index serves it.
struct Condition {
    sql: String,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Condition {
    fn new(filter: &Filter) -> CallResult<Condition> {
        let mut condition = Condition { sql: "true".to_owned(), values: Vec::new() };
        if !filter.include_reads {
            condition.sql += " AND r.risk <> 'read'";
        }
        if filter.break_glass {
            condition.sql += " AND r.break_glass";
        }
        condition.add("r.environment =", filter.environment.clone());
        condition.add("r.requester =", filter.requester.clone());
        condition.add("r.command =", filter.command.clone());
        condition.add("r.opened_at >=", filter.since);
        condition.add("r.id <", filter.before);
        if !filter.states.is_empty() {
            let states = filter.states.iter().map(word).collect::<CallResult<Vec<String>>>()?;
            condition.add("r.state = ANY", Some(states));
        }
        Ok(condition)
    }

    fn add(&mut self, comparison: &str, value: Option<impl ToSql + Sync + Send + 'static>) {
        let Some(value) = value else { return };
        self.values.push(Box::new(value));
        self.sql += &format!(" AND {comparison} (${})", self.values.len());
    }

    /// The parameters, with two more numbers behind them.
    fn values<'a>(&'a self, more: [&'a i64; 2]) -> Vec<&'a (dyn ToSql + Sync)> {
        let own = self.values.iter().map(|value| value.as_ref() as &(dyn ToSql + Sync));
        own.chain(more.into_iter().map(|number| number as &(dyn ToSql + Sync))).collect()
    }

    /// The numbers of those two.
    fn more(&self) -> [usize; 2] {
        [self.values.len() + 1, self.values.len() + 2]
    }
}

/// Newest first. A text is compared here, as the other store does, since the server has capitals of its own.
pub(super) async fn list(slot: &SessionSlot, filter: &Filter) -> CallResult<RunPage> {
    let session = slot.session().await?;
    let page = match filter.text.as_ref().map(|text| text.to_lowercase()) {
        Some(text) => search(&session, filter, &text).await,
        None => page(&session, filter).await,
    };
    if matches!(page, Err(CallError::Lost)) {
        slot.discard(&session).await;
    }
    page
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

async fn page(session: &StoreSession, filter: &Filter) -> CallResult<RunPage> {
    let condition = Condition::new(filter)?;
    let [limit, most] = condition.more();
    let where_sql = &condition.sql;
    // Both in one statement: the count belongs to the page.
    let sql = format!(
        "SELECT countersign.run_json(p.id)::text, c.total
           FROM (SELECT count(*) AS total FROM (SELECT FROM countersign.runs r WHERE {where_sql} LIMIT ${most}) m) c
           LEFT JOIN (SELECT r.id FROM countersign.runs r WHERE {where_sql} ORDER BY r.id DESC LIMIT ${limit}) p ON true
          ORDER BY p.id DESC"
    );
    let counted = filter.page_size().saturating_add(Filter::COUNT_BEYOND_PAGE);
    let (limit, most) = (number(filter.page_size()), number(counted.saturating_add(1)));
    let rows = session.query_text(&sql, &condition.values([&limit, &most])).await?;
    let total = rows.first().map_or(Ok(0), |row| row.get::<i64>(1))?;
    let total = usize::try_from(total).unwrap_or_default();
    let found = rows.iter().filter_map(|row| row.get::<Option<String>>(0).transpose());
    let runs = found.map(|json| read_run(&json?)).collect::<CallResult<Vec<Run>>>()?;
    Ok(RunPage { runs, total: total.min(counted), has_more: total > counted, unsearched_from: None })
}

/// The part of a request that a list searches.
#[derive(Deserialize)]
struct SearchedRequest {
    command: String,
    arguments: BTreeMap<String, String>,
}

/// True if the run's command, arguments or texts contain `text`, which is in lower case. "kill 4711" matches as typed.
fn mentions(request: &SearchedRequest, texts: &[String], text: &str) -> bool {
    let words: Vec<&str> =
        std::iter::once(&request.command).chain(request.arguments.values()).map(String::as_str).collect();
    words.join(" ").to_lowercase().contains(text) || texts.iter().any(|own| own.to_lowercase().contains(text))
}

async fn search(session: &StoreSession, filter: &Filter, text: &str) -> CallResult<RunPage> {
    let condition = Condition::new(filter)?;
    let [before, batch] = condition.more();
    let sql = format!(
        "SELECT r.id, r.request, coalesce((SELECT array_agg(t.text) FROM countersign.events e
                    JOIN countersign.event_texts t USING (seq) WHERE e.run = r.id), '{{}}')
           FROM countersign.runs r WHERE {} AND r.id < ${before} ORDER BY r.id DESC LIMIT ${batch}",
        condition.sql
    );
    let counted = filter.page_size().saturating_add(Filter::COUNT_BEYOND_PAGE);
    let start = Instant::now();
    let (mut ids, mut page, mut cursor) = (Vec::new(), RunPage::default(), i64::MAX);
    'search: loop {
        let rows = session.query_text(&sql, &condition.values([&cursor, &BATCH])).await?;
        for row in &rows {
            cursor = row.get(0)?;
            let request = serde_json::from_str(&row.get::<String>(1)?)?;
            if !mentions(&request, &row.get::<Vec<String>>(2)?, text) {
                continue;
            }
            if page.total == counted {
                page.has_more = true;
                break 'search;
            }
            page.total += 1;
            if ids.len() < filter.page_size() {
                ids.push(cursor);
            }
        }
        if number(rows.len()) < BATCH {
            break;
        }
        if start.elapsed() > SEARCH_LIMIT {
            page.unsearched_from = Some(cursor - 1);
            break;
        }
    }
    Ok(RunPage { runs: runs_of(session, &ids).await?, ..page })
}

async fn runs_of(session: &StoreSession, ids: &[RunId]) -> CallResult<Vec<Run>> {
    let sql = "SELECT countersign.run_json(id)::text FROM unnest($1::bigint[]) id ORDER BY id DESC";
    runs(&session.query(sql, &[&ids]).await?)
}

/// A text as `json_build_object` writes it.
#[derive(Deserialize)]
struct StoredText {
    name: String,
    /// Hex.
    key: String,
    text: String,
}

const EVENTS: &str = "SELECT e.seq, e.run, e.bytes, encode(e.hash, 'hex'), (
        SELECT json_agg(json_build_object('name', t.name, 'key', encode(t.key, 'hex'), 'text', t.text) ORDER BY t.name)
          FROM countersign.event_texts t WHERE t.seq = e.seq)::text
    FROM countersign.events e WHERE e.seq > $1 ORDER BY e.seq LIMIT $2";

/// The events after that position, oldest first.
pub(super) async fn events(slot: &SessionSlot, after: i64, limit: usize) -> CallResult<Vec<EventRow>> {
    slot.query(EVENTS, &[&after, &number(limit)]).await?.iter().map(event_row).collect()
}

fn event_row(row: &PgRow) -> CallResult<EventRow> {
    let texts: Option<String> = row.get(4)?;
    let texts: Vec<StoredText> = texts.map_or(Ok(Vec::new()), |json| serde_json::from_str(&json))?;
    let bytes_of =
        |hex: &str| hex::decode(hex).map_err(|_| CallError::Message("a hash can't be read".into()));
    let texts = texts
        .into_iter()
        .map(|StoredText { name, key, text }| Ok(TextRow { name, key: bytes_of(&key)?, text }));
    Ok(EventRow {
        seq: row.get(0)?,
        run: row.get(1)?,
        bytes: row.get(2)?,
        hash: bytes_of(&row.get::<String>(3)?)?,
        texts: texts.collect::<CallResult<Vec<TextRow>>>()?,
    })
}

/// An event with its texts, as in [`EVENTS`], and its run's row.
const AUDITED_EVENTS: &str = "SELECT e.seq, e.run, e.bytes, encode(e.hash, 'hex'), (
        SELECT json_agg(json_build_object('name', t.name, 'key', encode(t.key, 'hex'), 'text', t.text) ORDER BY t.name)
          FROM countersign.event_texts t WHERE t.seq = e.seq)::text,
        r.id, r.version, r.state, r.request, countersign.microseconds(r.opened_at),
        countersign.microseconds(r.changed_at), countersign.microseconds(r.deadline)
    FROM countersign.events e LEFT JOIN countersign.runs r ON r.id = e.run
    WHERE e.seq > $1 ORDER BY e.seq LIMIT $2";

/// Checks the whole chain over a connection of its own, in pages of one snapshot.
pub(super) async fn verify(session: &StoreSession) -> CallResult<ChainReport> {
    session.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let report = audit(session).await?;
    session.batch("COMMIT").await?;
    Ok(report)
}

/// Checks the whole chain within a transaction in which it doesn't change.
pub(super) async fn audit(session: &StoreSession) -> CallResult<ChainReport> {
    let mut audit = ChainAudit::default();
    let (mut after, mut text_count) = (i64::MIN, 0);
    loop {
        let rows = session.query(AUDITED_EVENTS, &[&after, &BATCH]).await?;
        for row in &rows {
            let EventRow { seq, run, bytes, hash, texts } = event_row(row)?;
            (after, text_count) = (seq, text_count + number(texts.len()));
            let event = AuditedEvent { seq, run, bytes: &bytes, hash: &hash, texts: &texts };
            audit.event(event, || run_row(row).map_err(|_| format!("run {run}: its row can't be read")));
        }
        if number(rows.len()) < BATCH {
            break;
        }
    }
    let lost_run = "(SELECT r.id FROM countersign.runs r WHERE NOT EXISTS (
        SELECT FROM countersign.events e WHERE e.run = r.id) ORDER BY r.id LIMIT 1)";
    let sql = format!(
        "SELECT count(*), (SELECT count(*) FROM countersign.runs), {lost_run} FROM countersign.event_texts"
    );
    let rows = session.query_text(&sql, &[]).await?;
    let row = rows.first().ok_or(CallError::Lost)?;
    if row.get::<i64>(0)? != text_count {
        audit.report_error("there are texts of events that don't exist");
    }
    if row.get::<i64>(1)? != audit.runs() {
        audit.report_error(match row.get::<Option<i64>>(2)? {
            Some(run) => format!("run {run} has no events"),
            None => "a run begins twice".to_owned(),
        });
    }
    Ok(audit.finish())
}

/// The run's row beside an event; `None` if there is none.
fn run_row(row: &PgRow) -> CallResult<Option<RunRow>> {
    let Some(id) = row.get(5)? else { return Ok(None) };
    let deadline: Option<i64> = row.get(11)?;
    Ok(Some(RunRow {
        id,
        version: row.get(6)?,
        state: super::runs::from_word(row.get(7)?)?,
        request: row.get(8)?,
        opened_at: Timestamp::from_microsecond(row.get(9)?)?,
        changed_at: Timestamp::from_microsecond(row.get(10)?)?,
        deadline: deadline.map(Timestamp::from_microsecond).transpose()?,
    }))
}
