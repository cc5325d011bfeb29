//! Any reply at all, however long and hostile, within Teams' limits, whoever looks.

use crate::checks::{check, inert, known, words};
use crate::sample_replies::any_reply;
use countersign::chat::teams::render::{View, check_size, render};
use countersign::model::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_reply_keeps_every_limit_and_is_inert(reply in any_reply(), ids in 0usize..100) {
        let reply = pinging(reply);
        let ids: Vec<String> = (0..ids).map(|id| format!("29:{id:0>90}")).collect();
        let token = "f".repeat(32);
        let ben = known("ben");
        let fits = check_size(&reply).is_ok();
        for view in [
            View::default(),
            View { user_ids: &ids, token: Some(&token), ..View::default() },
            View { viewer: Some(&ben), token: Some(&token), ..View::default() },
        ] {
            let rendered = render(&reply, &view);
            prop_assert_eq!(check(&rendered), Ok(()));
            prop_assert_eq!(inert(&rendered.card), Ok(()));
            let said = words(&rendered);
            let complete = !said.contains("cut, ") && !said.contains("did not fit");
            prop_assert!(!fits || complete || reply_mentions_a_cut(&reply));
        }
    }
}

/// The reply, with everybody who is named in a text pinged.
fn pinging(mut reply: Reply) -> Reply {
    let ping = |text: &mut Text| {
        for span in &mut text.0 {
            if let Span::Person(person) = span {
                *span = Span::Ping(known(&person.id));
            }
        }
    };
    for block in &mut reply.blocks {
        match block {
            Block::Verdict { text, .. } | Block::Text(text) | Block::Note(text) => ping(text),
            Block::Facts(facts) => facts.iter_mut().for_each(|(_, text)| ping(text)),
            _ => {}
        }
    }
    reply
}

/// A reply whose own text speaks of cuts proves nothing.
fn reply_mentions_a_cut(reply: &Reply) -> bool {
    let text = format!("{reply:?}");
    text.contains("cut, ") || text.contains("did not fit")
}
