//! The sessions behind one that is ended: read before, and looked at afterwards.

use crate::actions::Outcome;
use crate::model::EventKind;
use crate::postgres::{PooledClient, QueryError};
use crate::sql::WaitGraph;
use std::time::Duration;

/// Limit of one look at the waits for locks.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// The first session of a queue gets its lock at once, and the others when it is done.
const MAX_LOOKS: usize = 20;
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Pids of the sessions that wait behind this one; none if they can't be read.
pub async fn sessions_behind(client: &PooledClient, pid: i32) -> Vec<i32> {
    let graph = WaitGraph::read(client, READ_LIMIT).await.unwrap_or_default();
    graph.behind(pid).iter().filter_map(|waiter| waiter.pid).collect()
}

/// Adds to an outcome how many of the sessions that were behind are still blocked; nothing if that can't be read.
pub async fn add_unblocked(outcome: &mut Outcome, client: &PooledClient, behind: &[i32]) {
    if outcome.kind != EventKind::Succeeded || behind.is_empty() {
        return;
    }
    let mut blocked = Ok(behind.len());
    for look in 0..MAX_LOOKS {
        if look > 0 {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        blocked = count_blocked(client, behind).await;
        if !matches!(blocked, Ok(1..)) {
            break;
        }
    }
    let sentence = match (blocked, behind.len()) {
        (Err(_), _) => return,
        (Ok(0), 1) => "The session behind it is no longer blocked.".to_owned(),
        (Ok(0), all) => format!("The {all} sessions behind it are no longer blocked."),
        (Ok(_), 1) => "The session behind it is still blocked.".to_owned(),
        (Ok(1), all) => format!("1 of the {all} sessions behind it is still blocked."),
        (Ok(blocked), all) if blocked == all => format!("The {all} sessions behind it are still blocked."),
        (Ok(blocked), all) => format!("{blocked} of the {all} sessions behind it are still blocked."),
    };
    outcome.verdict = std::mem::take(&mut outcome.verdict).plain(format!(" {sentence}"));
}

async fn count_blocked(client: &PooledClient, behind: &[i32]) -> Result<usize, QueryError> {
    let graph = WaitGraph::read(client, READ_LIMIT).await?;
    let is_blocked = |pid: &&i32| {
        graph.waiters.iter().any(|waiter| waiter.pid == Some(**pid) && waiter.waits_for.is_some())
    };
    Ok(behind.iter().filter(is_blocked).count())
}
