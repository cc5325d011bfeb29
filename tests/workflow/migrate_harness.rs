//! A shop: a service with a database, an owner and migrations of its own, which a stand-in for Prisma deploys.

use crate::harness::{ANA, BEN, Scene, Twist, found, servers};
use countersign::demo::fake_slack::{Message, MessageRef};
use countersign::model::Run;
use countersign::store::{Filter, Store};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_postgres::Client;

/// With everything in it that a URL writes otherwise.
pub const PASSWORD: &str = "p:a/s?s#w@r d%41'";
pub const ENCODED: &str = "p%3Aa%2Fs%3Fs%23w%40r%20d%2541%27";
pub const TOKEN: &str = "npm-token-that-nobody-may-see";

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workflow/prisma.py");

pub struct Shop {
    pub scene: Scene,
    pub database: String,
    pub owner: String,
    /// The superuser, in the shop's database.
    pub client: Client,
}

impl Shop {
    /// `stand_in` is how the stand-in misbehaves, `more` what `[migrate]` says besides.
    pub async fn open(stand_in: &str, more: &str) -> Shop {
        let deploy = format!("[\"python3\", \"{STAND_IN}\", \"migrate\", \"deploy\"]");
        Shop::with(&deploy, &format!("STAND_IN = \"{stand_in}\""), more).await
    }

    /// With another command, and other variables of it.
    pub async fn with(deploy: &str, variables: &str, more: &str) -> Shop {
        static SHOPS: AtomicU32 = AtomicU32::new(0);
        let number = SHOPS.fetch_add(1, Ordering::Relaxed);
        let (database, owner) = (format!("shop_{number}"), format!("shop owner@{number}"));
        let servers = servers().await;
        let superuser = servers.cluster.connect("postgres").await.unwrap();
        let quoted = PASSWORD.replace('\'', "''");
        superuser.batch_execute(&format!("CREATE ROLE \"{owner}\" LOGIN PASSWORD '{quoted}'")).await.unwrap();
        superuser.batch_execute(&format!("CREATE DATABASE {database} OWNER \"{owner}\"")).await.unwrap();
        let psql = servers.cluster.bin_dir();
        let config = format!(
            "[[services]]\nname = \"shop\"\ndatabase = \"{database}\"\nmigrations = \"shop/prisma/migrations\"\n\
             [migrate]\ndeploy = {deploy}\n\
             resolve = [\"python3\", \"{STAND_IN}\", \"migrate\", \"resolve\", \"--{{as}}\", \"{{migration}}\"]\n\
             directory = \"{{service}}\"\n{more}\n\
             env = {{ PATH = \"/usr/local/bin:/usr/bin:/bin\", PSQL = \"{}/psql\", {variables}, NPM_TOKEN = {{ file = \"token\" }} }}\n",
            psql.display()
        );
        let login =
            format!("[environments.logins.owner]\nuser = \"{owner}\"\npassword = {{ file = \"owner\" }}\n");
        let operator = "[environments.logins.operator]";
        let logins = format!("{login}{operator}");
        let hasty = ("[store]", "finish_within = \"6s\"\n[store]");
        let twist = Twist { more: &config, instead: vec![(operator, &logins), hasty], ..Twist::default() };
        let mut scene = Scene::without_bot(twist).await;
        let write = |name: &str, text: &str| std::fs::write(scene.directory.path().join(name), text).unwrap();
        write("token", TOKEN);
        write("owner", PASSWORD);
        for directory in ["shop/prisma/migrations", "asset-service"] {
            std::fs::create_dir_all(scene.directory.path().join(directory)).unwrap();
        }
        scene.bot = Some(scene.stage.bot().await.expect("a bot"));
        let client = servers.cluster.connect(&database).await.unwrap();
        Shop { scene, database, owner, client }
    }

    pub fn writes(&self, migration: &str, sql: &str) {
        let directory = self.scene.directory.path().join("shop/prisma/migrations").join(migration);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("migration.sql"), sql).unwrap();
    }

    /// A session of the application's, and its pid.
    pub async fn application(&self) -> (Client, i32) {
        let superuser = self.scene.servers.cluster.superuser_config(&self.database);
        let config = superuser.clone().application_name("shop-api").clone();
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        (client, pid)
    }

    /// Asks and approves.
    pub async fn runs(&self, line: &str) -> MessageRef {
        let card = self.scene.card(ANA, &format!("{line} --env staging")).await;
        self.scene.click_button(BEN, &card.at(), "Approve").await;
        card.at()
    }

    /// Waits for the end of what was asked last: its run, and its card.
    pub async fn ended(&self, card: &MessageRef, command: &str) -> (Run, String) {
        let run = found("the end", async || {
            let runs = self.scene.runs_of(command).await;
            runs.into_iter().max_by_key(|run| run.id).filter(|run| !run.state.is_open())
        });
        let run = run.await;
        let verdict = run.text("verdict").unwrap_or_default().to_owned();
        let shown = self.scene.workspace().wait_for("the card's end", |workspace| {
            workspace.message(card).filter(|card| card.plain().contains(&verdict))
        });
        (run, shown.await.unwrap_or_else(|why| panic!("{why}")).plain())
    }

    pub async fn migrates(&self) -> (Run, String) {
        let card = self.runs("migrate shop").await;
        self.ended(&card, "migrate").await
    }

    /// What the ledger holds: name and state, in order.
    pub async fn ledger(&self) -> Vec<String> {
        let sql = "SELECT migration_name || CASE WHEN rolled_back_at IS NOT NULL THEN ' rolled back' WHEN finished_at IS NOT NULL THEN ' applied'
                          WHEN logs IS NOT NULL THEN ' failed' ELSE ' open' END
                   FROM _prisma_migrations ORDER BY started_at";
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub async fn has(&self, relation: &str) -> bool {
        self.client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&relation]).await.unwrap().get(0)
    }

    /// How many sessions the owner has that came from a migration.
    pub async fn sessions(&self) -> i64 {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE '%migration'";
        self.client.query_one(sql, &[&self.database]).await.unwrap().get(0)
    }

    /// The stand-in's processes: those that have the database in their environment.
    pub fn processes(&self) -> Vec<u32> {
        let ours = |pid: &u32| {
            let read = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            let environment = read("environ");
            String::from_utf8_lossy(&environment).split('\0').any(|variable| {
                variable.starts_with("DATABASE_URL=") && variable.contains(&format!("/{}?", self.database))
                    || variable == format!("PGDATABASE={}", self.database)
            })
        };
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(ours).collect()
    }

    pub async fn running(&self) -> i64 {
        let filter = Filter { command: Some("migrate".to_owned()), ..Filter::default() };
        self.scene.store().list(filter).await.unwrap().runs[0].id
    }

    /// Neither in chat, nor in the record, nor on any command line.
    pub fn keeps_secrets(&self) {
        let secrets = [PASSWORD, ENCODED, TOKEN];
        let chat = self.scene.workspace().payloads();
        let chat: String = chat.iter().map(|payload| payload.body.to_string()).collect();
        let files = std::fs::read_dir(self.scene.directory.path()).unwrap().flatten();
        let files = files.filter(|file| file.file_name().to_string_lossy().starts_with("record"));
        let record: Vec<u8> = files.filter_map(|file| std::fs::read(file.path()).ok()).flatten().collect();
        let record = String::from_utf8_lossy(&record);
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines: String = processes
            .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .collect();
        assert!(chat.contains("shop") && record.contains("shop") && !lines.is_empty());
        for secret in secrets {
            let json = secret.replace('\\', "\\\\");
            assert!(!chat.contains(&json), "{secret} in chat");
            assert!(!record.contains(secret), "{secret} in the record");
            assert!(!lines.contains(secret), "{secret} on a command line");
        }
    }

    /// Asks for something that is refused, and leaves no run.
    pub async fn refuses(&self, line: &str, words: &[&str]) -> Message {
        let before = self.scene.runs_in_all().await;
        let told = self.scene.asks(ANA, &format!("{line} --env staging")).await;
        let said = told.plain();
        assert!(told.button("Approve").is_none(), "{line}: {said}");
        for word in words {
            assert!(said.contains(word), "{line}: {word} is missing:\n{said}");
        }
        assert_eq!(self.scene.runs_in_all().await, before, "{line}");
        told
    }
}
