//! What each of the finer logins can't do, and that privileges refuse it (SQLSTATE 42501), whatever the session sets.

use super::{DATABASE, Rights};
use tokio_postgres::Client;

pub const LOGINS: [&str; 5] =
    ["countersign_read", "countersign_act", "countersign_signal", "countersign_dump", "countersign_maintain"];

/// Who may: the reader, the operator, who ends sessions, who dumps, who maintains.
type Allowed = [bool; 5];
const NOBODY: Allowed = [false; 5];
const READER_AND_DUMP: Allowed = [true, false, false, true, false];
const SIGNAL: Allowed = [false, false, true, false, false];
const DUMP: Allowed = [false, false, false, true, false];
const MAINTAIN: Allowed = [false, false, false, false, true];

/// `{other}` is the pid of a service's session, `{superuser}` of a superuser's.
const MATRIX: &[(&str, Allowed)] = &[
    // rows
    ("SELECT count(*) FROM asset_versions", DUMP),
    ("LOCK TABLE asset_versions IN ACCESS SHARE MODE", DUMP),
    ("SELECT count(*) FROM \"_prisma_migrations\"", READER_AND_DUMP),
    ("SELECT last_value FROM audit_logs_id_seq", READER_AND_DUMP),
    ("SELECT nextval('audit_logs_id_seq')", NOBODY),
    ("INSERT INTO asset_versions DEFAULT VALUES", NOBODY),
    ("UPDATE asset_versions SET comment = ''", NOBODY),
    ("UPDATE \"_prisma_migrations\" SET finished_at = now()", NOBODY),
    ("DELETE FROM asset_versions", NOBODY),
    ("TRUNCATE asset_versions", NOBODY),
    ("SELECT * FROM asset_versions FOR UPDATE", NOBODY),
    ("LOCK TABLE asset_versions IN ACCESS EXCLUSIVE MODE", NOBODY),
    // the schema
    ("CREATE TABLE public.mine (id int)", NOBODY),
    ("CREATE SCHEMA mine", NOBODY),
    ("ALTER TABLE asset_versions ADD mine int", NOBODY),
    ("DROP TABLE asset_versions", NOBODY),
    ("CREATE EXTENSION dblink", NOBODY),
    // other sessions
    ("SELECT pg_cancel_backend({other})", SIGNAL),
    ("SELECT pg_terminate_backend({other})", SIGNAL),
    ("SELECT pg_terminate_backend({superuser})", NOBODY),
    // roles
    ("SET ROLE pg_signal_backend", SIGNAL),
    ("SET ROLE asset_svc", NOBODY),
    ("CREATE ROLE mine", NOBODY),
    ("ALTER ROLE asset_svc PASSWORD 'x'", NOBODY),
    ("GRANT pg_signal_backend TO countersign_read", NOBODY),
    // the server
    ("REINDEX TABLE asset_versions", NOBODY),
    ("CHECKPOINT", NOBODY),
    ("ALTER SYSTEM SET work_mem = '1GB'", NOBODY),
    ("SELECT pg_reload_conf()", NOBODY),
    ("SELECT pg_stat_reset()", NOBODY),
    ("SELECT pg_stat_statements_reset()", MAINTAIN),
    ("SELECT pg_create_restore_point('mine')", NOBODY),
    // files and programs
    ("COPY (SELECT 1) TO PROGRAM 'true'", NOBODY),
    ("SELECT pg_read_file('/etc/passwd')", NOBODY),
    ("SELECT lo_import('/etc/passwd')", NOBODY),
];

/// What pg_maintain lets through, from 17 on: nothing of it shows or changes a row.
const MAINTENANCE: [&str; 3] = [
    "LOCK TABLE asset_versions IN ACCESS SHARE MODE",
    "LOCK TABLE asset_versions IN ACCESS EXCLUSIVE MODE",
    "REINDEX TABLE asset_versions",
];

fn may(at: usize, (sql, allowed): &(&str, Allowed), major: u32) -> bool {
    allowed[at] || major >= 17 && MAINTAIN[at] && MAINTENANCE.contains(sql)
}

/// The SQLSTATE that it ends with, or none.
async fn outcome(client: &Client, sql: &str) -> Option<String> {
    let alone = sql.starts_with("ALTER SYSTEM");
    if !alone {
        client.batch_execute("BEGIN READ WRITE").await.unwrap();
    }
    let ended = client.batch_execute(sql).await.err();
    if !alone {
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    ended.map(|error| error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()))
}

pub async fn try_everything(rights: &Rights) {
    // Let in everywhere: what then holds is privileges.
    let let_in = format!(
        "GRANT CONNECT ON DATABASE {DATABASE} TO countersign_signal; GRANT USAGE ON SCHEMA public TO PUBLIC"
    );
    let superuser = rights.cluster.connect(DATABASE).await.unwrap();
    superuser.batch_execute(&let_in).await.unwrap();
    let superuser_pid: i32 = superuser.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let (service, account) = rights.team.service("asset-service").unwrap();
    for (at, login) in LOGINS.iter().enumerate() {
        let client = rights.connect(login, DATABASE).await.unwrap();
        for cell in MATRIX {
            let other = rights.cluster.connect_as(account.login(&service.database, "other")).await.unwrap();
            let other: i32 = other.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
            let sql = cell
                .0
                .replace("{other}", &other.to_string())
                .replace("{superuser}", &superuser_pid.to_string());
            let expected = (!may(at, cell, rights.major())).then_some("42501");
            assert_eq!(
                outcome(&client, &sql).await.as_deref(),
                expected,
                "{login} on {}: {sql}",
                rights.major()
            );
        }
    }
    superuser.batch_execute(&let_in.replace("GRANT", "REVOKE").replace(" TO ", " FROM ")).await.unwrap();
}
