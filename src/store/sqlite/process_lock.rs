//! The processes that are alive: each instance of the store holds an operating-system lock on a file of its own for as long as
//! it lives, so that the system releases it however the process ends. Nothing here knows runs.

use crate::files;
use anyhow::Context;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// This instance, and its lock until it is dropped.
#[derive(Debug)]
pub(super) struct Instance {
    pub id: String,
    directory: PathBuf,
    /// Held, never read.
    _lock: File,
}

impl Instance {
    /// Takes a fresh id and its lock, in `<database>.instances/`.
    pub fn start(database: &Path) -> anyhow::Result<Instance> {
        let directory = directory_of(database);
        files::create_directory(&directory).context("making the instances' directory")?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).context("making an instance's id")?;
        let id = hex::encode(random);
        // Locked under another name first: another process takes the owner of an unlocked `.lock` file for dead.
        let hidden = directory.join(format!("{id}.new"));
        let lock = OpenOptions::new().write(true).create_new(true).mode(files::PRIVATE_FILE).open(&hidden);
        let lock = lock.context("making this instance's lock")?;
        lock.lock().context("locking this instance's lock")?;
        std::fs::rename(&hidden, path_of(&directory, &id)).context("showing this instance's lock")?;
        Ok(Instance { id, directory, _lock: lock })
    }

    pub fn is_alive(&self, id: &str) -> io::Result<bool> {
        if id == self.id { Ok(true) } else { is_locked(&path_of(&self.directory, id)) }
    }

    /// Ids that have a lock file and no process.
    pub fn dead_ids(&self) -> io::Result<Vec<String>> {
        let mut dead = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".lock")) else { continue };
            if !self.is_alive(id)? {
                dead.push(id.to_owned());
            }
        }
        Ok(dead)
    }

    pub fn remove_lock(&self, id: &str) -> io::Result<()> {
        match std::fs::remove_file(path_of(&self.directory, id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn directory_of(database: &Path) -> PathBuf {
    database.with_added_extension("instances")
}

/// True if a process that is alive has the lock of that file.
fn is_locked(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        // Shared: two that look at once don't take each other for the owner.
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// True if any process uses the database as an instance.
pub(super) fn has_living_instance(database: &Path) -> io::Result<bool> {
    let entries = match std::fs::read_dir(directory_of(database)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        if is_locked(&entry?.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn path_of(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.lock"))
}
