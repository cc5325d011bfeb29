//! What people are told when a login lacks a right that deploy/roles.sql gives it. That it gives nothing else, on each major
//! version, is tests/commands/privileges.rs.

use crate::harness::{ANA, BEN, Scene, Servers, Twist};
use tokio_postgres::Client;

const ROLES: &str = include_str!("../../deploy/roles.sql");
const DATABASE: &str = "asset_service_db";

struct Rights {
    scene: Scene,
    superuser: Client,
    admin: Client,
}

impl Rights {
    async fn granted() -> Rights {
        Rights::with("", Vec::new()).await
    }

    /// With the logins `signal` and `dump`, and an operator who isn't let in.
    async fn finer() -> Rights {
        let login = |login: &str, user: &str| {
            let password = "{ env = \"PRODUCTION_OPERATOR_PASSWORD\" }";
            format!("[environments.logins.{login}]\nuser = \"{user}\"\npassword = {password}\n")
        };
        let operator = "[environments.logins.operator]\n";
        let logins = login("signal", "countersign_signal") + &login("dump", "countersign_dump") + operator;
        Rights::with("SET countersign.logins = 'finer'", vec![(operator, &logins)]).await
    }

    async fn with(before: &str, instead: Vec<(&str, &str)>) -> Rights {
        let servers = Servers::alone(60).await;
        let superuser = servers.cluster.connect(DATABASE).await.unwrap();
        let admin =
            servers.cluster.connect_as(servers.team.admin.login(DATABASE, "roles.sql")).await.unwrap();
        // Servers where the public is let in have nothing to grant here.
        superuser.batch_execute(&format!("GRANT CONNECT ON DATABASE {DATABASE} TO asset_svc; REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC")).await.unwrap();
        admin.batch_execute(before).await.unwrap();
        admin.batch_execute(ROLES).await.unwrap();
        if !before.is_empty() {
            let password = &servers.team.operator.password;
            let ready = format!(
                "ALTER ROLE countersign_signal PASSWORD '{password}'; \
                 ALTER ROLE countersign_dump PASSWORD '{password}'; ALTER ROLE countersign_act NOLOGIN"
            );
            superuser.batch_execute(&ready).await.unwrap();
        }
        let scene = Scene::with(Twist { servers: Some(servers), instead, ..Twist::default() }).await;
        Rights { scene, superuser, admin }
    }

    /// As often as anybody likes.
    async fn restore(&self) {
        self.admin.batch_execute(ROLES).await.unwrap();
    }

    async fn without(&self, right: &str) {
        self.superuser.batch_execute(right).await.unwrap();
    }

    /// What a person is told of a backup of the asset service, up to the end.
    async fn backup(&self) -> String {
        let card = self.scene.asks(ANA, "backup asset-service --env production").await;
        let ends = ["is backed up", "There is no backup", "A role that may do so"];
        let over = |told: &str| ends.iter().any(|end| told.contains(end));
        let ended = self.scene.workspace().wait_for("the backup's end", |workspace| {
            workspace.message(&card.at()).map(|card| card.plain()).filter(|told| over(told))
        });
        ended.await.unwrap()
    }

    /// The files in the storage.
    fn stored(&self) -> usize {
        fn files(directory: &std::path::Path) -> usize {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
        }
        files(&self.scene.directory.path().join("backups"))
    }

    /// What a person is told when a session of the asset service is to be killed, up to the end.
    async fn kill(&self) -> String {
        let (_victim, pid) = self.scene.session("asset-worker-7").await;
        let told = self.scene.asks(ANA, &format!("kill {pid} --env production")).await;
        if told.button("Approve").is_none() {
            return told.plain();
        }
        self.scene.click_button(BEN, &told.at(), "Approve").await;
        let ended = self.scene.workspace().wait_for("the end", |workspace| {
            workspace
                .message(&told.at())
                .filter(|card| card.buttons().is_empty() && !card.plain().contains("Running"))
        });
        ended.await.unwrap().plain()
    }
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
    assert!(rights.kill().await.contains(" ended."), "with every right it works");
    for (right, question, words) in [
        (
            "REVOKE pg_monitor FROM countersign_read",
            "blocked",
            "doesn't let countersign_read see other roles' sessions: GRANT pg_monitor TO countersign_read",
        ),
        (
            "REVOKE SELECT ON _prisma_migrations FROM countersign_read",
            "migrations asset-service",
            "doesn't let countersign_read read Prisma's migration table: GRANT SELECT ON public._prisma_migrations",
        ),
        (
            "REVOKE SELECT ON audit_logs_id_seq FROM countersign_read",
            "sequences asset-service",
            "doesn't let countersign_read read every sequence: GRANT SELECT ON ALL SEQUENCES IN SCHEMA public",
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
        (
            "REVOKE pg_signal_backend FROM countersign_act",
            "doesn't let countersign_act end other roles' sessions.\nA role that may do so runs GRANT pg_signal_backend",
        ),
        (
            "REVOKE pg_monitor FROM countersign_act",
            "doesn't let countersign_act see other roles' sessions.\nA role that may do so runs GRANT pg_monitor",
        ),
    ] {
        rights.without(right).await;
        let told = rights.kill().await;
        assert!(told.contains(words), "{right}: {told}");
        rights.restore().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_read_every_table_nothing_is_stored() {
    let rights = Rights::granted().await;
    rights.without("REVOKE pg_read_all_data FROM countersign_act").await;
    let told = rights.backup().await;
    let refusal = "asset_service_db doesn't let countersign_act read every table.\nA role that may do so runs \
                   GRANT pg_read_all_data TO countersign_act.";
    assert!(told.contains(refusal), "{told}");
    assert_eq!(rights.stored(), 0, "{told}");
    rights.restore().await;
    let told = rights.backup().await;
    assert!(told.contains("is backed up") && rights.stored() > 0, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn finer_logins_do_what_they_are_named_for() {
    let rights = Rights::finer().await;
    let told = rights.kill().await;
    assert!(told.contains(" ended."), "{told}");
    let told = rights.backup().await;
    assert!(told.contains("is backed up"), "{told}");
    rights.without("REVOKE pg_signal_backend FROM countersign_signal").await;
    let told = rights.kill().await;
    assert!(told.contains("pg_signal_backend"), "{told}");
}
