//! Connections of the server: how many may be open, how long each may keep a place, and how much all may hold of bodies. Whoever
//! hasn't proved yet to be a platform has time limits, and leaves first when there is no room. A place is never refused: behind a
//! proxy everybody comes from one address, and a signed request is done within milliseconds.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// From the first byte of a request, or from connecting, to the end of its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From the end of the head to the end of the body: the platforms send at once.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two requests of a platform's, or a proxy's, connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two requests of anybody else's.
const UNVERIFIED_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The limits are checked this often.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// No connection has to leave for another before this: many signed requests may come at the same moment. Whoever comes meanwhile waits,
/// so it also bounds how many come in: thousands in a second.
const LEAST_STAY: Duration = Duration::from_millis(50);

const MAX_OPEN: usize = 512;
const MIN_OPEN: usize = 16;
/// One place in so many is for platforms alone.
const VERIFIED_SHARE: usize = 8;
/// Bodies that are read at the same time, in sum.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Bounds of what is open at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub open: usize,
    /// Connections without a verified request.
    pub unverified: usize,
    /// The same from one address. Those with a verified request aren't counted: they may be a proxy's.
    pub per_address: usize,
    pub body_bytes: usize,
}

impl ConnectionLimits {
    /// The fewest that a server has.
    pub fn fewest() -> ConnectionLimits {
        ConnectionLimits::within(Some(0), 0)
    }

    /// The limits of a process that may have so many file descriptors (`None`: any number), of which it needs `others` for the store,
    /// PostgreSQL, and calls.
    pub fn within(descriptors: Option<u64>, others: usize) -> ConnectionLimits {
        let descriptors = descriptors.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
        let open = descriptors.saturating_sub(others).clamp(MIN_OPEN, MAX_OPEN);
        let unverified = open - open / VERIFIED_SHARE;
        let per_address = unverified - unverified / VERIFIED_SHARE;
        ConnectionLimits { open, unverified, per_address, body_bytes: MAX_BODY_BYTES }
    }
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    Body,
    /// The request is handled: no limit of this module counts.
    Handling,
    Idle,
}

#[derive(Debug)]
struct Progress {
    phase: Phase,
    since: Instant,
    is_verified: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct OpenConnection {
    id: u64,
    address: IpAddr,
    opened_at: Instant,
    progress: Mutex<Progress>,
    /// Bytes of the body that is being read.
    held: AtomicUsize,
    /// Cancelled when it has to leave.
    pub leave: CancellationToken,
    registry: Arc<OpenConnections>,
}

/// Counts for tests and logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    pub open: usize,
    pub verified: usize,
    pub body_bytes: usize,
    /// Connections that were ended by a time limit, and those that made room, since the start.
    pub timed_out: u64,
    pub displaced: u64,
    /// The most that were open, and the most bytes held, since the start.
    pub most_open: usize,
    pub most_body_bytes: usize,
}

/// All connections of a server.
#[derive(Debug)]
pub struct OpenConnections {
    limits: ConnectionLimits,
    open: Mutex<HashMap<u64, Arc<OpenConnection>>>,
    next_id: AtomicU64,
    body_bytes: AtomicUsize,
    timed_out: AtomicU64,
    displaced: AtomicU64,
    most_open: AtomicUsize,
    most_body_bytes: AtomicUsize,
}

/// The order in which connections leave for others, the first first; `None` for those that stay.
type Rank = Option<(u8, Instant)>;

impl OpenConnections {
    pub fn new(limits: ConnectionLimits) -> Arc<OpenConnections> {
        Arc::new(OpenConnections {
            limits,
            open: Mutex::default(),
            next_id: AtomicU64::new(0),
            body_bytes: AtomicUsize::new(0),
            timed_out: AtomicU64::new(0),
            displaced: AtomicU64::new(0),
            most_open: AtomicUsize::new(0),
            most_body_bytes: AtomicUsize::new(0),
        })
    }

    pub fn limits(&self) -> ConnectionLimits {
        self.limits
    }

    pub fn counts(&self) -> ConnectionCounts {
        let open = self.open.lock();
        let verified = open.values().filter(|connection| connection.progress.lock().is_verified);
        ConnectionCounts {
            open: open.len(),
            verified: verified.count(),
            body_bytes: self.body_bytes.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
            displaced: self.displaced.load(Ordering::Relaxed),
            most_open: self.most_open.load(Ordering::Relaxed),
            most_body_bytes: self.most_body_bytes.load(Ordering::Relaxed),
        }
    }

    /// Registers a connection. Another makes room for it if there is none; the call waits only as long as all are too new for that.
    pub(super) async fn admit(self: &Arc<Self>, address: IpAddr) -> Arc<OpenConnection> {
        let address = network(address);
        loop {
            match self.make_room(address, Instant::now()) {
                Ok(()) => return self.register(address),
                Err(Some(until)) => tokio::time::sleep_until(until).await,
                // All requests are being handled: one is done soon.
                Err(None) => tokio::time::sleep(LEAST_STAY / 10).await,
            }
        }
    }

    fn register(self: &Arc<Self>, address: IpAddr) -> Arc<OpenConnection> {
        let now = Instant::now();
        let connection = Arc::new(OpenConnection {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            address,
            opened_at: now,
            progress: Mutex::new(Progress { phase: Phase::Head, since: now, is_verified: false }),
            held: AtomicUsize::new(0),
            leave: CancellationToken::new(),
            registry: Arc::clone(self),
        });
        let mut open = self.open.lock();
        open.insert(connection.id, Arc::clone(&connection));
        self.most_open.fetch_max(open.len(), Ordering::Relaxed);
        connection
    }

    /// Ends a connection if a limit is reached. The error is the time at which one may be ended, where that is known.
    fn make_room(&self, address: IpAddr, now: Instant) -> Result<(), Option<Instant>> {
        let mut open = self.open.lock();
        let unverified = open.values().filter(|connection| !connection.progress.lock().is_verified);
        let (mut all, mut same) = (0, 0);
        for connection in unverified {
            all += 1;
            same += usize::from(connection.address == address);
        }
        let Some(candidates) = self.crowded(open.len(), all, same) else { return Ok(()) };
        let is_candidate = |connection: &OpenConnection| match candidates {
            Candidates::OfAddress => !connection.progress.lock().is_verified && connection.address == address,
            Candidates::Unverified => !connection.progress.lock().is_verified,
            Candidates::All => true,
        };
        let ranked = open.values().filter(|connection| is_candidate(connection));
        let first = ranked.filter_map(|connection| Some((connection.rank()?, connection.id))).min();
        let ((_, since), id) = first.ok_or(None)?;
        if now < since + LEAST_STAY {
            return Err(Some(since + LEAST_STAY));
        }
        if let Some(connection) = open.remove(&id) {
            connection.end();
            self.displaced.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn crowded(&self, open: usize, unverified: usize, same_address: usize) -> Option<Candidates> {
        let limits = &self.limits;
        if same_address >= limits.per_address {
            Some(Candidates::OfAddress)
        } else if unverified >= limits.unverified {
            Some(Candidates::Unverified)
        } else {
            (open >= limits.open).then_some(Candidates::All)
        }
    }

    /// Ends the connections whose time is over.
    pub(super) fn end_overdue(&self, now: Instant) {
        let mut open = self.open.lock();
        let overdue = open.extract_if(|_, connection| connection.is_overdue(now));
        let ended = overdue.map(|(_, connection)| connection.end()).count();
        self.timed_out.fetch_add(ended as u64, Ordering::Relaxed);
    }

    /// Counts bytes of a body. Where all hold too many, the request that was begun first is ended.
    fn hold(&self, connection: &OpenConnection, bytes: usize) {
        connection.held.fetch_add(bytes, Ordering::Relaxed);
        let held = self.body_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held > self.limits.body_bytes {
            self.end_oldest_body();
        }
        self.most_body_bytes.fetch_max(self.body_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn end_oldest_body(&self) {
        let mut open = self.open.lock();
        let reads = |connection: &Arc<OpenConnection>| {
            let holds = connection.held.load(Ordering::Relaxed) > 0;
            let progress = connection.progress.lock();
            (holds && progress.phase == Phase::Body).then_some((progress.since, connection.id))
        };
        while self.body_bytes.load(Ordering::Relaxed) > self.limits.body_bytes {
            let Some((_, id)) = open.values().filter_map(reads).min() else { return };
            if let Some(connection) = open.remove(&id) {
                connection.end();
                self.displaced.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Those of which one has to leave.
#[derive(Debug, Clone, Copy)]
enum Candidates {
    OfAddress,
    Unverified,
    All,
}

/// An address, or the network that one customer has: nobody has a single address of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

impl OpenConnection {
    fn enter(&self, phase: Phase) {
        let mut progress = self.progress.lock();
        (progress.phase, progress.since) = (phase, Instant::now());
    }

    /// Bytes have come in.
    pub fn received(&self) {
        let mut progress = self.progress.lock();
        if progress.phase == Phase::Idle {
            (progress.phase, progress.since) = (Phase::Head, Instant::now());
        }
    }

    /// The head of a request is read.
    pub fn begin_body(&self) {
        self.enter(Phase::Body);
    }

    /// Bytes of the body are read, which stay in memory until it ends.
    pub fn hold(&self, bytes: usize) {
        self.registry.hold(self, bytes);
    }

    /// The body is read, or not read any further.
    pub fn end_body(&self) {
        self.release();
        self.enter(Phase::Handling);
    }

    /// The request is answered, and `is_verified` if a platform had signed it.
    pub fn end_request(&self, is_verified: bool) {
        let mut progress = self.progress.lock();
        (progress.phase, progress.since) = (Phase::Idle, Instant::now());
        progress.is_verified |= is_verified;
    }

    /// The connection is closed.
    pub fn close(&self) {
        self.registry.open.lock().remove(&self.id);
        self.release();
    }

    fn release(&self) {
        self.registry.body_bytes.fetch_sub(self.held.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    fn end(&self) {
        self.leave.cancel();
        self.release();
    }

    fn is_overdue(&self, now: Instant) -> bool {
        let progress = self.progress.lock();
        let limit = match progress.phase {
            Phase::Head => HEAD_TIMEOUT,
            Phase::Body => BODY_TIMEOUT,
            Phase::Idle if progress.is_verified => IDLE_TIMEOUT,
            Phase::Idle => UNVERIFIED_IDLE_TIMEOUT,
            Phase::Handling => return false,
        };
        now.saturating_duration_since(progress.since) >= limit
    }

    /// Those without a verified request leave first, the oldest first; then those that don't finish theirs; then idle ones.
    fn rank(&self) -> Rank {
        let progress = self.progress.lock();
        match (progress.phase, progress.is_verified) {
            (Phase::Handling, _) => None,
            (_, false) => Some((0, self.opened_at)),
            (Phase::Head | Phase::Body, true) => Some((1, progress.since)),
            (Phase::Idle, true) => Some((2, progress.since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LIMITS: ConnectionLimits =
        ConnectionLimits { open: 8, unverified: 6, per_address: 4, body_bytes: 100 };

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    /// Registers one connection of each address, in this order; their ids are 0, 1, 2, …
    fn open(registry: &Arc<OpenConnections>, addresses: &[u8]) -> Vec<Arc<OpenConnection>> {
        addresses.iter().map(|last| registry.register(address(*last))).collect()
    }

    fn verified(connections: &[Arc<OpenConnection>]) {
        connections.iter().for_each(|connection| connection.end_request(true));
    }

    fn gone(connections: &[Arc<OpenConnection>]) -> Vec<u64> {
        connections.iter().filter(|one| one.leave.is_cancelled()).map(|one| one.id).collect()
    }

    #[test]
    fn the_limit_leaves_descriptors_to_others() {
        for (descriptors, others, open) in [
            (None, 200, 512),
            (Some(1_048_576), 200, 512),
            (Some(1024), 200, 512),
            (Some(600), 200, 400),
            (Some(256), 200, 56),
            (Some(200), 200, 16),
            (Some(0), 200, 16),
            (Some(u64::MAX), 200, 512),
        ] {
            let limits = ConnectionLimits::within(descriptors, others);
            assert_eq!(limits.open, open, "{descriptors:?}");
            assert!(limits.per_address < limits.unverified && limits.unverified < limits.open, "{limits:?}");
        }
    }

    #[tokio::test]
    async fn the_oldest_without_a_verified_request_makes_room() {
        let later = Instant::now() + LEAST_STAY * 2;
        for (addresses, verify, comes, leaves) in [
            // An address has its share, whoever is older.
            (vec![1, 2, 2, 2, 2], 0..0, 2, vec![1]),
            (vec![1, 2, 2, 2, 2], 0..0, 3, vec![]),
            // All without a verified request have theirs.
            (vec![1, 2, 3, 4, 5, 6], 0..0, 7, vec![0]),
            // Behind a proxy those with one don't count.
            (vec![9; 7], 0..4, 9, vec![]),
            (vec![9; 8], 0..4, 9, vec![4]),
            // And only where all are verified, one of those that are idle.
            (vec![9; 8], 0..8, 1, vec![0]),
        ] {
            let registry = OpenConnections::new(LIMITS);
            let connections = open(&registry, &addresses);
            verified(&connections[verify]);
            assert_eq!(registry.make_room(address(comes), later), Ok(()));
            assert_eq!(gone(&connections), leaves, "{addresses:?}, then {comes}");
            assert_eq!(registry.counts().open, addresses.len() - leaves.len());
        }
    }

    #[tokio::test]
    async fn nobody_leaves_at_once_and_nobody_whose_request_is_handled() {
        let registry = OpenConnections::new(LIMITS);
        let connections = open(&registry, &[1; 4]);
        let first = connections[0].opened_at;
        assert_eq!(registry.make_room(address(1), first), Err(Some(first + LEAST_STAY)));
        connections.iter().for_each(|connection| connection.end_body());
        assert_eq!(registry.make_room(address(1), first + LEAST_STAY * 9), Err(None));
        assert!(gone(&connections).is_empty());
    }

    #[tokio::test]
    async fn each_phase_has_its_time() {
        let registry = OpenConnections::new(LIMITS);
        let connections = open(&registry, &[1, 2, 3, 4, 5]);
        connections[1].begin_body();
        connections[2].end_request(false);
        connections[3].end_request(true);
        connections[4].end_body();
        let start = Instant::now();
        registry.end_overdue(start + HEAD_TIMEOUT - Duration::from_secs(1));
        assert!(gone(&connections).is_empty());
        registry.end_overdue(start + HEAD_TIMEOUT);
        assert_eq!(gone(&connections), [0, 1, 2]);
        // A head that comes slowly has no more time on a connection that has proved something before.
        connections[3].received();
        registry.end_overdue(Instant::now() + HEAD_TIMEOUT);
        assert_eq!(gone(&connections), [0, 1, 2, 3]);
        registry.end_overdue(start + IDLE_TIMEOUT * 100);
        assert_eq!(gone(&connections), [0, 1, 2, 3], "what is handled takes its time");
        let counts = registry.counts();
        assert_eq!((counts.open, counts.timed_out), (1, 4));
    }

    #[tokio::test]
    async fn bodies_are_bounded_in_sum() {
        let registry = OpenConnections::new(LIMITS);
        let connections = open(&registry, &[1, 2, 3]);
        connections.iter().for_each(|connection| connection.begin_body());
        connections.iter().for_each(|connection| connection.hold(30));
        assert_eq!(registry.counts().body_bytes, 90);
        connections[1].hold(30);
        assert_eq!(gone(&connections), [0]);
        assert_eq!(registry.counts().body_bytes, 90);
        connections[1].end_body();
        assert_eq!(registry.counts().body_bytes, 30);
        connections[2].hold(200);
        assert_eq!(gone(&connections), [0, 2], "one that is too large by itself");
        connections.iter().for_each(|connection| connection.close());
        assert_eq!((registry.counts().body_bytes, registry.counts().open), (0, 0));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2::7"), network("2001:db8:1:2:aaaa::1"));
        assert_ne!(network("2001:db8:1:2::7"), network("2001:db8:1:3::7"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
