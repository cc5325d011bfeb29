//! The load: people who request, decide, withdraw, stop, read and back up, through the balancer, sometimes twice.

use crate::dice::Dice;
use crate::journal::{Call, Journal};
use crate::linearizability::Action;
use crate::scene::{Person, REPLICAS, Scene};
use countersign::demo::fake_slack::{Ack, Message};
use countersign::model::RunId;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_util::task::TaskTracker;

/// With so many pending requests, they are decided first.
const MAX_PENDING: usize = 40;

/// Requests that are delivered again although they were answered, and clicks that are double clicks, in percent.
const REPEATED_PERCENT: usize = 15;

/// A person acts.
enum Deed {
    Request { person: Person, order: usize },
    Click { person: Person, call: Call, card: Message, button: &'static str, is_double: bool },
    Type { person: Person, call: Option<Call>, line: String },
}

impl Deed {
    /// Notes that it is delivered once more: each delivery is a call, and all deliveries of a request are one.
    fn note_repetition(&self, journal: &mut Journal) {
        match self {
            Deed::Request { order, .. } => journal.repeat_request(*order),
            Deed::Click { person, call, .. } | Deed::Type { person, call: Some(call), .. } => {
                journal.call(&person.name, call.clone());
            }
            Deed::Type { call: None, .. } => {}
        }
    }
}

/// The load and what it did.
pub struct Crowd {
    scene: Arc<Scene>,
    dice: Dice,
    orders: usize,
    /// What people did in each minute.
    pub by_minute: Vec<usize>,
    tracker: TaskTracker,
    deliveries: Arc<Deliveries>,
}

#[derive(Debug, Default)]
pub struct Deliveries {
    pub acknowledged: AtomicUsize,
    pub unacknowledged: AtomicUsize,
    pub repeated: AtomicUsize,
}

impl Crowd {
    pub fn new(scene: &Arc<Scene>, seed: u64) -> Crowd {
        let tracker = TaskTracker::new();
        tracker.close();
        let (scene, dice) = (Arc::clone(scene), Dice::new(seed));
        Crowd { scene, dice, orders: 0, by_minute: Vec::new(), tracker, deliveries: Arc::default() }
    }

    /// Acts at that rate until then, and waits for the last acknowledgement.
    pub async fn act(&mut self, until: Instant, per_second: f64) -> Arc<Deliveries> {
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
        let start = Instant::now();
        while Instant::now() < until {
            ticks.tick().await;
            let minute = usize::try_from(start.elapsed().as_secs() / 60).expect("a short time");
            self.by_minute.resize(minute + 1, 0);
            let Some(deed) = self.choose() else { continue };
            self.by_minute[minute] += 1;
            let is_repeated = self.dice.percent(REPEATED_PERCENT);
            let (scene, deliveries) = (Arc::clone(&self.scene), Arc::clone(&self.deliveries));
            self.tracker.spawn(perform(scene, deed, is_repeated, deliveries));
        }
        self.tracker.wait().await;
        Arc::clone(&self.deliveries)
    }

    fn choose(&mut self) -> Option<Deed> {
        let is_full = self.scene.journal.lock().pending_cards().len() >= MAX_PENDING;
        match self.dice.below(100) {
            0..38 if !is_full => self.request(),
            0..72 => self.decide("Approve"),
            72..78 => self.decide("Deny"),
            78..84 => self.withdraw(),
            84..95 => self.about_a_run(),
            95..98 => self.typed_deny(),
            _ => self.backup(),
        }
    }

    fn person(&mut self, is_fit: impl Fn(&Person) -> bool) -> Option<Person> {
        let fit: Vec<&Person> = self.scene.people.iter().filter(|person| is_fit(person)).collect();
        self.dice.pick(&fit).copied().cloned()
    }

    fn pending_card(&mut self, journal: &Journal) -> Option<(RunId, Message)> {
        self.dice.pick(&journal.pending_cards()).map(|(run, card)| (*run, (*card).clone()))
    }

    fn request(&mut self) -> Option<Deed> {
        let journal = Arc::clone(&self.scene.journal);
        let mut journal = journal.lock();
        let person = self.person(|person| !journal.has_open_request(&person.name))?;
        self.orders += 1;
        let order = self.orders;
        journal.call(&person.name, Call::Request { order });
        Some(Deed::Request { person, order })
    }

    /// An approver clicks on somebody else's pending card, once or twice.
    fn decide(&mut self, button: &'static str) -> Option<Deed> {
        let action = if button == "Approve" { Action::Approve } else { Action::Deny };
        let journal = Arc::clone(&self.scene.journal);
        let mut journal = journal.lock();
        let (run, card) = self.pending_card(&journal)?;
        let call = Call::OnRun { action, run };
        let requester = journal.requester(run).to_owned();
        let person = self.person(|person| {
            person.is_approver && person.name != requester && journal.may_call(&person.name, &call)
        })?;
        let is_double = self.dice.percent(REPEATED_PERCENT);
        for _ in 0..1 + usize::from(is_double) {
            journal.call(&person.name, call.clone());
        }
        Some(Deed::Click { person, call, card, button, is_double })
    }

    fn withdraw(&mut self) -> Option<Deed> {
        let journal = Arc::clone(&self.scene.journal);
        let mut journal = journal.lock();
        let (run, card) = self.pending_card(&journal)?;
        let call = Call::OnRun { action: Action::Withdraw, run };
        let requester = journal.requester(run).to_owned();
        let person = self.person(|person| person.name == requester)?;
        if !journal.may_call(&person.name, &call) {
            return None;
        }
        journal.call(&person.name, call.clone());
        if self.dice.percent(50) {
            return Some(Deed::Type { person, call: Some(call), line: format!("withdraw {run}") });
        }
        Some(Deed::Click { person, call, card, button: "Withdraw", is_double: false })
    }

    /// A read, mostly, or a stop, of one of the newest runs.
    fn about_a_run(&mut self) -> Option<Deed> {
        let journal = Arc::clone(&self.scene.journal);
        let mut journal = journal.lock();
        let newest = journal.newest_run()?;
        let run = newest - i64::try_from(self.dice.below(8)).ok()?;
        if journal.requester(run).is_empty() {
            return None;
        }
        let (action, word) =
            if self.dice.percent(25) { (Action::Stop, "stop") } else { (Action::Read, "show") };
        let person = self.person(|_| true)?;
        let call = Call::OnRun { action, run };
        journal.call(&person.name, call.clone());
        Some(Deed::Type { person, call: Some(call), line: format!("{word} {run}") })
    }

    fn typed_deny(&mut self) -> Option<Deed> {
        let journal = Arc::clone(&self.scene.journal);
        let mut journal = journal.lock();
        let (run, _) = self.pending_card(&journal)?;
        let call = Call::OnRun { action: Action::Deny, run };
        let requester = journal.requester(run).to_owned();
        let person = self.person(|person| {
            person.is_approver && person.name != requester && journal.may_call(&person.name, &call)
        })?;
        journal.call(&person.name, call.clone());
        Some(Deed::Type { person, call: Some(call), line: format!("deny {run} --reason \"not now\"") })
    }

    fn backup(&mut self) -> Option<Deed> {
        let service = self.dice.pick(&self.scene.services)?.clone();
        let person = self.person(|_| true)?;
        Some(Deed::Type { person, call: None, line: format!("backup {service} --env production") })
    }
}

async fn perform(scene: Arc<Scene>, deed: Deed, is_repeated: bool, deliveries: Arc<Deliveries>) {
    let workspace = &scene.workspace;
    let note = |ack: &Ack| {
        let count = if ack.ok() { &deliveries.acknowledged } else { &deliveries.unacknowledged };
        count.fetch_add(1, Ordering::Relaxed);
    };
    let ack = match &deed {
        Deed::Request { person, order } => {
            let line = format!("/db count {order} --env production --reason \"order {order}\"");
            workspace.say(&person.account, &person.channel, &line).await
        }
        Deed::Type { person, line, .. } => {
            workspace.say(&person.account, &person.channel, &format!("/db {line}")).await
        }
        Deed::Click { person, card, button, is_double, .. } => {
            let click = || workspace.click_stale_button(&person.account, card, button);
            let second = async {
                if *is_double {
                    note(&click().await);
                }
            };
            tokio::join!(click(), second).0
        }
    };
    note(&ack);
    let mut is_answered = ack.ok() && !is_repeated;
    if is_answered {
        return;
    }
    let sent = workspace.deliveries();
    let number = sent.iter().rposition(|delivery| delivery.ack.trigger_id == ack.trigger_id);
    let Some(number) = number else { return };
    // As the person does who isn't answered.
    for _ in 1..REPLICAS {
        if is_answered {
            return;
        }
        deed.note_repetition(&mut scene.journal.lock());
        let again = workspace.redeliver(number).await;
        deliveries.repeated.fetch_add(1, Ordering::Relaxed);
        note(&again);
        is_answered = again.ok();
    }
}
