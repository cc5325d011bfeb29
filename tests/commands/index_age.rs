//! An index is called unused only since it exists, and only once it has existed for long: on a server whose first start was twenty
//! days ago, by its clock.

use crate::harness::{SOON, World, words};
use crate::installed::servers;
use crate::shifted::ShiftedServer;
use countersign::demo::postgres::Options;
use std::process::Command;

const DAY_S: i64 = 86_400;

/// Shuts the server down, so that it keeps its counters, and starts it by the system's clock.
async fn set_right(shifted: &ShiftedServer, world: &mut World) {
    let pid_file = world.cluster.log_path().with_file_name("data").join("postmaster.pid");
    let pid = std::fs::read_to_string(&pid_file).unwrap().lines().next().unwrap().to_owned();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let over = async {
        while pid_file.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, over).await.expect("the server shuts down");
    shifted.shift(false);
    world.cluster.restart().await.unwrap();
}

/// The line of the table of unused indexes.
fn line<'a>(told: &'a str, index: &str) -> &'a str {
    let unused = &told[told.find("[Unused]").unwrap_or_else(|| panic!("none is unused: {told}"))..];
    unused.lines().find(|line| line.starts_with(index)).unwrap_or_else(|| panic!("no {index} in {unused}"))
}

fn table(name: &str) -> String {
    format!(
        "CREATE TABLE {name} AS SELECT g AS id, md5(g::text) AS t FROM generate_series(1, 20000) g; CREATE INDEX {name}_t ON {name} (t); ANALYZE {name}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_has_been_unused_only_since_it_was_made() {
    for (bin_dir, tracked) in
        servers().into_iter().flat_map(|server| [(server.clone(), true), (server, false)])
    {
        let shifted = ShiftedServer::new(&bin_dir, -20 * DAY_S);
        let settings = [
            ("track_commit_timestamp", if tracked { "on" } else { "off" }),
            ("shared_preload_libraries", "pg_stat_statements"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let options = Options { bin_dir: Some(shifted.bin_dir().to_owned()), settings, ..Options::default() };
        let mut world = World::with(options).await;
        let major = world.cluster.version_num() / 10_000;
        world.cluster.connect("asset_service_db").await.unwrap().batch_execute(&table("aged")).await.unwrap();
        set_right(&shifted, &mut world).await;
        let admin = world.cluster.connect("asset_service_db").await.unwrap();
        admin.batch_execute(&table("young")).await.unwrap();
        let told = words(&world.ask("Ana Example", "indexes asset-service").await.unwrap());
        let note = if tracked { " | younger than 7 d" } else { " | age unknown" };
        assert!(line(&told, "young_t").ends_with(note), "PostgreSQL {major}: {told}");
        assert!(line(&told, "young_t").contains(" | 20 d 0 h | "), "PostgreSQL {major}: {told}");
        let since = "asset-service: 2 indexes have existed and not been used since ";
        let (aged, verdict) = (line(&told, "aged_t"), told.contains(since));
        assert_eq!(
            (aged.ends_with(" | age unknown"), verdict),
            (!tracked, tracked),
            "PostgreSQL {major}: {told}"
        );
    }
}
