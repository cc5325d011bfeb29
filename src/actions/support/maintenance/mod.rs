//! The mechanics that VACUUM, ANALYZE and REINDEX share: the session that works and the one that watches it, the advisory lock on a
//! table, and the report on each table or index.

use crate::actions::support::blocks;
use crate::model::{Cell, Shape, Table};
use crate::postgres::QueryError;
use crate::sql::duration;

mod results;
mod session;

pub use results::{Nouns, TableOutcome, TableResult, done, recovered, results_block, summarize};
pub use session::{CurrentTarget, MaintenanceSession, POLL_INTERVAL, VISIBLE_WITHIN};

/// Name of the lock that keeps two commands from working on the same table.
pub fn resource(database: &str, table: &str) -> String {
    format!("maintenance of {database}: {table}")
}

/// Tells a wait for a lock, or for older transactions, that took as long as it may.
pub fn is_lock_timeout(error: &QueryError) -> bool {
    matches!(error, QueryError::Refused { code, .. } if code == "55P03")
}

/// Table of the sessions in the way, as `users.sql` and `open_transactions.sql` return them.
pub fn sessions_table(title: &str, rows: &[tokio_postgres::Row]) -> Option<Table> {
    let cells = |row: &tokio_postgres::Row| -> Vec<Cell> {
        let open_for = row.get::<_, Option<f64>>("held_s").map_or("-".to_owned(), duration);
        let text = |name: &str| Cell::from(row.get::<_, String>(name));
        vec![text("who"), text("app"), text("state"), open_for.into()]
    };
    let columns = [
        ("who", Shape::Left),
        ("app", Shape::Left),
        ("state", Shape::Left),
        ("in its transaction for", Shape::Right),
    ];
    let total = usize::try_from(rows.first()?.get::<_, i64>("total")).unwrap_or_default();
    let table = blocks::table(&columns, rows.iter().map(cells).collect());
    Some(Table { title: Some(title.to_owned()), total, ..table })
}
