//! Where every command that acts has something to act on, so that a wrong line is refused for what is wrong with it and for
//! nothing else; and what may not change there.

use crate::fake_chat::{Room, incident};
use crate::harness::{Scene, Servers, Twist, found};
use crate::invalid_arguments::Control;
use countersign::catalog::Command;
use countersign::command_line::{ArgSpec, ArgType};
use countersign::demo::harness::PEOPLE;
use countersign::demo::postgres::Options;
use countersign::demo::sample::Sample;
use countersign::model::{
    ChatAccount, ChatEvent, ChatEventKind, PlatformKind, Reply, Risk, Run, RunRequest, RunState,
};
use countersign::store::{Append, Deadline, DeadlineCondition, Filter, NewEvent, NewRun, OpenOutcome};
use countersign::workflow::{Completion, Workflow};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_postgres::Client;

const DATABASE: &str = "asset_service_db";

/// An open migration, of another service: it would bar `migrate`.
const BROKEN: &str = "20251101000000_broken";

/// The owner is a superuser: what came through to PostgreSQL would be done.
const OWNER: &str = "[environments.logins.owner]\nuser = \"countersign_owner\"\npassword = { file = \"owner\" }\n[environments.logins.operator]";

const MORE: &str = "[sql]\ndirectory = \"sql\"\n[migrate]\ndeploy = [\"true\"]\nresolve = [\"true\", \"{migration}\", \"{as}\"]\n\
    directory = \"{service}\"\nenv = { PATH = \"/usr/bin:/bin\" }\n\
    [[schedule]]\nname = \"Night\"\nrun = \"sizes\"\nenvironments = [\"staging\"]\nat = \"0 0 29 2 *\"\n\
    [[schedule]]\nname = \"Noon\"\nrun = \"sizes\"\nenvironments = [\"staging\"]\nat = \"0 12 29 2 *\"\n\
    [[schedule]]\nname = \"Watch\"\nrun = \"health\"\nenvironments = [\"staging\"]\nat = \"0 6 29 2 *\"\nreport = \"changes\"\n";

/// The types that no built-in command that acts has.
const TIDY: &str = "/*\nsummary = \"Tidies up\"\ngroup = \"act\"\nrisk = \"danger\"\nscope = \"database\"\nlogin = \"owner\"\n\
    args = [{ name = \"service\", type = \"service\", positional = true, required = true, help = \"whose\" },\n\
    { name = \"over\", type = \"duration\", default = \"30s\", help = \"how old\" },\n\
    { name = \"by\", type = \"choice\", choices = [\"size\", \"age\"], help = \"what first\" },\n\
    { name = \"what\", type = \"command\", help = \"whose rows\" },\n\
    { name = \"most\", type = \"int\", help = \"how many\" }]\nexample = \"tidy asset-service\"\n*/\n\
    -- ## Some [preview]\nSELECT count(*) AS count FROM public.audit_logs WHERE created_at < :'asked_at'::timestamptz - :'over'::interval\n\
    -- ## Deleted\nDELETE FROM public.audit_logs WHERE created_at < :'asked_at'::timestamptz - :'over'::interval\n\
    AND (:'by' = 'size' OR :'what' = action OR id < :'most'::int8)\n";

/// The scene, a bot that is spoken to directly, and the things that can be named.
pub struct Conversation {
    pub scene: Scene,
    pub room: Arc<Room>,
    pub flow: Arc<Workflow>,
    things: BTreeMap<(&'static str, &'static str), String>,
    deliveries: AtomicUsize,
    superuser: Client,
    /// One at work, one in a transaction, one that has done nothing for long.
    _sessions: Vec<Client>,
}

impl Conversation {
    pub async fn set() -> Conversation {
        let scene = scene().await;
        let room = Arc::new(Room::default());
        let flow = Workflow::new(
            countersign::bootstrap::assemble(scene.stage.checked().unwrap()).await.unwrap(),
            vec![room.clone()],
        );
        flow.start_due_windows("2028-02-29T06:00:00Z".parse().unwrap()).await;
        let (idle, _) = scene.session("asset-worker-7").await;
        let (open, open_pid) = scene.session("asset-worker-8").await;
        open.batch_execute("BEGIN; SELECT 1 FROM assets LIMIT 1").await.unwrap();
        let (busy, busy_pid) = scene.session("asset-report").await;
        let sleep = busy.simple_query("SELECT pg_sleep(3600)");
        // Sent with the first poll; the answer is nobody's.
        assert!(tokio::time::timeout(Duration::from_millis(50), sleep).await.is_err());
        let things = [
            (("kill", "pid"), open_pid.to_string()),
            (("cancel", "pid"), busy_pid.to_string()),
            (("enable-stats", "service"), "rights-service".to_owned()),
            (("migrate-resolve", "service"), "user-service".to_owned()),
            (("kill-idle", "older-than"), "1s".to_owned()),
            (("schedule-pause", "window"), "Noon".to_owned()),
            (("schedule-resume", "window"), "Night".to_owned()),
            (("quiet", "finding"), "\"asset-service: missing backups\"".to_owned()),
            (("quiet", "time"), "1h".to_owned()),
        ];
        let deliveries = AtomicUsize::new(0);
        let _sessions = vec![idle, open, busy];
        let superuser = scene.superuser().await;
        let mut place =
            Conversation { scene, room, flow, things: things.into(), deliveries, superuser, _sessions };
        let stirs = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND pid = $1)
                     AND EXISTS (SELECT FROM pg_stat_activity WHERE state = 'idle' AND application_name = 'asset-worker-7'
                                 AND state_change < now() - interval '2 s')";
        found("sessions at work and idle", async || {
            place.superuser.query_one(stirs, &[&busy_pid]).await.unwrap().get::<_, bool>(0).then_some(())
        })
        .await;
        place.asks().await;
        place
    }

    /// Requests of ana and of cara, and runs of every other state that can be spoken of.
    async fn asks(&mut self) {
        let kill = format!("kill {} --env staging", self.things[&("kill", "pid")]);
        let purge = "purge asset-service audit_logs --column created_at --older-than 90d --env staging";
        for (who, line) in [(0, kill.as_str()), (2, kill.as_str()), (0, purge)] {
            assert_eq!(self.say(who, line).await.0, Completion::Answered, "{line}");
        }
        let [purge, own, anas] = self.runs().await.try_into().expect("three requests");
        let pause = "schedule-pause Night --env staging";
        assert_eq!(self.say(2, pause).await.0, Completion::Answered, "{pause}");
        let record = Arc::clone(&self.flow.app.audit.store);
        let change = |kind: &str, state| NewEvent {
            kind: serde_json::from_value(kind.into()).expect("an event's name"),
            by: None,
            facts: serde_json::json!({}),
            texts: BTreeMap::new(),
            state,
            deadline: Deadline::None,
        };
        let stop = Append {
            run: purge.id,
            version: purge.version,
            event: change("stopped", RunState::Stopped),
            late_event: None,
            unless_frozen: false,
            deadline_condition: DeadlineCondition::Ignored,
        };
        record.append_if_unchanged(stop).await.unwrap();
        let run = async |request: RunRequest, first_event| {
            let delivery_id = format!("made {}", self.deliveries.fetch_add(1, Ordering::Relaxed));
            let new = NewRun {
                request,
                delivery_id,
                resource_locks: vec![],
                first_event,
                late_event: None,
                cards: Vec::new(),
                unless_break_glass_within: None,
                unless_frozen: false,
            };
            match record.open(new).await.unwrap() {
                OpenOutcome::New(run) => run.id,
                other => panic!("{other:?}"),
            }
        };
        let vacuum = RunRequest { command: "vacuum".to_owned(), risk: Risk::Write, ..anas.request.clone() };
        let running = run(vacuum, change("started", RunState::Running)).await;
        let break_glass = RunRequest { break_glass: true, ..anas.request.clone() };
        let break_glass = run(break_glass, change("succeeded", RunState::Succeeded)).await;
        for (place, run) in [
            (("deny", "run"), anas.id),
            (("withdraw", "run"), own.id),
            (("stop", "run"), running),
            (("review", "run"), break_glass),
            (("purge", "continue"), purge.id),
        ] {
            self.things.insert(place, run.to_string());
        }
    }

    /// Every run that was made here, but for those that the command could be asked of.
    pub fn other_runs(&self, command: &str) -> Vec<String> {
        let others =
            self.things.iter().filter(|((of, what), _)| ["run", "continue"].contains(what) && *of != command);
        others.map(|(_, run)| run.clone()).collect()
    }

    /// The window that is in the other state, and the beginning of both names.
    pub fn other_windows(&self, right: &str) -> Vec<String> {
        let windows = self.things.iter().filter(|((_, what), name)| *what == "window" && *name != right);
        windows.map(|(_, name)| name.clone()).chain(["N".to_owned()]).collect()
    }

    /// A superuser's session, the bot's own, and no client's.
    pub async fn other_pids(&self) -> Vec<String> {
        let sql = "SELECT DISTINCT ON (backend_type, usename) pid::text FROM pg_stat_activity
                   WHERE backend_type <> 'client backend' OR usename::text IN ('azuresu', 'countersign_read')";
        let pids = all(&self.superuser, sql).await;
        assert!(pids.len() > 3, "{pids:?}");
        pids
    }

    /// The lines of a command that work.
    pub fn controls<'a>(&self, command: &'a Command) -> Vec<Control<'a>> {
        let without = |left_out: &[&str]| {
            let specs = command.header.args.iter().filter(|spec| !spec.hidden && !spec.switch);
            let specs = specs.filter(|spec| !left_out.contains(&spec.name.as_str()));
            Control { command, values: specs.map(|spec| (spec, self.right(command, spec))).collect() }
        };
        match command.name.as_str() {
            "purge" => vec![without(&["continue"]), without(&["column", "older-than"])],
            _ => vec![without(&[])],
        }
    }

    /// A value that there is.
    fn right(&self, command: &Command, spec: &ArgSpec) -> String {
        let thing = self.things.iter().find(|((of, what), _)| *of == command.name && *what == spec.name);
        if let Some((_, value)) = thing {
            return value.clone();
        }
        match (spec.kind, spec.name.as_str()) {
            (ArgType::Service, _) => "asset-service",
            (ArgType::Environment, _) => "staging",
            (ArgType::Duration, _) => "90d",
            (ArgType::Int, _) => "3",
            (ArgType::Command, _) => "kill",
            (ArgType::Choice, _) => spec.choices.last().expect("a choice"),
            (ArgType::Text, "table" | "name") => "audit_logs",
            (ArgType::Text, "column") => "created_at",
            (ArgType::Text, "server") => "main",
            (ArgType::Text, "file") => "tidy-up",
            (ArgType::Text, "migration") => BROKEN,
            (kind, name) => panic!("{}: what is right for {name} ({kind:?})?", command.name),
        }
        .to_owned()
    }

    /// What one of the people types, and the answer.
    pub async fn say(&self, who: usize, line: &str) -> (Completion, Option<Reply>) {
        let (account, name, ..) = PEOPLE[who];
        let sender = ChatAccount {
            platform: PlatformKind::Slack,
            workspace: incident().workspace,
            account: account.to_owned(),
            name: name.to_owned(),
        };
        let event = ChatEventKind::Command(line.into());
        let delivery = self.deliveries.fetch_add(1, Ordering::Relaxed).to_string();
        let incoming = ChatEvent { delivery, sender, conversation: incident(), handle: None, event };
        let ending = self.flow.handle_and_wait(incoming, Duration::from_secs(30)).await;
        (ending, self.room.answers.lock().unwrap().pop())
    }

    /// Newest first.
    pub async fn runs(&self) -> Vec<Run> {
        let filter = Filter { include_reads: true, limit: 1_000, ..Filter::default() };
        let runs = self.flow.app.audit.store.list(filter).await.unwrap().runs;
        // The window's is nobody's.
        runs.into_iter().filter(|run| run.request.sender.is_some()).collect()
    }

    /// The record, what was posted, the backups and all of PostgreSQL but for the bot's own sessions.
    pub async fn everything(&self) -> Vec<String> {
        let store = &self.flow.app.audit.store;
        let mut seen: Vec<String> = self.runs().await.iter().map(|run| format!("{run:?}")).collect();
        seen.push(format!(
            "{:?} {:?}",
            store.frozen().await.unwrap(),
            store.conversation_environment(incident()).await.unwrap()
        ));
        seen.push(format!("{} posted", self.room.posted()));
        let backups = std::fs::read_dir(self.scene.directory.path().join("backups"));
        seen.push(format!("{} backups", backups.map_or(0, Iterator::count)));
        let cluster = &self.scene.servers.cluster;
        let mut sessions = all(&self.superuser, SESSIONS).await;
        assert_eq!(sessions.len(), 3, "{sessions:?}");
        seen.append(&mut sessions);
        for database in
            all(&self.superuser, "SELECT datname::text FROM pg_database WHERE datallowconn ORDER BY 1").await
        {
            let client = cluster.connect(&database).await.expect("the superuser");
            seen.push(format!("{database} {}", all(&client, include_str!("schema.sql")).await.concat()));
            for table in all(&client, TABLES).await {
                let sum = format!(
                    "SELECT count(*) || ' ' || COALESCE(md5(string_agg(t::text, ',' ORDER BY t::text)), '') FROM {table} t"
                );
                seen.push(format!("{database} {table} {}", all(&client, &sum).await.concat()));
            }
        }
        seen
    }
}

/// Also what they do, and since when.
const SESSIONS: &str = "SELECT concat_ws(' ', pid, backend_start, application_name, state, query_start, xact_start, query) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND usename !~ '^countersign_' AND application_name ~ '^asset-' ORDER BY pid";

const TABLES: &str =
    "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY c.oid";

async fn all(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|why| panic!("{why:?}: {sql}"));
    rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect()
}

async fn scene() -> Scene {
    let sample = Sample { maintainer: true, ..Sample::light() };
    let (cluster, team) = sample.start(Options::default()).await.expect("a server with the sample");
    let servers: &Servers = Box::leak(Box::new(Servers { cluster, team }));
    let connect = async |database: &str| servers.cluster.connect(database).await.expect("the superuser");
    let make = "CREATE ROLE countersign_owner LOGIN SUPERUSER PASSWORD 'owner'";
    connect("postgres").await.batch_execute(make).await.unwrap();
    connect("rights_service_db").await.batch_execute("DROP EXTENSION pg_stat_statements").await.unwrap();
    let open = format!(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name, logs) VALUES ('broken', 'x', '{BROKEN}', 'ERROR')"
    );
    connect("user_service_db").await.batch_execute(&open).await.unwrap();
    let old = "UPDATE audit_logs SET created_at = now() - interval '200 days' WHERE id % 2 = 1";
    connect(DATABASE).await.batch_execute(old).await.unwrap();
    let instead = vec![("[environments.logins.operator]", OWNER)];
    let commands = vec![("tidy.sql", TIDY)];
    let scene = Scene::without_bot(Twist {
        servers: Some(servers),
        more: MORE,
        instead,
        commands,
        ..Twist::default()
    })
    .await;
    let directory = scene.directory.path();
    for name in ["sql", "asset-service", "user-service"] {
        std::fs::create_dir(directory.join(name)).unwrap();
    }
    std::fs::write(directory.join("owner"), "owner").unwrap();
    let file = "/* summary = \"Tidies up\" */\nDELETE FROM public.audit_logs WHERE id < 0;";
    std::fs::write(directory.join("sql/tidy-up.sql"), file).unwrap();
    scene
}
