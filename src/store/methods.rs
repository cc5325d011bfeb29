//! The methods of a store, for those that stand before another one.

/// Calls a macro with the signature of every asynchronous method of [`Store`](crate::store::Store), its result without the error.
/// Their types have to be in scope.
#[macro_export]
macro_rules! store_methods {
    ($macro:ident) => {
        $macro! {
            fn append_if_unchanged(append: Append) -> AppendOutcome;
            fn check_instance() -> ();
            fn now() -> Timestamp;
            fn open(new: NewRun) -> OpenOutcome;
            fn get(run: RunId) -> Option<Run>;
            fn list(filter: Filter) -> RunPage;
            fn events(after: i64, limit: usize) -> Vec<EventRow>;
            fn erase(run: RunId, name: &str) -> usize;
            fn verify() -> ChainReport;
            fn status() -> StoreStatus;
            fn orphans() -> Vec<Run>;
            fn overdue() -> Vec<Run>;
            fn put_tokens(tokens: Vec<ButtonToken>) -> ();
            fn token(token: &str) -> Option<ButtonToken>;
            fn take_token(token: &str) -> bool;
            fn add_card(run: RunId, conversation: Conversation, kind: CardKind) -> i64;
            fn card(id: i64) -> Option<Card>;
            fn claim_card(id: i64, period: Duration) -> bool;
            fn update_card(card: Card) -> bool;
            fn outdated_cards() -> Vec<Card>;
            fn run_cards(run: RunId) -> Vec<Card>;
            fn remove_old_cards(age: Duration) -> usize;
            fn change_freeze(change: FreezeChange) -> bool;
            fn frozen() -> Option<ActiveFreeze>;
            fn set_rate_limit(name: String, until: Timestamp) -> ();
            fn rate_limits() -> Vec<(String, Timestamp)>;
            fn begin_look(environment: &str, name: &str, due: Timestamp) -> Option<WatchState>;
            fn end_look(environment: &str, name: &str, due: Timestamp, content: String) -> bool;
            fn put_figures(figures: Vec<Figure>) -> ();
            fn figures(environment: &str, server: &str, name: &str) -> Vec<(Timestamp, f64)>;
            fn watch_states() -> Vec<WatchState>;
            fn bind_conversation(binding: Binding) -> bool;
            fn conversation_environment(conversation: Conversation) -> Option<String>;
        }
    };
}

pub use store_methods;
