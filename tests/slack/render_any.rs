//! Any reply at all, however long and hostile, within Slack's limits.

use crate::checks::{check, inert, words};
use crate::sample_replies::any_reply;
use countersign::chat::slack::render::{check_size, render};
use countersign::model::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_reply_keeps_every_limit_and_is_inert(reply in any_reply()) {
        let rendered = render(&reply);
        prop_assert_eq!(check(&rendered), Ok(()));
        prop_assert_eq!(rendered.blocks.iter().try_for_each(inert), Ok(()));
        prop_assert!(!rendered.text.contains(['<', '>']));
        let said = words(&rendered);
        let complete = !said.contains("cut, ") && !said.contains("did not fit");
        prop_assert!(check_size(&reply).is_err() || complete || reply_mentions_a_cut(&reply));
    }
}

/// A reply whose own text speaks of cuts proves nothing.
fn reply_mentions_a_cut(reply: &Reply) -> bool {
    let text = format!("{reply:?}");
    text.contains("cut, ") || text.contains("did not fit")
}
