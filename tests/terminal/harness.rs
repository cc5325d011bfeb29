//! The program, its configuration and the servers behind it. Whoever runs the tests is the person at the terminal.

use countersign::config::login_name;
use countersign::demo::fake_slack::Settings;
use countersign::demo::harness::{Setup, Site, Stage};
use countersign::demo::postgres::{Cluster, Options};
use countersign::demo::sample::{Sample, Team};
use countersign::model::Run;
use countersign::store::sqlite::{SqliteStore, StoreLimits};
use countersign::store::{Filter, Store};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;
use unicode_width::UnicodeWidthStr;

/// What the program shows where nobody knows the terminal's width.
pub const WIDTH: usize = 80;

pub struct Servers {
    pub cluster: Cluster,
    pub team: Team,
}

impl Servers {
    pub async fn start() -> Servers {
        let settings = vec![("max_connections".to_owned(), "300".to_owned())];
        let bin_dir = std::env::var_os("COUNTERSIGN_TEST_PG_BIN").map(Into::into);
        let cluster = Cluster::start(Options { settings, bin_dir, ..Options::default() }).await;
        let cluster = cluster.expect("a PostgreSQL server");
        let team = Sample::light().install(&cluster).await.expect("the sample");
        cluster.protect().await.expect("a server that is safe in a crash");
        // Many programs share these roles here; in a team's server there are one or two.
        let limits =
            "ALTER ROLE countersign_read CONNECTION LIMIT -1; ALTER ROLE countersign_act CONNECTION LIMIT -1";
        let superuser = cluster.connect("postgres").await.expect("the superuser");
        superuser.batch_execute(limits).await.expect("no limits");
        Servers { cluster, team }
    }

    /// Those that all tests of this binary share.
    pub async fn shared() -> &'static Servers {
        static SERVERS: OnceCell<Servers> = OnceCell::const_new();
        SERVERS.get_or_init(Servers::start).await
    }

    pub async fn does(&self, database: &str, sql: &str) {
        let superuser = self.cluster.connect(database).await.expect("the superuser");
        superuser.batch_execute(sql).await.unwrap_or_else(|why| panic!("{sql}: {why}"));
    }
}

/// A configuration, and what the program says with it.
pub struct World<'s> {
    pub stage: Stage,
    pub servers: &'s Servers,
    directory: tempfile::TempDir,
}

/// What the program said.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    async fn of(mut program: Command) -> Said {
        let output = program.output().await.expect("the program");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Said {
            status: output.status.code().expect("an exit status"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Nothing is wider than a terminal, and nothing speaks to it.
    pub fn is_fit_for_a_terminal(&self) {
        for line in self.out.lines() {
            assert!(line.width() <= WIDTH, "{} columns: {line}\n{}", line.width(), self.out);
        }
        self.is_inert();
    }

    /// No terminal would obey a part of it.
    pub fn is_inert(&self) {
        let obeyed = |c: char| c.is_control() && c != '\n';
        assert!(!self.out.contains(obeyed) && !self.err.contains(obeyed), "{self:?}");
    }

    /// The answer on one line, since it was wrapped.
    pub fn flat(&self) -> String {
        self.out.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }
}

/// The configuration's line with a person's Slack account, and the same with the terminal's.
fn at_the_terminal(slack: &str) -> (String, String) {
    let line = format!("slack = [\"{slack}\"]\n");
    (line.clone(), format!("{line}terminal = [\"{}\"]\n", login_name()))
}

impl World<'static> {
    /// Ana sits at the terminal.
    pub async fn usual() -> World<'static> {
        World::with("U0ANA", &[]).await
    }

    /// Somebody sits at the terminal, and the configuration differs from the usual.
    pub async fn with(who: &str, instead: &[(&str, &str)]) -> World<'static> {
        World::on(Servers::shared().await, who, instead).await
    }
}

impl<'s> World<'s> {
    pub async fn on(servers: &'s Servers, who: &str, instead: &[(&str, &str)]) -> World<'s> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().expect("a directory");
        let site =
            |name, production| Site { name, production, cluster: &servers.cluster, team: &servers.team };
        let mut replaced: Vec<_> = instead.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        replaced.push(at_the_terminal(who));
        let stage = Stage::set(Setup {
            sites: vec![site("production", true), site("staging", false)],
            workspace: Settings::default(),
            slack: true,
            teams: None,
            listen: ([127, 0, 0, 1], 0).into(),
            directory: directory.path(),
            extra_config: "",
            replacements: replaced,
            socket_mode: false,
        });
        let stage = stage.await.expect("a stage");
        std::fs::write(directory.path().join("countersign.toml"), &stage.config).expect("the configuration");
        World { stage, servers, directory }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The program, ready to start.
    pub fn program(&self, arguments: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_countersign"), arguments)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.directory())
            .env_clear()
            .envs(&self.stage.secrets)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Starts the program, and doesn't wait for its end.
    pub fn starts(&self, arguments: &[&str]) -> Child {
        let mut command = self.program(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program")
    }

    /// Runs the program, where its configuration is, with nothing in its environment but the secrets.
    pub async fn say(&self, arguments: &[&str]) -> Said {
        Said::of(self.program(arguments)).await
    }

    /// The same with another mask for the modes of new files.
    pub async fn say_under(&self, umask: &str, arguments: &[&str]) -> Said {
        let shell = ["-c", "umask $0 && exec \"$@\"", umask, env!("CARGO_BIN_EXE_countersign")];
        Said::of(self.command("/bin/sh", &[&shell, arguments].concat())).await
    }

    /// The same for an account that the modes of files keep out: without root's capabilities to pass them.
    pub async fn say_bound_by_modes(&self, arguments: &[&str]) -> Said {
        if !rustix::process::geteuid().is_root() {
            return self.say(arguments).await;
        }
        let without = ["--bounding-set=-dac_override,-dac_read_search", env!("CARGO_BIN_EXE_countersign")];
        Said::of(self.command("/usr/bin/setpriv", &[&without, arguments].concat())).await
    }

    /// The same with lines on standard input.
    pub async fn say_typing(&self, typed: &str, arguments: &[&str]) -> Said {
        let shell = ["-c", "printf %s \"$0\" | \"$@\"", typed, env!("CARGO_BIN_EXE_countersign")];
        Said::of(self.command("/bin/sh", &[&shell, arguments].concat())).await
    }

    /// `countersign run`, with a line as one would type it without quotes.
    pub async fn runs(&self, line: &str) -> Said {
        let words: Vec<&str> = ["run"].into_iter().chain(line.split_whitespace()).collect();
        self.say(&words).await
    }

    /// The record, as another process reads it.
    pub fn record(&self) -> SqliteStore {
        SqliteStore::open(&self.directory().join("record.db"), StoreLimits::default()).expect("the record")
    }

    pub async fn recorded(&self) -> Vec<Run> {
        let filter = Filter { include_reads: true, ..Filter::default() };
        self.record().list(filter).await.expect("the runs").runs
    }
}
