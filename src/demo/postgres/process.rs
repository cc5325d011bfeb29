//! The processes of a throwaway server: its account, its directory, and the watcher that ends it with us.
//!
//! The watcher is a shell that holds the reading end of a pipe from this process. However this process ends, SIGKILL
//! included, the pipe closes, and the watcher stops the server and removes its directory. (Linux' parent-death signal
//! would not do: it fires when the *thread* that started the child ends, as a test's thread does.)

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, bail};

/// $1 the `postgres` program, $2 the server's directory, $3 the port. Background jobs of a shell without job control
/// read from /dev/null, hence descriptor 3. The file `stop` tells an ending that the pipe asked for from one of the
/// server's own: only the former removes the directory.
const WATCHER: &str = r#"
exec 3<&0
"$1" -D "$2/data" -p "$3" >>"$2/server.log" 2>&1 3<&- &
server=$!
echo $server
exec >/dev/null
{ read -r _ <&3; : >"$2/stop"; kill -CONT $server; kill -QUIT $server; } 2>/dev/null &
reader=$!
exec 3<&-
wait $server
if [ -e "$2/stop" ]; then rm -rf "$2"; else kill $reader; fi
"#;

/// The operating system's account that a server runs as, if not ours.
#[derive(Debug, Clone, Copy)]
pub struct OsAccount {
    other: Option<(u32, u32)>,
}

impl OsAccount {
    /// A command that runs as this account.
    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.other {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives a file to this account.
    pub fn own(self, path: &Path) -> anyhow::Result<()> {
        match self.other {
            Some((uid, gid)) => std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .with_context(|| format!("giving {} to the server's account", path.display())),
            None => Ok(()),
        }
    }
}

/// Makes a server's directory, and says as whom the server must run: PostgreSQL refuses to run as root.
pub fn make_directory() -> anyhow::Result<(Directory, OsAccount)> {
    let path = std::env::temp_dir().join(format!("countersign-pg-{}", super::random_hex(4)?));
    std::fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
    let dir = Directory(path);
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700))?;
    let we_are_root = std::fs::metadata(dir.path())?.uid() == 0;
    let account = OsAccount { other: if we_are_root { Some(unprivileged_ids()?) } else { None } };
    account.own(dir.path())?;
    Ok((dir, account))
}

/// User and group id of `postgres`, or else of `nobody`.
fn unprivileged_ids() -> anyhow::Result<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").context("looking for an account to run as")?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| ids_of(&passwd, name))
        .context("PostgreSQL refuses to run as root, and there is no account postgres or nobody to run it as")
}

fn ids_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields[..] {
            [user, _, uid, gid, ..] if user == name => Some((uid.parse().ok()?, gid.parse().ok()?)),
            _ => None,
        }
    })
}

/// A directory that is removed on drop.
pub struct Directory(PathBuf);

impl Directory {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The watcher has usually removed it already.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A postmaster and its watcher.
pub struct Postmaster {
    watcher: Child,
    /// Closing it tells the watcher to stop the server and to remove its directory.
    pipe: Option<ChildStdin>,
    postmaster_pid: i32,
}

impl Postmaster {
    pub fn spawn(bin_dir: &Path, dir: &Path, account: OsAccount, port: u16) -> anyhow::Result<Postmaster> {
        let mut watcher = account
            .command(Path::new("/bin/sh"))
            .args(["-c", WATCHER, "countersign-watcher"])
            .arg(bin_dir.join("postgres"))
            .arg(dir)
            .arg(port.to_string())
            .current_dir(dir)
            // Control-C in a terminal reaches a whole process group; the server is ours to stop.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the server's watcher")?;
        let pipe = watcher.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = watcher.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let postmaster_pid = line.trim().parse().context("reading the server's pid")?;
        Ok(Postmaster { watcher, pipe, postmaster_pid })
    }

    pub fn postmaster_pid(&self) -> i32 {
        self.postmaster_pid
    }

    pub fn has_exited(&mut self) -> anyhow::Result<bool> {
        Ok(self.watcher.try_wait().context("waiting for the server")?.is_some())
    }

    /// Stops the server at once and keeps its data.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if !self.has_exited()? {
            signal(&[self.postmaster_pid], "CONT")?;
            signal(&[self.postmaster_pid], "QUIT")?;
            self.watcher.wait().context("waiting for the server to stop")?;
        }
        Ok(())
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.watcher.wait();
    }
}

/// Sends a signal, by name without "SIG". A process that is gone is no error.
pub fn signal(pids: &[i32], name: &str) -> anyhow::Result<()> {
    let status = Command::new("/bin/sh")
        .args(["-c", r#"signal=$1; shift; for pid; do kill -s "$signal" "$pid"; done; true"#, "signal", name])
        .args(pids.iter().map(i32::to_string))
        .stderr(Stdio::null())
        .status()
        .context("sending a signal")?;
    if !status.success() {
        bail!("sending SIG{name}: {status}");
    }
    Ok(())
}

/// The direct children of a process; PostgreSQL's backends are children of the postmaster.
pub fn children(pid: i32) -> anyhow::Result<Vec<i32>> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().context("listing processes")?;
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(listing
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter(|(_, parent)| parent.trim().parse() == Ok(pid))
        .filter_map(|(child, _)| child.parse().ok())
        .collect())
}
