//! The steps of the state machine: who may do what to whom, and when it dies; drawn at random, or written by hand.

use countersign::demo::harness::PEOPLE;
use countersign::model::RunState;
use proptest::prelude::*;

/// Everybody's account, and a second one of two who may approve: each is one person.
pub const ACCOUNTS: [(&str, &str); 6] = [
    (PEOPLE[0].0, PEOPLE[0].1),
    (PEOPLE[1].0, PEOPLE[1].1),
    (PEOPLE[2].0, PEOPLE[2].1),
    (PEOPLE[3].0, PEOPLE[3].1),
    ("U0BENTOO", "ben"),
    ("U0CARATOO", "cara"),
];
pub const SECOND: [(&str, &str); 2] =
    [("[\"U0BEN\"]", "[\"U0BEN\", \"U0BENTOO\"]"), ("[\"U0CARA\"]", "[\"U0CARA\", \"U0CARATOO\"]")];

const ANA: usize = 0;
const BEN: usize = 1;
const CARA: usize = 2;
const BEN_TOO: usize = 4;
const CARA_TOO: usize = 5;

/// What somebody does. Numbers choose among whatever there is by then.
#[derive(Debug, Clone, Copy)]
pub enum Deed {
    Request { who: usize, production: bool },
    Click { who: usize, token: usize },
    Says { who: usize, word: &'static str, run: usize },
}

use Deed::{Click, Request, Says};

/// What befalls them.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Do(Deed),
    Both(Deed, Deed),
    /// A request's time is over.
    TimeIsOver {
        run: usize,
    },
    /// An approving click is held up between the approval and the claim; meanwhile something else happens.
    HeldUp {
        who: usize,
        token: usize,
        meanwhile: Meanwhile,
    },
    /// The process dies so many microseconds after a deed has begun, and another takes its place.
    Crash(Deed, u64),
    /// It dies while PostgreSQL works.
    CrashAtWork {
        who: usize,
        token: usize,
    },
}

/// What happens to an approved run before it is claimed.
#[derive(Debug, Clone, Copy)]
pub enum Meanwhile {
    Says { who: usize, word: &'static str },
    Click { who: usize, token: usize },
    TimeIsOver,
    Crash,
}

pub fn step() -> impl Strategy<Value = Step> {
    let (who, some) = (0..ACCOUNTS.len(), 0..1_000_usize);
    let word = prop_oneof![Just("withdraw"), Just("deny"), Just("stop")];
    let click = (who.clone(), some.clone()).prop_map(|(who, token)| Click { who, token });
    let deed = prop_oneof![
        2 => (who.clone(), any::<bool>()).prop_map(|(who, production)| Request { who, production }),
        4 => click.clone(),
        1 => (who.clone(), word.clone(), some.clone()).prop_map(|(who, word, run)| Says { who, word, run }),
    ];
    let meanwhile = prop_oneof![
        3 => (who.clone(), word).prop_map(|(who, word)| Meanwhile::Says { who, word }),
        1 => (who.clone(), some.clone()).prop_map(|(who, token)| Meanwhile::Click { who, token }),
        1 => Just(Meanwhile::TimeIsOver),
        1 => Just(Meanwhile::Crash),
    ];
    // An Approve button; the requester alone approves nothing that could be held up.
    let approve = (1..ACCOUNTS.len(), 0..1_000_usize).prop_map(|(who, card)| (who, card * 6));
    let held_up = (approve.clone(), meanwhile).prop_map(|((who, token), meanwhile)| Step::HeldUp {
        who,
        token,
        meanwhile,
    });
    prop_oneof![
        10 => deed.clone().prop_map(Step::Do),
        2 => (click.clone(), click).prop_map(|(one, other)| Step::Both(one, other)),
        1 => (deed.clone(), deed.clone()).prop_map(|(one, other)| Step::Both(one, other)),
        1 => some.clone().prop_map(|run| Step::TimeIsOver { run }),
        2 => held_up,
        1 => (deed, 0..20_000_u64).prop_map(|(deed, after)| Step::Crash(deed, after)),
        1 => approve.prop_map(|(who, token)| Step::CrashAtWork { who, token }),
    ]
}

/// The newest card's Approve button.
const APPROVE: usize = 0;

/// Cases that meet every end, and the states of their runs then, newest first.
pub fn by_hand() -> Vec<(Vec<Step>, Vec<RunState>)> {
    let asks = |who, production| Step::Do(Request { who, production });
    let approves = |who| Step::Do(Click { who, token: APPROVE });
    let says = |who, word| Step::Do(Says { who, word, run: 0 });
    let held_up = |meanwhile| Step::HeldUp { who: BEN, token: APPROVE, meanwhile };
    vec![
        (vec![asks(ANA, false), approves(BEN), approves(CARA)], vec![RunState::Succeeded]),
        (vec![asks(ANA, true), approves(BEN), approves(CARA)], vec![RunState::Succeeded]),
        (vec![asks(ANA, true), approves(BEN), approves(BEN_TOO), approves(BEN)], vec![RunState::Pending]),
        (vec![asks(CARA, false), approves(CARA), approves(CARA_TOO)], vec![RunState::Pending]),
        (vec![asks(ANA, false), says(BEN, "deny"), approves(CARA)], vec![RunState::Denied]),
        (vec![asks(CARA, false), says(CARA_TOO, "withdraw"), approves(BEN)], vec![RunState::Withdrawn]),
        (vec![asks(ANA, false), Step::TimeIsOver { run: 0 }, approves(BEN)], vec![RunState::Expired]),
        (
            vec![asks(ANA, false), held_up(Meanwhile::Says { who: CARA, word: "stop" })],
            vec![RunState::Revoked],
        ),
        (vec![asks(ANA, false), held_up(Meanwhile::TimeIsOver)], vec![RunState::Expired]),
        (vec![asks(ANA, false), held_up(Meanwhile::Crash), approves(CARA)], vec![RunState::Revoked]),
        (
            vec![asks(ANA, false), held_up(Meanwhile::Click { who: CARA, token: APPROVE })],
            vec![RunState::Succeeded],
        ),
        (
            vec![
                asks(ANA, false),
                Step::CrashAtWork { who: BEN, token: APPROVE },
                approves(CARA),
                asks(ANA, true),
            ],
            vec![RunState::Pending, RunState::Interrupted],
        ),
    ]
}

/// What the cases must have met.
pub const ENDS: [&str; 9] = [
    "approval_added",
    "denied",
    "withdrawn",
    "revoked",
    "revoked by a person",
    "expired",
    "expired after the approval",
    "interrupted",
    "succeeded",
];
