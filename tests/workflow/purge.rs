//! `purge`: the rows that the card showed and no others, whatever the time zone, however often it is stopped or killed.

use crate::harness::{ANA, BEN, Scene, Servers, Twist, found};
use crate::process::{Process, all_runs, kinds};
use countersign::demo::fake_slack::Message;
use countersign::model::{Run, RunState};
use countersign::store::Store;
use tokio::sync::OnceCell;
use tokio_postgres::Client;

pub const DATABASE: &str = "asset_service_db";

/// The servers of these scenes: what they put in a table's way would be in the way of others' dumps.
pub async fn servers() -> &'static Servers {
    static SERVERS: OnceCell<Servers> = OnceCell::const_new();
    SERVERS.get_or_init(|| Servers::for_many(200)).await
}

/// A bot on them.
pub async fn scene() -> Scene {
    Scene::with(Twist { servers: Some(servers().await), ..Twist::default() }).await
}

/// Makes tables in the service's database, which the operator may read and delete from.
pub async fn tables(scene: &Scene, sql: &str) -> Client {
    let superuser = scene.servers.cluster.connect(DATABASE).await.expect("the superuser");
    superuser.batch_execute(sql).await.expect("the tables");
    superuser
}

/// Asks for a purge of the asset service's table; its card.
pub async fn card(scene: &Scene, rest: &str) -> Message {
    scene.card(ANA, &format!("purge asset-service {rest} --env production")).await
}

/// Approves it and waits for its end.
pub async fn done(scene: &Scene, card: &Message, words: &str) -> String {
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), words).await.plain()
}

/// What is left of a table, and of what: every row counts.
pub async fn checksum(client: &Client, table: &str) -> String {
    let sql = format!(
        "SELECT count(*) || ' ' || COALESCE(sum(hashtextextended(t::text, 0))::text, '-') FROM {table} AS t"
    );
    client.query_one(&sql, &[]).await.expect("a checksum").get(0)
}

/// The newest run of the command, as the record has it.
pub async fn newest(scene: &Scene) -> Run {
    all_runs(&scene.store(), "purge").await.into_iter().max_by_key(|run| run.id).expect("a run")
}

/// 300,000 rows are a year old; then one every half hour, from a day before the line to a day behind it; and some without a time.
const AROUND_THE_LINE: &str = "
    CREATE TABLE NAME (id bigserial PRIMARY KEY, at TYPE);
    INSERT INTO NAME (at) SELECT BASE - interval '365 days' + n * interval '1 s' FROM generate_series(1, ROWS) n;
    INSERT INTO NAME (at) SELECT BASE - interval '90 days' + n * interval '30 min' + interval '15 min' FROM generate_series(-48, 47) n;
    INSERT INTO NAME (at) SELECT NULL FROM generate_series(1, 5);
    GRANT SELECT, DELETE ON NAME TO countersign_act;";

const UTC: &str = "(now() AT TIME ZONE 'UTC')";

fn around_the_line(name: &str, kind: &str, rows: u32) -> String {
    let base = if kind == "timestamptz" { "now()" } else { UTC };
    let sql = AROUND_THE_LINE.replace("NAME", name).replace("TYPE", kind).replace("BASE", base);
    sql.replace("ROWS", &rows.to_string())
}

/// The operator's sessions have that time zone from now on.
async fn time_zone(scene: &Scene, superuser: &Client, zone: &str) {
    let sql = format!("ALTER ROLE countersign_act SET TimeZone = '{zone}'");
    superuser.batch_execute(&sql).await.expect("a time zone");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'countersign_act'";
    superuser.query(end, &[]).await.expect("new sessions");
    let operator = &scene.servers.team.operator;
    found("the time zone", async || {
        let (client, _) = scene.session_by(operator.login(DATABASE, "zone")).await;
        let now: String = client.query_one("SHOW TimeZone", &[]).await.ok()?.get(0);
        (now == zone).then_some(())
    })
    .await;
}

/// The rows that stay are those in the newer half around the line, and those without a time.
async fn are_left(superuser: &Client, table: &str, rows: i64) {
    let sql = format!("SELECT array_agg(id ORDER BY id) FROM {table}");
    let left: Vec<i64> = superuser.query_one(&sql, &[]).await.expect("the ids").get(0);
    let expected: Vec<i64> = (rows + 49..=rows + 96 + 5).collect();
    assert_eq!(left, expected, "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rows_go_in_every_time_zone_and_it_is_stopped_and_gone_on_with() {
    let scene = Scene::with(Twist { servers: Some(Servers::alone(60).await), ..Twist::default() }).await;
    let sql = [
        around_the_line("angeles", "timestamp(3)", 300_000),
        around_the_line("tokyo", "timestamp", 300_000),
        around_the_line("kathmandu", "timestamptz", 500),
    ];
    let superuser = tables(&scene, &sql.concat()).await;

    time_zone(&scene, &superuser, "America/Los_Angeles").await;
    let asked = card(&scene, "angeles --column at --older-than 90d").await;
    let shown = asked.plain();
    for words in [
        "Deletes 300,048 rows of public.angeles",
        "no time zone: taken as UTC",
        "none is freed",
        "replicas none",
    ] {
        assert!(shown.contains(words), "{words} is missing: {shown}");
    }
    // In the middle a row is somebody's, and for as long it waits.
    let holder = scene.servers.cluster.connect(DATABASE).await.unwrap();
    holder.batch_execute("BEGIN; SELECT 1 FROM angeles WHERE id = 145000 FOR UPDATE").await.unwrap();
    scene.click_button(BEN, &asked.at(), "Approve").await;
    scene.until(&asked.at(), "140,000 of 300,048 rows deleted").await;
    let run = newest(&scene).await;
    assert_eq!(run.state, RunState::Running);
    let stopped = scene.asks(BEN, &format!("stop {}", run.id)).await.plain();
    assert!(stopped.contains("has ended: stopped. Stopped, as asked."), "{stopped}");
    let told = scene
        .until(&asked.at(), "Stopped, as asked. 140,000 rows of 300,048 were deleted, in 14 batches")
        .await
        .plain();
    assert!(told.contains(&format!("--continue {}", run.id)) && !told.contains("At least"), "{told}");
    drop(holder);
    let left: i64 = superuser.query_one("SELECT min(id) FROM angeles", &[]).await.unwrap().get(0);
    assert_eq!((left, newest(&scene).await.state), (140_001, RunState::Stopped));

    time_zone(&scene, &superuser, "Asia/Tokyo").await;
    let again = card(&scene, &format!("angeles --continue {}", run.id)).await;
    let shown = again.plain();
    assert!(shown.contains(&format!("Continues #{}: deletes 160,048 rows", run.id)), "{shown}");
    let told = done(&scene, &again, "160,048 rows of 160,048 were deleted, in 17 batches").await;
    assert!(
        told.contains("No disk space is freed") && told.contains("vacuum asset-service angeles"),
        "{told}"
    );
    let asked = card(&scene, "tokyo --column at --older-than 90d").await;
    done(&scene, &asked, "300,048 rows of 300,048 were deleted, in 31 batches").await;
    are_left(&superuser, "angeles", 300_000).await;
    are_left(&superuser, "tokyo", 300_000).await;

    // No row of another day is a question of the time zone.
    time_zone(&scene, &superuser, "Asia/Kathmandu").await;
    let asked = card(&scene, "kathmandu --column at --older-than 90d").await;
    done(&scene, &asked, "548 rows of 548 were deleted, in 1 batch").await;
    are_left(&superuser, "kathmandu", 500).await;
    scene
        .refused(
            ANA,
            &format!("purge asset-service angeles --continue {} --env production", run.id),
            "has no rows left to delete",
        )
        .await;
}

/// A purge that lasts: each batch waits a little, and tells when it was at work.
const SLOW: &str = "
    CREATE TABLE hunted (id bigint PRIMARY KEY, at timestamptz);
    INSERT INTO hunted SELECT n, now() - interval '200 days' FROM generate_series(1, 800000) n;
    INSERT INTO hunted SELECT n, now() FROM generate_series(800001, 800100) n;
    CREATE TABLE hunted_batches (at tstzrange, rows bigint);
    CREATE FUNCTION hunted_batch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        PERFORM pg_sleep(0.08);
        INSERT INTO hunted_batches SELECT tstzrange(statement_timestamp(), clock_timestamp()), count(*) FROM gone;
        RETURN NULL;
    END $$;
    CREATE TRIGGER hunted_batch AFTER DELETE ON hunted REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION hunted_batch();
    GRANT SELECT, DELETE ON hunted TO countersign_act;";

/// Up to 0.6 s.
async fn a_random_moment() {
    let token = countersign::model::random_token().expect("randomness");
    let random = u64::from_str_radix(&token[..4], 16).expect("a number");
    tokio::time::sleep(std::time::Duration::from_millis(random % 600)).await;
}

fn times(runs: &[Run], kind: &str) -> usize {
    runs.iter().flat_map(kinds).filter(|known| *known == kind).count()
}

/// After so many kills: what is not begun again by itself is asked for.
async fn goes_on(scene: &Scene, card: Message, kills: usize) -> Message {
    let store = scene.store();
    let run = found("it to go on, or to give up", async || {
        let runs = all_runs(&store, "purge").await;
        let run = newest(scene).await;
        if times(&runs, "interrupted") < kills {
            return None;
        }
        let resumed = kinds(&run).iter().filter(|kind| **kind == "resumed").count();
        (run.state == RunState::Running || run.state == RunState::Interrupted && resumed == 5).then_some(run)
    })
    .await;
    if run.state == RunState::Running {
        return card;
    }
    let told = scene.until(&card.at(), "its outcome is unknown").await;
    assert!(told.button("Approve").is_none(), "{}", told.plain());
    let next = self::card(scene, &format!("hunted --continue {}", run.id)).await;
    scene.click_button(BEN, &next.at(), "Approve").await;
    found("the next", async || (newest(scene).await.state == RunState::Running).then_some(())).await;
    next
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_twenty_random_moments_it_deletes_what_it_was_to_and_nothing_twice() {
    let scene = Scene::without_bot(Twist { servers: Some(servers().await), ..Twist::default() }).await;
    let superuser = tables(&scene, SLOW).await;
    let mut process = Process::start(&scene).await;
    let mut card = card(&scene, "hunted --column at --older-than 90d").await;
    assert!(card.plain().contains("Triggers that run on DELETE: hunted_batch"), "{}", card.plain());
    scene.click_button(BEN, &card.at(), "Approve").await;
    found("it to begin", async || (newest(&scene).await.state == RunState::Running).then_some(())).await;
    for kill in 1..=20 {
        a_random_moment().await;
        process.kill().await;
        process = Process::start(&scene).await;
        card = goes_on(&scene, card, kill).await;
    }
    let told = scene.until(&card.at(), " were deleted, in ").await.plain();
    let (left, least): (i64, i64) = {
        let row = superuser.query_one("SELECT count(*), min(id) FROM hunted", &[]).await.unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!((left, least), (100, 800_001), "{told}");
    let overlaps =
        "SELECT count(*) FROM hunted_batches a, hunted_batches b WHERE a.ctid < b.ctid AND a.at && b.at";
    assert_eq!(superuser.query_one(overlaps, &[]).await.unwrap().get::<_, i64>(0), 0, "two at once");
    let row = superuser.query_one("SELECT sum(rows)::int8 FROM hunted_batches", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 800_000);

    let store = scene.store();
    let runs = all_runs(&store, "purge").await;
    let mut told_of = 0;
    for run in &runs {
        let last = run
            .events
            .iter()
            .rev()
            .find_map(|event| event.facts.get("deleted"))
            .and_then(|rows| rows.as_i64());
        told_of += last.unwrap_or(0);
        let resumed = kinds(run).contains(&"resumed");
        match run.state {
            RunState::Interrupted => assert!(resumed),
            RunState::Succeeded => {
                assert_eq!(run.text("verdict").unwrap().contains("At least"), resumed, "{run:?}")
            }
            _ => panic!("{run:?}"),
        }
    }
    assert!(runs.len() >= 4 && (1..=800_000).contains(&told_of), "{} runs tell of {told_of}", runs.len());
    assert_eq!((times(&runs, "interrupted"), store.verify().await.unwrap().first_error), (20, None));
}
