//! A server with one database and a role that may dump it, a directory for backups, and ways to meddle.

use countersign::actions::backup::{
    ClientConnection, ClientInstallation, DumpJob, choose_installation, find_installations,
};
use countersign::config::{BackupSettings, Server, Tls};
use countersign::demo::postgres::{Cluster, Options, find_bin_dir};
use countersign::storage::Storage;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub const DATABASE: &str = "asset's db";
pub const PASSWORD: &str = "dump-hush-7261";
pub const ASKER: &str = "countersign #7 ana";

/// For what is awaited and must come: ample for a busy machine.
pub const SOON: Duration = Duration::from_secs(60);
pub const POLL: Duration = Duration::from_millis(5);

pub struct Scene {
    pub cluster: Cluster,
    pub directory: tempfile::TempDir,
    pub storage: Storage,
    pub installation: ClientInstallation,
    clients: tempfile::TempDir,
    admin: tokio_postgres::Client,
}

impl Scene {
    pub async fn start() -> Scene {
        let bin_dir = find_bin_dir(None, &[]).unwrap();
        let directory = Vec::from([bin_dir.clone()]);
        let tools = find_installations(&BackupSettings {
            directory: PathBuf::new(),
            tools: directory,
            search_path: Vec::new(),
        })
        .await;
        Scene::on(bin_dir, &tools).await
    }

    /// On a server of that installation, with the client that fits it best.
    pub async fn on(bin_dir: PathBuf, tools: &[ClientInstallation]) -> Scene {
        let cluster = Cluster::start(Options { bin_dir: Some(bin_dir), ..Options::default() }).await.unwrap();
        let server = cluster.connect("postgres").await.unwrap();
        server.batch_execute(&format!("CREATE DATABASE \"{DATABASE}\"")).await.unwrap();
        // 13 has no role that may read all.
        let reads = if cluster.version_num() < 140_000 { "SUPERUSER" } else { "IN ROLE pg_read_all_data" };
        server
            .batch_execute(&format!("CREATE ROLE dumper LOGIN PASSWORD '{PASSWORD}' {reads}"))
            .await
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let backups = BackupSettings {
            directory: directory.path().to_owned(),
            tools: Vec::new(),
            search_path: Vec::new(),
        };
        Scene {
            installation: choose_installation(tools, cluster.version_num() / 10_000).unwrap().clone(),
            storage: Storage::open(&backups).unwrap(),
            admin: cluster.connect(DATABASE).await.unwrap(),
            clients: tempfile::tempdir().unwrap(),
            directory,
            cluster,
        }
    }

    pub fn job(&self) -> DumpJob<'_> {
        DumpJob {
            storage: &self.storage,
            installation: &self.installation,
            connection: connection(self.cluster.port()),
            environment: "staging",
            server_version: format!("{}.x", self.cluster.version_num() / 10_000),
            table_bytes: 1,
            requested_by: "Ana",
            run: 7,
        }
    }

    pub async fn run(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap();
    }

    /// A little of what a schema can have.
    pub async fn fill_oddly(&self) {
        self.run(
            r#"CREATE SCHEMA "Odd one";
            CREATE TABLE "Odd one"."User" (id bigserial PRIMARY KEY, name text NOT NULL, born date);
            INSERT INTO "Odd one"."User" (name, born) SELECT md5(n::text) || E'\n\\.\n', '2020-01-01' FROM generate_series(1, 20000) n;
            CREATE TABLE orders (id int PRIMARY KEY, owner bigint REFERENCES "Odd one"."User", note bytea);
            INSERT INTO orders SELECT n, n, decode(md5(n::text), 'hex') FROM generate_series(1, 3000) n;
            CREATE TABLE empty (x int);
            CREATE TABLE parted (x int) PARTITION BY RANGE (x);
            CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
            INSERT INTO parted SELECT generate_series(0, 99);
            SELECT lo_from_bytea(0, 'a large object');
            GRANT SELECT ON orders TO dumper;
            COMMENT ON TABLE empty IS 'nothing; here';
            ALTER ROLE dumper BYPASSRLS;"#,
        )
        .await;
        self.run("SELECT lo_unlink(oid) FROM pg_largeobject_metadata").await;
    }

    /// Enough that a dump can be met in the midst of it: rows that hardly compress.
    pub async fn fill_largely(&self) {
        self.run(
            "CREATE TABLE large AS SELECT n, (SELECT string_agg(md5(n::text || m), '') FROM generate_series(1, 30) m) AS text
             FROM generate_series(1, 60000) n",
        )
        .await;
    }

    /// Returns when pg_dump has begun to read the rows.
    pub async fn copying(&self) {
        let sql = "SELECT FROM pg_stat_activity WHERE usename = 'dumper' AND query LIKE 'COPY public.large%'";
        let seen = async {
            while self.admin.query(sql, &[]).await.unwrap().is_empty() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(SOON, seen).await.expect("pg_dump reads the large table");
    }

    /// As whom pg_dump shows itself.
    pub async fn asker(&self) -> String {
        let sql = "SELECT application_name FROM pg_stat_activity WHERE usename = 'dumper'";
        self.admin.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// The pid of the pg_dump that dumps this scene's server.
    pub fn pg_dump(&self) -> Option<u32> {
        let port = format!("PGPORT={}\0", self.cluster.port());
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.find(|pid| {
            let read =
                |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
            read("cmdline").contains("pg_dump") && read("environ").contains(&port)
        })
    }

    /// Every file below the backups' directory, by its path there.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(self.directory.path(), self.directory.path(), &mut found);
        found.sort();
        found
    }

    /// A client of our own making, with the real pg_restore beside it.
    pub fn client(&self, script: &str) -> ClientInstallation {
        let directory = self.clients.path().to_owned();
        let program = directory.join("pg_dump");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(self.installation.pg_restore(), directory.join("pg_restore")).unwrap();
        ClientInstallation { directory, ..self.installation.clone() }
    }

    /// Restores an archive into a new database; the first complaint ends it.
    pub async fn restore(&self, archive: &[u8], database: &str) -> Result<(), String> {
        self.restore_so(&["--exit-on-error", "--single-transaction"], archive, database).await
    }

    /// Restores an archive into a new database.
    pub async fn restore_so(&self, how: &[&str], archive: &[u8], database: &str) -> Result<(), String> {
        self.run(&format!("CREATE DATABASE {database} TEMPLATE template0")).await;
        let file = self.clients.path().join("archive.dump");
        std::fs::write(&file, archive).unwrap();
        let output = Command::new(self.installation.pg_restore())
            .args(how)
            .args(["--no-password", "--dbname", database])
            .arg(&file)
            .env("PGHOST", self.cluster.host())
            .env("PGPORT", self.cluster.port().to_string())
            .env("PGUSER", self.cluster.superuser())
            .env("PGPASSWORD", self.cluster.superuser_password())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(complaints) }
    }

    /// The rows of every table.
    pub async fn counts(&self, database: &str) -> BTreeMap<String, i64> {
        let client = self.cluster.connect(database).await.unwrap();
        let sql = "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                   WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema')";
        let mut counts = BTreeMap::new();
        for row in client.query(sql, &[]).await.unwrap() {
            let table: String = row.get(0);
            let count = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap();
            counts.insert(table, count.get(0));
        }
        counts
    }
}

pub fn connection(port: u16) -> ClientConnection {
    ClientConnection {
        server: Server { name: "main".into(), host: "127.0.0.1".into(), port },
        database: DATABASE.into(),
        user: "dumper".into(),
        password: Some(PASSWORD.into()),
        tls: Tls::Off,
        timeout: Duration::from_secs(10),
        application: ASKER.into(),
    }
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "SIG{name} to {pid}");
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("awaited in vain: {what}"));
}
