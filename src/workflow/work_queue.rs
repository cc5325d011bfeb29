//! The queue of events of one kind: so many are worked on at the same time, shared fairly by person and by conversation. Who has the
//! fewest in work is next, so that nobody waits behind all that somebody else has typed. An event holds its place while it is authorised,
//! planned or answered from a database; not while a message waits for the platform, nor while a run runs.

use crate::model::{ChatEvent, Conversation};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Events in work at the same time, in all, of one person, and of one conversation. A person's are fewer than an environment's
/// connections.
const MAX_IN_WORK: usize = 32;
const MAX_OF_PERSON: usize = 6;
const MAX_OF_CONVERSATION: usize = 16;
/// Events of one person that wait for work, are in work or are being answered; beyond them they are asked to try again.
pub const MAX_PRESENT_OF_PERSON: usize = 256;

tokio::task_local! {
    /// The place of the event that this task handles.
    static PLACE: Mutex<Option<WorkPlace>>;
}

/// Gives up this task's place, if it has one: from here on it waits for something else than a database.
pub(super) fn leave() {
    let place = PLACE.try_with(|place| place.lock().take());
    drop(place);
}

/// Who works where: the platform and the account, the platform and the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asker {
    person: String,
    conversation: String,
}

impl Asker {
    fn of(incoming: &ChatEvent) -> Asker {
        let Conversation { platform, workspace, id, .. } = &incoming.conversation;
        let sender = &incoming.sender;
        Asker {
            person: format!("{:?}/{}/{}", sender.platform, sender.workspace, sender.account),
            conversation: format!("{platform:?}/{workspace}/{id}"),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    asker: Asker,
    turn: oneshot::Sender<WorkPlace>,
}

#[derive(Debug, Default)]
struct State {
    in_work: usize,
    /// By person: events that aren't handled to their end yet.
    present: HashMap<String, usize>,
    /// By person, and by conversation: events in work.
    persons: HashMap<String, usize>,
    conversations: HashMap<String, usize>,
    /// In the order of asking.
    waiting: Vec<Waiting>,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct WorkQueue(Mutex<State>);

/// The turn of a queued event, which loses its place when it is dropped.
pub struct Turn {
    place: oneshot::Receiver<WorkPlace>,
    presence: Presence,
}

impl Turn {
    /// Does the work when its turn has come.
    pub(super) async fn work<T>(self, work: impl Future<Output = T>) -> T {
        let Turn { place, presence } = self;
        let place = Mutex::new(place.await.ok());
        let outcome = PLACE.scope(place, work).await;
        drop(presence);
        outcome
    }
}

/// An event of a person that isn't handled to its end.
#[derive(Debug)]
struct Presence {
    queue: Arc<WorkQueue>,
    person: String,
}

impl Drop for Presence {
    fn drop(&mut self) {
        decrement(&mut self.queue.0.lock().present, &self.person);
    }
}

/// A place in work, free for the next when it is dropped.
#[derive(Debug)]
struct WorkPlace {
    queue: Arc<WorkQueue>,
    asker: Asker,
}

impl WorkQueue {
    /// Queues an event; `None` if too many of the same person's are there.
    pub fn enter(self: &Arc<Self>, incoming: &ChatEvent) -> Option<Turn> {
        self.enter_as(Asker::of(incoming))
    }

    fn enter_as(self: &Arc<Self>, asker: Asker) -> Option<Turn> {
        let (turn, place) = oneshot::channel();
        let person = asker.person.clone();
        let mut state = self.0.lock();
        state.waiting.retain(|waiting| !waiting.turn.is_closed());
        if count(&state.present, &person) >= MAX_PRESENT_OF_PERSON {
            return None;
        }
        *state.present.entry(person.clone()).or_default() += 1;
        state.waiting.push(Waiting { asker, turn });
        drop(state);
        self.fill();
        Some(Turn { place, presence: Presence { queue: Arc::clone(self), person } })
    }

    /// Events in work, and those that wait.
    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.in_work, state.waiting.len())
    }

    /// Gives the free places away.
    fn fill(self: &Arc<Self>) {
        // A place that nobody takes any more is dropped, and that asks for the lock.
        let mut untaken = Vec::new();
        let mut state = self.0.lock();
        while let Some(next) = state.next() {
            let Waiting { asker, turn } = state.waiting.remove(next);
            if turn.is_closed() {
                continue;
            }
            state.begin(&asker);
            untaken.extend(turn.send(WorkPlace { queue: Arc::clone(self), asker }).err());
        }
        drop(state);
    }
}

impl State {
    /// The index of the one whose turn it is: the person, then the conversation, with the fewest in work, in the order of asking.
    fn next(&self) -> Option<usize> {
        if self.in_work >= MAX_IN_WORK {
            return None;
        }
        let load = |asker: &Asker| {
            (count(&self.persons, &asker.person), count(&self.conversations, &asker.conversation))
        };
        let ranked = self.waiting.iter().enumerate().map(|(at, waiting)| (load(&waiting.asker), at));
        let free = ranked.filter(|((person, conversation), _)| {
            *person < MAX_OF_PERSON && *conversation < MAX_OF_CONVERSATION
        });
        free.min().map(|(_, at)| at)
    }

    fn begin(&mut self, asker: &Asker) {
        self.in_work += 1;
        *self.persons.entry(asker.person.clone()).or_default() += 1;
        *self.conversations.entry(asker.conversation.clone()).or_default() += 1;
    }

    fn end(&mut self, asker: &Asker) {
        self.in_work -= 1;
        decrement(&mut self.persons, &asker.person);
        decrement(&mut self.conversations, &asker.conversation);
    }
}

fn count(counts: &HashMap<String, usize>, key: &str) -> usize {
    counts.get(key).copied().unwrap_or_default()
}

fn decrement(counts: &mut HashMap<String, usize>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Drop for WorkPlace {
    fn drop(&mut self) {
        self.queue.0.lock().end(&self.asker);
        self.queue.fill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(person: &str, conversation: &str) -> Asker {
        Asker { person: person.to_owned(), conversation: conversation.to_owned() }
    }

    fn turn(queue: &Arc<WorkQueue>, person: &str, conversation: &str) -> Turn {
        queue.enter_as(asker(person, conversation)).unwrap()
    }

    /// The place, which must have been given at once.
    fn place(queue: &Arc<WorkQueue>, person: &str, conversation: &str) -> WorkPlace {
        turn(queue, person, conversation).place.try_recv().unwrap()
    }

    #[test]
    fn a_person_and_a_conversation_have_their_share_and_others_are_not_behind_them() {
        let queue = Arc::new(WorkQueue::default());
        let anas: Vec<Turn> = (0..MAX_PRESENT_OF_PERSON).map(|_| turn(&queue, "ana", "C1")).collect();
        assert!(queue.enter_as(asker("ana", "C9")).is_none());
        assert_eq!(queue.counts(), (MAX_OF_PERSON, MAX_PRESENT_OF_PERSON - MAX_OF_PERSON));
        let ben = place(&queue, "ben", "C2");
        // Many people in one conversation.
        let others: Vec<Turn> = (0..20).map(|number| turn(&queue, &format!("p{number}"), "C1")).collect();
        assert_eq!(queue.counts().0, MAX_OF_CONVERSATION + 1);
        let cara = place(&queue, "cara", "C3");
        drop((ben, cara));
        // In the end each has had a place, and none is left.
        for mut waiting in others.into_iter().chain(anas) {
            drop(waiting.place.try_recv().unwrap());
        }
        assert_eq!(queue.counts(), (0, 0));
        assert!(queue.0.lock().persons.is_empty() && queue.0.lock().conversations.is_empty());
    }

    #[test]
    fn all_are_bounded_and_who_has_the_fewest_is_next() {
        let queue = Arc::new(WorkQueue::default());
        let places = (0..MAX_IN_WORK).map(|at| place(&queue, &format!("p{}", at % 8), &format!("C{at}")));
        let mut places: Vec<WorkPlace> = places.collect();
        let mut busy = turn(&queue, "p1", "C100");
        let gone = turn(&queue, "ben", "C102");
        let mut new = turn(&queue, "ana", "C101");
        drop(gone);
        drop(places.pop());
        assert!(busy.place.try_recv().is_err(), "who asked first has more in work");
        drop(new.place.try_recv().unwrap());
        drop(busy.place.try_recv().unwrap());
        drop(places);
        assert_eq!(queue.counts(), (0, 0));
    }

    #[tokio::test]
    async fn a_place_is_given_up_once_from_within_the_work() {
        let queue = Arc::new(WorkQueue::default());
        leave();
        let work = async {
            assert_eq!(queue.counts(), (1, 0));
            leave();
            assert_eq!(queue.counts(), (0, 0));
            leave();
            // Whoever is still being answered is still there.
            assert_eq!(queue.0.lock().present.len(), 1);
        };
        turn(&queue, "ana", "C1").work(work).await;
        turn(&queue, "ana", "C1").work(async { assert_eq!(queue.counts(), (1, 0)) }).await;
        assert_eq!(queue.counts(), (0, 0));
        assert!(queue.0.lock().present.is_empty());
    }

    #[tokio::test]
    async fn a_person_whose_answers_wait_for_the_platform_can_not_fill_the_process() {
        let queue = Arc::new(WorkQueue::default());
        let (sent, _) = tokio::sync::broadcast::channel::<()>(1);
        let answered = |turn: Turn| {
            let mut sent = sent.subscribe();
            turn.work(async move {
                leave();
                let _ = sent.recv().await;
            })
        };
        let answers = (0..MAX_PRESENT_OF_PERSON).map(|_| tokio::spawn(answered(turn(&queue, "ana", "C1"))));
        let answers: Vec<_> = answers.collect();
        while queue.counts() != (0, 0) {
            tokio::task::yield_now().await;
        }
        assert!(queue.enter_as(asker("ana", "C9")).is_none(), "256 of hers are being answered");
        drop(place(&queue, "ben", "C1"));
        sent.send(()).unwrap();
        futures::future::join_all(answers).await;
        drop(place(&queue, "ana", "C1"));
    }
}
