//! Throwaway PostgreSQL servers: made by `initdb` in a temporary directory, reachable on 127.0.0.1 only, gone with
//! their [`Cluster`] or with this process, however it ends.
//!
//! Nothing about the sample team belongs here. Durability is switched off: never point this at data that matters.

use std::fs::Permissions;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio_postgres::{Client, NoTls};

mod installed;
mod process;

pub use installed::find_bin_dir;
pub use process::TemporaryDirectory;
use process::{OsAccount, Postmaster};

/// The superuser of every throwaway server; Azure's platform account has the same name.
const SUPERUSER: &str = "azuresu";

/// Time until a server must answer its first query: a cold start on a busy CI machine takes about 3 s.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Between two attempts to connect to a starting server.
const POLL: Duration = Duration::from_millis(20);

/// Another program can take the port between our finding it free and the server's binding it.
const PORT_ATTEMPTS: usize = 5;

/// The `application_name` of a replica, under which its primary shows it.
const REPLICA: &str = "sample-replica";

/// The options of a [`Cluster`]; the default suits the tests.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// The directory of `initdb` and `postgres`; by default the newest that [`find_bin_dir`] finds.
    pub bin_dir: Option<PathBuf>,
    /// Lines of `postgresql.conf`, written after, and so overriding, the defaults.
    pub settings: Vec<(String, String)>,
    /// Offer TLS; plain connections stay possible.
    pub tls: Option<ServerCertificate>,
}

/// A server certificate in PEM files, which are copied.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// The parameters of a connection.
#[derive(Clone, Copy)]
pub struct ConnectionParameters<'a> {
    pub user: &'a str,
    pub password: &'a str,
    pub database: &'a str,
    /// PostgreSQL cuts it at 63 bytes.
    pub application_name: &'a str,
}

/// A running PostgreSQL server. Dropping it stops the server (immediate shutdown) and removes its directory.
pub struct Cluster {
    postmaster: Postmaster,
    /// After `postmaster`: fields are dropped in order.
    dir: TemporaryDirectory,
    bin_dir: PathBuf,
    account: OsAccount,
    password: String,
    port: u16,
    version_num: u32,
}

impl Cluster {
    /// Makes a server and waits until it has answered a query.
    ///
    /// Connections over TCP need a password (SCRAM). When this process is root, which PostgreSQL refuses to run as,
    /// the server runs as `postgres` or `nobody`.
    pub async fn start(options: Options) -> anyhow::Result<Cluster> {
        let bin_dir = match &options.bin_dir {
            Some(dir) => dir.clone(),
            None => find_bin_dir(None, &[])?,
        };
        let (dir, account) = make_directory()?;
        let password = crate::model::random_token().context("asking the system for randomness")?;
        initdb(&bin_dir, dir.path(), account, &password).await?;
        write_settings(&bin_dir, dir.path(), account, options)?;
        Cluster::run(bin_dir, dir, account, password).await
    }

    /// Makes a replica that streams from this server over the given slot, which must be there. This server is stopped for a
    /// moment, as by a crash, and its sessions are lost.
    pub async fn replica(&mut self, slot: &str) -> anyhow::Result<Cluster> {
        let (dir, account) = make_directory()?;
        self.stop()?;
        let data = dir.path().join("data");
        let copied = account
            .command(Path::new("/bin/cp"))
            .arg("-R")
            .arg(self.dir.path().join("data"))
            .arg(&data)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .status()
            .context("copying the server's directory")?;
        if !copied.success() {
            bail!("copying the server's directory: {copied}");
        }
        self.restart().await?;
        std::fs::set_permissions(&data, Permissions::from_mode(0o700))?;
        remove_what_a_base_backup_leaves_out(&data)?;
        write_private(&data.join("standby.signal"), b"", account)?;
        let primary = format!(
            "host={} port={} user={SUPERUSER} password={} application_name={REPLICA}",
            self.host(),
            self.port,
            self.password
        );
        let settings = [
            ("primary_conninfo", primary),
            ("primary_slot_name", slot.to_owned()),
            ("unix_socket_directories", dir.path().display().to_string()),
        ];
        append_settings(dir.path(), settings.map(|(name, value)| (name.to_owned(), value)))?;
        Cluster::run(self.bin_dir.clone(), dir, account, self.password.clone()).await
    }

    async fn run(
        bin_dir: PathBuf,
        dir: TemporaryDirectory,
        account: OsAccount,
        password: String,
    ) -> anyhow::Result<Cluster> {
        let port = free_port()?;
        let postmaster = Postmaster::spawn(&bin_dir, dir.path(), account, port)?;
        Cluster { postmaster, dir, bin_dir, account, password, port, version_num: 0 }.settled().await
    }

    /// Waits until it has answered a query, on another port if its own was taken.
    async fn settled(mut self) -> anyhow::Result<Cluster> {
        for _ in 1..PORT_ATTEMPTS {
            match self.wait_until_ready().await {
                Err(_) if self.port_was_taken() => self.spawn_on(free_port()?)?,
                result => return result.map(|()| self),
            }
        }
        self.wait_until_ready().await?;
        Ok(self)
    }

    pub fn host(&self) -> &str {
        "127.0.0.1"
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn superuser(&self) -> &str {
        SUPERUSER
    }

    pub fn superuser_password(&self) -> &str {
        &self.password
    }

    /// As `server_version_num` has it: 150018 is 15.18.
    pub fn version_num(&self) -> u32 {
        self.version_num
    }

    /// The directory of this server's programs: `pg_dump` and `psql` too, if the installation has them.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The server's log.
    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    /// Connects as the superuser.
    pub async fn connect(&self, database: &str) -> anyhow::Result<Client> {
        self.connect_as(self.superuser_login(database)).await
    }

    fn superuser_login<'a>(&'a self, database: &'a str) -> ConnectionParameters<'a> {
        ConnectionParameters {
            user: SUPERUSER,
            password: &self.password,
            database,
            application_name: "sample-admin",
        }
    }

    /// As [`Cluster::config`], for the superuser.
    pub fn superuser_config(&self, database: &str) -> tokio_postgres::Config {
        self.config(self.superuser_login(database))
    }

    /// Connects over TCP, without TLS. The connection ends when the client is dropped and has its answers.
    pub async fn connect_as(&self, login: ConnectionParameters<'_>) -> anyhow::Result<Client> {
        let (client, connection) = self
            .config(login)
            .connect(NoTls)
            .await
            .with_context(|| format!("connecting to {} as {}", login.database, login.user))?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The configuration that [`Cluster::connect_as`] connects with, for a program that makes its own connections.
    pub fn config(&self, login: ConnectionParameters<'_>) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host(self.host())
            .port(self.port)
            .user(login.user)
            .password(login.password)
            .dbname(login.database)
            .application_name(login.application_name);
        config
    }

    /// Stops every process of the server where it stands: nothing answers any more while the guard lives.
    pub fn freeze(&self) -> anyhow::Result<PausedProcess<'_>> {
        let paused = PausedProcess(self);
        self.postmaster.pause()?;
        Ok(paused)
    }

    /// Stops the server at once, as a crash would; its data stays for [`Cluster::restart`].
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.postmaster.stop()
    }

    /// Starts a stopped server again, on the same port, and waits until it answers.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.postmaster.stop()?;
        self.spawn_on(self.port)?;
        self.wait_until_ready().await
    }

    fn spawn_on(&mut self, port: u16) -> anyhow::Result<()> {
        self.port = port;
        self.postmaster = Postmaster::spawn(&self.bin_dir, self.dir.path(), self.account, port)?;
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.first_answer().await {
                Ok(version_num) => {
                    self.version_num = version_num;
                    return Ok(());
                }
                Err(error) if Instant::now() > deadline => return Err(error.context(self.last_log_lines())),
                Err(_) if self.postmaster.has_exited()? => {
                    bail!("the server stopped while starting: {}", self.last_log_lines())
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn first_answer(&self) -> anyhow::Result<u32> {
        let client = self.connect("postgres").await?;
        let row = client.query_one("SELECT current_setting('server_version_num')", &[]).await?;
        row.get::<_, &str>(0).parse().context("reading server_version_num")
    }

    fn port_was_taken(&self) -> bool {
        self.last_log_lines().contains("could not bind")
    }

    fn last_log_lines(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// A server that answers nothing until this is dropped.
pub struct PausedProcess<'a>(&'a Cluster);

impl Drop for PausedProcess<'_> {
    fn drop(&mut self) {
        self.0.postmaster.resume();
    }
}

/// Makes a server's directory, and finds the account that it runs as.
fn make_directory() -> anyhow::Result<(TemporaryDirectory, OsAccount)> {
    let (dir, account) = (TemporaryDirectory::new("countersign-pg")?, OsAccount::unprivileged()?);
    account.own(dir.path())?;
    Ok((dir, account))
}

/// The primary's process file, and its slots.
fn remove_what_a_base_backup_leaves_out(data: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(data.join("postmaster.pid")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    for slot in std::fs::read_dir(data.join("pg_replslot"))? {
        std::fs::remove_dir_all(slot?.path())?;
    }
    Ok(())
}

async fn initdb(bin_dir: &Path, dir: &Path, account: OsAccount, password: &str) -> anyhow::Result<()> {
    let pwfile = dir.join("password");
    write_private(&pwfile, password.as_bytes(), account)?;
    let mut command = tokio::process::Command::from(account.command(&bin_dir.join("initdb")));
    let output = command
        .arg("-D")
        .arg(dir.join("data"))
        .args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"])
        .arg(format!("--username={SUPERUSER}"))
        .arg(format!("--pwfile={}", pwfile.display()))
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("running initdb of {}", bin_dir.display()))?;
    std::fs::remove_file(&pwfile).context("removing the password file")?;
    if !output.status.success() {
        bail!("initdb: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn write_settings(bin_dir: &Path, dir: &Path, account: OsAccount, options: Options) -> anyhow::Result<()> {
    let mut settings = vec![("unix_socket_directories".into(), dir.display().to_string())];
    if installed::has_library(bin_dir, "pg_stat_statements") {
        settings.push(("shared_preload_libraries".into(), "pg_stat_statements".into()));
    }
    if let Some(tls) = options.tls {
        for (file, setting) in [(tls.cert, "ssl_cert_file"), (tls.key, "ssl_key_file")] {
            let copy = dir.join(setting);
            let pem = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            write_private(&copy, &pem, account)?;
            settings.push((setting.into(), copy.display().to_string()));
        }
        settings.push(("ssl".into(), "on".into()));
    }
    append_to_configuration(dir, include_str!("postgresql.conf"))?;
    append_settings(dir, settings.into_iter().chain(options.settings))
}

fn append_settings(dir: &Path, settings: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<()> {
    let line = |(name, value): (String, String)| format!("{name} = '{}'\n", value.replace('\'', "''"));
    append_to_configuration(dir, &settings.into_iter().map(line).collect::<String>())
}

fn append_to_configuration(dir: &Path, lines: &str) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(dir.join("data/postgresql.conf"))?;
    file.write_all(lines.as_bytes()).context("writing postgresql.conf")
}

/// Writes a file that only the server's account can read; PostgreSQL refuses a key that others can.
fn write_private(path: &Path, content: &[u8], account: OsAccount) -> anyhow::Result<()> {
    std::fs::write(path, b"").with_context(|| format!("writing {}", path.display()))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    std::fs::write(path, content)?;
    account.own(path)
}

fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("finding a free port")?;
    Ok(listener.local_addr()?.port())
}
