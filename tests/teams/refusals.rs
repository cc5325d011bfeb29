//! Teams refuses what is sent: whoever acted or asked hears of it by another way, and a decided card loses its buttons.

use crate::bot_process::{Bot, INCIDENT, Twist, found};
use countersign::demo::fake_teams::{ConnectorFault, TeamsMessage};

/// The statuses and codes of the Connector, from Microsoft's table, and some that it doesn't have.
const REFUSALS: [(u16, &str); 17] = [
    (400, "BadArgument"),
    (400, "BadSyntax"),
    (400, "Bad Argument"),
    (401, "BotNotRegistered"),
    (403, "BotDisabledByAdmin"),
    (403, "BotNotInConversationRoster"),
    (403, "ConversationBlockedByUser"),
    (403, "ForbiddenOperationException"),
    (403, "InvalidBotApiHost"),
    (403, "NotEnoughPermissions"),
    (404, "ConversationNotFound"),
    (405, "NextYearsError"),
    (409, "Conflict"),
    (412, "PreconditionFailed"),
    (413, "MessageSizeTooBig"),
    (503, "ServiceError"),
    (504, "ServiceError"),
];

/// Everything that somebody sees of the bot's, there and in the conversation with it.
fn seen(bot: &Bot, who: &str) -> Vec<TeamsMessage> {
    let personal = bot.teams.personal(who);
    [INCIDENT, &personal].iter().flat_map(|place| bot.answers(who, place)).collect()
}

async fn hears(bot: &Bot, who: &str, words: &str) -> TeamsMessage {
    found(words, async || seen(bot, who).into_iter().find(|message| message.plain().contains(words))).await
}

async fn is_called_again(bot: &Bot, method: &str, before: usize) {
    bot.teams
        .wait_for(method, |teams| (teams.calls(method) > before).then_some(()))
        .await
        .unwrap_or_else(|why| panic!("{why}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_hears_of_it_though_messages_are_refused() {
    let bot = Bot::start(Twist::default()).await;
    for (status, code) in REFUSALS {
        let before = bot.teams.calls("post");
        let runs = bot.runs(Some("sizes")).await.len();
        bot.teams.fault("post", ConnectorFault::Refused(status, code));
        assert!(bot.teams.say("ana", INCIDENT, "sizes --env production").await.ok());
        is_called_again(&bot, "post", before).await;
        bot.teams.fault("post", ConnectorFault::Clear);
        let run = found("the run", async || {
            let all = bot.runs(Some("sizes")).await;
            all.first().filter(|_| all.len() > runs).map(|run| run.id)
        })
        .await;
        let told = hears(&bot, "ana", &format!("#{run}")).await;
        assert!(told.plain().contains("databases take"), "{status} {code}: {}", told.plain());
    }
    bot.teams.take_refusals();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_decided_card_keeps_its_buttons_though_edits_are_refused() {
    let bot = Bot::start(Twist::default()).await;
    for (status, code) in REFUSALS {
        let (_victim, pid) = bot.session("asset-worker-7").await;
        let before = bot.teams.calls("put");
        let card = bot.kill_card(pid).await;
        bot.teams.fault("put", ConnectorFault::Refused(status, code));
        assert!(bot.teams.click_button("ben", &card, "Deny").await.ok());
        is_called_again(&bot, "put", before).await;
        bot.teams.fault("put", ConnectorFault::Clear);
        let is_over = |who: &str| {
            let card = bot.teams.visible_message(who, &card);
            card.is_some_and(|card| {
                card.button("Approve").is_none() && card.plain().contains("Denied by ben")
            })
        };
        found(code, async || ["ana", "ben", "cara", "dan"].into_iter().all(is_over).then_some(())).await;
    }
    bot.teams.take_refusals();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_targeted_messages_a_mistake_is_told_directly() {
    let bot = Bot::start(Twist::default()).await;
    bot.teams.fault("targeted", ConnectorFault::Refused(400, "BadArgument"));
    assert!(bot.teams.say("ana", INCIDENT, "bloked").await.ok());
    let told = hears(&bot, "ana", "Did you mean").await;
    assert_eq!(told.conversation, bot.teams.personal("ana"));
    assert!(bot.answers("dan", INCIDENT).is_empty(), "{}", bot.teams.transcript());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_without_a_direct_message_is_called_to_the_card_at_once() {
    let bot = Bot::start(Twist::default()).await;
    // The bot isn't installed for these people.
    bot.teams.fault("create", ConnectorFault::Refused(403, "ForbiddenOperationException"));
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = bot.kill_card(pid).await;
    let words = "a direct message about this request couldn't be sent to you";
    for who in ["ben", "cara"] {
        let called = found(words, async || {
            let all = bot.answers(who, INCIDENT).into_iter();
            all.into_iter().find(|message| {
                let plain = message.plain();
                plain.contains(words) && plain.contains(&format!("{who}: "))
            })
        });
        let called = called.await;
        assert_eq!(
            called.thread,
            bot.teams.visible_message(who, &card).and_then(|card| card.thread),
            "beside the card"
        );
        assert!(called.cards.iter().any(|card| card.to_string().contains("\"mention\"")), "{called:?}");
    }
    let calls = bot.answers("dan", INCIDENT).iter().filter(|message| message.plain().contains(words)).count();
    assert_eq!(calls, 2, "{}", bot.teams.transcript());
    assert!(bot.teams.click_button("ben", &card, "Deny").await.ok());
    bot.sees("ana", &card, "Denied by ben").await;
    bot.teams.take_refusals();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_thread_is_gone_stands_in_the_conversation() {
    let bot = Bot::start(Twist::default()).await;
    bot.teams.fault("thread", ConnectorFault::Refused(404, "ActivityNotFoundInConversation"));
    assert!(bot.teams.say("ana", INCIDENT, "sizes --env production").await.ok());
    let told = hears(&bot, "dan", "databases take").await;
    assert_eq!(told.conversation, INCIDENT);
}
