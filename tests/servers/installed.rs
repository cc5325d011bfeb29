//! The PostgreSQL servers that tests ask: of the majors that `make` names and has installed, or of whatever is here.

use countersign::demo::postgres::find_bin_dir;
use std::path::{Path, PathBuf};

/// "13 15 18". Whoever sets it has them installed: one that is missing fails the test.
const ASKED: &str = "COUNTERSIGN_TEST_MAJORS";

/// The directory of each server's programs, oldest first. Without tools it is Debian's newest alone.
pub fn servers() -> Vec<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/postgres");
    let majors = match std::env::var(ASKED) {
        Ok(asked) => asked.split_whitespace().map(|major| major.parse().expect("a major version")).collect(),
        Err(_) => installed(&tools),
    };
    let one = |major: u32| {
        // The account that a server runs as may not look into this directory, only where the link leads.
        let ours = tools.join(major.to_string()).join("bin").canonicalize();
        let candidates: Vec<PathBuf> = ours.into_iter().collect();
        find_bin_dir(Some(major), &candidates)
            .unwrap_or_else(|why| panic!("{ASKED} names {major}; `make compat` installs it: {why}"))
    };
    let servers: Vec<PathBuf> = majors.into_iter().map(one).collect();
    if servers.is_empty() { vec![find_bin_dir(None, &[]).expect("a PostgreSQL server")] } else { servers }
}

/// Plays a scene on each server, all at once, since it waits for most of its time; oldest first.
pub async fn on_each_server<T>(scene: impl AsyncFn(PathBuf) -> T) -> Vec<T> {
    futures::future::join_all(servers().into_iter().map(|bin_dir| scene(bin_dir))).await
}

fn installed(tools: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(tools).into_iter().flatten().flatten();
    let mut majors: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    majors.sort_unstable();
    majors
}
