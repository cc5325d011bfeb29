//! Who waits for whom: PostgreSQL's wait-for graph, computed from one read of `pg_locks`. Asking `pg_blocking_pids` of every waiter
//! takes time that grows with the square of a queue's length, and locks the server's lock table each time; it confirms only what is
//! shown.

mod node_set;

use super::{Value, decode};
use crate::postgres::{PooledClient, QueryError};
use node_set::NodeSet;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// The sessions whose blockers are named one by one: a screen has no room for more.
const MAX_NAMED: usize = 50;

/// PostgreSQL's lock modes, weakest first, each with the modes that it conflicts with (lock.c, LockConflicts).
const MODES: [(&str, u8); 8] = [
    ("AccessShareLock", 0b1000_0000),
    ("RowShareLock", 0b1100_0000),
    ("RowExclusiveLock", 0b1111_0000),
    ("ShareUpdateExclusiveLock", 0b1111_1000),
    ("ShareLock", 0b1110_1100),
    ("ShareRowExclusiveLock", 0b1111_1100),
    ("ExclusiveLock", 0b1111_1110),
    ("AccessExclusiveLock", 0b1111_1111),
];

/// A session that waits, or that others wait for; or what is waited for and is no session: a prepared transaction.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Waiter {
    /// The place in the drawing, from 0.
    pub place: usize,
    pub pid: Option<i32>,
    /// What it is, if it is no session.
    pub holder: Option<String>,
    /// The queue that it is in, numbered by its root blocker, the largest first; `None` behind nobody but a cycle.
    pub queue: Option<usize>,
    pub depth: usize,
    /// It blocks others and waits for no lock.
    pub root: bool,
    /// It waits for itself, over others: a deadlock.
    pub deadlocked: bool,
    /// The number of sessions that wait for it, directly or over others, and the longest of their waits in seconds.
    pub behind: usize,
    pub behind_s: Option<f64>,
    /// "AccessExclusiveLock", "a buffer pin".
    pub waits_for: Option<String>,
    pub waiting_s: Option<f64>,
    /// The wait's start is unknown: `waiting_s` counts from its statement's start.
    pub at_most: bool,
    /// Those that it waits for directly: pids, 0 for what is no session. For the first of the drawing only.
    pub blocked_by: Option<String>,
    /// Those that it waits for directly and that are no sessions, by name.
    pub holders: Option<String>,
}

/// The graph, in the order in which it is drawn: each root blocker, then those behind it; deadlocks last.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct WaitGraph {
    pub waiters: Vec<Waiter>,
    /// The nodes of `waiters`, and those above each node.
    #[serde(skip)]
    nodes: Vec<usize>,
    #[serde(skip)]
    above: Vec<NodeSet>,
}

impl WaitGraph {
    /// Reads the graph of a server.
    ///
    /// # Errors
    /// The server refuses, or doesn't answer within the limit.
    pub async fn read(client: &PooledClient, limit: Duration) -> Result<WaitGraph, QueryError> {
        let rows = client.query_within(limit, include_str!("lock_requests.sql"), &[]).await?;
        let values = rows.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        let requests: Vec<LockRequest> = values.into_iter().map(LockRequest::from_values).collect();
        let mut graph = WaitGraph::of(&requests);
        graph.confirm(client, limit).await?;
        Ok(graph)
    }

    /// Computes the graph of requests in the order of each lock's queue.
    fn of(requests: &[LockRequest]) -> WaitGraph {
        let (mut waiters, locks) = nodes_and_locks(requests);
        let edges = Edges::of(waiters.len(), &locks);
        let nodes = draw(&mut waiters, &edges);
        let waiters = nodes.iter().map(|node| std::mem::take(&mut waiters[*node])).collect();
        WaitGraph { waiters, nodes, above: edges.above }
    }

    /// The sessions that wait for this one, directly or over others, the longest wait first.
    pub fn behind(&self, pid: i32) -> Vec<&Waiter> {
        let Some(place) = self.waiters.iter().position(|waiter| waiter.pid == Some(pid)) else {
            return Vec::new();
        };
        let node = self.nodes[place];
        let waits_for_it = |(waiter, _): &(&Waiter, &usize)| waiter.pid.is_some_and(|other| other != pid);
        let all = self.waiters.iter().zip(&self.nodes).filter(waits_for_it);
        let mut behind: Vec<&Waiter> =
            all.filter(|(_, other)| self.above[**other].contains(node)).map(|(waiter, _)| waiter).collect();
        behind.sort_by(|a, b| b.waiting_s.unwrap_or_default().total_cmp(&a.waiting_s.unwrap_or_default()));
        behind
    }

    /// Asks the server again for the blockers of the waiting sessions that are drawn: of one lock, PostgreSQL knows the true order.
    async fn confirm(&mut self, client: &PooledClient, limit: Duration) -> Result<(), QueryError> {
        let shown = self.waiters.iter().take(MAX_NAMED);
        let pids: Vec<i32> = shown.filter(|w| w.waits_for.is_some()).filter_map(|w| w.pid).collect();
        if pids.is_empty() {
            return Ok(());
        }
        let sql = "SELECT p.pid, pg_blocking_pids(p.pid) AS blockers FROM unnest($1::int4[]) AS p(pid)";
        for row in client.query_within(limit, sql, &[&pids]).await? {
            let values = decode(&row)?;
            let (Some(Value::Int(pid)), Some(Value::List(blockers))) = (values.first(), values.get(1)) else {
                continue;
            };
            let waiter = self.waiters.iter_mut().find(|waiter| waiter.pid.map(i64::from) == Some(*pid));
            if let Some(waiter) = waiter.filter(|_| !blockers.is_empty()) {
                waiter.blocked_by =
                    Some(pid_list(blockers.iter().filter_map(|pid| pid.parse().ok()).collect()));
            }
        }
        Ok(())
    }

    /// The graph as JSON, for a statement's parameter.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// One request for a lock, or one holder of it; as `lock_requests.sql` returns it.
#[derive(Debug, Default, Clone)]
struct LockRequest {
    lock: String,
    pid: Option<i32>,
    holder: String,
    /// Its place in [`MODES`].
    mode: usize,
    granted: bool,
    waits_for: Option<String>,
    waiting_s: Option<f64>,
    at_most: bool,
}

impl LockRequest {
    fn from_values(values: Vec<Value>) -> LockRequest {
        let mut request = LockRequest::default();
        for (at, value) in values.into_iter().enumerate() {
            match (at, value) {
                (0, Value::Text(lock)) => request.lock = lock,
                (1, Value::Int(pid)) => request.pid = i32::try_from(pid).ok(),
                (2, Value::Text(mode)) => request.mode = mode_index(&mode),
                (3, Value::Bool(granted)) => request.granted = granted,
                (4, Value::Text(holder)) => request.holder = holder,
                (5, Value::Text(waits_for)) => request.waits_for = Some(waits_for),
                (6, seconds) => request.waiting_s = seconds.number(),
                (7, Value::Bool(at_most)) => request.at_most = at_most,
                _ => {}
            }
        }
        request
    }
}

/// The place of a mode in [`MODES`]; the strongest for one that is unknown.
fn mode_index(name: &str) -> usize {
    MODES.iter().position(|(mode, _)| *mode == name).unwrap_or(MODES.len() - 1)
}

fn conflicts(mode: usize, other: usize) -> bool {
    MODES[mode].1 & (1 << other) != 0
}

/// A lock that somebody waits for: nodes and their modes.
#[derive(Debug, Default)]
struct Lock {
    holders: Vec<(usize, usize)>,
    queue: Vec<(usize, usize)>,
}

impl Lock {
    /// Appends a waiter. As in PostgreSQL (ProcSleep), one that already holds the lock in a weaker mode goes ahead of those that wait
    /// for it.
    fn enqueue(&mut self, node: usize, mode: usize) {
        let own: Vec<usize> =
            self.holders.iter().filter(|holder| holder.0 == node).map(|holder| holder.1).collect();
        let waits_for_it = |(_, waiting): &(usize, usize)| own.iter().any(|held| conflicts(*waiting, *held));
        let at = self.queue.iter().position(waits_for_it).unwrap_or(self.queue.len());
        self.queue.insert(at, (node, mode));
    }
}

/// The nodes of the requests, and the locks between them.
fn nodes_and_locks(requests: &[LockRequest]) -> (Vec<Waiter>, Vec<Lock>) {
    let (mut nodes, mut locks) = (Vec::<Waiter>::new(), BTreeMap::<&str, Lock>::new());
    let mut known = HashMap::new();
    // A lock's holders come first, whatever order they are given in.
    let (holders, queue): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.granted);
    for request in holders.into_iter().chain(queue) {
        let holder = Some(&request.holder).filter(|_| request.pid.is_none());
        let node = *known.entry((request.pid, holder)).or_insert_with(|| {
            nodes.push(Waiter { pid: request.pid, holder: holder.cloned(), ..Waiter::default() });
            nodes.len() - 1
        });
        let lock = locks.entry(&request.lock).or_default();
        if request.granted {
            lock.holders.push((node, request.mode));
            continue;
        }
        lock.enqueue(node, request.mode);
        let waiter = &mut nodes[node];
        // Of a leader and its parallel workers, the longest wait counts.
        if waiter.waits_for.is_none() || request.waiting_s > waiter.waiting_s {
            waiter.waits_for.clone_from(&request.waits_for);
            (waiter.waiting_s, waiter.at_most) = (request.waiting_s, request.at_most);
        }
    }
    (nodes, locks.into_values().collect())
}

/// For each node, those that it waits for: directly, and over others.
struct Edges {
    blockers: Vec<NodeSet>,
    above: Vec<NodeSet>,
}

impl Edges {
    /// Visits every lock once for the direct edges, then again whenever what is above one of its nodes has grown.
    fn of(nodes: usize, locks: &[Lock]) -> Edges {
        let mut blockers = vec![NodeSet::empty(nodes); nodes];
        let mut above = blockers.clone();
        let (mut members, mut waits) = (vec![Vec::new(); nodes], vec![false; nodes]);
        for (at, lock) in locks.iter().enumerate() {
            visit(lock, &mut blockers, Reach::Direct);
            lock.holders.iter().chain(&lock.queue).for_each(|(node, _)| members[*node].push(at));
            lock.queue.iter().for_each(|(node, _)| waits[*node] = true);
        }
        // First the locks whose holders wait for none; what is in a deadlock, or behind one, is left.
        let is_first = |at: &usize| locks[*at].holders.iter().all(|(node, _)| !waits[*node]);
        let mut todo: VecDeque<usize> = (0..locks.len()).filter(is_first).collect();
        let mut left: BTreeSet<usize> = (0..locks.len()).collect();
        while let Some(at) = todo.pop_front().or_else(|| left.first().copied()) {
            left.remove(&at);
            for node in visit(&locks[at], &mut above, Reach::Transitive) {
                for lock in members[node].iter().filter(|lock| **lock != at) {
                    if !todo.contains(lock) {
                        todo.push_back(*lock);
                    }
                }
            }
        }
        Edges { blockers, above }
    }
}

/// How far the edges of a visit reach.
#[derive(Clone, Copy, PartialEq)]
enum Reach {
    Direct,
    Transitive,
}

/// Adds to the set of each waiter of a lock the holders and the waiters ahead of it whose modes conflict with its own. Returns the
/// waiters whose sets have grown.
fn visit(lock: &Lock, sets: &mut [NodeSet], reach: Reach) -> Vec<usize> {
    let add = |ahead: &mut NodeSet, sets: &[NodeSet], node: usize| {
        if reach == Reach::Transitive {
            ahead.extend(&sets[node]);
        }
        ahead.insert(node);
    };
    let mut ahead = vec![NodeSet::empty(sets.len()); MODES.len()];
    let mut seen = NodeSet::empty(sets.len());
    for (node, mode) in &lock.holders {
        add(&mut ahead[*mode], sets, *node);
        seen.insert(*node);
    }
    let mut grown = Vec::new();
    for (at, (node, mode)) in lock.queue.iter().enumerate() {
        let mut blockers = NodeSet::empty(sets.len());
        if seen.contains(*node) {
            // What a session has itself doesn't block it.
            let others = lock.holders.iter().chain(&lock.queue[..at]);
            for (other, held) in others.filter(|(other, held)| other != node && conflicts(*mode, *held)) {
                debug_assert!(conflicts(*held, *mode), "conflicts are mutual");
                add(&mut blockers, sets, *other);
            }
        } else {
            let conflicting = (0..MODES.len()).filter(|held| conflicts(*mode, *held));
            for held in conflicting {
                blockers.extend(&ahead[held]);
            }
        }
        if sets[*node].extend(&blockers) {
            grown.push(*node);
        }
        add(&mut ahead[*mode], sets, *node);
        seen.insert(*node);
    }
    grown
}

/// The nodes in the order in which they are drawn, each with its place: a tree below each root blocker, the largest first, then what is in a deadlock
/// or behind one.
fn draw(nodes: &mut [Waiter], edges: &Edges) -> Vec<usize> {
    count(nodes, edges);
    let ranks: Vec<usize> = edges.above.iter().map(NodeSet::len).collect();
    // A session in a queue waits for all sessions ahead of it; it is drawn below the last of them.
    let mut children = vec![Vec::new(); nodes.len()];
    for node in (0..nodes.len()).filter(|node| !nodes[*node].deadlocked) {
        let last =
            edges.blockers[node].iter().max_by_key(|above| (ranks[*above], Reverse(nodes[*above].pid)));
        last.into_iter().for_each(|parent| children[parent].push(node));
    }
    for siblings in &mut children {
        siblings.sort_by_key(|node| Reverse((ranks[*node], nodes[*node].pid)));
    }
    let mut roots: Vec<usize> = (0..nodes.len()).filter(|node| nodes[*node].root).collect();
    roots.sort_by_key(|node| (Reverse(nodes[*node].behind), nodes[*node].pid));
    let (mut drawn, mut is_drawn) = (Vec::new(), NodeSet::empty(nodes.len()));
    for (queue, root) in roots.into_iter().enumerate() {
        let mut branches = vec![(root, 0)];
        while let Some((node, depth)) = branches.pop() {
            is_drawn.insert(node);
            (nodes[node].queue, nodes[node].depth) = (Some(queue), depth);
            drawn.push(node);
            branches.extend(children[node].iter().map(|child| (*child, depth + 1)));
        }
    }
    // A holder that blocks nobody is in the requests only because of its lock.
    let is_other = |node: &usize| !is_drawn.contains(*node) && nodes[*node].waits_for.is_some();
    let mut others: Vec<usize> = (0..nodes.len()).filter(is_other).collect();
    others.sort_by_key(|node| (!nodes[*node].deadlocked, nodes[*node].pid));
    drawn.extend(others);
    for (place, node) in drawn.iter().enumerate() {
        nodes[*node].place = place;
        if place < MAX_NAMED {
            let pids = edges.blockers[*node].iter().map(|above| nodes[above].pid.unwrap_or_default());
            nodes[*node].blocked_by = Some(pid_list(pids.collect())).filter(|pids| !pids.is_empty());
        }
    }
    drawn
}

/// Counts those behind each node, and names its blockers that are no sessions.
fn count(nodes: &mut [Waiter], edges: &Edges) {
    for node in 0..nodes.len() {
        let waiting_s = nodes[node].waiting_s;
        for above in edges.above[node].iter() {
            if above == node {
                nodes[node].deadlocked = true;
                continue;
            }
            let above = &mut nodes[above];
            above.behind += 1;
            // None is less than any wait.
            if above.behind_s < waiting_s {
                above.behind_s = waiting_s;
            }
        }
    }
    let others: Vec<usize> = (0..nodes.len()).filter(|node| nodes[*node].holder.is_some()).collect();
    for node in 0..nodes.len() {
        let blockers = others.iter().filter(|other| edges.blockers[node].contains(**other));
        let holders: BTreeSet<String> = blockers.filter_map(|other| nodes[*other].holder.clone()).collect();
        let holders = Vec::from_iter(holders).join(", ");
        nodes[node].root = nodes[node].waits_for.is_none() && nodes[node].behind > 0;
        nodes[node].holders = Some(holders).filter(|holders| !holders.is_empty());
    }
}

/// Pids as a list, shortened where nobody would read it to its end.
fn pid_list(mut pids: Vec<i32>) -> String {
    pids.sort_unstable();
    pids.dedup();
    let more = pids.len().saturating_sub(MAX_NAMED);
    let named: Vec<String> = pids.iter().take(MAX_NAMED).map(i32::to_string).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "1 holds a RowExclusiveLock", "2 wants a ShareLock": in the order of the queue.
    fn graph(requests: &[(&str, i32, &str, bool)]) -> WaitGraph {
        let request = |(lock, pid, mode, granted): &(&str, i32, &str, bool)| LockRequest {
            lock: (*lock).to_owned(),
            pid: Some(*pid),
            mode: mode_index(mode),
            granted: *granted,
            waits_for: (!granted).then(|| (*mode).to_owned()),
            waiting_s: (!granted).then_some(f64::from(*pid)),
            ..LockRequest::default()
        };
        WaitGraph::of(&requests.iter().map(request).collect::<Vec<_>>())
    }

    /// Pid, depth, number behind it, blockers.
    fn drawn(graph: &WaitGraph) -> Vec<(i32, usize, usize, &str)> {
        let row = |waiter: &Waiter| (waiter.pid.unwrap(), waiter.depth, waiter.behind);
        let blockers = graph.waiters.iter().map(|waiter| waiter.blocked_by.as_deref().unwrap_or_default());
        let rows = graph.waiters.iter().map(row);
        rows.zip(blockers).map(|((pid, depth, behind), blockers)| (pid, depth, behind, blockers)).collect()
    }

    #[test]
    fn a_queue_waits_by_the_conflicts_of_its_modes() {
        let table = graph(&[
            ("t", 1, "AccessShareLock", true),
            ("t", 2, "AccessExclusiveLock", false),
            ("t", 3, "AccessShareLock", false),
            ("t", 4, "AccessShareLock", false),
            ("other", 4, "RowExclusiveLock", true),
            ("other", 5, "ShareLock", false),
            ("other", 6, "RowShareLock", false),
        ]);
        let expected =
            [(1, 0, 4, ""), (2, 1, 3, "1"), (3, 2, 0, "2"), (4, 2, 1, "2"), (5, 3, 0, "4"), (6, 0, 0, "")];
        assert_eq!(drawn(&table), expected);
        assert_eq!(table.waiters[0].behind_s, Some(5.0));
        let behind = |pid| table.behind(pid).iter().filter_map(|waiter| waiter.pid).collect::<Vec<_>>();
        assert_eq!((behind(1), behind(4), behind(7)), (vec![5, 4, 3, 2], vec![5], vec![]));
        assert!(table.waiters[0].root && !table.waiters[3].root);
    }

    #[test]
    fn who_holds_the_lock_already_goes_ahead_in_its_queue() {
        let upgrade = graph(&[
            ("t", 1, "AccessShareLock", true),
            ("t", 2, "AccessShareLock", true),
            ("t", 3, "AccessExclusiveLock", false),
            ("t", 2, "RowExclusiveLock", false),
            ("t", 2, "AccessExclusiveLock", false),
        ]);
        assert_eq!(drawn(&upgrade), [(1, 0, 2, ""), (2, 1, 1, "1"), (3, 2, 0, "1, 2")]);
    }

    #[test]
    fn a_deadlock_has_no_root_blocker() {
        let ring = graph(&[
            ("a", 1, "ExclusiveLock", true),
            ("b", 2, "ExclusiveLock", true),
            ("a", 2, "ShareLock", false),
            ("b", 1, "ShareLock", false),
            ("a", 3, "ShareLock", false),
        ]);
        let deadlocked: Vec<_> =
            ring.waiters.iter().map(|waiter| (waiter.pid.unwrap(), waiter.deadlocked)).collect();
        assert_eq!(deadlocked, [(1, true), (2, true), (3, false)]);
        assert!(ring.waiters.iter().all(|waiter| !waiter.root && waiter.queue.is_none()));
    }

    /// The closure over all pairs of a queue of 2,000 took minutes.
    #[test]
    fn a_long_queue_is_computed_from_its_locks() {
        let mut requests = vec![("t", 1, "AccessExclusiveLock", true)];
        requests.extend((2..=2_001).map(|pid| ("t", pid, "AccessExclusiveLock", false)));
        let queue = graph(&requests);
        assert_eq!(
            queue.waiters.iter().map(|waiter| waiter.behind).collect::<Vec<_>>(),
            Vec::from_iter((0..=2_000).rev())
        );
        assert!(queue.to_json().len() < 1_000_000);
    }
}
