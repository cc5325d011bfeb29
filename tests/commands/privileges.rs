//! deploy/roles.sql on each major version of PostgreSQL, run by an admin who is no superuser, as on Azure: what each login
//! holds, that it needs each of it, and what it can't do.

use crate::installed::on_each_server;
use countersign::demo::postgres::{Cluster, ConnectionParameters, Options};
use countersign::demo::sample::{ROLES_SQL, Sample, Team};
use tokio_postgres::Client;

mod needed;
mod refused;

use refused::LOGINS;

const DATABASE: &str = "asset_service_db";
/// Where sessions are ended from.
const MAINTENANCE: &str = "postgres";
const FINER: &str = "SET countersign.logins = 'finer'";
const PASSWORD: &str = "rights-hush-2291";

/// What the catalogues say that the logins hold, here and by membership.
const HELD: &str = "
    SELECT member::regrole::text || ' is in ' || roleid::regrole::text FROM pg_auth_members
    WHERE member::regrole::text LIKE 'countersign%'
    UNION
    SELECT a.grantee::regrole::text || ': ' || a.privilege_type || ' on ' || x.what
    FROM (SELECT relacl AS acl, oid::regclass::text AS what FROM pg_class
          UNION ALL SELECT attacl, attrelid::regclass::text || '.' || attname FROM pg_attribute
          UNION ALL SELECT nspacl, 'schema ' || nspname FROM pg_namespace
          UNION ALL SELECT datacl, 'database ' || datname FROM pg_database
          UNION ALL SELECT proacl, 'function ' || proname FROM pg_proc
          UNION ALL SELECT lanacl, 'language ' || lanname FROM pg_language
          UNION ALL SELECT typacl, 'type ' || typname FROM pg_type
          UNION ALL SELECT spcacl, 'tablespace ' || spcname FROM pg_tablespace
          UNION ALL SELECT fdwacl, 'wrapper ' || fdwname FROM pg_foreign_data_wrapper
          UNION ALL SELECT srvacl, 'foreign server ' || srvname FROM pg_foreign_server
          UNION ALL SELECT defaclacl, 'what will be made' FROM pg_default_acl
          UNION ALL SELECT lomacl, 'large object ' || oid FROM pg_largeobject_metadata) x
    CROSS JOIN LATERAL aclexplode(x.acl) a
    WHERE a.grantee::regrole::text LIKE 'countersign%'
    UNION
    SELECT rolname || ' is more than a login' FROM pg_roles
    WHERE rolname LIKE 'countersign%' AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
    UNION
    SELECT rolname || ' owns something' FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
    WHERE s.deptype = 'o' AND rolname LIKE 'countersign%'
    ORDER BY 1";

/// Every relation that a dump reads and 13 must grant one by one: what everybody may read is left out.
const DUMPED: &str = "
    SELECT oid::regclass::text FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND relnamespace = 'public'::regnamespace
      AND relname <> 'pg_stat_statements'";

/// A server where nothing is everybody's, so that each right shows.
struct Rights {
    cluster: Cluster,
    team: Team,
    superuser: Client,
}

impl Rights {
    async fn on(bin_dir: std::path::PathBuf) -> Rights {
        // Few slots, since a test takes them all.
        let settings = vec![("max_connections".to_owned(), "40".to_owned())];
        let options = Options { bin_dir: Some(bin_dir), settings, ..Options::default() };
        let (mut cluster, team) = Sample::light().start(options).await.unwrap();
        if cluster.version_num() >= 160_000 {
            let superuser = cluster.connect(MAINTENANCE).await.unwrap();
            superuser.batch_execute("ALTER SYSTEM SET reserved_connections = 8").await.unwrap();
            drop(superuser);
            cluster.restart().await.unwrap();
        }
        let superuser = cluster.connect(DATABASE).await.unwrap();
        let closed = format!(
            "ALTER DATABASE {MAINTENANCE} OWNER TO azure_pg_admin;
             REVOKE CONNECT ON DATABASE {MAINTENANCE}, {DATABASE} FROM PUBLIC;
             GRANT CONNECT ON DATABASE {DATABASE} TO asset_svc;
             REVOKE ALL ON SCHEMA public FROM PUBLIC;
             GRANT USAGE ON SCHEMA public TO asset_svc, dbadmin WITH GRANT OPTION"
        );
        superuser.batch_execute(&closed).await.unwrap();
        let rights = Rights { cluster, team, superuser };
        rights.run("").await;
        rights
    }

    /// With the logins `signal` and `dump`, which can log in.
    async fn finer(bin_dir: std::path::PathBuf) -> Rights {
        let rights = Rights::on(bin_dir).await;
        rights.forget_tables().await;
        rights.run(FINER).await;
        for login in LOGINS {
            let password = format!("ALTER ROLE {login} PASSWORD '{PASSWORD}'");
            rights.superuser.batch_execute(&password).await.unwrap();
        }
        rights
    }

    fn major(&self) -> u32 {
        self.cluster.version_num() / 10_000
    }

    /// roles.sql as the admin, in the two databases.
    async fn run(&self, before: &str) {
        for database in [MAINTENANCE, DATABASE] {
            let admin = self.admin(database).await;
            admin.batch_execute(before).await.unwrap();
            admin.batch_execute(ROLES_SQL).await.unwrap();
        }
    }

    async fn admin(&self, database: &str) -> Client {
        self.cluster.connect_as(self.team.admin.login(database, "roles.sql")).await.unwrap()
    }

    async fn connect(&self, user: &str, database: &str) -> anyhow::Result<Client> {
        let login = ConnectionParameters { user, password: PASSWORD, database, application_name: "rights" };
        self.cluster.connect_as(login).await
    }

    async fn held(&self) -> Vec<String> {
        self.superuser.query(HELD, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// What roles.sql leaves to the admin on 13: the operator's tables, once another login dumps.
    async fn forget_tables(&self) {
        let forget = "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM countersign_act;
                      REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM countersign_act;
                      REVOKE ALL ON SCHEMA public FROM countersign_act";
        self.admin(DATABASE).await.batch_execute(forget).await.unwrap();
    }

    /// What a login that dumps holds for it.
    async fn dumps(&self, login: &str) -> Vec<String> {
        if self.major() >= 14 {
            return vec![format!("{login} is in pg_read_all_data")];
        }
        let relations = self.superuser.query(DUMPED, &[]).await.unwrap();
        let one = |row: &tokio_postgres::Row| format!("{login}: SELECT on {}", row.get::<_, &str>(0));
        let schema = format!("{login}: USAGE on schema public");
        relations.iter().map(one).chain([schema]).collect()
    }

    /// What a login that maintains holds for it; whoever dumps may use every schema already.
    fn maintains(&self, login: &str) -> Vec<String> {
        let mut maintains = vec![format!("{login}: EXECUTE on function pg_stat_statements_reset")];
        if self.major() >= 17 {
            maintains.push(format!("{login} is in pg_maintain"));
        }
        if login != "countersign_act" {
            maintains.push(format!("{login}: USAGE on schema public"));
        }
        maintains
    }

    /// What the reader holds.
    fn reads(&self) -> Vec<String> {
        let mut reads = [
            "countersign_read is in pg_monitor",
            "countersign_read: CONNECT on database asset_service_db",
            "countersign_read: CONNECT on database postgres",
            "countersign_read: SELECT on _prisma_migrations",
            "countersign_read: SELECT on asset_versions_id_seq",
            "countersign_read: SELECT on audit_logs_id_seq",
            "countersign_read: USAGE on schema public",
        ]
        .map(str::to_owned)
        .to_vec();
        if self.major() >= 16 {
            reads.push("countersign_read is in pg_use_reserved_connections".to_owned());
        }
        reads
    }
}

#[track_caller]
fn same(mut held: Vec<String>, mut expected: Vec<String>, when: &str) {
    held.sort();
    expected.sort();
    assert_eq!(held, expected, "{when}");
}

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_majors_grant_exactly_this() {
    on_each_server(async |bin_dir| {
        let rights = Rights::on(bin_dir).await;
        let major = rights.major();
        let acts = owned(&[
            "countersign_act is in pg_monitor",
            "countersign_act is in pg_signal_backend",
            "countersign_act: CONNECT on database asset_service_db",
            "countersign_act: CONNECT on database postgres",
        ]);
        let mut expected = [rights.reads(), acts, rights.dumps("countersign_act").await].concat();
        expected.extend(rights.maintains("countersign_act"));
        same(rights.held().await, expected.clone(), &format!("two logins on {major}"));
        rights.run("").await;
        same(rights.held().await, expected.clone(), &format!("run again on {major}"));

        let admin = rights.admin(DATABASE).await;
        admin.batch_execute("SET countersign.logins = 'fine'").await.unwrap();
        let refused = admin.batch_execute(ROLES_SQL).await.unwrap_err();
        let refused = refused.as_db_error().unwrap().message();
        assert_eq!(refused, "countersign.logins is \"fine\": it can be \"finer\", or not set");
        same(rights.held().await, expected, &format!("misspelt on {major}"));

        rights.run(FINER).await;
        let log = std::fs::read_to_string(rights.cluster.log_path()).unwrap();
        let warned = log.contains("in asset_service_db, countersign_act may still read tables");
        assert_eq!(warned, major == 13, "on {major}");
        rights.forget_tables().await;
        let finer = owned(&[
            "countersign_act: CONNECT on database asset_service_db",
            "countersign_act: CONNECT on database postgres",
            "countersign_dump: CONNECT on database asset_service_db",
            "countersign_dump: CONNECT on database postgres",
            "countersign_maintain: CONNECT on database asset_service_db",
            "countersign_maintain: CONNECT on database postgres",
            "countersign_signal is in pg_monitor",
            "countersign_signal is in pg_signal_backend",
            "countersign_signal: CONNECT on database postgres",
        ]);
        let mut expected = [rights.reads(), finer, rights.dumps("countersign_dump").await].concat();
        expected.extend(rights.maintains("countersign_maintain"));
        same(rights.held().await, expected.clone(), &format!("finer logins on {major}"));
        rights.run("").await;
        same(rights.held().await, expected, &format!("once finer, ever finer on {major}"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_majors_need_each_right_and_refuse_the_rest() {
    on_each_server(async |bin_dir| {
        let rights = Rights::finer(bin_dir).await;
        refused::try_everything(&rights).await;
        needed::take_each_away(&rights).await;
    })
    .await;
}
