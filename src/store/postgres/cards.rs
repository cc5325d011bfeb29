//! Cards: adding, claiming and updating them, and the cards that are behind their runs. The tokens of buttons, and rate
//! limits. None of it takes the head of the chain.

use super::runs::{self, from_word, word};
use super::session::{CallError, CallResult, SessionSlot};
use crate::model::{ButtonToken, Card, CardKind, Conversation, RunId};
use crate::pg_connect::PgRow;
use jiff::Timestamp;
use std::time::Duration;

macro_rules! cards {
    ($condition:literal) => {
        concat!(
            "SELECT id, run, place, message, shown_version, abandoned, kind FROM countersign.cards WHERE ",
            $condition,
            " ORDER BY id"
        )
    };
}

fn card(row: &PgRow) -> CallResult<Card> {
    Ok(Card {
        id: row.get(0)?,
        run: row.get(1)?,
        conversation: serde_json::from_str(&row.get::<String>(2)?)?,
        message: row.get(3)?,
        shown_version: row.get(4)?,
        abandoned: row.get(5)?,
        kind: from_word(row.get(6)?)?,
    })
}

pub(super) async fn add(
    slot: &SessionSlot,
    run: RunId,
    conversation: &Conversation,
    kind: CardKind,
) -> CallResult<i64> {
    // The lock keeps an event from coming between the version and the card.
    let sql = "INSERT INTO countersign.cards (run, place, kind, run_version)
               SELECT r.id, $2, $3, r.version FROM countersign.runs r WHERE r.id = $1 FOR SHARE RETURNING id";
    let (place, kind) = (serde_json::to_string(conversation)?, word(&kind)?);
    let rows = slot.query_once(sql, &[&run, &place, &kind]).await?;
    let missing = || CallError::Message(format!("there is no run {run}"));
    Ok(rows.first().ok_or_else(missing)?.get(0)?)
}

/// Updates a card that no other instance has claimed, and releases the claim.
pub(super) async fn update(slot: &SessionSlot, card: &Card, instance: &str) -> CallResult<bool> {
    let sql = "UPDATE countersign.cards
                  SET place = $3, message = $4, shown_version = $5, abandoned = $6, claimed_until = '-infinity'
                WHERE id = $1 AND run = $2 AND claimed_by IN ('', $7) RETURNING id";
    let place = serde_json::to_string(&card.conversation)?;
    let Card { id, run, message, shown_version, abandoned, .. } = card;
    let updated = slot.query(sql, &[id, run, &place, message, shown_version, abandoned, &instance]).await?;
    if updated.is_empty() && get(slot, *id).await?.is_none_or(|known| known.run != *run) {
        return Err(CallError::Message(format!("there is no card {id} of run {run}")));
    }
    Ok(!updated.is_empty())
}

pub(super) async fn get(slot: &SessionSlot, id: i64) -> CallResult<Option<Card>> {
    slot.query(cards!("id = $1"), &[&id]).await?.first().map(card).transpose()
}

pub(super) async fn of_run(slot: &SessionSlot, run: RunId) -> CallResult<Vec<Card>> {
    slot.query(cards!("run = $1"), &[&run]).await?.iter().map(card).collect()
}

/// Claims a card for this instance for that long. False if another instance has claimed it, or if this one is taken for dead.
pub(super) async fn claim(slot: &SessionSlot, id: i64, period: Duration, instance: &str) -> CallResult<bool> {
    let sql = "UPDATE countersign.cards
                  SET claimed_until = clock_timestamp() + countersign.interval_of($2), claimed_by = $3
                WHERE id = $1 AND NOT countersign.is_lost($3)
                  AND NOT (claimed_until > clock_timestamp() AND NOT countersign.is_lost(claimed_by)) RETURNING id";
    let period = runs::period(period);
    Ok(!slot.query_once(sql, &[&id, &period, &instance]).await?.is_empty())
}

/// Cards that show less than their run's version and that no living instance has claimed.
pub(super) async fn outdated(slot: &SessionSlot) -> CallResult<Vec<Card>> {
    let sql = cards!(
        "is_outdated AND NOT (claimed_until > clock_timestamp() AND NOT countersign.is_lost(claimed_by))"
    );
    slot.query(sql, &[]).await?.iter().map(card).collect()
}

/// Stores new tokens. An existing token is refused: the purpose of a button never changes.
pub(super) async fn put_tokens(slot: &SessionSlot, tokens: &[ButtonToken]) -> CallResult<()> {
    let sql = "INSERT INTO countersign.tokens (token, purpose, place) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])";
    let (mut names, mut purposes, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for token in tokens {
        names.push(&token.token);
        purposes.push(serde_json::to_string(&token.purpose)?);
        places.push(serde_json::to_string(&token.conversation)?);
    }
    slot.query_once(sql, &[&names, &purposes, &places]).await.map(drop)
}

pub(super) async fn token(slot: &SessionSlot, token: &str) -> CallResult<Option<ButtonToken>> {
    let sql = "SELECT token, purpose, place FROM countersign.tokens WHERE token = $1";
    let rows = slot.query(sql, &[&token]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(ButtonToken {
        token: row.get(0)?,
        purpose: serde_json::from_str(&row.get::<String>(1)?)?,
        conversation: serde_json::from_str(&row.get::<String>(2)?)?,
    }))
}

pub(super) async fn take_token(slot: &SessionSlot, token: &str) -> CallResult<bool> {
    let sql = "DELETE FROM countersign.tokens WHERE token = $1 RETURNING token";
    Ok(!slot.query_once(sql, &[&token]).await?.is_empty())
}

/// Removes tokens, and cards of closed runs, that are older than that. The tokens of an open run's cards stay.
pub(super) async fn remove_old(slot: &SessionSlot, age: Duration) -> CallResult<usize> {
    let tokens = "WITH removed AS (DELETE FROM countersign.tokens WHERE token IN (
            SELECT t.token FROM countersign.tokens t
             WHERE t.created_at < clock_timestamp() - countersign.interval_of($1) AND NOT EXISTS (
                   SELECT FROM countersign.runs r WHERE r.id = (t.purpose::jsonb ->> 'run')::bigint
                      AND r.state IN ('pending', 'approved', 'running', 'interrupted'))
             ORDER BY t.created_at LIMIT 1000) RETURNING 1)
        SELECT count(*) FROM removed";
    let cards = "WITH removed AS (DELETE FROM countersign.cards WHERE id IN (
            SELECT c.id FROM countersign.cards c JOIN countersign.runs r ON r.id = c.run
             WHERE r.changed_at < clock_timestamp() - countersign.interval_of($1)
               AND r.state NOT IN ('pending', 'approved', 'running', 'interrupted')
             ORDER BY c.run LIMIT 1000) RETURNING 1)
        SELECT count(*) FROM removed";
    let age = runs::period(age);
    let mut count = 0;
    for sql in [tokens, cards] {
        let rows = slot.query_once(sql, &[&age]).await?;
        count += rows.first().map_or(Ok(0), |row| row.get::<i64>(0))?;
    }
    Ok(usize::try_from(count).unwrap_or_default())
}

pub(super) async fn set_rate_limit(slot: &SessionSlot, name: &str, until: Timestamp) -> CallResult<()> {
    let passed = "DELETE FROM countersign.rate_limits WHERE ends_at <= clock_timestamp()";
    slot.query(passed, &[]).await?;
    let sql = "INSERT INTO countersign.rate_limits (name, ends_at) VALUES ($1, $2)
               ON CONFLICT (name) DO UPDATE SET ends_at = excluded.ends_at";
    slot.query(sql, &[&name, &until]).await.map(drop)
}

pub(super) async fn rate_limits(slot: &SessionSlot) -> CallResult<Vec<(String, Timestamp)>> {
    let rows = slot.query("SELECT name, ends_at FROM countersign.rate_limits", &[]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}
