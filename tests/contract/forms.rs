//! Every acting command from a line without arguments to its end: by what its forms offer, in Slack and in Teams. Nothing is typed but
//! free text: a reason, an age.

use crate::bot_process::{Bot, found};
use crate::chat_driver::{FieldChoices, Forms, OpenForm};
use crate::harness::{Platform, asks, sees};
use crate::playground::Playground;
use crate::slack::Slack;
use crate::teams::Teams;
use countersign::catalog::Catalog;
use countersign::model::{Risk, Run, RunState};
use countersign::workflow::Workflow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tokio_postgres::Client;

/// How an acting command is run.
struct Row {
    command: &'static str,
    who: &'static str,
    /// The chosen values of fields. `$pid` and `$run` are those that [`Shop::prepare`] has made.
    choices: &'static [(&'static str, &'static str)],
    /// Words of the card or of the answer.
    words: &'static str,
}

const STAGING: (&str, &str) = ("env", "staging");
const SHOP: (&str, &str) = ("service", "shop");
const PID: (&str, &str) = ("pid", "$pid");
const RUN: (&str, &str) = ("run", "$run");
const MIGRATION: &str = "20260101090000_orders_note";

/// In the order in which they are run: one binds the channel, and one freezes what may be done.
const ROWS: [Row; 23] = [
    Row { command: "analyze", who: "ana", choices: &[STAGING, SHOP, ("table", "orders")], words: "orders" },
    Row { command: "vacuum", who: "ana", choices: &[STAGING, SHOP, ("table", "orders")], words: "orders" },
    Row {
        command: "reindex",
        who: "ana",
        choices: &[STAGING, SHOP, ("name", "orders_at_idx")],
        words: "orders_at_idx",
    },
    Row {
        command: "vacuum-full",
        who: "ana",
        choices: &[STAGING, SHOP, ("table", "orders")],
        words: "Rewrites",
    },
    Row { command: "backup", who: "ana", choices: &[STAGING, SHOP], words: "shop" },
    Row { command: "cancel", who: "ana", choices: &[STAGING, PID], words: "is cancelled" },
    Row { command: "kill", who: "ana", choices: &[STAGING, PID], words: "Impact" },
    Row {
        command: "kill-idle",
        who: "ana",
        choices: &[STAGING, SHOP, ("older-than", "1s")],
        words: "Impact",
    },
    Row {
        command: "migrate-resolve",
        who: "ana",
        choices: &[STAGING, SHOP, ("migration", MIGRATION), ("as", "rolled-back")],
        words: MIGRATION,
    },
    Row { command: "migrate", who: "ana", choices: &[STAGING, SHOP], words: MIGRATION },
    Row {
        command: "purge",
        who: "ana",
        choices: &[STAGING, SHOP, ("table", "orders"), ("column", "at"), ("older-than", "90d")],
        words: "Deletes 101 rows",
    },
    Row { command: "run-sql", who: "ana", choices: &[STAGING, SHOP, ("file", "tidy")], words: "Runs tidy" },
    Row { command: "enable-stats", who: "ana", choices: &[STAGING, SHOP], words: "pg_stat_statements" },
    Row { command: "reset-stats", who: "ana", choices: &[STAGING, SHOP], words: "shop" },
    Row {
        command: "deny",
        who: "ben",
        choices: &[RUN, ("reason", "wait for the deploy")],
        words: "is denied",
    },
    Row { command: "withdraw", who: "ana", choices: &[RUN], words: "is withdrawn" },
    Row { command: "stop", who: "ana", choices: &[RUN], words: "Stopped" },
    Row { command: "review", who: "cara", choices: &[RUN], words: "reviewed" },
    Row {
        command: "schedule-pause",
        who: "ana",
        choices: &[STAGING, ("window", "Night")],
        words: "Night is paused",
    },
    Row {
        command: "schedule-resume",
        who: "ana",
        choices: &[STAGING, ("window", "Night")],
        words: "Night is no longer paused",
    },
    Row {
        command: "quiet",
        who: "ana",
        choices: &[STAGING, ("finding", "asset-service: missing backups")],
        words: "is quiet until",
    },
    Row { command: "freeze", who: "ana", choices: &[], words: "All changes are frozen" },
    // A client that shows only labels can't tell its argument from the environment of other commands.
    Row { command: "use", who: "ana", choices: &[("environment", "staging"), STAGING], words: "staging" },
];

#[test]
fn every_acting_command_has_a_row() {
    let catalog = Catalog::built_in().expect("the catalogue");
    let acting = catalog.iter().filter(|command| command.header.risk != Risk::Read);
    let acting: BTreeSet<&str> = acting.map(|command| command.name.as_str()).collect();
    // What lifts a freeze has no arguments, and follows it.
    for command in catalog.iter() {
        let mut services = command.header.args.iter().filter(|spec| spec.help.contains("or `all`"));
        assert!(services.all(|spec| spec.choices == ["all"]), "{} doesn't offer all services", command.name);
    }
    let rows: BTreeSet<&str> = ROWS.iter().map(|row| row.command).chain(["unfreeze"]).collect();
    assert_eq!(acting, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acting_command_is_run_by_choices_alone_in_slack() {
    let (shop, bot) = Shop::open(Platform::Slack, "shop_in_slack").await;
    shop.plays(&bot, &Slack(&bot), &ROWS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acting_command_is_run_by_choices_alone_in_teams() {
    let (shop, bot) = Shop::open(Platform::Teams, "shop_in_teams").await;
    shop.plays(&bot, &Teams(&bot), &ROWS).await;
}

/// Microsoft's own client, for some of the rows.
async fn plays_in_playground(name: &'static str, rows: &[Row]) {
    let (shop, bot) = Shop::open(Platform::Teams, name).await;
    let bot = Arc::new(bot);
    shop.plays(&bot, &Playground::start(Arc::clone(&bot)).await, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_sessions_are_acted_on_by_choices_alone_in_microsofts_own_client() {
    plays_in_playground("shop_in_playground_1", &ROWS[..7]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_and_requests_are_acted_on_by_choices_alone_in_microsofts_own_client() {
    plays_in_playground("shop_in_playground_2", &ROWS[7..]).await;
}

/// A service with a database and an owner of its own, whose files are in a directory.
struct Shop {
    name: &'static str,
    _files: tempfile::TempDir,
    /// The superuser in the shop's database and in `postgres`.
    database: Client,
    superuser: Client,
}

impl Shop {
    async fn open(platform: Platform, name: &'static str) -> (Shop, Bot) {
        let files = tempfile::tempdir().expect("a directory");
        let servers = crate::bot_process::servers().await;
        let superuser = servers.cluster.connect("postgres").await.expect("the superuser");
        let roles = format!("CREATE ROLE {name} LOGIN PASSWORD 'owns'; GRANT {name} TO countersign_act");
        superuser.batch_execute(&roles).await.expect("the owner");
        let create = format!("CREATE DATABASE {name} OWNER {name}");
        superuser.batch_execute(&create).await.expect("the database");
        let database = servers.cluster.connect(name).await.expect("the database");
        let objects = format!(
            "SET ROLE {name};
             CREATE TABLE public.orders (id bigint PRIMARY KEY, at timestamptz NOT NULL);
             CREATE INDEX orders_at_idx ON public.orders (at);
             INSERT INTO public.orders SELECT n, now() - n * interval '1 day' FROM generate_series(1, 190) n;
             CREATE TABLE public._prisma_migrations (id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL,
                 finished_at timestamptz, migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
                 started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count integer NOT NULL DEFAULT 0);
             INSERT INTO public._prisma_migrations (id, checksum, migration_name, logs) VALUES ('1', 'x', '{MIGRATION}', 'failed');
             RESET ROLE; GRANT SELECT ON public._prisma_migrations TO countersign_read"
        );
        database.batch_execute(&objects).await.expect("its objects");
        let write = |path: &str, text: &str| {
            let path = files.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("the directory");
            std::fs::write(path, text).expect("a file");
        };
        write(
            &format!("shop/prisma/migrations/{MIGRATION}/migration.sql"),
            "ALTER TABLE orders ADD COLUMN note text;",
        );
        write("sql/tidy.sql", "/* summary = \"Tidies\" */\nCOMMENT ON TABLE public.orders IS 'tidied';");
        write("sql/wait.sql", "/* summary = \"Waits\" */\nSELECT pg_sleep(600);");
        write("owner", "owns");
        let (more, login) =
            (configuration(name, files.path(), servers.cluster.bin_dir()), owner_login(name, files.path()));
        let last_resort = ("roles = [\"on-call\"]", "roles = [\"on-call\", \"last-resort\"]");
        let bot = platform.bot(&more, &[("[environments.logins.operator]", &login), last_resort]).await;
        (Shop { name, _files: files, database, superuser }, bot)
    }
}

/// The shop's part of the configuration.
fn configuration(name: &str, files: &Path, programs: &Path) -> String {
    let (files, programs) = (files.display(), programs.display());
    let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workflow/prisma.py");
    format!(
        "[[services]]\nname = \"shop\"\ndatabase = \"{name}\"\nmigrations = \"{files}/shop/prisma/migrations\"\n\
         [migrate]\ndeploy = [\"python3\", \"{stand_in}\", \"migrate\", \"deploy\"]\n\
         resolve = [\"python3\", \"{stand_in}\", \"migrate\", \"resolve\", \"--{{as}}\", \"{{migration}}\"]\n\
         directory = \"{files}/shop\"\n\
         env = {{ PATH = \"/usr/local/bin:/usr/bin:/bin\", PSQL = \"{programs}/psql\" }}\n\
         [sql]\ndirectory = \"{files}/sql\"\n[break_glass]\nrole = \"last-resort\"\n\
         [[schedule]]\nname = \"Night\"\nrun = \"analyze shop\"\nenvironments = [\"staging\"]\nat = \"0 0 29 2 *\"\n\
         [[schedule]]\nname = \"Watch\"\nrun = \"health\"\nenvironments = [\"staging\"]\nat = \"0 6 29 2 *\"\nreport = \"changes\"\n"
    )
}

fn owner_login(name: &str, files: &Path) -> String {
    let file = files.join("owner");
    format!(
        "[environments.logins.owner]\nuser = \"{name}\"\npassword = {{ file = \"{}\" }}\n\
         [environments.logins.operator]",
        file.display()
    )
}

/// The newest run of a command, when it is in that state.
async fn becomes(bot: &Bot, command: &str, state: RunState) -> Run {
    found(&format!("`{command}` to be {state:?}"), async || {
        let newest = bot.runs(Some(command)).await.into_iter().max_by_key(|run| run.id);
        newest.filter(|run| run.state == state)
    })
    .await
}

impl Shop {
    async fn plays(&self, bot: &Bot, chat: &dyn Forms, rows: &[Row]) {
        let mut wrong = Vec::new();
        for row in rows {
            let prepared = self.prepare(bot, chat, row.command).await;
            let choices: Vec<(&str, &str)> = row
                .choices
                .iter()
                .map(|(field, value)| {
                    (*field, if value.starts_with('$') { prepared.as_str() } else { value })
                })
                .collect();
            wrong.extend(self.runs(bot, chat, (row, &choices)).await);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Makes what a command needs to act on: its pid or its run.
    async fn prepare(&self, bot: &Bot, chat: &dyn Forms, command: &str) -> String {
        let request = async |line: &str, command: &str, state: RunState| {
            asks(chat, "ana", line).await;
            becomes(bot, command, state).await.id.to_string()
        };
        match command {
            "kill" => self.session("SELECT 1", "idle").await,
            "cancel" => self.session("SELECT pg_sleep(600)", "active").await,
            "kill-idle" => {
                let pid = self.session("SELECT 1", "idle").await;
                let sql = "SELECT 1 FROM pg_stat_activity
                           WHERE pid::text = $1 AND state_change < clock_timestamp() - interval '1.1 s'";
                found("a session that is idle for long", async || {
                    self.superuser.query_opt(sql, &[&pid]).await.expect("an answer")
                })
                .await;
                pid
            }
            "enable-stats" => {
                let superuser = format!("ALTER ROLE {} SUPERUSER", self.name);
                self.superuser.batch_execute(&superuser).await.expect("a superuser");
                String::new()
            }
            "reset-stats" => {
                let grant = format!(
                    "ALTER ROLE {} NOSUPERUSER;
                     DO $$ DECLARE f regprocedure; BEGIN
                       FOR f IN SELECT oid::regprocedure FROM pg_proc WHERE proname = 'pg_stat_statements_reset' LOOP
                         EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO countersign_act', f);
                       END LOOP; END $$",
                    self.name
                );
                self.database.batch_execute(&grant).await.expect("a privilege");
                String::new()
            }
            "deny" | "withdraw" => {
                let pid = self.session("SELECT 1", "idle").await;
                request(&format!("kill {pid} --env staging"), "kill", RunState::Pending).await
            }
            "stop" => {
                request("run-sql wait shop --env staging", "run-sql", RunState::Pending).await;
                let card = sees(chat, "ben", &["Runs wait", "[Approve]"]).await;
                chat.click_button("ben", &card, "Approve").await;
                becomes(bot, "run-sql", RunState::Running).await.id.to_string()
            }
            "quiet" => {
                let app =
                    countersign::bootstrap::assemble(bot.stage.checked().expect("a configuration")).await;
                let watch = Workflow::new(app.expect("another bot"), Vec::new());
                watch.start_due_windows("2028-02-29T06:00:00Z".parse().expect("a time")).await;
                String::new()
            }
            "review" => {
                let pid = self.session("SELECT 1", "idle").await;
                let line = format!("break-glass kill {pid} --env staging --reason \"a drill\"");
                request(&line, "kill", RunState::Succeeded).await
            }
            _ => String::new(),
        }
    }

    /// A session of the application that does something, until it is in that state: its pid.
    async fn session(&self, sql: &'static str, state: &str) -> String {
        let servers = crate::bot_process::servers().await;
        let login = &servers.team.service("asset-service").expect("the service").1;
        let client = servers.cluster.connect_as(login.login(self.name, "shop-worker")).await;
        let client = client.expect("a session");
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
        // It ends with the test, or is ended by it.
        tokio::spawn(async move {
            let _ = client.simple_query(sql).await;
            std::future::pending::<()>().await;
            drop(client);
        });
        let is_there = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND query = $2 AND state = $3";
        found("the session", async || {
            self.superuser.query_opt(is_there, &[&pid, &sql, &state]).await.expect("an answer")
        })
        .await;
        pid.to_string()
    }

    /// Runs a command to its end; returns what its answer doesn't say.
    async fn runs(
        &self,
        bot: &Bot,
        chat: &dyn Forms,
        (row, choices): (&Row, &[(&str, &str)]),
    ) -> Option<String> {
        let Row { command, who, words, .. } = row;
        let before = bot.runs(Some(command)).await.len();
        if choices.is_empty() {
            asks(chat, who, command).await;
        } else {
            self.fills_in(chat, (who, command), choices).await;
        }
        let catalog = Catalog::built_in().expect("the catalogue");
        let is_danger = catalog.find(command).is_some_and(|command| command.header.risk == Risk::Danger);
        let requested = format!("requested {command}");
        let mut told = None;
        if is_danger {
            let card = sees(chat, "ben", &[&requested, "[Approve]"]).await;
            chat.click_button("ben", &card, "Approve").await;
            told = Some(card.words);
        }
        becomes(bot, command, RunState::Succeeded).await;
        assert_eq!(bot.runs(Some(command)).await.len(), before + 1, "{command}");
        let told = match told {
            Some(told) => told,
            None => sees(chat, who, &[&requested]).await.words,
        };
        let wrong = (!told.contains(words)).then(|| format!("{command}: {words} is missing: {told}"));
        if *command == "freeze" {
            asks(chat, who, "unfreeze").await;
            let card = sees(chat, "ben", &["Lifts the freeze", "[Approve]"]).await;
            chat.click_button("ben", &card, "Approve").await;
            becomes(bot, "unfreeze", RunState::Succeeded).await;
        }
        wrong
    }

    /// Types a command alone, and fills in its forms.
    async fn fills_in(&self, chat: &dyn Forms, (who, line): (&str, &str), choices: &[(&str, &str)]) {
        chat.say(who, line).await;
        let form = tokio::time::timeout(PATIENCE, found("a form", async || chat.form(who))).await;
        let mut form = form.unwrap_or_else(|_| panic!("{line} opens no form:\n{}", chat.transcript()));
        loop {
            let mut values = Vec::new();
            for field in &form.fields {
                let Some((name, value)) = choices.iter().find(|(name, _)| *name == field.name) else {
                    assert!(!field.is_required, "{line}: {} has no value", field.name);
                    continue;
                };
                match &field.choices {
                    FieldChoices::Typed => assert!(TYPED.contains(name), "{line}: {name} is typed"),
                    FieldChoices::Listed(values) => {
                        assert!(values.iter().any(|offer| offer == value), "{line} {name}: {values:?}");
                        let takes_all = TAKE_ALL.contains(&line) && *name == "service";
                        assert_eq!(values[0] == "all", takes_all, "{line} {name}: {values:?}");
                    }
                    FieldChoices::Searched => self.is_offered(chat, (who, &form), (name, value)).await,
                }
                values.push((*name, *value));
            }
            match chat.submits(who, &form, &values).await {
                Some(next) => form = next,
                None => return,
            }
        }
    }

    /// A value is among the choices without a text, or, of the many sessions that other tests have, with one.
    async fn is_offered(
        &self,
        chat: &dyn Forms,
        (who, form): (&str, &OpenForm),
        (name, value): (&str, &str),
    ) {
        let text = if name == "pid" { "shop-" } else { "" };
        let offered = chat.offers(who, form, name, text).await;
        assert!(offered.iter().any(|offer| offer == value), "{name}: {value} isn't among {offered:?}");
    }
}

/// Commands that work on `all` services, too.
const TAKE_ALL: [&str; 4] = ["analyze", "backup", "reindex", "vacuum"];

/// Fields of free text.
const TYPED: [&str; 2] = ["reason", "older-than"];

/// Whoever waits this long has failed.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
