//! Discovery of the `pg_dump` that fits a server. pg_dump refuses a server newer than itself
//! (<https://www.postgresql.org/docs/current/app-pgdump.html#PG-DUMP-NOTES>), and an archive of a newer one is harder to
//! restore into an old server: so the smallest major version that is at least the server's.

use crate::actions::support::subprocess::command;
use crate::config::BackupSettings;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A program that prints its version or rejects an option answers in milliseconds; one that takes longer is broken.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// `pg_dump` and `pg_restore` of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    pub directory: PathBuf,
    pub major: u32,
    /// "15.18".
    pub version: String,
}

/// No client is new enough for a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("needs pg_dump {server} or newer, and Countersign has {}", list(.installed))]
pub struct MissingClient {
    /// The server's major version.
    pub server: u32,
    /// The clients' versions.
    pub installed: Vec<String>,
}

impl MissingClient {
    /// The fix, for whoever runs the bot.
    pub fn instead(&self) -> String {
        format!(
            "Install postgresql-client-{} where Countersign runs, or add its directory to `tools` in `[backups]`.",
            self.server
        )
    }
}

fn list(installed: &[String]) -> String {
    if installed.is_empty() { "none".to_owned() } else { format!("only {}", installed.join(", ")) }
}

impl Tool {
    pub fn pg_dump(&self) -> PathBuf {
        self.directory.join("pg_dump")
    }

    pub fn pg_restore(&self) -> PathBuf {
        self.directory.join("pg_restore")
    }

    /// The quickest compression that pays: zstd where the client has it (16 and up, if built so), else gzip 1. Gzip at its
    /// default level takes 70 % of a dump's time.
    pub async fn compression(&self) -> &'static str {
        const ZSTD: &str = "--compress=zstd:1";
        if self.major < 16 {
            return "--compress=1";
        }
        // An option that is missing in the build is rejected before connecting; no server listens at that path.
        let probe = run_probe(&self.pg_dump(), &["-Fc", ZSTD, "--host=/dev/null"]).await;
        match probe {
            Some((_, stderr)) if !stderr.contains("compression") => ZSTD,
            _ => "--compress=gzip:1",
        }
    }
}

/// Every installation that has both programs: the configured directories, then `PATH`, then Debian's.
pub async fn find(backups: &BackupSettings) -> Vec<Tool> {
    let mut tools: Vec<Tool> = Vec::new();
    for directory in backups.tools.iter().chain(&backups.search_path).cloned().chain(debian()) {
        if tools.iter().any(|tool| tool.directory == directory)
            || !is_program(&directory, "pg_dump")
            || !is_program(&directory, "pg_restore")
        {
            continue;
        }
        let version = run_probe(&directory.join("pg_dump"), &["--version"]).await;
        if let Some((major, version)) = version.and_then(|(stdout, _)| parse_version(&stdout)) {
            tools.push(Tool { directory, major, version });
        }
    }
    tools
}

/// The smallest major version that is new enough, and of equal ones the first.
///
/// # Errors
/// [`MissingClient`].
pub fn choose(tools: &[Tool], server: u32) -> Result<&Tool, MissingClient> {
    let fitting = tools.iter().filter(|tool| tool.major >= server);
    fitting.min_by_key(|tool| tool.major).ok_or_else(|| MissingClient {
        server,
        installed: tools.iter().map(|tool| tool.version.clone()).collect(),
    })
}

/// Debian keeps each major version in a directory of its own.
fn debian() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut directories: Vec<PathBuf> = entries.map(|entry| entry.path().join("bin")).collect();
    directories.sort();
    directories
}

/// Debian's `/usr/bin/pg_dump` is a link to a script that chooses a version by a cluster of this machine: not asked.
fn is_program(directory: &Path, name: &str) -> bool {
    let real = std::fs::canonicalize(directory.join(name));
    real.is_ok_and(|real| real.is_file() && real.file_name().is_some_and(|file| file != "pg_wrapper"))
}

/// "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" → 15 and "15.18".
fn parse_version(output: &str) -> Option<(u32, String)> {
    let version = output.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, version.to_owned()))
}

async fn run_probe(program: &Path, arguments: &[&str]) -> Option<(String, String)> {
    let mut command = command(program);
    let output = command.args(arguments).kill_on_drop(true).output();
    let output = tokio::time::timeout(PROBE_TIMEOUT, output).await.ok()?.ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((text(&output.stdout), text(&output.stderr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(major: u32, directory: &str) -> Tool {
        Tool { directory: directory.into(), major, version: format!("{major}.4") }
    }

    #[test]
    fn reads_what_pg_dump_says_of_itself() {
        let debian = parse_version("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n");
        assert_eq!(debian, Some((15, "15.18".to_owned())));
        assert_eq!(parse_version("pg_dump (PostgreSQL) 19beta1\n"), Some((19, "19beta1".to_owned())));
        assert_eq!(parse_version("pg_dump: command not found"), None);
    }

    #[test]
    fn takes_the_nearest_major_that_is_new_enough_and_of_equal_ones_the_first() {
        let tools = [tool(18, "/a"), tool(16, "/b"), tool(16, "/c"), tool(14, "/d")];
        assert_eq!(choose(&tools, 15).unwrap().directory, Path::new("/b"));
        assert_eq!(choose(&tools, 17).unwrap().directory, Path::new("/a"));
        assert_eq!(choose(&tools, 14).unwrap().directory, Path::new("/d"));
    }

    #[test]
    fn says_what_is_lacking_and_what_to_install() {
        let missing = choose(&[tool(15, "/a")], 17).unwrap_err();
        assert_eq!(missing.to_string(), "needs pg_dump 17 or newer, and Countersign has only 15.4");
        assert!(missing.instead().contains("postgresql-client-17"));
        assert!(choose(&[], 17).unwrap_err().to_string().ends_with("Countersign has none"));
    }
}
