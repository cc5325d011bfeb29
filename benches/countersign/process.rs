//! The programs that are measured, as processes of their own: what they cost is read from `/proc`.

use anyhow::{Context, bail};
use countersign::demo::free_port;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Linux tells CPU time in hundredths of a second, whatever the kernel's own tick is (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// A started program has this long to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which processors a program may use.
#[derive(Clone, Copy)]
pub enum Processors {
    /// All of them.
    All,
    /// The first, which nothing else of the measurement uses.
    First,
}

/// A running server; it is killed when this is dropped.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
}

impl Process {
    /// Starts a program; its log goes to the file.
    pub fn start(
        command: &Command,
        address: SocketAddr,
        processors: Processors,
        log: &Path,
    ) -> anyhow::Result<Process> {
        let mut command = match processors {
            Processors::First if can_pin() => pinned(command),
            _ => copy(command, Command::new(command.get_program())),
        };
        let log = std::fs::File::create(log).context("making the log")?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Ok(Process { child: child.with_context(|| format!("starting {command:?}"))?, address })
    }

    /// Waits until it answers 200 to that request.
    pub fn first_answer(&mut self, request: &[u8]) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Ok(mut wire) = crate::load::Wire::connect(self.address) {
                return match wire.ask(request)?.status {
                    200 => Ok(()),
                    status => bail!("the first answer was {status}"),
                };
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended: {status}");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        bail!("no answer within {PATIENCE:?}")
    }

    /// CPU time so far, in seconds, without its children's.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        cpu_time(&self.read("stat")?, 14)
    }

    /// Resident memory now, in MiB.
    pub fn resident(&self) -> anyhow::Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most that was ever resident, in MiB.
    pub fn most_resident(&self) -> anyhow::Result<f64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> anyhow::Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("/proc/status")?;
        let kib = line.split_whitespace().next().context("/proc/status")?.parse::<f64>()?;
        Ok(kib / 1024.0)
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It keeps nothing that matters, and there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of the programs that this one started and that have ended, in seconds.
pub fn cpu_of_ended() -> anyhow::Result<f64> {
    cpu_time(&std::fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?, 16)
}

/// User and system time, which stand side by side: from the 14th field its own, from the 16th its ended children's.
fn cpu_time(stat: &str, field: usize) -> anyhow::Result<f64> {
    // The second field is a name in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at - 3).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = ticks(field).zip(ticks(field + 1)).context("reading /proc/…/stat")?;
    Ok((user + system) / TICKS_PER_SECOND)
}

fn copy(from: &Command, mut to: Command) -> Command {
    to.args(from.get_args());
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
    to
}

fn pinned(command: &Command) -> Command {
    let mut taskset = Command::new("taskset");
    taskset.args(["--cpu-list", "0"]).arg(command.get_program());
    copy(command, taskset)
}

/// Whether the servers and the load can have a processor each.
pub fn can_pin() -> bool {
    let processors = processors();
    let taskset =
        Command::new("taskset").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    processors > 1 && taskset.is_ok_and(|status| status.success())
}

/// How many processors the machine has.
pub fn processors() -> usize {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count()
}

/// Keeps this process, and what it starts from now on, off the servers' processor; or lets it use all again.
pub fn step_aside(aside: bool) -> anyhow::Result<()> {
    if !can_pin() {
        return Ok(());
    }
    let list = format!("{}-{}", u8::from(aside), processors() - 1);
    let own = std::process::id().to_string();
    let mut taskset = Command::new("taskset");
    taskset.args(["--all-tasks", "--cpu-list", "--pid", &list, &own]).stdout(Stdio::null());
    match taskset.status().context("starting taskset")?.success() {
        true => Ok(()),
        false => bail!("taskset refused the processors {list}"),
    }
}

/// An address on which nobody listens.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, free_port().context("finding a free port")?).into())
}
