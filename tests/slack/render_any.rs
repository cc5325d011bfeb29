//! Any reply at all, however long and hostile, within Slack's limits.

use crate::checks::{check, inert, words};
use countersign::chat::slack::render::{fits, render};
use countersign::message::*;
use proptest::prelude::*;

fn person(id: &str) -> Person {
    Person { id: id.to_owned(), account: Some("U1".to_owned()) }
}

fn any_string() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~]{0,30}",
        2 => "\\PC{0,20}",
        1 => any::<String>(),
        1 => ("\\PC{1,8}", 1usize..500).prop_map(|(text, times)| text.repeat(times)),
        1 => proptest::sample::select(vec!["", " ", "<!channel>", "`", "<@U1>", "*bold*", "&&&&", "👩‍💻🇩🇪", "\u{301}"])
            .prop_map(str::to_owned),
    ]
}

fn any_text() -> impl Strategy<Value = Text> {
    let span = (any_string(), 0..4u8).prop_map(|(text, kind)| match kind {
        0 => Span::Plain(text),
        1 => Span::Strong(text),
        2 => Span::Code(text),
        _ => Span::Person(person(&text)),
    });
    proptest::collection::vec(span, 0..4).prop_map(Text)
}

fn any_buttons(most: usize) -> impl Strategy<Value = Vec<Button>> {
    let button = (any_string(), "[a-f0-9]{0,32}").prop_map(|(label, token)| Button {
        label,
        token,
        style: ButtonStyle::Danger,
    });
    proptest::collection::vec(button, 0..most)
}

fn any_table() -> impl Strategy<Value = Table> {
    let shape = proptest::sample::select(vec![Shape::Left, Shape::Right, Shape::Query]);
    let columns = proptest::collection::vec((any_string(), shape), 0..25);
    let cell = (any_string(), any::<bool>())
        .prop_map(|(text, act)| Cell { text, tone: if act { Tone::Act } else { Tone::Plain } });
    let row = (proptest::collection::vec(cell, 0..6), any_buttons(3))
        .prop_map(|(cells, buttons)| Row { cells, buttons });
    let rows = (proptest::collection::vec(row, 0..4), 1usize..120);
    (columns, rows, proptest::option::of(any_string()), 0usize..1_000).prop_map(
        |(columns, rows, title, total)| Table {
            empty: title.clone(),
            title,
            columns: columns.into_iter().map(|(title, shape)| Column { title, shape }).collect(),
            rows: std::iter::repeat_n(rows.0, rows.1).flatten().collect(),
            total,
        },
    )
}

fn any_block() -> impl Strategy<Value = Block> {
    let tone = proptest::sample::select(vec![Tone::Plain, Tone::Good, Tone::Watch, Tone::Act]);
    prop_oneof![
        (tone, any_text()).prop_map(|(tone, text)| Block::Verdict { tone, text }),
        any_text().prop_map(Block::Text),
        (proptest::collection::vec((any_string(), any_text()), 0..4), 1usize..80)
            .prop_map(|(facts, times)| Block::Facts(std::iter::repeat_n(facts, times).flatten().collect())),
        any_table().prop_map(Block::Table),
        (proptest::option::of(any_string()), any_string())
            .prop_map(|(title, text)| Block::Code { title, text }),
        (proptest::option::of(any::<u8>()), any_string())
            .prop_map(|(percent, label)| Block::Progress { percent, label }),
        any_buttons(60).prop_map(Block::Buttons),
        any_text().prop_map(Block::Note),
    ]
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let blocks = prop_oneof![
        4 => proptest::collection::vec(any_block(), 0..8),
        1 => (any_block(), 1usize..130).prop_map(|(block, times)| vec![block; times]),
    ];
    (any_string(), any_string(), blocks).prop_map(|(who, asked, blocks)| {
        let environment = EnvironmentTag { name: who.clone(), production: true };
        let heading =
            Heading { who: Some(person(&who)), asked, environment: Some(environment), run: Some(1) };
        Reply { heading, audience: Audience::Everyone, blocks, whole: false }
    })
}

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
        prop_assert!(fits(&reply).is_err() || complete || reply_mentions_a_cut(&reply));
    }
}

/// A reply whose own text speaks of cuts proves nothing.
fn reply_mentions_a_cut(reply: &Reply) -> bool {
    let text = format!("{reply:?}");
    text.contains("cut, ") || text.contains("did not fit")
}
