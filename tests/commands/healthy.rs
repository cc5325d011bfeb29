//! Nothing is wrong: every question is answered, and says so.

use crate::harness::{World, conversation, severity, words};
use countersign::catalog::Body;
use countersign::model::{Block, Risk, Severity};
use countersign::store::Binding;

/// A phone shows so many columns of a table beside the query text, which stands beneath.
const PHONE: usize = 7;

#[tokio::test(flavor = "multi_thread")]
async fn every_sql_command_answers_its_example() {
    let world = World::start().await;
    world.heal().await;
    let reading = |command: &&_| -> bool {
        let command: &countersign::catalog::Command = command;
        matches!(command.body, Body::Sql(_)) && command.header.risk == Risk::Read
    };
    let commands: Vec<_> = world.app.catalog.iter().filter(reading).collect();
    assert!(commands.len() >= 6);
    for command in commands {
        for section in world.sections(&command.header.example).await.unwrap() {
            assert!(section.failures.is_empty(), "{}: {:?}", command.name, section.failures);
        }
        let answer = world.ask("Ana Example", &command.header.example).await.unwrap();
        assert_ne!(severity(&answer), Severity::Critical, "{}", words(&answer));
        for block in &answer.blocks {
            if let Block::Table(table) = block {
                assert!(table.columns.len() <= PHONE + 1, "{}: {:?}", command.name, table.columns);
            }
        }
    }
}

/// Rows that say nothing are counted with their sum, and listed for who asks.
#[tokio::test(flavor = "multi_thread")]
async fn small_rows_are_summed_up_and_listed_on_request() {
    let world = World::start().await;
    let asset = world.cluster.connect("asset_service_db").await.unwrap();
    let tables = "CREATE TABLE huge AS SELECT repeat(md5(n::text), 30) AS text FROM generate_series(1, 20000) n;
                  CREATE TABLE small_a (n int); CREATE TABLE small_b (n int); CREATE TABLE small_c AS SELECT 1 AS n";
    asset.batch_execute(tables).await.unwrap();
    let names = |told: &str| -> Vec<String> {
        let lines = told.lines().filter(|line| line.contains(" | ") && !line.starts_with('['));
        lines.map(|line| line.split(" | ").next().unwrap_or_default().to_owned()).collect()
    };
    let told = world.told("sizes asset-service").await;
    let all = world.told("sizes asset-service --all").await;
    let (shown, listed) = (names(&told), names(&all));
    assert!(shown.len() < listed.len() && listed.starts_with(&shown), "{told}{all}");
    let missing = listed.len() - shown.len();
    let line = told.lines().find(|line| line.contains(" more below 1 %, together "));
    let line = line.unwrap_or_else(|| panic!("{told}"));
    assert!(line.starts_with(&format!("{missing} more below 1 %")), "{line}");
    assert!(line.ends_with(" %. sizes asset-service --all lists them."), "{line}");
    for name in ["small_a", "small_b", "small_c"] {
        assert!(!shown.iter().any(|shown| shown == name), "{told}");
        assert!(listed.iter().any(|listed| listed == name), "{all}");
    }
    assert!(!all.contains(" more below "), "{all}");
    assert_eq!(told.lines().next(), all.lines().next(), "the total is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_reads_when_all_is_well() {
    let world = World::start().await;
    world.heal().await;
    let health = world.told("health").await;
    assert!(health.starts_with("OK: All services answer. No problem found "), "{health}");
    assert_eq!(health.lines().filter(|line| line.contains("-service | ")).count(), 10, "{health}");
    assert!(health.contains("[Server] server | primary\nversion | "), "{health}");
    let one = world.told("health asset").await;
    assert_eq!(one.lines().filter(|line| line.contains("version | ")).count(), 1, "{one}");

    let blocked = world.told("blocked").await;
    assert_eq!(
        blocked,
        "OK: No session is waiting for a lock, a buffer pin or a safe snapshot.\n\
         Looked at: waits for locks, buffer pins, snapshots and standbys on primary.\n"
    );
    let long = world.told("long --over 1h").await;
    assert_eq!(
        long,
        "OK: No statement has been running, and no transaction open, for that long (--over, 30 s by default).\n\
         Looked at: running statements and open transactions on primary.\n"
    );

    let connections = world.told("connections asset-service").await;
    assert!(
        connections.starts_with("NEUTRAL: primary: ") && connections.contains(" are left.\n"),
        "{connections}"
    );
    assert!(!connections.contains("billing_service_db"), "{connections}");

    let sizes = world.told("sizes").await;
    assert!(sizes.contains("[Databases] database | size | share\n"), "{sizes}");
    assert!(sizes.contains("asset_service_db | ") && !sizes.contains("[Tables]"), "{sizes}");
    let tables = world.told("sizes asset-service").await;
    assert!(tables.contains("[Tables] table | size | share | indexes | rows (est.)\n"), "{tables}");
    assert!(tables.contains("\"User\" | ") && !tables.contains("[Databases]"), "{tables}");

    world.work().await;
    let slow = world.told("slow asset-service --by calls").await;
    assert!(slow.starts_with("NEUTRAL: asset-service: the most frequent statement ran "), "{slow}");
    let all = world.ask("Ana Example", "slow").await.unwrap();
    let Some(Block::Table(table)) = all.blocks.iter().find(|block| matches!(block, Block::Table(_))) else {
        panic!("{}", words(&all))
    };
    assert!(table.rows.len() == 15 && table.total > 15, "the top 15 of {}", table.total);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_questions_about_the_team() {
    let world = World::start().await;
    let services = world.told("services --env production").await;
    assert!(services.starts_with("OK: 10 services in production.\n"), "{services}");
    assert!(services.contains("asset-service | asset_service_db | small | "), "{services}");
    let all = world.told("services").await;
    assert!(all.starts_with("CRITICAL: No answer from staging/primary.\nstaging/primary refuses"), "{all}");
    assert!(all.contains(" MiB | no answer\n"), "production's sizes stand there still: {all}");

    let binding =
        Binding { conversation: conversation(), environment: "staging".into(), while_executing: None };
    assert!(world.app.audit.store.bind_conversation(binding).await.unwrap());
    let environments = world.told("environments").await;
    let address = format!("production | primary | 127.0.0.1:{} | off | 1", world.cluster.port());
    assert!(environments.starts_with("CRITICAL: No answer from staging/primary.\n"), "{environments}");
    assert!(environments.contains(&address), "{environments}");
    assert!(environments.contains("staging · here"), "{environments}");
    assert!(environments.contains("This channel uses staging;"), "{environments}");
    let eli = words(&world.ask("Eli Sample", "environments --env staging").await.unwrap());
    assert!(!eli.contains("production"), "Eli may look at staging alone: {eli}");

    let connect = world.told("connect asset").await;
    let line = format!(
        "psql \"host=127.0.0.1 port={} dbname=asset_service_db user=YOUR_ROLE\"",
        world.cluster.port()
    );
    assert!(connect.contains(&line) && connect.contains("echo ${HOME} asset-service"), "{connect}");
    for account in [&world.team.reader, &world.team.operator] {
        assert!(!connect.contains(&account.password) && !connect.contains(&account.user), "{connect}");
    }
    assert!(world.ask("Ana Example", "connect all").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn help_tells_what_this_person_may_run() {
    let world = World::start().await;
    let ana = world.told("help").await;
    assert!(ana.contains("\nkill <pid> [--server <server>] End a session (needs approval)\n"), "{ana}");
    assert!(ana.find("Databases").unwrap() < ana.find("\nkill").unwrap(), "looking comes first: {ana}");
    let eli = words(&world.ask("Eli Sample", "help").await.unwrap());
    assert!(!eli.contains("kill"), "{eli}");
    assert!(
        eli.contains("blocked Sessions waiting for a lock, and the sessions that block them (in staging)\n"),
        "{eli}"
    );

    let kill = world.told("help kill").await;
    for part in
        ["End a session.", "type: kill <pid>", "for example: kill 4711", "risk: danger", "never ended"]
    {
        assert!(kill.contains(part), "no {part} in {kill}");
    }
    assert!(!kill.contains("backend_start"), "{kill}");
    let refused = world.ask("Eli Sample", "help kill").await.unwrap_err().to_string();
    assert_eq!(refused, "You may not run `kill`. `help` lists the commands that you can run.");
    let unknown = world.ask("Ana Example", "help kil").await.unwrap_err().to_string();
    assert!(unknown.ends_with("Did you mean `kill`?"), "{unknown}");
}
