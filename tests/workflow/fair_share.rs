//! One member's many commands: they don't hold up another member's, and what is refused of them is told together.

use crate::fake_chat::{Room, incident, words};
use crate::harness::{ANA, BEN, Scene, Twist, found};
use countersign::chat::ingress::{Admission, Ingress};
use countersign::demo::fake_slack::{Fault, Message, Workspace};
use countersign::demo::harness::INCIDENT;
use countersign::model::{Audience, ChatAccount, ChatEvent, ChatEventKind, Conversation, PlatformKind};
use countersign::store::{Filter, Store};
use countersign::workflow::Workflow;
use std::sync::Arc;

/// As many as one member may have there.
const MANY: usize = 256;
/// Another channel, where the bot is.
const ELSEWHERE: &str = "C0DATABASE";

/// Mentions the bot: such an answer waits for the channel's pace, one message a second.
async fn mentions(scene: &Scene, line: &str, times: usize) {
    for _ in 0..times {
        let ack = scene.workspace().mention_bot(ANA, INCIDENT, None, line).await;
        assert!(ack.ok(), "{line}: {ack:?}");
    }
}

async fn answer_elsewhere(scene: &Scene, line: &str) -> Message {
    let before = scene.workspace().visible_messages(BEN, ELSEWHERE).len();
    scene.says_in(BEN, ELSEWHERE, line).await;
    let find = |workspace: &Workspace| workspace.visible_messages(BEN, ELSEWHERE).into_iter().nth(before);
    scene.workspace().wait_for(line, find).await.unwrap_or_else(|why| panic!("{why}"))
}

/// The bot's messages that ana sees in the incident's channel.
fn answers(scene: &Scene, words: &str) -> Vec<String> {
    let seen = scene.workspace().visible_messages(ANA, INCIDENT).into_iter();
    let answers = seen.filter(|message| message.author != ANA).map(|message| message.plain());
    answers.filter(|answer| answer.contains(words)).collect()
}

/// Number of refused commands that a message tells of.
fn refused(answer: &str) -> usize {
    let told = answer.lines().find_map(|line| line.split_once(" of your commands were refused"));
    told.map_or(1, |(before, _)| before.split_whitespace().last().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_member_is_answered_while_many_answers_wait_for_a_channels_pace() {
    let scene = Scene::usual().await;
    mentions(&scene, "sizes asset-service --env production", MANY).await;
    let told = answer_elsewhere(&scene, "health --env production").await.plain();
    assert!(told.contains("ben requested health"), "{told}");
    let before = answers(&scene, "requested sizes").len();
    assert!(before < MANY / 2, "ana's answers came first: {before}");
    // And so is a refusal, and a second question of the same member elsewhere.
    let told = answer_elsewhere(&scene, "bloked").await;
    assert!(told.plain().contains("Did you mean") && told.ephemeral_to.as_deref() == Some(BEN));
    assert!(answers(&scene, "requested sizes").len() < MANY / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_one_member_in_one_conversation_are_told_together() {
    const TIMES: usize = 60;
    let scene = Scene::usual().await;
    scene.workspace().fault("chat.postEphemeral", Fault::Held);
    mentions(&scene, "bloked --env production", TIMES / 2).await;
    mentions(&scene, "helth", TIMES / 2).await;
    // Somebody else isn't behind them.
    let told = answer_elsewhere(&scene, "health --env production").await.plain();
    assert!(told.contains("ben requested health"), "{told}");
    scene.workspace().fault("chat.postEphemeral", Fault::Clear);
    found("all to be told", async || {
        let told = answers(&scene, "Did you mean");
        (told.iter().map(|answer| refused(answer)).sum::<usize>() >= TIMES).then_some(())
    })
    .await;
    let told = answers(&scene, "Did you mean");
    assert_eq!(told.iter().map(|answer| refused(answer)).sum::<usize>(), TIMES, "{told:#?}");
    assert!(told.len() < TIMES / 4, "{} messages", told.len());
    // Each is named, with what to type instead.
    let all = told.concat();
    for words in ["bloked", "blocked", "helth", "health", " times"] {
        assert!(all.contains(words), "{words}: {all}");
    }
    assert_eq!(scene.runs_in_all().await, 1, "what is refused isn't recorded");
}

/// A command, as it comes in from a platform.
fn typed(who: &str, channel: &str, line: &str) -> ChatEvent {
    let sender = ChatAccount::new(PlatformKind::Slack, "T0SAMPLE", who.to_owned(), None);
    let conversation = Conversation { id: channel.to_owned(), ..incident() };
    let delivery = countersign::model::random_token().expect("randomness");
    ChatEvent { delivery, sender, conversation, handle: None, event: ChatEventKind::Command(line.into()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_a_platform_does_not_take_hold_no_place_in_work() {
    let scene = Scene::without_bot(Twist::default()).await;
    let room = Arc::new(Room::default());
    let app = countersign::bootstrap::assemble(scene.stage.checked().unwrap()).await.unwrap();
    let ingress = Ingress::new(Workflow::new(app, vec![room.clone()]));
    room.hang_answers(Some(ANA));
    for _ in 0..MANY {
        let line = "sizes asset-service --env production";
        assert_eq!(ingress.deliver(typed(ANA, INCIDENT, line)), Admission::Accepted);
    }
    // All are worked on, and none is answered.
    let all = Filter { command: Some("sizes".to_owned()), include_reads: true, ..Filter::default() };
    let record = scene.store();
    found("all reads", async || (record.list(all.clone()).await.unwrap().total == MANY).then_some(())).await;
    assert_eq!(ingress.deliver(typed(ANA, ELSEWHERE, "health")), Admission::Overloaded);
    for channel in [ELSEWHERE, INCIDENT] {
        let line = "sizes user-service --env production";
        assert_eq!(ingress.deliver(typed(BEN, channel, line)), Admission::Accepted);
        let answer = async || room.answers.lock().unwrap().pop();
        let requester = found("ben's answer", answer).await.heading.requester;
        assert_eq!(requester.map(|person| person.id).as_deref(), Some("ben"));
    }
    room.hang_answers(None);
    found("ana's answers", async || (room.answers.lock().unwrap().len() >= MANY).then_some(())).await;
    let accepted = async || {
        let admission = ingress.deliver(typed(ANA, ELSEWHERE, "sizes --env production"));
        (admission == Admission::Accepted).then_some(())
    };
    found("ana to be heard again", accepted).await;
}

/// The sum of the numbers in answers that tell of events for which there was no room.
fn declined(room: &Room) -> (usize, usize) {
    let answers: Vec<String> = room.answers.lock().unwrap().iter().map(words).collect();
    let told: Vec<&String> = answers.iter().filter(|answer| answer.contains("is overloaded")).collect();
    (told.len(), told.iter().map(|answer| refused(answer)).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_too_many_there_is_told_once_of_all_that_were_not_executed() {
    const BURST: usize = 500;
    let scene = Scene::without_bot(Twist::default()).await;
    let room = Arc::new(Room::default());
    let app = countersign::bootstrap::assemble(scene.stage.checked().unwrap()).await.unwrap();
    let ingress = Ingress::new(Workflow::new(app, vec![room.clone()]));
    room.hang_answers(Some(ANA));
    let line = "sizes asset-service --env production";
    for _ in 0..MANY + BURST {
        ingress.deliver_or_decline(typed(ANA, INCIDENT, line));
    }
    let last = typed(ANA, INCIDENT, "health --env production");
    ingress.deliver_or_decline(last.clone());
    // What was declined doesn't come to be executed by being sent again.
    ingress.deliver_or_decline(last);
    // The refusals of others wait for none of hers.
    ingress.deliver_or_decline(typed(BEN, INCIDENT, "bloked"));
    found("ben's answer", async || room.answers.lock().unwrap().pop()).await;
    room.hang_answers(None);
    found("all to be told", async || (declined(&room).1 > BURST).then_some(())).await;
    assert_eq!(declined(&room), (2, BURST + 1), "one, and the others together");
    let answers = room.answers.lock().unwrap().clone();
    let told: Vec<_> = answers.iter().filter(|answer| words(answer).contains("is overloaded")).collect();
    assert!(words(told[1]).contains(&format!("{line}, {} times", BURST - 1)), "{}", words(told[1]));
    assert!(words(told[1]).contains("health --env production:"), "{}", words(told[1]));
    assert!(told.iter().all(|answer| answer.audience == Audience::Asker));
    let all = Filter { include_reads: true, ..Filter::default() };
    found("all reads", async || (scene.store().list(all.clone()).await.unwrap().total == MANY).then_some(()))
        .await;
}
