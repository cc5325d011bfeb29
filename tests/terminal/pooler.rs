//! A pooler where a server should be: it is recognized, named, and asked nothing. It would keep a session's settings from the
//! server, or hand them to other clients.

use crate::harness::{Servers, World};
use countersign::demo::free_port;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// In transaction pooling, the usual one.
struct PgBouncer {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl PgBouncer {
    async fn start(servers: &Servers, more: &str) -> PgBouncer {
        let directory = tempfile::tempdir().unwrap();
        // It refuses to run as root.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let port = free_port().unwrap();
        let users = directory.path().join("users");
        let accounts = [&servers.team.reader, &servers.team.operator];
        let lines: Vec<String> =
            accounts.map(|account| format!("\"{}\" \"{}\"\n", account.user, account.password)).to_vec();
        std::fs::write(&users, lines.concat()).unwrap();
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n{more}\n",
            servers.cluster.port(),
            users.display()
        );
        let file = directory.path().join("pgbouncer.ini");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("/usr/sbin/pgbouncer");
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("PgBouncer: `make system` installs it");
        let pooler = PgBouncer { process, port, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(60);
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < deadline, "PgBouncer doesn't listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        pooler
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn is_named(more: &str, words: &str) {
    let servers = Servers::shared().await;
    let pooler = PgBouncer::start(servers, more).await;
    let port = format!("port = {}", servers.cluster.port());
    let world = World::with("U0ANA", &[(&port, &format!("port = {}", pooler.port))]).await;
    let said = world.say(&["check"]).await;
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.out.starts_with("CRITICAL: 2 checks failed: production, staging.\n"), "once: {}", said.out);
    assert_eq!(said.flat().matches(words).count(), 2, "{}", said.out);
    let fix = "main as reader: Set `host` and `port` of main to PostgreSQL's own: port 5432 as a rule";
    assert!(said.flat().contains(fix), "{}", said.out);
    for line in
        ["health", "slow asset-service", "kill 4711", "vacuum asset-service assets", "backup asset-service"]
    {
        let said = world.runs(&format!("{line} --env production")).await;
        let all = format!("{} {}", said.flat(), said.err.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(all.contains(words), "{line}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_refuses_start_up_options_is_named() {
    let words = "is a pooler (PgBouncer): Countersign needs the server's own address, port 5432 as a rule";
    is_named("", words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_drops_start_up_options_is_named() {
    let words = "is a pooler, or ignores start-up options: Countersign needs the server's own address, port 5432 as a rule";
    is_named("ignore_startup_parameters = options, extra_float_digits, search_path", words).await;
}
