//! Writes whose answer is lost, over a proxy that cuts the connection when a request has been forwarded and its answer hasn't.

use crate::postgres::{databases, store};
use crate::samples::{append, change, done, new_run, opened};
use countersign::config::PostgresStoreSettings;
use countersign::demo::postgres::Cluster;
use countersign::model::{Run, RunState};
use countersign::store::postgres::PostgresStore;
use countersign::store::{OpenOutcome, Store, StoreError};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_postgres::Client;

/// The text by which the proxy knows the request whose answer is lost.
const MARK: &str = "its answer is lost";

#[derive(Default)]
struct ProxyState {
    /// True while new connections are refused.
    is_down: AtomicBool,
    /// True until the next marked request.
    is_armed: AtomicBool,
    /// Ends the connection over which that went, at the client's side.
    cut: Notify,
    /// The server's sides of those connections stay open: the server hears nothing of the loss.
    servers: Mutex<Vec<TcpStream>>,
}

struct Proxy {
    port: u16,
    state: Arc<ProxyState>,
}

impl Proxy {
    async fn start(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(ProxyState::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if !shared.is_down.load(Ordering::SeqCst) {
                    let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    tokio::spawn(forward(client, server, Arc::clone(&shared)));
                }
            }
        });
        Proxy { port, state }
    }

    fn set_down(&self, is_down: bool) {
        self.state.is_down.store(is_down, Ordering::SeqCst);
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, state: Arc<ProxyState>) {
    let (mut request, mut answer) = ([0; 16_384], [0; 16_384]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => match read {
                Ok(count @ 1..) if server.write_all(&request[..count]).await.is_ok() => {
                    let is_marked = request[..count].windows(MARK.len()).any(|window| window == MARK.as_bytes());
                    if is_marked && state.is_armed.swap(false, Ordering::SeqCst) {
                        state.cut.notified().await;
                        state.servers.lock().unwrap().push(server);
                        return;
                    }
                }
                _ => return,
            },
            read = server.read(&mut answer) => match read {
                Ok(count @ 1..) if client.write_all(&answer[..count]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}

/// The fate of the request whose answer is lost.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Committed,
    RolledBack,
    Open,
}

/// A store behind the proxy, and what happens to its database beside it.
struct Scene {
    proxy: Proxy,
    behind: Arc<dyn Store>,
    direct: Arc<dyn Store>,
    /// Holds the head of the chain at times.
    holder: Client,
    /// Looks; in a transaction it would see one state of the sessions alone.
    other: Client,
}

/// A backend of this database that waits for the head of the chain.
const WAITING: &str = "FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.datname = current_database()";

/// The store has looked for a write.
const LOOKED_FOR: &str = "EXISTS (SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'idle' AND query LIKE '%e.write_id = $3')";

impl Scene {
    async fn new(cluster: &Cluster, settings: &PostgresStoreSettings) -> Scene {
        let proxy = Proxy::start(cluster.port()).await;
        let mut to_proxy = settings.clone();
        to_proxy.server.port = proxy.port;
        let connect = async || cluster.connect(&settings.database).await.unwrap();
        let (holder, other) = (connect().await, connect().await);
        Scene { behind: store(&to_proxy).await, direct: store(settings).await, holder, other, proxy }
    }

    async fn until(&self, condition: &str) {
        while !self.other.query_one(&format!("SELECT {condition}"), &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets a write meet its fate, and cuts its connection before the answer. `None`: its caller has left by then.
    async fn meet(
        &self,
        fate: Fate,
        is_gone: bool,
        write: impl Future<Output = Run> + Send + 'static,
    ) -> Option<Run> {
        let head: i64 = self.other.query_one("SELECT seq FROM countersign.head", &[]).await.unwrap().get(0);
        if fate != Fate::Committed {
            self.holder.batch_execute("BEGIN; SELECT FROM countersign.head FOR UPDATE").await.unwrap();
        }
        self.proxy.state.is_armed.store(true, Ordering::SeqCst);
        let caller = tokio::spawn(write);
        let is_ended = if fate == Fate::Committed {
            self.until(&format!("seq > {head} FROM countersign.head")).await;
            // Its client has heard nothing yet, as if it were paused. Nobody waits for it.
            opened(&self.direct, new_run(&format!("after {head}"))).await;
            "true".to_owned()
        } else {
            self.until(&format!("EXISTS (SELECT {WAITING})")).await;
            let pid: i32 = self.other.query_one(&format!("SELECT pid {WAITING}"), &[]).await.unwrap().get(0);
            format!("NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")
        };
        if fate == Fate::RolledBack {
            self.other.query(&format!("SELECT pg_terminate_backend(pid) {WAITING}"), &[]).await.unwrap();
            self.until(&is_ended).await;
        }
        self.proxy.set_down(is_gone);
        self.proxy.state.cut.notify_one();
        let caller = if is_gone {
            caller.abort();
            assert!(caller.await.unwrap_err().is_cancelled());
            self.proxy.set_down(false);
            None
        } else {
            Some(caller)
        };
        // The head is free only when the old backend has been ended and, if nobody waits, its event was looked for.
        self.until(&is_ended).await;
        if fate != Fate::Committed {
            if is_gone {
                self.until(LOOKED_FOR).await;
            }
            self.holder.batch_execute("COMMIT").await.unwrap();
        }
        match caller {
            Some(caller) => Some(caller.await.unwrap()),
            None => None,
        }
    }

    /// The run once its late event is there.
    async fn closed(&self, id: i64) -> Run {
        loop {
            let run = self.direct.get(id).await.unwrap().unwrap();
            if run.state == RunState::Interrupted {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn append(&self, fate: Fate, is_gone: bool) {
        let case = format!("{fate:?}, gone: {is_gone}");
        let run = opened(&self.behind, new_run(&format!("appended to, {case}"))).await;
        let mut approve = append(&run, "approved", RunState::Approved);
        approve.event.facts = json!({ "note": MARK });
        approve.late_event = Some(change("interrupted", RunState::Interrupted));
        let behind = Arc::clone(&self.behind);
        let heard = self.meet(fate, is_gone, async move { done(&behind, approve).await }).await;
        let now = match (&heard, fate) {
            (Some(_), _) | (None, Fate::RolledBack | Fate::Open) => {
                self.direct.get(run.id).await.unwrap().unwrap()
            }
            (None, Fate::Committed) => self.closed(run.id).await,
        };
        let expected = match (&heard, fate) {
            (Some(_), _) => vec!["requested", "approved"],
            (None, Fate::Committed) => vec!["requested", "approved", "interrupted"],
            (None, _) => vec!["requested"],
        };
        assert_eq!(kinds(&now), expected, "{case}");
        assert!(heard.is_none_or(|heard| heard == now), "{case}");
    }

    async fn open(&self, fate: Fate, is_gone: bool) {
        let case = format!("{fate:?}, gone: {is_gone}");
        let mut new = new_run(&format!("opened, {case}"));
        new.first_event.facts = json!({ "note": MARK });
        new.late_event = Some(change("interrupted", RunState::Interrupted));
        let (behind, again) = (Arc::clone(&self.behind), new.clone());
        let heard = self.meet(fate, is_gone, async move { opened(&behind, new).await }).await;
        let delivered = self.direct.open(again).await.unwrap();
        match (heard, fate, delivered) {
            (Some(heard), _, OpenOutcome::Duplicate(id)) => {
                assert_eq!(self.direct.get(id).await.unwrap(), Some(heard), "{case}");
            }
            (None, Fate::Committed, OpenOutcome::Duplicate(id)) => {
                assert_eq!(kinds(&self.closed(id).await), ["requested", "interrupted"], "{case}");
            }
            // The delivery isn't used up: nothing of it was kept.
            (None, Fate::RolledBack | Fate::Open, OpenOutcome::New(_)) => {}
            other => panic!("{case}: {other:?}"),
        }
    }
}

fn kinds(run: &Run) -> Vec<&str> {
    run.events.iter().map(|event| event.kind.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_found_out() {
    let scenes = databases().await.into_iter().map(async |(cluster, settings)| {
        let scene = Scene::new(cluster, &settings).await;
        for fate in [Fate::Committed, Fate::RolledBack, Fate::Open] {
            for is_gone in [false, true] {
                scene.append(fate, is_gone).await;
                scene.open(fate, is_gone).await;
            }
        }
        let verified = scene.direct.verify().await.unwrap();
        let count = scene.other.query_one("SELECT count(*) FROM countersign.events", &[]).await.unwrap();
        assert_eq!((verified.first_error, verified.events), (None, count.get(0)));
    });
    futures::future::join_all(scenes).await;
}

/// The answer comes when its caller has been told that it is too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_starts_nothing() {
    let scenes = databases().await.into_iter().map(async |(cluster, settings)| {
        let limit = Duration::from_millis(500);
        let hasty: Arc<dyn Store> = Arc::new(PostgresStore::open(settings.clone(), limit).await.unwrap());
        let patient = store(&settings).await;
        let run = opened(&patient, new_run("d1")).await;
        let holder = cluster.connect(&settings.database).await.unwrap();
        holder.batch_execute("BEGIN; SELECT FROM countersign.head FOR UPDATE").await.unwrap();
        let mut approve = append(&run, "approved", RunState::Approved);
        approve.late_event = Some(change("interrupted", RunState::Interrupted));
        let heard = hasty.append_if_unchanged(approve).await;
        assert!(matches!(heard, Err(StoreError::TooLate)), "{heard:?}");
        holder.batch_execute("COMMIT").await.unwrap();
        // One connection writes: when this is written, the other is behind it.
        while hasty.open(new_run("d2")).await.is_err() {}
        let mut now = patient.get(run.id).await.unwrap().unwrap();
        while now.state == RunState::Approved {
            now = patient.get(run.id).await.unwrap().unwrap();
        }
        let expected: [&[&str]; 2] = [&["requested"], &["requested", "approved", "interrupted"]];
        assert!(expected.contains(&kinds(&now).as_slice()), "{now:?}");
        assert_eq!(patient.verify().await.unwrap().first_error, None);
    });
    futures::future::join_all(scenes).await;
}
