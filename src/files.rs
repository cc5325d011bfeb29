//! Files and directories that only the account of the process may read: their modes, and checks of them that change nothing.

use anyhow::{Context, bail};
use rustix::fs::{Access, Mode, access, statvfs};
use std::borrow::Cow;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Mode of a file that only its owner may read and write.
pub const PRIVATE_FILE: u32 = 0o600;

/// Mode of a directory that only its owner may list and enter.
const PRIVATE_DIRECTORY: u32 = 0o700;

/// Bits of a mode for everyone but the owner.
const OTHERS: u32 = 0o077;

/// Bits of a mode that let everyone but the owner write.
const OTHERS_WRITE: u32 = 0o022;

/// Keeps other accounts out of every file that the process and the programs that it starts make from here on.
pub fn restrict_umask() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Makes a directory, and its parents, where they are missing; they survive a power failure. A directory that is there keeps its
/// mode.
pub fn create_directory(path: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let new: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(path)?;
    for parent in new.iter().filter_map(|path| path.parent()) {
        File::open(or_here(parent))?.sync_all()?;
    }
    Ok(())
}

/// The directory of a plain file name is the process' own.
fn or_here(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

/// Mode of a file for people: the owner's to edit, the group's to read. A directory's group can be Countersign's.
const SHARED_FILE: u32 = 0o640;

/// Writes a file that isn't there yet, for its owner to edit and its group to read.
///
/// # Errors
/// A file that is there already is one: it is never overwritten.
pub fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(SHARED_FILE))
}

/// Keeps other accounts out of a file.
pub fn restrict(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(PRIVATE_FILE))
}

/// Access of other accounts to a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Only its owner has any.
    None,
    Readable {
        mode: u32,
    },
    Writable {
        mode: u32,
    },
}

/// The access of other accounts. A file that isn't there has none.
pub fn exposure(path: &Path) -> io::Result<Exposure> {
    let mode = match std::fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Exposure::None),
        Err(error) => return Err(error),
    };
    Ok(if mode & OTHERS_WRITE != 0 {
        Exposure::Writable { mode }
    } else if mode & OTHERS != 0 {
        Exposure::Readable { mode }
    } else {
        Exposure::None
    })
}

/// Checks that this account can make files in the directory, by its permissions and the free space: nothing is written.
///
/// # Errors
/// The obstacle.
pub fn check_directory(directory: &Path) -> anyhow::Result<()> {
    let directory = or_here(directory);
    let shown = directory.display();
    let metadata = std::fs::metadata(directory).with_context(|| shown.to_string())?;
    if !metadata.is_dir() {
        bail!("{shown} is no directory");
    }
    access(directory, Access::WRITE_OK | Access::EXEC_OK).with_context(|| shown.to_string())?;
    let disk = statvfs(directory).with_context(|| shown.to_string())?;
    // File systems that don't count blocks or files report none in total.
    if disk.f_blocks > 0 && disk.f_bavail == 0 || disk.f_files > 0 && disk.f_favail == 0 {
        bail!("the disk of {shown} is full");
    }
    Ok(())
}

/// Checks that this account can change the file, by its permissions: nothing is opened.
///
/// # Errors
/// The obstacle.
pub fn check_file(path: &Path) -> io::Result<()> {
    Ok(access(path, Access::READ_OK | Access::WRITE_OK)?)
}

/// Checks that this account can enter the directory, or run the program, by its permissions.
///
/// # Errors
/// The obstacle.
pub fn check_executable(path: &Path) -> io::Result<()> {
    Ok(access(path, Access::EXEC_OK)?)
}

/// Checks that a directory can be written, or made where it is missing: true if it is there.
///
/// # Errors
/// As [`check_directory`], of the directory or of the nearest one above it that exists.
pub fn check_directory_or_parent(directory: &Path) -> anyhow::Result<bool> {
    let missing = |path: &Path| {
        std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let exists = !missing(directory);
    let nearest = directory.ancestors().find(|path| !path.as_os_str().is_empty() && !missing(path));
    check_directory(nearest.unwrap_or(Path::new("")))?;
    Ok(exists)
}

/// A path as a shell reads it.
pub fn shell_word(path: &Path) -> Cow<'_, str> {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(is_plain) && !text.starts_with('-') {
        return text;
    }
    let text = if text.starts_with('-') { format!("./{text}") } else { text.into_owned() };
    format!("'{}'", text.replace('\'', "'\\''")).into()
}
