//! The real program as a process of its own, which can be killed; and a command whose effect can be counted and held up.

use crate::clocks::shifted::shift_library;
use crate::harness::{Scene, found, servers};
use countersign::demo::fake_slack::Workspace;
use countersign::model::{Run, RunState};
use countersign::store::Store;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_postgres::Client;

/// `countersign serve`. Dropping it kills it.
pub struct Process {
    pub url: String,
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
}

impl Process {
    /// Starts one more on the scene's configuration and record; the workspace speaks to it from now on.
    pub async fn start(scene: &Scene) -> Process {
        let process = Process::start_unconnected(scene).await;
        scene.workspace().connect_bot(&process.url);
        process
    }

    /// The same, but the workspace goes on speaking to another.
    pub async fn start_unconnected(scene: &Scene) -> Process {
        Process::run(scene, Command::new(env!("CARGO_BIN_EXE_countersign")), &[]).await
    }

    /// One whose writes to the record hang while a file called `hang` is in the scene's directory.
    pub async fn start_on_a_disk_that_may_hang(scene: &Scene) -> Process {
        let directory = scene.directory.path();
        let (library, gate) = (directory.join("hang.so"), directory.join("hang"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workflow/hang_fsync.c");
        // The compiler that Rust links with.
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .args([source, "-ldl"])
            .status()
            .await;
        assert!(made.expect("cc").success());
        let more = [("LD_PRELOAD", library), ("HANG_WHILE", gate)];
        let process = Process::run(scene, Command::new(env!("CARGO_BIN_EXE_countersign")), &more).await;
        scene.workspace().connect_bot(&process.url);
        process
    }

    /// One whose clock is so many seconds ahead of the system's.
    pub async fn start_with_clock(scene: &Scene, ahead_s: i64) -> Process {
        let library = shift_library(scene.directory.path());
        let more = [("LD_PRELOAD", library), ("SHIFT_S", ahead_s.to_string().into())];
        let process = Process::run(scene, Command::new(env!("CARGO_BIN_EXE_countersign")), &more).await;
        scene.workspace().connect_bot(&process.url);
        process
    }

    /// The same as the account that the servers run as, to which the scene's files belong from now on: no permission of a
    /// file stands in root's way.
    pub async fn start_unprivileged(scene: &Scene) -> Process {
        let account = std::fs::metadata(scene.servers.cluster.log_path()).expect("the server's log");
        let directory = scene.directory.path();
        let program = directory.join("countersign");
        std::fs::copy(env!("CARGO_BIN_EXE_countersign"), &program).expect("the program");
        let mut command = Command::new(program);
        if account.uid() != std::fs::metadata(directory).expect("the scene's directory").uid() {
            command.uid(account.uid()).gid(account.gid());
            let files = std::fs::read_dir(directory)
                .expect("the scene's files")
                .map(|file| file.expect("a file").path());
            for path in files.chain([directory.to_owned()]) {
                std::os::unix::fs::chown(path, Some(account.uid()), Some(account.gid()))
                    .expect("another owner");
            }
        }
        let process = Process::run(scene, command, &[]).await;
        scene.workspace().connect_bot(&process.url);
        process
    }

    async fn run(scene: &Scene, mut command: Command, more: &[(&str, PathBuf)]) -> Process {
        let config = scene.directory.path().join("countersign.toml");
        std::fs::write(&config, &scene.stage.config).expect("the configuration");
        let mut child = command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .env_clear()
            .envs(&scene.stage.secrets)
            .envs(more.iter().cloned())
            .env("RUST_LOG", "warn,countersign=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program");
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                kept.lock().expect("the log").push(line);
            }
        });
        let mut process = Process { url: String::new(), child, log };
        let address = found("the program to listen", async || {
            let listening = process.logged("listening").pop()?;
            Some(listening["fields"]["address"].as_str()?.to_owned())
        });
        process.url = format!("http://{}", address.await);
        process
    }

    /// The log's lines with that message.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let log = self.log.lock().expect("the log");
        log.iter().filter(|line| line["fields"]["message"] == message).cloned().collect()
    }

    /// All of it.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").iter().map(|line| line.to_string() + "\n").collect()
    }

    /// Waits until it has logged the message so often.
    pub async fn logs(&self, message: &str, times: usize) {
        found(message, async || (self.logged(message).len() >= times).then_some(())).await;
    }

    /// The workspace, with requests going to this very process.
    pub fn of(&self, scene: &Scene) -> Workspace {
        scene.workspace().with_bot(&self.url)
    }

    /// SIGTERM: told to end.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// SIGSTOP: no instruction is executed until it is resumed.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().expect("a process that lives").to_string();
        let status = std::process::Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.expect("kill").success());
    }

    /// Waits for its end, which must be a good one.
    pub async fn ended(self) {
        let status = self.end().await;
        assert!(status.success(), "{status}");
    }

    /// Waits for its end.
    pub async fn end(mut self) -> ExitStatus {
        self.child.wait().await.expect("an end")
    }

    /// SIGKILL: no destructor, no last word.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("an end");
    }
}

/// A table of its own in the maintenance database, and a command that adds a row to it.
pub struct Counter {
    table: String,
    superuser: Client,
}

/// Locks are waited for longer than any test holds one.
pub const PATIENT: (&str, &str) =
    ("connections = 12", "connections = 12\nlock_timeout = \"20s\"\nstatement_timeout = \"25s\"");

impl Counter {
    pub async fn new(name: &str) -> Counter {
        let superuser = servers().await.cluster.connect("postgres").await.expect("the superuser");
        let table = format!("counted_{name}");
        let make = format!(
            "CREATE TABLE {table} (by text DEFAULT current_setting('application_name')); \
             GRANT INSERT ON {table} TO countersign_act; GRANT SELECT ON {table} TO countersign_read"
        );
        superuser.batch_execute(&make).await.expect("a table");
        Counter { table, superuser }
    }

    /// `count.sql`, which waits for a second person.
    pub fn acts(&self) -> String {
        format!(
            "/*\nsummary = \"Count\"\ngroup = \"act\"\nrisk = \"danger\"\nscope = \"server\"\n\
             login = \"operator\"\nexample = \"count\"\n*/\n-- ## One [preview]\nSELECT 1 AS count\n\
             -- ## Count\nINSERT INTO public.{} DEFAULT VALUES\n",
            self.table
        )
    }

    /// `counted.sql`, which reads.
    pub fn looks(&self) -> String {
        format!(
            "/*\nsummary = \"What was counted\"\ngroup = \"act\"\nrisk = \"read\"\nscope = \"server\"\n\
             example = \"counted\"\nverdict = \"Counted {{counted}}.\"\n*/\nSELECT count(*) AS counted FROM public.{}\n",
            self.table
        )
    }

    /// How often each session's name counted.
    pub async fn by(&self) -> BTreeMap<String, i64> {
        let sql = format!("SELECT by, count(*) FROM {} GROUP BY by", self.table);
        let rows = self.superuser.query(&sql, &[]).await.expect("the rows");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Whether no session works on it.
    pub async fn is_quiet(&self) -> bool {
        let sql = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE '%' || $1 || '%'
                   AND pid <> pg_backend_pid())";
        self.superuser.query_one(sql, &[&self.table]).await.expect("an answer").get(0)
    }

    /// Forgets everything, when nobody counts any more.
    pub async fn clear(&self) {
        self.superuser.batch_execute(&format!("TRUNCATE {}", self.table)).await.expect("an empty table");
    }

    pub async fn rows(&self) -> i64 {
        let sql = format!("SELECT count(*) FROM {}", self.table);
        self.superuser.query_one(&sql, &[]).await.expect("a number").get(0)
    }

    /// Holds up whoever counts or looks, until the client commits.
    pub async fn held(&self) -> Client {
        let holder = servers().await.cluster.connect("postgres").await.expect("the superuser");
        let lock = format!("BEGIN; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", self.table);
        holder.batch_execute(&lock).await.expect("a lock");
        holder
    }

    /// Waits until somebody waits for the table: the pid.
    pub async fn is_waited_for(&self) -> i32 {
        let sql = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass";
        found("a session that waits for the table", async || {
            let row = self.superuser.query_opt(sql, &[&self.table]).await.expect("an answer");
            row.map(|row| row.get(0))
        })
        .await
    }

    pub async fn has_waiter(&self) -> bool {
        let sql = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass)";
        self.superuser.query_one(sql, &[&self.table]).await.expect("an answer").get(0)
    }

    /// Ends a session, so that what it waited to do is never done.
    pub async fn ends(&self, pid: i32) {
        self.superuser.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.expect("an end");
        let sql = "SELECT 1 FROM pg_stat_activity WHERE pid = $1";
        found("the session's end", async || {
            self.superuser.query_opt(sql, &[&pid]).await.expect("an answer").is_none().then_some(())
        })
        .await;
    }
}

/// Waits until the only run of a command has that state.
pub async fn becomes(record: &dyn Store, command: &str, state: RunState) -> Run {
    let what = format!("`{command}` to be {state:?}");
    found(&what, async || the_run(record, command).await.filter(|run| run.state == state)).await
}

/// The only run of a command.
pub async fn the_run(record: &dyn Store, command: &str) -> Option<Run> {
    let mut runs = all_runs(record, command).await;
    assert!(runs.len() <= 1, "more than one run: {runs:#?}");
    runs.pop()
}

pub async fn all_runs(record: &dyn Store, command: &str) -> Vec<Run> {
    let filter = countersign::store::Filter {
        command: Some(command.to_owned()),
        include_reads: true,
        ..countersign::store::Filter::default()
    };
    record.list(filter).await.expect("the record").runs
}

pub fn kinds(run: &Run) -> Vec<&str> {
    run.events.iter().map(|event| event.kind.as_str()).collect()
}

/// Where a request of ana's is told: one card, the two who may approve it directly, and the result to herself.
const COPIES: usize = 4;

/// Waits until the record knows where every copy of a request's card stands: then the bot writes nothing more by itself.
pub async fn noted(record: &dyn Store, run: &Run) {
    found("the card to be noted", async || {
        let cards = record.run_cards(run.id).await.expect("the record");
        (cards.len() == COPIES && cards.iter().all(|card| card.shown_version == run.version)).then_some(())
    })
    .await;
}
