//! The contract of every chat: the same scenes, written once, played in Slack, in Teams and from a terminal whose requests are
//! decided in chat. Nothing of the workflow may depend on where it is spoken to.

#[path = "../bot_process/mod.rs"]
mod bot_process;
mod chat_driver;
mod client_texts;
mod cross_platform;
mod forms;
mod harness;
mod links;
mod not_set_up;
mod playground;
mod scenarios;
mod slack;
#[path = "../slack_payloads/mod.rs"]
mod slack_payloads;
mod teams;
#[path = "../teams_payloads/mod.rs"]
mod teams_payloads;
mod terminal;

/// Every scene on every platform, each as a test of its own.
macro_rules! table {
    ($($name:ident: $platform:ident),* => $($scene:ident),* $(,)?) => {
        table!(@ [$($name: $platform),*] [$($scene),*]);
    };
    (@ [$($name:ident: $platform:ident),*] $scenes:tt) => {
        $(table!(@one $name $platform $scenes);)*
    };
    (@one $name:ident $platform:ident [$($scene:ident),*]) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scene() {
                    crate::scenarios::$scene(crate::harness::Platform::$platform).await;
                }
            )*
        }
    };
}

mod on {
    table!(slack: Slack, teams: Teams, terminal: Terminal =>
        health_is_answered_for_all_to_see,
        a_wrong_command_is_answered_alone_and_says_what_to_type,
        nobody_decides_their_own_request_and_another_does,
        a_request_is_denied_with_a_reason,
        the_requester_withdraws_and_nobody_else,
        a_request_expires,
        a_button_of_a_decided_request_says_who_decided,
        whoever_is_not_listed_or_a_guest_decides_nothing,
        private_answers_are_the_askers_alone,
        while_frozen_nothing_is_approved,
        the_history_tells_what_was_done,
        long_work_shows_how_far_it_is_and_is_stopped,
        no_secret_of_a_clients_text_is_shown,
    );
}
