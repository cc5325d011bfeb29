//! Throwaway PostgreSQL servers: made by `initdb` in a temporary directory, reachable on 127.0.0.1 only, gone with
//! their [`Cluster`] or with this process, however it ends.
//!
//! Nothing about the sample team belongs here. Durability is switched off: never point this at data that matters.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio_postgres::{Client, NoTls};

mod process;

use super::free_port;
use process::{DirectoryRemover, OsAccount, Postmaster};
pub use process::{PausedProcess, TemporaryDirectory};

/// The superuser of every throwaway server; Azure's platform account has the same name.
const SUPERUSER: &str = "azuresu";

/// Time until a server must answer its first query: a cold start on a busy CI machine takes about 3 s.
const START_LIMIT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);

/// Another program can take the port between our finding it free and the server's binding it.
const PORT_ATTEMPTS: usize = 5;

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
        let bin_dir = options.bin_dir.clone().map_or_else(|| find_bin_dir(None, &[]), Ok)?;
        let (dir, account) = make_directory()?;
        let password = crate::model::random_token().context("asking the system for randomness")?;
        initdb(&bin_dir, dir.path(), account, &password).await?;
        write_settings(&bin_dir, dir.path(), account, options)?;
        Cluster::run(bin_dir, dir, account, password).await
    }

    /// Makes a server from a copy of another's data, with the same passwords and the same system identifier.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_copy(seed: &Seed, options: Options) -> anyhow::Result<Cluster> {
        let (dir, account) = make_directory()?;
        copy_data(account, seed.dir.path(), dir.path())?;
        write_settings(&seed.bin_dir, dir.path(), account, options)?;
        Cluster::run(seed.bin_dir.clone(), dir, account, seed.password.clone()).await
    }

    /// Stops the server in order and keeps its data, to make others from.
    ///
    /// # Errors
    /// The server's processes can't be waited for.
    pub fn into_seed(self) -> anyhow::Result<Seed> {
        let Cluster { mut postmaster, dir, bin_dir, account, password, .. } = self;
        postmaster.shut_down()?;
        Ok(Seed { remover: DirectoryRemover::spawn(dir.path(), account)?, dir, bin_dir, password })
    }

    /// Makes a replica that streams from this server over the given slot, which must be there. This server is stopped for a
    /// moment, as by a crash, and its sessions are lost.
    pub async fn replica(&mut self, slot: &str) -> anyhow::Result<Cluster> {
        let (dir, account) = make_directory()?;
        self.stop()?;
        let data = copy_data(account, self.dir.path(), dir.path())?;
        self.restart().await?;
        // A base backup leaves out the primary's process file and its slots.
        match std::fs::remove_file(data.join("postmaster.pid")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        for slot in std::fs::read_dir(data.join("pg_replslot"))? {
            std::fs::remove_dir_all(slot?.path())?;
        }
        write_private(&data.join("standby.signal"), b"", account)?;
        let primary = format!(
            "host={} port={} user={SUPERUSER} password={} application_name=sample-replica",
            self.host(),
            self.port,
            self.password
        );
        let settings = [
            ("primary_conninfo".into(), primary),
            ("primary_slot_name".into(), slot.into()),
            ("unix_socket_directories".into(), dir.path().display().to_string()),
        ];
        append_settings(dir.path(), "", settings)?;
        Cluster::run(self.bin_dir.clone(), dir, account, self.password.clone()).await
    }

    /// Starts it, on another port if its own was taken meanwhile.
    async fn run(
        bin_dir: PathBuf,
        dir: TemporaryDirectory,
        account: OsAccount,
        password: String,
    ) -> anyhow::Result<Cluster> {
        let port = free_port()?;
        let postmaster = Postmaster::spawn(&bin_dir, dir.path(), account, port)?;
        let mut cluster = Cluster { postmaster, dir, bin_dir, account, password, port, version_num: 0 };
        for _ in 1..PORT_ATTEMPTS {
            match cluster.wait_until_ready().await {
                Err(_) if cluster.last_log_lines().contains("could not bind") => {
                    cluster.spawn_on(free_port()?)?;
                }
                result => return result.map(|()| cluster),
            }
        }
        cluster.wait_until_ready().await.map(|()| cluster)
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
        let (user, application_name) = (SUPERUSER, "sample-admin");
        ConnectionParameters { user, password: &self.password, database, application_name }
    }

    /// As [`Cluster::config`], for the superuser.
    pub fn superuser_config(&self, database: &str) -> tokio_postgres::Config {
        self.config(self.superuser_login(database))
    }

    /// Connects over TCP, without TLS. The connection ends when the client is dropped and has its answers.
    pub async fn connect_as(&self, login: ConnectionParameters<'_>) -> anyhow::Result<Client> {
        let context = || format!("connecting to {} as {}", login.database, login.user);
        let (client, connection) = self.config(login).connect(NoTls).await.with_context(context)?;
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

    /// Turns on what keeps a server's data safe in a crash, as on a team's server: without it, a throwaway server is made faster.
    ///
    /// # Errors
    /// The server doesn't answer.
    pub async fn protect(&self) -> anyhow::Result<()> {
        let superuser = self.connect("postgres").await?;
        for sql in ["ALTER SYSTEM SET fsync = on", "ALTER SYSTEM SET full_page_writes = on"] {
            superuser.batch_execute(sql).await?;
        }
        superuser.query("SELECT pg_reload_conf()", &[]).await?;
        let is_safe = "SELECT current_setting('full_page_writes') = 'on' AND current_setting('fsync') = 'on'";
        // New sessions have it as soon as the postmaster has read it.
        while !self.connect("postgres").await?.query_one(is_safe, &[]).await?.get::<_, bool>(0) {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Stops every process of the server where it stands: nothing answers any more while the guard lives.
    pub fn freeze(&self) -> anyhow::Result<PausedProcess<'_>> {
        self.postmaster.pause()
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
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error.context(self.last_log_lines())),
                Err(_) if self.postmaster.has_exited()? => {
                    bail!("the server stopped while starting: {}", self.last_log_lines())
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn first_answer(&mut self) -> anyhow::Result<()> {
        let client = self.connect("postgres").await?;
        let row = client.query_one("SELECT current_setting('server_version_num')", &[]).await?;
        self.version_num = row.get::<_, &str>(0).parse().context("reading server_version_num")?;
        Ok(())
    }

    fn last_log_lines(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// The data of a stopped server, for [`Cluster::start_copy`]. It is removed on drop, and at the end of this process.
pub struct Seed {
    #[expect(dead_code, reason = "it acts when this process ends")]
    remover: DirectoryRemover,
    dir: TemporaryDirectory,
    bin_dir: PathBuf,
    password: String,
}

/// Copies the data of a stopped server from one server's directory to another's, and returns where it is.
fn copy_data(account: OsAccount, from: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    let data = to.join("data");
    let copied = account
        .command(Path::new("/bin/cp"))
        .arg("-R")
        .arg(from.join("data"))
        .arg(&data)
        .current_dir(to)
        .stdin(Stdio::null())
        .status()
        .context("copying the server's directory")?;
    ensure!(copied.success(), "copying the server's directory: {copied}");
    std::fs::set_permissions(&data, Permissions::from_mode(0o700))?;
    Ok(data)
}

/// Makes a server's directory, and finds the account that it runs as.
fn make_directory() -> anyhow::Result<(TemporaryDirectory, OsAccount)> {
    let (dir, account) = (TemporaryDirectory::new("countersign-pg")?, OsAccount::unprivileged()?);
    account.own(dir.path())?;
    Ok((dir, account))
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
    ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn write_settings(bin_dir: &Path, dir: &Path, account: OsAccount, options: Options) -> anyhow::Result<()> {
    let mut settings = vec![("unix_socket_directories".into(), dir.display().to_string())];
    if has_library(bin_dir, "pg_stat_statements") {
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
    append_settings(dir, include_str!("postgresql.conf"), settings.into_iter().chain(options.settings))
}

fn append_settings(
    dir: &Path,
    first: &str,
    settings: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<()> {
    let line = |(name, value): (String, String)| format!("{name} = '{}'\n", value.replace('\'', "''"));
    let lines = first.to_owned() + &settings.into_iter().map(line).collect::<String>();
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

/// The directory with `initdb` and `postgres`, of any or of the given major version: the first of the candidates, or else the
/// newest where Debian, the PostgreSQL project's own packages, Homebrew and a build from source put them.
pub fn find_bin_dir(major: Option<u32>, candidates: &[PathBuf]) -> anyhow::Result<PathBuf> {
    let fitting =
        |dir: &&PathBuf| major_of(dir).is_some_and(|installed| major.is_none_or(|major| major == installed));
    if let Some(dir) = candidates.iter().find(fitting) {
        return Ok(dir.clone());
    }
    let newest = usual_places().into_iter().filter(|dir| fitting(&dir)).max_by_key(|dir| major_of(dir));
    let (version, package) =
        major.map_or_else(Default::default, |major| (format!(" {major}"), format!("-{major}")));
    newest.with_context(|| {
        format!("no PostgreSQL{version} server is installed (initdb and postgres); on Debian: apt-get install postgresql{package}")
    })
}

fn usual_places() -> Vec<PathBuf> {
    let parents = [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgres"),
        ("/usr/local/opt", "postgres"),
    ];
    let mut places = vec![PathBuf::from("/usr/local/pgsql/bin")];
    for (parent, prefix) in parents {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        let named = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        places.extend(named.map(|entry| entry.path().join("bin")));
    }
    places
}

/// The major version of the server in a directory, as it reports it itself.
fn major_of(bin_dir: &Path) -> Option<u32> {
    if !bin_dir.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(bin_dir.join("postgres")).arg("--version").output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

/// From `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, or `18beta1`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Looks for a loadable library of the installation; Debian and the embedded builds differ in the directory.
fn has_library(bin_dir: &Path, name: &str) -> bool {
    ["../lib", "../lib/postgresql"].iter().any(|lib| {
        ["so", "dylib"].iter().any(|suffix| bin_dir.join(lib).join(format!("{name}.{suffix}")).is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_major_version() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("something else 15"), None);
    }

    #[test]
    fn says_what_to_install() {
        let error = find_bin_dir(Some(7), &[]).unwrap_err().to_string();
        assert!(error.contains("apt-get install postgresql-7"), "{error}");
    }

    #[test]
    fn prefers_a_given_directory_that_fits() {
        let newest = find_bin_dir(None, &[]).unwrap();
        let empty = PathBuf::from("/nonexistent");
        assert_eq!(find_bin_dir(None, &[empty, newest.clone()]).unwrap(), newest);
    }
}
