//! The processes of a throwaway server: its account, its directory, and the watcher that ends it with us.
//!
//! The watcher is a shell that holds the reading end of a pipe from this process. However this process ends, SIGKILL
//! included, the pipe closes, and the watcher stops the server and removes its directory. (Linux' parent-death signal
//! would not do: it fires when the *thread* that started the child ends, as a test's thread does.)

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context;
use nix::unistd::User;
use rustix::process::{Pid, Signal, kill_process};

const WATCHER: &str = include_str!("watcher.sh");

/// The operating system's account that a server runs as: its user and group id, if not ours.
#[derive(Debug, Clone, Copy)]
pub struct OsAccount(Option<(u32, u32)>);

impl OsAccount {
    /// Ours, or `postgres` or else `nobody` where we are root: PostgreSQL refuses to run as root.
    pub fn unprivileged() -> anyhow::Result<OsAccount> {
        if !rustix::process::geteuid().is_root() {
            return Ok(OsAccount(None));
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).context("looking for an account to run as")? {
                return Ok(OsAccount(Some((user.uid.as_raw(), user.gid.as_raw()))));
            }
        }
        anyhow::bail!(
            "PostgreSQL refuses to run as root, and there is no account postgres or nobody to run it as"
        )
    }

    /// A command that runs as this account.
    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives a file to this account.
    pub fn own(self, path: &Path) -> anyhow::Result<()> {
        let Some((uid, gid)) = self.0 else { return Ok(()) };
        chown(path, Some(uid), Some(gid))
            .with_context(|| format!("giving {} to the server's account", path.display()))
    }
}

/// A directory of ours alone among the temporary files, removed on drop.
pub struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    /// Makes one whose name begins with the prefix.
    pub fn new(prefix: &str) -> anyhow::Result<TemporaryDirectory> {
        let token = crate::model::random_token().context("asking the system for randomness")?;
        // Short: the path of a socket in it has a limit of about 100 bytes.
        let path = std::env::temp_dir().join(format!("{prefix}-{}", &token[..8]));
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700).create(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(TemporaryDirectory(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // A server's watcher has usually removed it already.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A shell that runs a script of ours under a name, and whose input is a pipe from this process.
fn shell(account: OsAccount, script: &str, name: &str) -> Command {
    let mut command = account.command(Path::new("/bin/sh"));
    // Control-C in a terminal reaches a whole process group; what runs here is ours to stop.
    command.args(["-c", script, name]).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A postmaster and its watcher.
pub struct Postmaster {
    watcher: Child,
    /// Closing it tells the watcher to stop the server and to remove its directory.
    pipe: Option<ChildStdin>,
    pid: i32,
}

impl Postmaster {
    pub fn spawn(bin_dir: &Path, dir: &Path, account: OsAccount, port: u16) -> anyhow::Result<Postmaster> {
        let mut watcher = shell(account, WATCHER, "countersign-watcher")
            .arg(bin_dir.join("postgres"))
            .arg(dir)
            .arg(port.to_string())
            .current_dir(dir)
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the server's watcher")?;
        let pipe = watcher.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = watcher.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let pid = line.trim().parse().context("reading the server's pid")?;
        Ok(Postmaster { watcher, pipe, pid })
    }

    pub fn has_exited(&mut self) -> anyhow::Result<bool> {
        Ok(self.watcher.try_wait().context("waiting for the server")?.is_some())
    }

    /// Stops the server at once, as a crash would, and keeps its data.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.stop_by(Signal::QUIT)
    }

    /// Ends all sessions, writes a checkpoint, stops the server and keeps its data.
    pub fn shut_down(&mut self) -> anyhow::Result<()> {
        self.stop_by(Signal::INT)
    }

    fn stop_by(&mut self, order: Signal) -> anyhow::Result<()> {
        if !self.has_exited()? {
            signal(&[self.pid], Signal::CONT);
            signal(&[self.pid], order);
            self.watcher.wait().context("waiting for the server to stop")?;
        }
        Ok(())
    }

    /// Stops every process of the server where it stands, for as long as the guard lives.
    pub fn pause(&self) -> anyhow::Result<PausedProcess<'_>> {
        let paused = PausedProcess(self);
        // The postmaster first: then it makes no more children.
        signal(&[self.pid], Signal::STOP);
        signal(&self.backends()?, Signal::STOP);
        Ok(paused)
    }

    /// The direct children of the postmaster.
    fn backends(&self) -> anyhow::Result<Vec<i32>> {
        let output =
            Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().context("listing processes")?;
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        let pairs = listing.lines().filter_map(|line| line.trim().split_once(' '));
        let children = pairs.filter(|(_, parent)| parent.trim().parse() == Ok(self.pid));
        Ok(children.filter_map(|(child, _)| child.parse().ok()).collect())
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.watcher.wait();
    }
}

/// A shell that removes a directory when this is dropped or this process ends, however it ends.
pub struct DirectoryRemover {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl DirectoryRemover {
    pub fn spawn(dir: &Path, account: OsAccount) -> anyhow::Result<DirectoryRemover> {
        let mut shell = shell(account, "read -r _; rm -rf \"$1\"", "countersign-remover")
            .arg(dir)
            .current_dir("/")
            .spawn()
            .context("starting the directory's remover")?;
        let pipe = shell.stdin.take();
        Ok(DirectoryRemover { shell, pipe })
    }
}

impl Drop for DirectoryRemover {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}

/// A server that answers nothing until this is dropped.
pub struct PausedProcess<'a>(&'a Postmaster);

impl Drop for PausedProcess<'_> {
    fn drop(&mut self) {
        signal(&self.0.backends().unwrap_or_default(), Signal::CONT);
        signal(&[self.0.pid], Signal::CONT);
    }
}

fn signal(pids: &[i32], signal: Signal) {
    for pid in pids.iter().copied().filter_map(Pid::from_raw) {
        // A process that is gone is no error.
        let _ = kill_process(pid, signal);
    }
}
