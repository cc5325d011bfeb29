//! Each right of the finer logins, taken away: what it is for is refused, and roles.sql gives it back.

use super::{DATABASE, MAINTENANCE, Rights};
use std::collections::BTreeSet;
use tokio_postgres::Client;

/// What a right is for.
enum Use {
    /// To be let in.
    Connect(&'static str),
    /// To be let in when ordinary roles have taken every slot.
    ConnectWhenFull,
    /// A statement, in the maintenance database or else the service's. `{other}` is the pid of a service's session.
    Statement(&'static str, &'static str),
    /// What other roles' sessions do, which is hidden and not refused.
    Look,
}
use Use::{Connect, ConnectWhenFull, Look, Statement};

/// The major versions that have a right.
type Majors = std::ops::RangeInclusive<u32>;
const ALL: Majors = 13..=99;
const BELOW_14: Majors = 13..=13;
const FROM_14: Majors = 14..=99;
const FROM_16: Majors = 16..=99;
const FROM_17: Majors = 17..=99;

const READ: &str = "countersign_read";
const ACT: &str = "countersign_act";
const SIGNAL: &str = "countersign_signal";
const DUMP: &str = "countersign_dump";
const MAINTAIN: &str = "countersign_maintain";

const LEDGER: &str = "SELECT count(*) FROM public.\"_prisma_migrations\"";
const ROWS: &str =
    "LOCK TABLE public.asset_versions IN ACCESS SHARE MODE; SELECT count(*) FROM public.asset_versions";
/// VACUUM would only warn; this takes the same right.
const MAINTAINS: &str = "LOCK TABLE public.asset_versions IN SHARE UPDATE EXCLUSIVE MODE";
const RESETS: &str =
    "SELECT public.pg_stat_statements_reset(0, oid, 0) FROM pg_database WHERE datname = current_database()";
const LAST: &str = "SELECT last_value FROM public.audit_logs_id_seq";

/// Whose right it is, what takes it away, and what it is for.
#[rustfmt::skip]
const RIGHTS: &[(&str, &str, Use, Majors)] = &[
    (READ, "REVOKE CONNECT ON DATABASE asset_service_db FROM", Connect(DATABASE), ALL),
    (READ, "REVOKE CONNECT ON DATABASE postgres FROM", Connect(MAINTENANCE), ALL),
    (READ, "REVOKE pg_monitor FROM", Look, ALL),
    (READ, "REVOKE SELECT ON _prisma_migrations FROM", Statement(DATABASE, LEDGER), ALL),
    (READ, "REVOKE SELECT ON audit_logs_id_seq FROM", Statement(DATABASE, LAST), ALL),
    (READ, "REVOKE SELECT ON asset_versions_id_seq FROM",
     Statement(DATABASE, "SELECT last_value FROM public.asset_versions_id_seq"), ALL),
    (READ, "REVOKE USAGE ON SCHEMA public FROM", Statement(DATABASE, LEDGER), ALL),
    (ACT, "REVOKE CONNECT ON DATABASE asset_service_db FROM", Connect(DATABASE), ALL),
    (ACT, "REVOKE CONNECT ON DATABASE postgres FROM", Connect(MAINTENANCE), ALL),
    (SIGNAL, "REVOKE CONNECT ON DATABASE postgres FROM", Connect(MAINTENANCE), ALL),
    (SIGNAL, "REVOKE pg_monitor FROM", Look, ALL),
    (SIGNAL, "REVOKE pg_signal_backend FROM", Statement(MAINTENANCE, "SELECT pg_cancel_backend({other})"), ALL),
    (DUMP, "REVOKE CONNECT ON DATABASE asset_service_db FROM", Connect(DATABASE), ALL),
    (DUMP, "REVOKE CONNECT ON DATABASE postgres FROM", Connect(MAINTENANCE), ALL),
    (DUMP, "REVOKE pg_read_all_data FROM", Statement(DATABASE, ROWS), FROM_14),
    (DUMP, "REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM", Statement(DATABASE, ROWS), BELOW_14),
    (DUMP, "REVOKE SELECT ON ALL SEQUENCES IN SCHEMA public FROM", Statement(DATABASE, LAST), BELOW_14),
    (DUMP, "REVOKE USAGE ON SCHEMA public FROM", Statement(DATABASE, ROWS), BELOW_14),
    (MAINTAIN, "REVOKE CONNECT ON DATABASE asset_service_db FROM", Connect(DATABASE), ALL),
    (MAINTAIN, "REVOKE CONNECT ON DATABASE postgres FROM", Connect(MAINTENANCE), ALL),
    (MAINTAIN, "REVOKE pg_maintain FROM", Statement(DATABASE, MAINTAINS), FROM_17),
    (MAINTAIN, "REVOKE USAGE ON SCHEMA public FROM", Statement(DATABASE, MAINTAINS), FROM_17),
    (MAINTAIN, "REVOKE USAGE ON SCHEMA public FROM", Statement(DATABASE, RESETS), ALL),
    (MAINTAIN, "REVOKE EXECUTE ON FUNCTION pg_stat_statements_reset FROM", Statement(DATABASE, RESETS), ALL),
    // Last: the slots that it takes are free a moment later.
    (READ, "REVOKE pg_use_reserved_connections FROM", ConnectWhenFull, FROM_16),
];

/// What was refused, as its SQLSTATE; "hidden" for what PostgreSQL shows as empty.
async fn attempt(rights: &Rights, login: &str, what: &Use) -> Result<(), String> {
    let state = |why: anyhow::Error| {
        let code = why.downcast_ref::<tokio_postgres::Error>().and_then(|error| error.code());
        code.map_or_else(|| format!("{why:#}"), |code| code.code().to_owned())
    };
    let (service, account) = rights.team.service("asset-service").unwrap();
    let other = || async {
        let client = rights.cluster.connect_as(account.login(&service.database, "other")).await.unwrap();
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        (client, pid)
    };
    match what {
        Connect(database) => rights.connect(login, database).await.map(drop).map_err(state),
        ConnectWhenFull => rights.connect(login, DATABASE).await.map(drop).map_err(state),
        Statement(database, sql) => {
            let (_other, pid) = other().await;
            let client = rights.connect(login, database).await.unwrap();
            let sql = format!("BEGIN; {}; ROLLBACK", sql.replace("{other}", &pid.to_string()));
            client.batch_execute(&sql).await.map_err(|why| state(why.into()))
        }
        Look => {
            let (_other, pid) = other().await;
            let client = rights.connect(login, MAINTENANCE).await.unwrap();
            let sql = "SELECT state IS NOT NULL FROM pg_stat_activity WHERE pid = $1";
            let seen: bool = client.query_one(sql, &[&pid]).await.unwrap().get(0);
            if seen { Ok(()) } else { Err("hidden".to_owned()) }
        }
    }
}

/// Takes every slot that ordinary roles may have.
async fn fill(rights: &Rights) -> Vec<Client> {
    let (service, account) = rights.team.service("asset-service").unwrap();
    let mut taken = Vec::new();
    while let Ok(client) = rights.cluster.connect_as(account.login(&service.database, "leak")).await {
        taken.push(client);
        assert!(taken.len() < 40, "there is no end of slots");
    }
    taken
}

pub async fn take_each_away(rights: &Rights) {
    let major = rights.major();
    let admins = [rights.admin(MAINTENANCE).await, rights.admin(DATABASE).await];
    let held: BTreeSet<String> = rights.held().await.into_iter().collect();
    let mut tried = BTreeSet::new();
    for (login, revoke, what, _) in RIGHTS.iter().filter(|(.., majors)| majors.contains(&major)) {
        let which = format!("{revoke} {login} on {major}");
        let (full, refusal) = match what {
            ConnectWhenFull => (fill(rights).await, "53300"),
            Look => (Vec::new(), "hidden"),
            _ => (Vec::new(), "42501"),
        };
        assert_eq!(attempt(rights, login, what).await, Ok(()), "before {which}");
        admins[1].batch_execute(&format!("{revoke} {login}")).await.unwrap();
        let left: BTreeSet<String> = rights.held().await.into_iter().collect();
        assert!(left.len() < held.len(), "{which} took nothing away");
        tried.extend(held.difference(&left).cloned());
        assert_eq!(attempt(rights, login, what).await, Err(refusal.to_owned()), "after {which}");
        for admin in &admins {
            admin.batch_execute(countersign::demo::sample::ROLES_SQL).await.unwrap();
        }
        assert_eq!(rights.held().await.into_iter().collect::<BTreeSet<_>>(), held, "roles.sql after {which}");
        assert_eq!(attempt(rights, login, what).await, Ok(()), "given back: {which}");
        drop(full);
    }
    assert_eq!(tried, held, "a right of which nobody knows what it is for, on {major}");
}
