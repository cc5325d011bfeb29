//! The store on a PostgreSQL server, over every major: the contract, what somebody does with SQL of their own, the schema's versions,
//! and connections that are lost.

use crate::contract::{self, Fresh};
use crate::installed::on_each_server;
use crate::samples::{append, conversation, done, new_run, opened};
use countersign::config::{LoginCredentials, PostgresStoreSettings, Server, Tls};
use countersign::demo::postgres::{Cluster, Options};
use countersign::model::{CardKind, RunState};
use countersign::store::postgres::PostgresStore;
use countersign::store::{Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

contract::contract!(fresh);

/// The bot's role, which owns its databases and is nothing else.
pub const ROLE: &str = "recorder";

/// A role that owns nothing.
pub const LIMITED_ROLE: &str = "appender";

/// One server of each major, for all tests.
pub async fn clusters() -> &'static [Cluster] {
    static CLUSTERS: OnceCell<Vec<Cluster>> = OnceCell::const_new();
    let start = async || {
        on_each_server(async |bin_dir| {
            let cluster =
                Cluster::start(Options { bin_dir: Some(bin_dir), ..Options::default() }).await.unwrap();
            let superuser = cluster.connect("postgres").await.unwrap();
            for role in [ROLE, LIMITED_ROLE] {
                let sql = format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'");
                superuser.batch_execute(&sql).await.unwrap();
            }
            cluster
        })
        .await
    };
    CLUSTERS.get_or_init(start).await
}

/// A new database of the bot's on each server.
pub async fn databases() -> Vec<(&'static Cluster, PostgresStoreSettings)> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let mut all = Vec::new();
    for cluster in clusters().await {
        let database = format!("record_{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let superuser = cluster.connect("postgres").await.unwrap();
        for sql in [
            format!("CREATE DATABASE {database} OWNER {ROLE} TEMPLATE template0 ENCODING 'UTF8'"),
            format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"),
        ] {
            superuser.batch_execute(&sql).await.unwrap();
        }
        all.push((cluster, settings(cluster, &database, ROLE)));
    }
    all
}

/// The password of a role is its name.
pub fn settings(cluster: &Cluster, database: &str, role: &str) -> PostgresStoreSettings {
    let server = Server { name: "audit log".into(), host: "127.0.0.1".into(), port: cluster.port() };
    let login = LoginCredentials { user: role.into(), password: Some(role.to_owned().into()) };
    PostgresStoreSettings { server, database: database.into(), login, tls: Tls::Off }
}

pub async fn store(settings: &PostgresStoreSettings) -> Arc<dyn Store> {
    Arc::new(PostgresStore::open(settings.clone(), Duration::from_secs(10)).await.unwrap())
}

async fn fresh() -> Vec<Fresh> {
    let mut all = Vec::new();
    for (_, settings) in databases().await {
        let stores = [store(&settings).await, store(&settings).await];
        all.push(Fresh { stores, keep: Box::new(()) });
    }
    all
}

#[tokio::test]
async fn an_instance_that_lives_beats() {
    for (cluster, settings) in databases().await {
        let _store = store(&settings).await;
        let hand = cluster.connect(&settings.database).await.unwrap();
        let beat = async || -> i64 {
            let sql = "SELECT beat FROM countersign.instances";
            hand.query_one(sql, &[]).await.unwrap().get(0)
        };
        let first = beat().await;
        while beat().await == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn an_instance_that_is_taken_for_dead_records_nothing_more() {
    for (cluster, settings) in databases().await {
        let (a, b) = (store(&settings).await, store(&settings).await);
        let pending = opened(&a, new_run("pending")).await;
        let running = done(&a, append(&pending, "started", RunState::Running)).await;
        let waiting = opened(&b, new_run("waiting")).await;
        let card = b.add_card(waiting.id, conversation("C1"), CardKind::Primary).await.unwrap();
        let hand = cluster.connect(&settings.database).await.unwrap();
        let owner: String = hand
            .query_one("SELECT owner FROM countersign.runs WHERE id = $1", &[&running.id])
            .await
            .unwrap()
            .get(0);
        // It has beaten since the other looked: it is alive.
        hand.query("SELECT countersign.mark_dead($1, -1)", &[&owner]).await.unwrap();
        let running = done(&a, append(&running, "checkpoint", RunState::Running)).await;
        assert_eq!(b.orphans().await.unwrap(), []);
        let is_dead = "SELECT is_dead FROM countersign.instances WHERE id = $1";
        while !hand.query_one(is_dead, &[&owner]).await.unwrap().get::<_, bool>(0) {
            let mark = "SELECT countersign.mark_dead(id, beat) FROM countersign.instances WHERE id = $1";
            hand.query(mark, &[&owner]).await.unwrap();
        }

        let written = a.append_if_unchanged(append(&running, "succeeded", RunState::Succeeded)).await;
        assert!(matches!(written, Err(StoreError::InstanceLost)), "{written:?}");
        let approved = a.append_if_unchanged(append(&waiting, "approved", RunState::Approved)).await;
        assert!(matches!(approved, Err(StoreError::InstanceLost)), "{approved:?}");
        let new = a.open(new_run("new")).await;
        assert!(matches!(new, Err(StoreError::InstanceLost)), "{new:?}");
        assert!(!a.claim_card(card, Duration::from_secs(600)).await.unwrap());
        assert_eq!(b.orphans().await.unwrap(), std::slice::from_ref(&running));
        assert_eq!(b.get(waiting.id).await.unwrap(), Some(waiting));
        done(&b, append(&running, "interrupted", RunState::Interrupted)).await;
        // It registers again with a later beat, when nothing that it began is open.
        registered_again(&a).await;
        assert_eq!((b.orphans().await.unwrap(), b.verify().await.unwrap().first_error), (vec![], None));
    }
}

#[tokio::test]
async fn an_event_is_committed_synchronously_whatever_the_database_has_set() {
    for (cluster, settings) in databases().await {
        drop(store(&settings).await);
        let hand = cluster.connect(&settings.database).await.unwrap();
        let note = "CREATE TABLE public.noted (setting text); GRANT INSERT ON public.noted TO PUBLIC;
            CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO public.noted VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
            CREATE TRIGGER note AFTER INSERT ON countersign.events FOR EACH ROW EXECUTE FUNCTION public.note()";
        hand.batch_execute(note).await.unwrap();
        for setting in ["off", "local"] {
            let set = format!("ALTER DATABASE {} SET synchronous_commit = {setting}", settings.database);
            hand.batch_execute(&set).await.unwrap();
            opened(&store(&settings).await, new_run(setting)).await;
        }
        let rows = hand.query("SELECT setting FROM public.noted", &[]).await.unwrap();
        let noted: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(noted, ["on", "on"]);
    }
}

/// Waits until an instance that was taken for dead may write again.
async fn registered_again(store: &Arc<dyn Store>) {
    while let Err(error) = store.check_instance().await {
        assert!(matches!(error, StoreError::InstanceLost), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// On one server: it takes 20 s until the other is taken for dead, too.
#[tokio::test]
async fn an_instance_that_is_the_only_one_left_closes_its_own_runs() {
    let (cluster, settings) = databases().await.swap_remove(0);
    let store = store(&settings).await;
    let pending = opened(&store, new_run("pending")).await;
    let running = done(&store, append(&pending, "started", RunState::Running)).await;
    let hand = cluster.connect(&settings.database).await.unwrap();
    let other = "INSERT INTO countersign.instances (id) VALUES ('other')";
    let mark = "UPDATE countersign.instances SET is_dead = true WHERE id <> 'other'";
    hand.batch_execute(&format!("{other}; {mark}")).await.unwrap();

    registered_again(&store).await;
    assert_eq!(store.orphans().await.unwrap(), std::slice::from_ref(&running));
    done(&store, append(&running, "interrupted", RunState::Interrupted)).await;
    let is_dead = "SELECT is_dead FROM countersign.instances WHERE id = 'other'";
    assert!(hand.query_one(is_dead, &[]).await.unwrap().get::<_, bool>(0));
}
