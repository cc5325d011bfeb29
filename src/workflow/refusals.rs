//! Refusals. Those of one person in one conversation that come while another one is being sent are told together, in one message: a
//! platform takes few messages of a bot, and others wait for theirs.

use crate::model::{Block, ChatEvent, Reply, Severity, Text};
use parking_lot::Mutex;
use std::collections::HashMap;

/// Different refusals that one message tells; the others are counted.
const MAX_TOLD: usize = 5;

/// A refused event, and its answer.
pub(super) type Refusal = (ChatEvent, Reply);

/// The refusals that follow the one that is being sent, by person and conversation.
#[derive(Default)]
pub(super) struct RefusalQueue(Mutex<HashMap<String, Followers>>);

/// Refusals that came in during a sending. Of any number of them a few are kept: the last, and one of each kind that will be told.
#[derive(Default)]
pub(super) struct Followers {
    count: usize,
    /// Different refusals, each with its number.
    kinds: Vec<(usize, Reply)>,
    last: Option<Refusal>,
}

/// The sending of a person's refusals in a conversation. What comes in meanwhile follows; after its end, nothing is held back.
pub(super) struct Sending<'a> {
    queue: &'a RefusalQueue,
    key: String,
    is_over: bool,
}

impl RefusalQueue {
    /// Begins the sending; `None` if one is under way, which tells this refusal, too.
    pub fn begin(&self, incoming: &ChatEvent, reply: &Reply) -> Option<Sending<'_>> {
        let (sender, conversation) = (&incoming.sender, &incoming.conversation);
        let key =
            format!("{:?}/{}/{}/{}", sender.platform, sender.workspace, sender.account, conversation.id);
        let mut queue = self.0.lock();
        if let Some(followers) = queue.get_mut(&key) {
            followers.push((incoming.clone(), reply.clone()));
            return None;
        }
        queue.insert(key.clone(), Followers::default());
        Some(Sending { queue: self, key, is_over: false })
    }
}

impl Sending<'_> {
    /// The refusals that came in meanwhile; after an empty answer the next one begins a sending of its own.
    pub fn followers(&mut self) -> Followers {
        let mut queue = self.queue.0.lock();
        let followers = queue.get_mut(&self.key).map(std::mem::take).unwrap_or_default();
        if followers.count == 0 {
            queue.remove(&self.key);
            self.is_over = true;
        }
        followers
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.queue.0.lock().remove(&self.key);
        }
    }
}

impl Followers {
    fn push(&mut self, refusal: Refusal) {
        let reply = &refusal.1;
        let is_same =
            |known: &Reply| known.heading.command == reply.heading.command && known.blocks == reply.blocks;
        match self.kinds.iter().position(|(_, known)| is_same(known)) {
            Some(index) => self.kinds[index].0 += 1,
            None if self.kinds.len() < MAX_TOLD => self.kinds.push((1, reply.clone())),
            None => {}
        }
        self.count += 1;
        self.last = Some(refusal);
    }

    /// One refusal for all of them, as the answer to the last; `None` if there are none.
    pub fn together(self) -> Option<Refusal> {
        let (incoming, last) = self.last?;
        if self.count == 1 {
            return Some((incoming, last));
        }
        Some((incoming, Reply { blocks: blocks(self.count, &self.kinds), ..last }))
    }
}

fn blocks(count: usize, kinds: &[(usize, Reply)]) -> Vec<Block> {
    let text = format!("{count} of your commands were refused.").into();
    let mut blocks = vec![Block::Verdict { severity: Severity::Warning, text }];
    for (number, reply) in kinds {
        let times = if *number == 1 { String::new() } else { format!(", {number} times") };
        blocks.push(Block::Text(Text::new().code(reply.heading.command.clone()).plain(format!("{times}:"))));
        blocks.extend(reply.blocks.iter().cloned());
    }
    let told: usize = kinds.iter().map(|(number, _)| number).sum();
    if told < count {
        let others = format!("{} others are not shown. `help` lists the commands.", count - told);
        blocks.push(Block::Note(others.into()));
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChatAccount, ChatEventKind, Conversation, Heading, PlatformKind};

    fn refusal(account: &str, conversation: &str, line: &str) -> Refusal {
        let sender = ChatAccount::new(PlatformKind::Slack, "T1", account.to_owned(), None);
        let incoming = ChatEvent {
            delivery: line.to_owned(),
            sender,
            conversation: Conversation::new(PlatformKind::Slack, "T1", conversation.to_owned()),
            handle: None,
            event: ChatEventKind::Command(line.into()),
        };
        let heading = Heading { requester: None, command: line.to_owned(), environment: None, run: None };
        let text = format!("`{line}` is not a command.").into();
        let reply = Reply::new(heading).with(Block::Verdict { severity: Severity::Warning, text });
        (incoming, reply.ephemeral())
    }

    fn words(reply: &Reply) -> Vec<String> {
        let words = reply.blocks.iter().filter_map(|block| match block {
            Block::Verdict { text, .. } | Block::Text(text) | Block::Note(text) => Some(text.words()),
            _ => None,
        });
        words.collect()
    }

    #[test]
    fn one_is_told_as_it_is_and_several_once_with_their_number() {
        let of = |lines: &[&str]| {
            let mut followers = Followers::default();
            lines.iter().for_each(|line| followers.push(refusal("U1", "C1", line)));
            followers.together()
        };
        assert!(of(&[]).is_none());
        assert_eq!(of(&["a"]).unwrap().1, refusal("U1", "C1", "a").1);
        let (incoming, reply) = of(&["a", "b", "a", "c"]).unwrap();
        assert_eq!((incoming.delivery.as_str(), reply.heading.command.as_str()), ("c", "c"));
        let (_, reply) = of(&["a", "b", "a", "a"]).unwrap();
        let told = ["4 of your commands were refused.", "a, 3 times:", "`a` is not a command."];
        assert_eq!(words(&reply), [&told[..], &["b:", "`b` is not a command."]].concat());
        let (_, many) = of(&["a", "b", "c", "d", "e", "f", "g", "g"]).unwrap();
        assert!(words(&many).last().unwrap().starts_with("3 others are not shown"), "{:?}", words(&many));
    }

    #[test]
    fn what_comes_during_a_sending_follows_it_by_person_and_conversation() {
        let queue = RefusalQueue::default();
        let begin = |account, conversation, line| {
            let (incoming, reply) = refusal(account, conversation, line);
            queue.begin(&incoming, &reply)
        };
        let mut sending = begin("U1", "C1", "a").unwrap();
        assert!(begin("U1", "C1", "b").is_none() && begin("U1", "C1", "c").is_none());
        drop((begin("U2", "C1", "a").unwrap(), begin("U1", "C2", "a").unwrap()));
        assert_eq!(sending.followers().count, 2);
        assert!(begin("U1", "C1", "d").is_none());
        assert_eq!(sending.followers().count, 1);
        assert!(sending.followers().last.is_none());
        let next = begin("U1", "C1", "e").unwrap();
        drop(sending);
        assert!(begin("U1", "C1", "f").is_none(), "the next one is under way");
        // A sending that is broken off holds nothing back.
        drop(next);
        assert!(begin("U1", "C1", "g").is_some());
        assert!(queue.0.lock().is_empty());
    }
}
