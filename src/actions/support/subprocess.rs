//! Other people's programs as child processes: an argv and never a shell, an environment that holds nothing but what is put
//! into it, and a process group of their own, so that what they start ends with them. What they are told and what their words
//! mean is the business of whoever starts them.

use rustix::process::{Pid, Signal, kill_process_group};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// How long a program may usually take to end once it was asked to.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long is waited for the last words of a program that is gone: longer only if something that it started left its
/// process group and keeps the pipe.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;

/// A command with an empty environment, except that it complains in English. Without a home there is no ~/.pgpass, no
/// ~/.postgresql: only what is configured counts.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("HOME", "/nonexistent").current_dir("/").stdin(Stdio::null());
    command
}

/// What hears a child. It is given everything, so that the child never waits for us, and keeps what it wants.
pub trait OutputSink: Send + 'static {
    fn hear(&mut self, bytes: &[u8]);
}

/// Which of a child's outputs are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapturedStreams {
    /// The complaints alone; the other output goes where the command says.
    Errors,
    /// Both, in the order in which they are written.
    Both,
}

/// A child under way. Dropping it kills it, and all that it started.
pub struct Subprocess<E> {
    process: Child,
    group: Option<Pid>,
    hearing: JoinHandle<E>,
}

impl<E: OutputSink> Subprocess<E> {
    /// Takes the command, and with it our copies of the pipe ends that are the child's.
    ///
    /// # Errors
    /// It can't be started, or there is no pipe left.
    pub fn start(
        mut command: Command,
        outputs: CapturedStreams,
        mut ear: E,
    ) -> std::io::Result<Subprocess<E>> {
        let (reader, writer) = std::io::pipe()?;
        if outputs == CapturedStreams::Both {
            command.stdout(writer.try_clone()?);
        }
        command.stderr(writer).process_group(0).kill_on_drop(true);
        let process = command.spawn()?;
        // The command holds our copy of the writing end: without it the pipe ends with the child.
        drop(command);
        let mut reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into())?;
        let group = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let hearing = tokio::spawn(async move {
            let mut buffer = vec![0_u8; CHUNK];
            while let Ok(read @ 1..) = reader.read(&mut buffer).await {
                ear.hear(&buffer[..read]);
            }
            ear
        });
        Ok(Subprocess { process, group, hearing })
    }

    /// Waits for its end. May be dropped and asked again.
    ///
    /// # Errors
    /// The system doesn't tell.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Asks it and all that it started to end, and ends them if they don't.
    pub async fn terminate(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.process.wait()).await.is_err() {
            self.signal(Signal::KILL);
            let _ = self.process.wait().await;
        }
    }

    /// What was heard until the end; `None` if that can't be told. Whatever is left of its group ends too.
    pub async fn heard(mut self) -> Option<E> {
        self.signal(Signal::KILL);
        let heard = tokio::time::timeout(LAST_WORDS, &mut self.hearing).await;
        heard.ok().and_then(Result::ok)
    }

    fn signal(&self, signal: Signal) {
        // None is left: there is nobody to signal.
        let _ = self.group.map(|group| kill_process_group(group, signal));
    }
}

impl<E> Drop for Subprocess<E> {
    fn drop(&mut self) {
        let _ = self.group.map(|group| kill_process_group(group, Signal::KILL));
        self.hearing.abort();
    }
}

/// How it ended, for people, behind its name: "ended with code 3".
pub fn ending(status: ExitStatus) -> String {
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
        fn hear(&mut self, bytes: &[u8]) {
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
        let mut running = Subprocess::start(shell(script), CapturedStreams::Both, All::default()).unwrap();
        assert_eq!(ending(running.ended().await.unwrap()), "ended with code 3");
        let heard = running.heard().await.unwrap();
        assert_eq!(String::from_utf8(heard.0).unwrap(), "one\ntwo\nC /nonexistent\n");
    }

    #[tokio::test]
    async fn what_it_started_ends_with_it_even_if_it_does_not_want_to() {
        // The shell and its child both ignore the request; the child would hold the pipe for an hour.
        let script = "trap '' TERM; sleep 3600 & echo $!; wait";
        let mut running = Subprocess::start(shell(script), CapturedStreams::Both, All::default()).unwrap();
        let early = tokio::time::timeout(Duration::from_millis(1), running.ended()).await;
        assert!(early.is_err(), "it waits for its child");
        running.terminate(GRACE).await;
        let heard = running.heard().await.expect("the pipe is closed: nobody holds it");
        let child: i32 = String::from_utf8(heard.0).unwrap().trim().parse().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        assert!(status.is_empty() || status.contains("State:\tZ"), "{status}");
    }
}
