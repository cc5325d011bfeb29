//! `countersign check`: what is missing is named, with how to fix it, and the exit status is CI's.

use crate::harness::{Said, Servers, World};
use countersign::config::process_account;
use countersign::demo::fake_slack::{self, Channel};
use countersign::demo::free_port;
use std::io::{BufRead, BufReader, Write};
use std::thread::JoinHandle;

/// The reader's and the operator's lines of the configuration.
const READER: &str = "user = \"countersign_read\"";
const OPERATOR: &str = "user = \"countersign_act\"";

async fn checks(world: &World<'_>) -> Said {
    let said = world.say(&["check"]).await;
    said.is_fit_for_a_terminal();
    said
}

fn flat_has(said: &Said, words: &str) -> bool {
    said.flat().contains(words)
}

/// A login of a test's own, with that password.
async fn role(servers: &Servers, name: &str, more: &str) {
    let password = &servers.team.reader.password;
    servers.does("postgres", &format!("CREATE ROLE {name} LOGIN PASSWORD '{password}' {more}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well() {
    // Of its own: other tests make roles and databases that are not well.
    let servers = Servers::start().await;
    let world = World::on(&servers, "U0ANA", &[]).await;
    let said = checks(&world).await;
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out.starts_with("OK: All checks passed.\n"), "{}", said.out);
    for line in ["main as reader", "main as operator", "backup storage"] {
        assert_eq!(
            said.out.matches(line).count(),
            if line.starts_with("main") { 2 } else { 1 },
            "{}",
            said.out
        );
    }
    assert!(said.flat().contains("10 of 10 databases: reachable and complete"), "{}", said.out);
    assert!(
        flat_has(&said, &format!("audit log works can be created by {}", process_account())),
        "{}",
        said.out
    );
    assert!(flat_has(&said, "Slack works knows the bot, in workspace T0"), "{}", said.out);
    let json = world.say(&["check", "--json"]).await;
    assert_eq!((json.status, json.json()["verdict"]["tone"].as_str()), (0, Some("ok")));
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing_or_too_many() {
    let servers = Servers::shared().await;
    role(servers, "blind_reader", "").await;
    role(servers, "strong_reader", "CREATEROLE IN ROLE pg_monitor, pg_signal_backend").await;
    role(servers, "weak_operator", "").await;
    for (instead, complaints) in [
        ((READER, "user = \"blind_reader\""), vec!["`GRANT pg_monitor TO blind_reader;`"]),
        (
            (READER, "user = \"strong_reader\""),
            vec![
                "`ALTER ROLE strong_reader NOCREATEROLE;`",
                "`REVOKE pg_signal_backend FROM strong_reader;`",
            ],
        ),
        (
            (READER, "user = \"azuresu\""),
            vec!["must be read-only, but is a superuser", "`ALTER ROLE azuresu NOSUPERUSER;`"],
        ),
        (
            (OPERATOR, "user = \"weak_operator\""),
            vec![
                "`GRANT pg_signal_backend TO weak_operator;`",
                "`GRANT pg_monitor TO weak_operator;`",
                "`GRANT pg_read_all_data TO weak_operator;`",
            ],
        ),
    ] {
        let world = World::with("U0ANA", &[instead]).await;
        let mut world = world;
        let password = match instead.1.contains("azuresu") {
            true => servers.cluster.superuser_password().to_owned(),
            false => servers.team.reader.password.clone(),
        };
        let login = if instead.0 == READER { "READER" } else { "OPERATOR" };
        for environment in ["PRODUCTION", "STAGING"] {
            world.stage.secrets.insert(format!("{environment}_{login}_PASSWORD"), password.clone());
        }
        let said = checks(&world).await;
        assert_eq!(said.status, 1, "{said:?}");
        assert!(
            said.out.starts_with("CRITICAL: ") && said.flat().contains("failed: production"),
            "{}",
            said.out
        );
        for complaint in complaints {
            assert_eq!(said.flat().matches(complaint).count(), 2, "{complaint}: {}", said.out);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_not_reached() {
    let nobody = free_port().unwrap();
    let port = format!("port = {}", Servers::shared().await.cluster.port());
    let down = World::with("U0ANA", &[(&port, &format!("port = {nobody}"))]).await;
    let said = checks(&down).await;
    assert_eq!(said.status, 1);
    assert!(
        said.out.starts_with("CRITICAL: 2 checks failed: production, staging.\n"),
        "once a server: {}",
        said.out
    );
    assert!(said.flat().contains(&format!("no server listens at 127.0.0.1:{nobody}.")), "{}", said.out);

    let tls = World::with("U0ANA", &[("tls = \"off\"", "tls = \"verified\"")]).await;
    let said = checks(&tls).await;
    assert_eq!(said.status, 1);
    assert!(
        said.flat().contains("shows no TLS that can be verified (the server offers none)"),
        "{}",
        said.out
    );
    assert!(said.flat().contains("main as reader: Enable TLS on the server"), "{}", said.out);

    let mut wrong = World::usual().await;
    wrong.stage.secrets.insert("STAGING_OPERATOR_PASSWORD".to_owned(), "not-the-password".to_owned());
    let said = checks(&wrong).await;
    assert_eq!(said.status, 1);
    assert!(said.flat().contains("1 check failed: staging."), "{}", said.out);
    assert!(
        said.flat().contains("main as operator: Compare the password of countersign_act"),
        "{}",
        said.out
    );
    assert!(!said.out.contains("not-the-password") && !said.err.contains("not-the-password"));
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_lack_something() {
    let servers = Servers::shared().await;
    servers.does("postgres", "CREATE DATABASE shut_db").await;
    servers.does("postgres", "REVOKE CONNECT ON DATABASE shut_db FROM PUBLIC").await;
    servers.does("postgres", "CREATE DATABASE bare_db").await;
    let make = "CREATE TABLE open_to_all (id int); GRANT DELETE ON open_to_all TO PUBLIC; \
                CREATE TABLE _prisma_migrations (id int)";
    servers.does("bare_db", make).await;
    let more = ["shut", "bare", "absent"]
        .map(|name| format!("[[services]]\nname = \"{name}\"\ndatabase = \"{name}_db\"\n\n"))
        .concat();
    let first = "[[people]]\nname = \"ana\"";
    let world = World::with("U0ANA", &[(first, &format!("{more}{first}"))]).await;
    let said = checks(&world).await;
    assert_eq!(said.status, 1);
    let flat = said.flat();
    for complaint in [
        "main/shut_db: `GRANT CONNECT ON DATABASE \"shut_db\" TO \"countersign_read\";`",
        "main/bare_db: `CREATE EXTENSION pg_stat_statements WITH SCHEMA public;`",
        "main/bare_db: `REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON public.open_to_all FROM countersign_read, PUBLIC;`",
        "main/bare_db: `GRANT SELECT ON public._prisma_migrations TO countersign_read;`",
        "main/absent_db: Correct the name in the configuration, or create the database.",
    ] {
        assert_eq!(flat.matches(complaint).count(), 2, "{complaint}: {}", said.out);
    }
    assert!(flat.contains("10 of 13 databases: reachable and complete"), "{}", said.out);
    assert!(flat.contains("optional"), "{}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_here() {
    let world = World::usual().await;
    std::fs::write(world.directory().join("backups"), "a file").unwrap();
    let said = checks(&world).await;
    assert_eq!(said.status, 1);
    assert!(said.flat().contains("1 check failed: Where Countersign runs."), "{}", said.out);

    let wrong = world
        .stage
        .config
        .replace("production = true", "prodution = true")
        .replace("\"30m\"", "\"30 moons\"");
    std::fs::write(world.directory().join("countersign.toml"), wrong).unwrap();
    let said = checks(&world).await;
    assert_eq!((said.status, said.out.as_str()), (1, ""));
    for words in ["did you mean `production`?", "30 moons"] {
        let line = said.err.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("all at once: {}", said.err));
        let place = line.trim().strip_prefix("countersign.toml:").expect("a file");
        assert!(place.starts_with(|c: char| c.is_ascii_digit()), "a line: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_written() {
    let world = World::usual().await;
    let record = world.directory().join("record.db");
    let complains = async |why: &str| {
        let said = checks(&world).await;
        assert_eq!(said.status, 1, "{why}: {}", said.out);
        assert!(
            flat_has(&said, &format!("audit log !! missing can't be written: {why}")),
            "{why}: {}",
            said.out
        );
        assert!(flat_has(&said, "audit log: Let the account that Countersign runs as write"), "{}", said.out);
    };
    std::fs::write(&record, "a note, and no database at all").unwrap();
    complains("the audit log's store can't be used: its file is damaged").await;
    assert_eq!(std::fs::read(&record).unwrap(), b"a note, and no database at all");
    std::fs::remove_file(&record).unwrap();
    std::fs::create_dir(&record).unwrap();
    complains("the audit log's store can't be used: its file can't be opened").await;
    std::fs::remove_dir(&record).unwrap();

    drop(world.record());
    let said = checks(&world).await;
    assert!(flat_has(&said, "audit log works can be written"), "{}", said.out);
    let config = world.stage.config.replace("path = \"record.db\"", "path = \"nowhere/record.db\"");
    std::fs::write(world.directory().join("countersign.toml"), config).unwrap();
    complains("its file can't be made").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slack_that_does_not_know_the_bot() {
    let mut world = World::usual().await;
    let token = "xoxb-hush-3318";
    let right = world.stage.secrets.insert("SLACK_BOT_TOKEN".to_owned(), token.to_owned()).unwrap();
    let said = checks(&world).await;
    assert_eq!(said.status, 1, "{}", said.out);
    assert!(flat_has(&said, "Slack !! missing refuses the bot's token (invalid_auth)"), "{}", said.out);
    assert!(flat_has(&said, "Slack: Put the app's Bot User OAuth Token"), "{}", said.out);
    assert!(!said.out.contains("hush") && !said.err.contains("hush"), "{said:?}");

    world.stage.secrets.insert("SLACK_BOT_TOKEN".to_owned(), right.clone());
    let (team, config) = (fake_slack::TEAM, world.stage.config.clone());
    let elsewhere = config.replace(&format!("workspaces = [\"{team}\"]"), "workspaces = [\"T0ELSEWHERE\"]");
    std::fs::write(world.directory().join("countersign.toml"), elsewhere).unwrap();
    let said = checks(&world).await;
    assert_eq!(said.status, 1, "{}", said.out);
    assert!(flat_has(&said, &format!("in workspace {team}, which isn't listened to")), "{}", said.out);

    let nobody = free_port().unwrap();
    let away = config.replace(&world.stage.workspace.api_url(), &format!("http://127.0.0.1:{nobody}/api"));
    std::fs::write(world.directory().join("countersign.toml"), away).unwrap();
    let said = checks(&world).await;
    assert_eq!(said.status, 1, "{}", said.out);
    assert!(flat_has(&said, "Slack !! missing isn't reached"), "{}", said.out);
    assert!(
        flat_has(&said, &format!("Slack: Let Countersign connect to http://127.0.0.1:{nobody}/api.")),
        "{}",
        said.out
    );
    assert!(!said.out.contains(&right) && !said.err.contains(&right), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_for_terminals_that_the_bot_is_not_in() {
    let secrets = "signing_secrets = [{ env";
    for (channel, told, status) in [
        ("C0DATABASE", "Slack: terminal_channel works the bot is in C0DATABASE", 0),
        ("C0ALONE", "Slack: terminal_channel !! missing the bot isn't in C0ALONE", 1),
        ("C0NOWHERE", "Slack: terminal_channel !! missing the bot isn't in C0NOWHERE", 1),
    ] {
        let named = format!("terminal_channel = \"{channel}\"\n{secrets}");
        let world = World::with("U0ANA", &[(secrets, &named)]).await;
        let alone = Channel { id: "C0ALONE".to_owned(), name: "alone".to_owned(), ..Channel::default() };
        world.stage.workspace.add_channel(alone);
        let said = world.say(&["check", "--only", "chat"]).await;
        assert_eq!(said.status, status, "{said:?}");
        assert!(flat_has(&said, told), "{}", said.out);
        let fix = "terminal_channel: Add the bot to that channel, or set the id of another one.";
        assert_eq!(flat_has(&said, fix), status == 1, "{}", said.out);
    }
}

/// Answers one request with a status that no webhook gives to an event, and returns its first line.
fn webhook() -> (String, JoinHandle<String>) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("http://{}/hook-6021", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines();
        let first = lines.next().unwrap().unwrap();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        (&stream).write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n").unwrap();
        first
    });
    (address, answering)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_asked_and_gets_no_event() {
    let people = "[[people]]\nname = \"ana\"";
    let section = format!("[webhook]\nurl = {{ env = \"WEBHOOK\" }}\n\n{people}");
    let mut world = World::with("U0ANA", &[(people, &section)]).await;
    let check = async |world: &World<'_>| world.say(&["check", "--only", "chat"]).await;
    let (address, answering) = webhook();
    world.stage.secrets.insert("WEBHOOK".to_owned(), address.clone());
    let said = check(&world).await;
    assert_eq!(said.status, 0, "{said:?}");
    assert!(flat_has(&said, "webhook works answers"), "{}", said.out);
    assert_eq!(answering.join().unwrap(), "HEAD /hook-6021 HTTP/1.1");

    // The server is gone, and its address is told to nobody.
    let said = check(&world).await;
    assert_eq!(said.status, 1, "{said:?}");
    assert!(flat_has(&said, "webhook !! missing can't be reached"), "{}", said.out);
    assert!(flat_has(&said, "webhook: Correct the address that `url` of `[webhook]` names"), "{}", said.out);
    assert!(!format!("{said:?}").contains("6021"), "{said:?}");

    for (url, told) in
        [(Some("http://hooks.example/6021"), "https URL"), (Some("6021"), "https URL"), (None, "WEBHOOK")]
    {
        world.stage.secrets.remove("WEBHOOK");
        world.stage.secrets.extend(url.map(|url| ("WEBHOOK".to_owned(), url.to_owned())));
        let said = check(&world).await;
        assert!(said.status == 1 && said.err.contains(told) && !said.err.contains("6021"), "{said:?}");
    }
    // The host can be checked before the webhook exists.
    let said = world.say(&["check", "--only", "host"]).await;
    assert_eq!(said.status, 0, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_that_the_app_does_not_have() {
    let group = "groups = { approver = \"S0APP\" }\nsigning_secrets = [{ env";
    for (instead, revoked, named) in [
        (vec![], vec!["usergroups:read"], vec![]),
        (vec![("signing_secrets = [{ env", group)], vec!["usergroups:read"], vec!["usergroups:read"]),
        (vec![], vec!["im:write", "users:read"], vec!["im:write", "users:read"]),
        (
            vec![],
            vec!["commands", "chat:write", "app_mentions:read", "channels:read", "files:write"],
            vec!["commands", "chat:write", "app_mentions:read", "channels:read", "files:write"],
        ),
    ] {
        let world = World::with("U0ANA", &instead).await;
        revoked.iter().for_each(|scope| world.stage.workspace.revoke_scope(scope));
        let said = checks(&world).await;
        assert_eq!(said.status, i32::from(!named.is_empty()), "{}", said.out);
        let complaint = flat_has(&said, "Slack !! missing doesn't grant the bot");
        assert_eq!(complaint, !named.is_empty(), "{}", said.out);
        for scope in ["commands", "chat:write", "users:read", "im:write", "im:read", "usergroups:read"] {
            assert_eq!(
                flat_has(&said, &format!("`{scope}` (")),
                named.contains(&scope),
                "{scope}: {}",
                said.out
            );
        }
        if !named.is_empty() {
            assert!(flat_has(&said, "Slack: Add them to the app's bot token scopes"), "{}", said.out);
        }
    }
}

/// Runs the statements that the check shows, as a superuser would paste them.
async fn run_fixes(servers: &Servers, database: &str, said: &Said) {
    let fixes = said.flat();
    let fixes = fixes
        .split('`')
        .filter(|part| part.ends_with(';') && part.contains("SCHEMA") | part.contains("FUNCTION"))
        // Advice for `bloat`.
        .filter(|part| !part.starts_with("CREATE EXTENSION"));
    for fix in fixes {
        servers.does(database, fix).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_others_may_create_in_and_where_the_reader_may_not_look() {
    let servers = Servers::start().await;
    let database = "asset_service_db";
    let people = "[[people]]\nname = \"ana\"";
    let migrate = format!("[migrate]\ndeploy = [\"/bin/true\"]\ndirectory = \".\"\n\n{people}");
    let world = World::on(&servers, "U0ANA", &[(people, &migrate)]).await;
    servers.does("postgres", "CREATE ROLE stranger").await;
    for (service, _) in &servers.team.services {
        servers.does("postgres", &format!("GRANT {} TO countersign_act", service.role)).await;
    }
    for (sql, complaint, fix) in [
        (
            "GRANT CREATE ON SCHEMA public TO stranger, asset_svc",
            "stranger can create functions in public, and `migrate` would call them as countersign_act",
            "REVOKE CREATE ON SCHEMA public FROM stranger;",
        ),
        (
            "GRANT CREATE ON SCHEMA pg_catalog TO asset_svc, PUBLIC",
            "asset_svc, PUBLIC can create functions in pg_catalog, and Countersign's SQL would call them",
            "REVOKE CREATE ON SCHEMA pg_catalog FROM asset_svc, PUBLIC;",
        ),
        (
            "GRANT CREATE ON SCHEMA public TO PUBLIC",
            "the reader must be read-only, but can create tables in public",
            "REVOKE CREATE ON SCHEMA public FROM countersign_read, PUBLIC;",
        ),
        (
            "CREATE SCHEMA \"Ext 1\"; ALTER EXTENSION pg_stat_statements SET SCHEMA \"Ext 1\"",
            "doesn't let countersign_read use pg_stat_statements: needed by `reset-stats` and `slow`",
            "GRANT USAGE ON SCHEMA \"Ext 1\" TO countersign_read;",
        ),
        (
            "REVOKE EXECUTE ON FUNCTION \"Ext 1\".pg_stat_statements(boolean) FROM PUBLIC",
            "doesn't let countersign_read use pg_stat_statements: needed by `reset-stats` and `slow`",
            "GRANT EXECUTE ON FUNCTION \"Ext 1\".pg_stat_statements(boolean) TO countersign_read;",
        ),
    ] {
        servers.does(database, sql).await;
        let said = checks(&world).await;
        assert_eq!(said.status, 1, "{sql}: {}", said.out);
        let flat = said.flat();
        let fix = format!("main/{database}: `{fix}`");
        assert!(flat.contains(complaint), "{sql}: {complaint}: {}", said.out);
        assert_eq!(flat.matches(&fix).count(), 2, "{sql}: {fix}: {}", said.out);
        run_fixes(&servers, database, &said).await;
        let said = checks(&world).await;
        assert!(said.status == 0 && said.flat().contains("10 of 10 databases"), "{sql}: {}", said.out);
    }
    // The maintenance database is no service's, and its sessions run our SQL, too.
    servers.does("postgres", "GRANT CREATE ON SCHEMA pg_catalog TO asset_svc").await;
    let said = checks(&world).await;
    let fix = "main/postgres: `REVOKE CREATE ON SCHEMA pg_catalog FROM asset_svc;`";
    assert!(said.status == 1 && said.flat().contains(fix), "{}", said.out);
}

/// The fake Slack is spoken to without TLS, but the client is made for Slack's own.
#[tokio::test(flavor = "multi_thread")]
async fn without_certificates_chat_is_neither_checked_nor_served() {
    let mut world = World::usual().await;
    let secrets = &mut world.stage.secrets;
    secrets.extend(["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| (name.to_owned(), "none".to_owned())));
    let said = world.say(&["check", "--only", "chat"]).await;
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.flat().contains("the system has no certificates to trust"), "{said:?}");
    assert!(flat_has(&said, "Slack: Install the system's certificates."), "{said:?}");
    let said = world.say(&["serve"]).await;
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.err.contains("the system has no certificates to trust"), "{said:?}");
}
