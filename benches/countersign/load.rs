//! The load: one thread that asks its connections in turn and never sleeps, so that it is quicker than any server it measures
//! and adds no wake-up to a latency. Requests are bytes that were made before.

use anyhow::{Context, bail, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longer than any acknowledgement may take: Slack gives up after three seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that send the same kind of request.
pub struct Lane<'a> {
    pub connections: usize,
    /// Sent in turn, from the first again after the last.
    pub requests: &'a [Vec<u8>],
    /// One each so often, late ones included; `None` is as many as the server takes.
    pub every: Option<Duration>,
}

/// What became of a lane's requests.
#[derive(Default)]
pub struct Tally {
    /// From the moment that a request was due to its acknowledgement; of those that were taken on.
    pub latencies: Vec<Duration>,
    /// Acknowledged, and told to try again.
    pub shed: usize,
    pub elapsed: Duration,
}

impl Tally {
    /// Of those that were taken on.
    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// In milliseconds; NaN without a request.
    pub fn percentile(&self, percent: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
        sorted.get(at.saturating_sub(1)).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// One keep-alive connection with one request at a time.
pub struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    due: Option<Instant>,
}

/// An HTTP answer, as far as it matters.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> std::io::Result<Wire> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Wire { stream, received: Vec::with_capacity(1024), due: None })
    }

    /// Sends one request and waits for its answer.
    pub fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.send(request, Instant::now())?;
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.poll()? {
                self.due = None;
                return Ok(answer);
            }
            ensure!(Instant::now() < until, "no answer within {PATIENCE:?}");
            std::thread::yield_now();
        }
    }

    fn send(&mut self, request: &[u8], due: Instant) -> anyhow::Result<()> {
        self.received.clear();
        self.due = Some(due);
        // A request is smaller than the socket's buffer, which is empty.
        self.stream.write_all(request).context("sending a request")
    }

    /// The answer, once it is whole.
    fn poll(&mut self) -> anyhow::Result<Option<Answer>> {
        let mut chunk = [0; 2048];
        match self.stream.read(&mut chunk) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(read) => self.received.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("reading an answer"),
        }
        answer(&self.received)
    }
}

fn answer(received: &[u8]) -> anyhow::Result<Option<Answer>> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&received[..end]).context("an answer's head")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)).context("an answer's status")?.parse()?;
    let length = lines.find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0").parse()?;
    let body = &received[end + 4..];
    Ok((body.len() >= length).then(|| Answer { status, body: body.to_vec() }))
}

/// Sends for that long, and waits for every answer. Blocks its thread.
///
/// # Errors
/// An answer other than 200, a connection that broke, or no answer for ten seconds.
pub fn drive(address: SocketAddr, lanes: &[Lane<'_>], lasting: Duration) -> anyhow::Result<Vec<Tally>> {
    let mut driven: Vec<Driven<'_>> = Vec::new();
    for lane in lanes {
        let wires: std::io::Result<Vec<Wire>> =
            (0..lane.connections).map(|_| Wire::connect(address)).collect();
        let wires = wires.context("connecting")?;
        driven.push(Driven { lane, wires, next: 0, due: Instant::now(), tally: Tally::default() });
    }
    let begun = Instant::now();
    let end = begun + lasting;
    driven.iter_mut().for_each(|lane| lane.due = begun);
    loop {
        let now = Instant::now();
        let (mut moved, mut waiting) = (false, false);
        for lane in &mut driven {
            let (lane_moved, lane_waits) = lane.turn(now < end)?;
            moved |= lane_moved;
            waiting |= lane_waits;
        }
        if now >= end && !waiting {
            let elapsed = begun.elapsed();
            return Ok(driven.into_iter().map(|lane| Tally { elapsed, ..lane.tally }).collect());
        }
        ensure!(now < end + PATIENCE, "a request was not acknowledged within {PATIENCE:?}");
        if !moved {
            std::thread::yield_now();
        }
    }
}

struct Driven<'a> {
    lane: &'a Lane<'a>,
    wires: Vec<Wire>,
    next: usize,
    due: Instant,
    tally: Tally,
}

impl Driven<'_> {
    /// Asks each connection once; whether anything moved, and whether any still waits.
    fn turn(&mut self, sending: bool) -> anyhow::Result<(bool, bool)> {
        let (mut moved, mut waiting) = (false, false);
        for wire in &mut self.wires {
            if let Some(due) = wire.due
                && let Some(answer) = wire.poll()?
            {
                moved = true;
                wire.due = None;
                match (answer.status, answer.body.is_empty()) {
                    (200, true) => self.tally.latencies.push(due.elapsed()),
                    (200, false) => self.tally.shed += 1,
                    (status, _) => bail!("a request was answered with {status}"),
                }
            }
            if wire.due.is_none() && sending {
                let now = Instant::now();
                let due = match self.lane.every {
                    Some(_) if self.due > now => continue,
                    Some(every) => {
                        self.due += every;
                        self.due - every
                    }
                    None => now,
                };
                wire.send(&self.lane.requests[self.next % self.lane.requests.len()], due)?;
                self.next += 1;
                moved = true;
            }
            waiting |= wire.due.is_some();
        }
        Ok((moved, waiting))
    }
}
