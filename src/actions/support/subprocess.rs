//! External programs as child processes: an argv and never a shell, an environment with explicit variables only, and a process
//! group of their own, so that their children end with them. The caller interprets their output.

use rustix::process::{Pid, Signal, kill_process_group};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// Usual time for a program to end after SIGTERM.
pub const GRACE: Duration = Duration::from_secs(5);

/// Time to wait for the rest of an ended program's output. It takes that long only if a child left the process group and keeps
/// the pipe open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(2);

const CHUNK_BYTES: usize = 16 * 1024;

/// A command with an empty environment, except for error messages in English. Without a home directory there is no ~/.pgpass and
/// no ~/.postgresql: only the configuration counts.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("HOME", "/nonexistent").current_dir("/").stdin(Stdio::null());
    command
}

/// Receiver of a child's output. It gets all bytes, so that the child never blocks, and keeps what it needs.
pub trait OutputSink: Send + 'static {
    fn receive(&mut self, bytes: &[u8]);
}

/// The captured streams of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapturedStreams {
    /// Standard error alone; standard output goes where the command says.
    Errors,
    /// Both, in the order of the writes.
    Both,
}

/// A running child. Dropping it kills it and its process group.
pub struct Subprocess<O> {
    process: Child,
    group: Option<Pid>,
    reader_task: JoinHandle<O>,
}

impl<O: OutputSink> Subprocess<O> {
    /// Takes the command, and with it the parent's copies of the child's pipe ends.
    pub fn start(mut command: Command, outputs: CapturedStreams, mut sink: O) -> std::io::Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        if outputs == CapturedStreams::Both {
            command.stdout(writer.try_clone()?);
        }
        command.stderr(writer).process_group(0).kill_on_drop(true);
        let process = command.spawn()?;
        // The command holds the parent's copy of the writing end: without it the pipe ends with the child.
        drop(command);
        let mut reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into())?;
        let group = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let reader_task = tokio::spawn(async move {
            let mut buffer = vec![0_u8; CHUNK_BYTES];
            while let Ok(read @ 1..) = reader.read(&mut buffer).await {
                sink.receive(&buffer[..read]);
            }
            sink
        });
        Ok(Subprocess { process, group, reader_task })
    }

    /// Waits for its end. May be dropped and called again.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Sends SIGTERM to its process group, and SIGKILL after the grace period.
    pub async fn terminate(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.process.wait()).await.is_err() {
            self.signal(Signal::KILL);
            let _ = self.process.wait().await;
        }
    }

    /// Kills the rest of its process group and returns the sink; `None` if the output doesn't end in time.
    pub async fn output(mut self) -> Option<O> {
        self.signal(Signal::KILL);
        let output = tokio::time::timeout(OUTPUT_TIMEOUT, &mut self.reader_task).await;
        output.ok().and_then(Result::ok)
    }

    fn signal(&self, signal: Signal) {
        // An error means that no process is left.
        let _ = self.group.map(|group| kill_process_group(group, signal));
    }
}

impl<O> Drop for Subprocess<O> {
    fn drop(&mut self) {
        let _ = self.group.map(|group| kill_process_group(group, Signal::KILL));
        self.reader_task.abort();
    }
}

/// The exit status for people, after the program's name: "ended with code 3".
pub fn describe_exit_status(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct All(Vec<u8>);

    impl OutputSink for All {
        fn receive(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }

    fn shell(script: &str) -> Command {
        let mut shell = command(Path::new("/bin/sh"));
        shell.args(["-c", script]);
        shell
    }

    #[tokio::test]
    async fn both_outputs_are_heard_in_their_order_and_nothing_is_inherited() {
        let script = "echo one; echo two >&2; echo $LC_ALL $HOME; exit 3";
        let mut process = Subprocess::start(shell(script), CapturedStreams::Both, All::default()).unwrap();
        assert_eq!(describe_exit_status(process.wait().await.unwrap()), "ended with code 3");
        let output = process.output().await.unwrap();
        assert_eq!(String::from_utf8(output.0).unwrap(), "one\ntwo\nC /nonexistent\n");
    }

    #[tokio::test]
    async fn what_it_started_ends_with_it_even_if_it_does_not_want_to() {
        // The shell and its child both ignore the request; the child would hold the pipe for an hour.
        let directory = tempfile::tempdir().unwrap();
        let is_ready = directory.path().join("ready");
        let script = format!("trap '' TERM; sleep 3600 & echo $!; : > '{}'; wait", is_ready.display());
        let mut process = Subprocess::start(shell(&script), CapturedStreams::Both, All::default()).unwrap();
        while !is_ready.exists() {
            let early = tokio::time::timeout(Duration::from_millis(1), process.wait()).await;
            assert!(early.is_err(), "it waits for its child");
        }
        process.terminate(GRACE).await;
        let output = process.output().await.expect("the pipe is closed: no process holds it");
        let child: i32 = String::from_utf8(output.0).unwrap().trim().parse().unwrap();
        // It closes its files before it's dead.
        let status = format!("/proc/{child}/status");
        while std::fs::read_to_string(&status).is_ok_and(|status| !status.contains("State:\tZ")) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
