//! Finds the PostgreSQL installations of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// The directory with `initdb` and `postgres`, of any or of the given major version: the first of the candidates, or else the
/// newest where Debian, the PostgreSQL project's own packages, Homebrew and a build from source put them.
pub fn find_bin_dir(major: Option<u32>, candidates: &[PathBuf]) -> anyhow::Result<PathBuf> {
    let fitting =
        |dir: &&PathBuf| major_of(dir).is_some_and(|installed| major.is_none_or(|major| major == installed));
    if let Some(dir) = candidates.iter().find(fitting) {
        return Ok(dir.clone());
    }
    let newest = usual_places().into_iter().filter(|dir| fitting(&dir)).max_by_key(|dir| major_of(dir));
    let (version, package) =
        major.map_or_else(Default::default, |major| (format!(" {major}"), format!("-{major}")));
    newest.with_context(|| {
        format!("no PostgreSQL{version} server is installed (initdb and postgres); on Debian: apt-get install postgresql{package}")
    })
}

fn usual_places() -> Vec<PathBuf> {
    let parents = [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgres"),
        ("/usr/local/opt", "postgres"),
    ];
    let mut places = vec![PathBuf::from("/usr/local/pgsql/bin")];
    for (parent, prefix) in parents {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        let named = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        places.extend(named.map(|entry| entry.path().join("bin")));
    }
    places
}

/// The major version of the server in a directory, as it reports it itself.
fn major_of(bin_dir: &Path) -> Option<u32> {
    if !bin_dir.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(bin_dir.join("postgres")).arg("--version").output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

/// From `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, or `18beta1`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Looks for a loadable library of the installation; Debian and the embedded builds differ in the directory.
pub fn has_library(bin_dir: &Path, name: &str) -> bool {
    ["../lib", "../lib/postgresql"].iter().any(|lib| {
        ["so", "dylib"].iter().any(|suffix| bin_dir.join(lib).join(format!("{name}.{suffix}")).is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_major_version() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("something else 15"), None);
    }

    #[test]
    fn says_what_to_install() {
        let error = find_bin_dir(Some(7), &[]).unwrap_err().to_string();
        assert!(error.contains("apt-get install postgresql-7"), "{error}");
    }

    #[test]
    fn prefers_a_given_directory_that_fits() {
        let newest = find_bin_dir(None, &[]).unwrap();
        let empty = PathBuf::from("/nonexistent");
        assert_eq!(find_bin_dir(None, &[empty, newest.clone()]).unwrap(), newest);
    }
}
