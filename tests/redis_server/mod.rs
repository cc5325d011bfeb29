//! Redis servers and Sentinels of the tests' own: each on a port and in a directory of its own, ended when it is dropped.

use countersign::demo::free_port;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisResult};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Debian's package redis-tools has the server under this name; the packages with its service add no program.
const DEBIAN_PROGRAM: &str = "/usr/bin/redis-check-rdb";

/// A server that takes 20 s to answer its first question has failed.
const START_TRIES: usize = 400;

/// The name that the Sentinel gives the primary.
pub const PRIMARY: &str = "main";

/// A command is answered, a replica follows, and a Sentinel has promoted it, within this time.
const LIMIT: Duration = Duration::from_secs(60);

pub struct RedisServer {
    pub port: u16,
    child: Child,
    directory: TempDir,
    settings: Vec<String>,
}

impl RedisServer {
    /// An empty server that keeps nothing on disk. `settings` are its options: `("replicaof", "127.0.0.1 6379")`.
    pub async fn start(settings: &[(&str, &str)]) -> RedisServer {
        let mut words = Vec::new();
        for (name, value) in settings {
            words.push(format!("--{name}"));
            words.extend(value.split(' ').map(str::to_owned));
        }
        RedisServer::start_program(words).await
    }

    /// A server whose only port takes TLS, with this certificate and its key. Without its authority it can't be asked: it is not
    /// awaited.
    pub fn start_with_tls(certificate: &Path, key: &Path) -> RedisServer {
        let port = free_port().expect("a port");
        let [certificate, key] = [certificate, key].map(|path| path.to_string_lossy().into_owned());
        let settings = [
            ("tls-port", port.to_string()),
            ("tls-cert-file", certificate.clone()),
            ("tls-key-file", key),
            ("tls-ca-cert-file", certificate),
            ("tls-auth-clients", "no".to_owned()),
        ];
        let settings = settings.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
        RedisServer::spawn(port, 0, settings)
    }

    /// A Sentinel that watches the server as [`PRIMARY`], and promotes its replica half a second after its end.
    async fn start_sentinel(watched: &RedisServer) -> RedisServer {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("sentinel.conf");
        let port = watched.port;
        let text = format!(
            "sentinel monitor {PRIMARY} 127.0.0.1 {port} 1\nsentinel down-after-milliseconds {PRIMARY} 500\n\
             sentinel failover-timeout {PRIMARY} 5000\n"
        );
        std::fs::write(&file, text).expect("a file");
        let mut sentinel =
            RedisServer::start_program(vec![file.to_string_lossy().into_owned(), "--sentinel".to_owned()])
                .await;
        // The file is rewritten while it runs.
        sentinel.directory = directory;
        sentinel
    }

    async fn start_program(settings: Vec<String>) -> RedisServer {
        let port = free_port().expect("a port");
        let mut server = RedisServer::spawn(port, port, settings);
        server.answers().await;
        server
    }

    fn spawn(port: u16, plain_port: u16, settings: Vec<String>) -> RedisServer {
        let directory = tempfile::tempdir().expect("a directory");
        let child = child(plain_port, directory.path(), &settings);
        RedisServer { port, child, directory, settings }
    }

    async fn answers(&mut self) {
        for _ in 0..START_TRIES {
            if self.try_command::<String>(&["PING"]).await.is_ok() {
                return;
            }
            assert!(
                self.child.try_wait().expect("a process").is_none(),
                "redis-server ended: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("redis-server doesn't answer: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Sends a command as an administrator.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    async fn try_command<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let client = redis::Client::open(("127.0.0.1", self.port))?;
        // A machine that is busy with other tests takes its time.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(LIMIT))
            .set_response_timeout(Some(LIMIT));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    /// Sends a signal: "STOP" makes it hang, "CONT" lets it go on.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{signal}"), &pid]).status();
        assert!(status.expect("kill").success());
    }

    /// Ends it at once; what it had in memory is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("it ends");
        self.child.wait().expect("its end");
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_some()
    }

    /// Starts it on its port after [`RedisServer::kill`], empty.
    pub async fn start_again(&mut self) {
        self.child = child(self.port, self.directory.path(), &self.settings);
        self.answers().await;
    }
}

/// A primary and its replica, and the Sentinel that promotes one for the other.
pub struct RedisGroup {
    servers: [RedisServer; 2],
    sentinel: RedisServer,
}

impl RedisGroup {
    pub async fn start() -> RedisGroup {
        let settings = [("repl-diskless-sync-delay", "0")];
        let servers = [RedisServer::start(&settings).await, RedisServer::start(&settings).await];
        let _: String = servers[1].command(&["REPLICAOF", "127.0.0.1", &servers[0].port.to_string()]).await;
        let sentinel = RedisServer::start_sentinel(&servers[0]).await;
        let group = RedisGroup { servers, sentinel };
        group.follows(1).await;
        until("the Sentinel to know the replica", async || {
            let known: Vec<redis::Value> = group.sentinel.command(&["SENTINEL", "REPLICAS", PRIMARY]).await;
            !known.is_empty()
        })
        .await;
        group
    }

    pub fn sentinel_port(&self) -> u16 {
        self.sentinel.port
    }

    /// The index of the server that the Sentinel names.
    async fn primary_index(&self) -> usize {
        let (_, port): (String, u16) =
            self.sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY]).await;
        usize::from(port == self.servers[1].port)
    }

    /// The server that takes writes.
    pub async fn primary(&self) -> &RedisServer {
        &self.servers[self.primary_index().await]
    }

    /// Waits until a server is the connected replica of the other.
    async fn follows(&self, replica: usize) {
        until("a replica of Redis", async || {
            let role: Vec<redis::Value> = self.servers[replica].command(&["ROLE"]).await;
            let state = role.get(3).cloned().map(redis::from_redis_value::<String>);
            matches!(state, Some(Ok(state)) if state == "connected")
        })
        .await;
    }

    /// Ends the primary, and waits until its replica is promoted.
    pub async fn lose_primary(&mut self) {
        let lost = self.primary_index().await;
        self.follows(1 - lost).await;
        self.servers[lost].kill();
        until("the promotion", async || self.primary_index().await != lost).await;
    }

    /// Ends both servers.
    pub fn stop(&mut self) {
        self.servers.iter_mut().for_each(RedisServer::kill);
    }

    /// Starts the servers that have ended, empty. The Sentinel makes the other one a replica of the primary in the next seconds.
    pub async fn start_again(&mut self) {
        for server in &mut self.servers {
            if server.has_ended() {
                server.start_again().await;
            }
        }
    }
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so().await {
        assert!(Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn child(port: u16, directory: &Path, settings: &[String]) -> Child {
    let is_installed = |path: std::path::PathBuf| path.join("redis-server").is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program =
        if std::env::split_paths(&path).any(is_installed) { "redis-server" } else { DEBIAN_PROGRAM };
    let mut command = Command::new(program);
    // The program does what its name says.
    command.arg0("redis-server").args(settings);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--logfile"]);
    command.arg(directory.join("log")).arg("--dir").arg(directory);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server: .ci/install-tools installs it")
}
