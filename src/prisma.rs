//! A directory of Prisma migrations, to compare a database's migration history with. Reads files and queries no server.

use crate::model::sha256_hex;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A migration in the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// The directory's name: "20250115093000_init".
    pub name: String,
    /// Checksums that Prisma accepts for the script: SHA-256 in hex of the script as it is and with either line ending; also
    /// without each byte's leading zero, as Prisma's old versions wrote it.
    /// Source: `script_matches_checksum` in prisma-engines, schema-engine/connectors/schema-connector/src/checksum.rs.
    pub checksums: Vec<String>,
    /// SHA-256 of the script's bytes, in hex.
    #[serde(skip)]
    pub sha256: String,
}

/// SHA-256 over names and scripts, in hex. It changes with the directory's content.
pub fn digest(migrations: &[Migration]) -> String {
    let mut parts: Vec<&[u8]> = Vec::new();
    for migration in migrations {
        parts.extend([migration.name.as_bytes(), b"\0", migration.sha256.as_bytes()]);
    }
    sha256_hex(&parts)
}

/// Reads the migrations of a directory, in the order in which Prisma applies them. Entries that are no directories are skipped,
/// like `migration_lock.toml`.
///
/// # Errors
/// A directory or a script that can't be read, worded to complete the sentence "the migrations directory …".
pub async fn read(directory: PathBuf) -> Result<Vec<Migration>, String> {
    let task = tokio::task::spawn_blocking(move || migrations(&directory));
    task.await.unwrap_or_else(|_| Err("can't be read".to_owned()))
}

fn migrations(directory: &Path) -> Result<Vec<Migration>, String> {
    let unreadable = |error: std::io::Error| format!("can't be read ({})", error.kind());
    let mut migrations = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let script = std::fs::read(path.join("migration.sql"))
            .map_err(|error| format!("has {name} without a migration.sql to read ({})", error.kind()))?;
        let sha256 = sha256_hex(&[&script]);
        migrations.push(Migration { name, checksums: checksums(&script), sha256 });
    }
    migrations.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(migrations)
}

fn checksums(script: &[u8]) -> Vec<String> {
    let unix = String::from_utf8_lossy(script).replace("\r\n", "\n");
    let windows = unix.replace('\n', "\r\n");
    let hashes = [script, unix.as_bytes(), windows.as_bytes()].map(Sha256::digest);
    let padded = hashes.iter().map(hex::encode);
    let unpadded = hashes.iter().map(|hash| hash.iter().map(|byte| format!("{byte:x}")).collect());
    let mut sums: Vec<String> = padded.chain(unpadded).collect();
    sums.sort();
    sums.dedup();
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_the_checksums_that_prisma_would_take() {
        // printf 'SELECT 1;\nSELECT 2;\n' | sha256sum, and again after `unix2dos`.
        let unix = "82efb67f3010c6eb7ead02e4f6d9550633dbc1407f99aa487468e7b2567aebbc";
        let windows = "b5c23e54161ef79971fbb59224f4ebdb906e2a200ef2d888aadc2a5d22ece3a2";
        let old = "82efb67f3010c6eb7ead2e4f6d955633dbc1407f99aa487468e7b2567aebbc";
        for script in ["SELECT 1;\nSELECT 2;\n", "SELECT 1;\r\nSELECT 2;\r\n"] {
            let sums = checksums(script.as_bytes());
            for sum in [unix, windows, old] {
                assert!(sums.iter().any(|known| known == sum), "{sum} is not in {sums:?}");
            }
        }
        assert!(!checksums(b"SELECT 1;\nSELECT 2; \n").iter().any(|known| known == unix));
    }
}
