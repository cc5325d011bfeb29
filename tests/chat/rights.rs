//! deploy/roles.sql gives each login what it needs and nothing else: without what looking and killing need, they fail and say so.

use crate::scene::{ANA, BEN, Scene, Servers, Twist};
use tokio_postgres::Client;

const ROLES: &str = include_str!("../../deploy/roles.sql");
const DATABASE: &str = "asset_service_db";

/// What the catalogues say that the two logins hold, here and by membership.
const HELD: &str = "
    SELECT member::regrole::text || ' is in ' || roleid::regrole::text FROM pg_auth_members
    WHERE member IN ('countersign_read'::regrole, 'countersign_act'::regrole)
    UNION ALL
    SELECT a.grantee::regrole::text || ': ' || a.privilege_type || ' on ' || x.what
    FROM (SELECT relacl AS acl, oid::regclass::text AS what FROM pg_class
          UNION ALL SELECT attacl, attrelid::regclass::text || '.' || attname FROM pg_attribute
          UNION ALL SELECT nspacl, 'schema ' || nspname FROM pg_namespace
          UNION ALL SELECT datacl, 'database ' || datname FROM pg_database
          UNION ALL SELECT proacl, 'function ' || proname FROM pg_proc
          UNION ALL SELECT lanacl, 'language ' || lanname FROM pg_language
          UNION ALL SELECT typacl, 'type ' || typname FROM pg_type
          UNION ALL SELECT defaclacl, 'what will be made' FROM pg_default_acl
          UNION ALL SELECT lomacl, 'large object ' || oid FROM pg_largeobject_metadata) x
    CROSS JOIN LATERAL aclexplode(x.acl) a
    WHERE a.grantee IN ('countersign_read'::regrole, 'countersign_act'::regrole)
    UNION ALL
    SELECT rolname || ' is more than a login' FROM pg_roles
    WHERE rolname LIKE 'countersign%' AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
    UNION ALL
    SELECT rolname || ' owns something' FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
    WHERE s.deptype = 'o' AND rolname LIKE 'countersign%'
    ORDER BY 1";

async fn held(client: &Client) -> Vec<String> {
    let mut rows: Vec<String> = client.query(HELD, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    rows.dedup();
    rows
}

struct Rights {
    scene: Scene,
    superuser: Client,
    admin: Client,
}

impl Rights {
    async fn granted() -> Rights {
        let servers = Servers::alone(60).await;
        let scene = Scene::with(Twist { servers: Some(servers), ..Twist::default() }).await;
        let superuser = servers.cluster.connect(DATABASE).await.unwrap();
        let admin =
            servers.cluster.connect_as(servers.team.admin.login(DATABASE, "roles.sql")).await.unwrap();
        // Servers where the public is let in have nothing to grant here.
        superuser.batch_execute(&format!("GRANT CONNECT ON DATABASE {DATABASE} TO asset_svc; REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC")).await.unwrap();
        let rights = Rights { scene, superuser, admin };
        rights.restore().await;
        rights
    }

    /// As often as anybody likes.
    async fn restore(&self) {
        self.admin.batch_execute(ROLES).await.unwrap();
    }

    async fn without(&self, right: &str) {
        let took = held(&self.superuser).await.len();
        self.superuser.batch_execute(right).await.unwrap();
        assert!(held(&self.superuser).await.len() < took, "{right} took nothing away");
    }

    /// What a person is told when a session of the asset service is to be killed, up to the end.
    async fn kill(&self) -> String {
        let (_victim, pid) = self.scene.session("asset-worker-7").await;
        let told = self.scene.asks(ANA, &format!("kill {pid} --env production")).await;
        if told.button("Approve").is_none() {
            return told.plain();
        }
        self.scene.clicks(BEN, &told.at(), "Approve").await;
        let ended = self.scene.workspace().wait_for("the end", |workspace| {
            workspace
                .message(&told.at())
                .filter(|card| card.buttons().is_empty() && !card.plain().contains("Running"))
        });
        ended.await.unwrap().plain()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_right_too_many() {
    let rights = Rights::granted().await;
    let before = held(&rights.superuser).await;
    let expected = [
        "countersign_act is in pg_monitor",
        "countersign_act is in pg_read_all_data",
        "countersign_act is in pg_signal_backend",
        "countersign_act: CONNECT on database asset_service_db",
        "countersign_act: EXECUTE on function pg_stat_statements_reset",
        "countersign_read is in pg_monitor",
        "countersign_read: CONNECT on database asset_service_db",
        "countersign_read: SELECT on _prisma_migrations",
        "countersign_read: SELECT on asset_versions_id_seq",
        "countersign_read: SELECT on audit_logs_id_seq",
        "countersign_read: USAGE on schema public",
    ];
    assert_eq!(before, expected);
    rights.restore().await;
    assert_eq!(held(&rights.superuser).await, before, "run again, it changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_right_that_looking_or_killing_needs_they_say_so() {
    let rights = Rights::granted().await;
    let ask = async |line: &str| rights.scene.asks(ANA, &format!("{line} --env production")).await.plain();
    // Asked for when a connection is opened, so this comes first.
    rights.without("REVOKE CONNECT ON DATABASE asset_service_db FROM countersign_read").await;
    let told = ask("health asset-service").await;
    assert!(told.contains("refuses the login of Countersign (no CONNECT privilege)"), "{told}");
    rights.restore().await;
    assert!(rights.kill().await.contains("is gone"), "with every right it works");
    for (right, question, words) in [
        (
            "REVOKE pg_monitor FROM countersign_read",
            "blocked",
            "may not show other sessions: grant pg_monitor",
        ),
        (
            "REVOKE SELECT ON _prisma_migrations FROM countersign_read",
            "migrations asset-service",
            "not allowed to see",
        ),
        (
            "REVOKE SELECT ON audit_logs_id_seq FROM countersign_read",
            "sequences asset-service",
            "not allowed to see",
        ),
    ] {
        let told = ask(question).await;
        assert!(!told.contains(words), "{told}");
        rights.without(right).await;
        let told = ask(question).await;
        assert!(told.contains(words), "{right}: {told}");
        rights.restore().await;
    }
    for (right, words) in [
        ("REVOKE pg_signal_backend FROM countersign_act", "pg_signal_backend"),
        ("REVOKE pg_monitor FROM countersign_act", "which was left alone. Nothing was done."),
    ] {
        rights.without(right).await;
        let told = rights.kill().await;
        assert!(told.contains(words), "{right}: {told}");
        rights.restore().await;
    }
}
