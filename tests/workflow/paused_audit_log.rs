//! The audit log's server is paused while commands act: what holds its lock on the target, or has a key of its own, is completed and
//! recorded later; no other step begins.

use crate::acting_commands::{ACTING_COMMANDS, ActingCommand};
use crate::pair::Pair;
use countersign::model::RunState;
use countersign::store::Store;

fn command(name: &str) -> &'static ActingCommand {
    ACTING_COMMANDS.iter().find(|acting| acting.command == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_has_begun_is_completed_and_no_other_begins() {
    let pair = Pair::new().await;
    // Nobody takes A for dead.
    pair.b.pause();
    let (vacuum, backup, analyze) = (command("vacuum"), command("backup"), command("analyze"));
    let before = pair.effects().await;
    pair.target_gate.close(vec![vacuum.statement, backup.statement]);
    let mut runs = pair.run_all(&pair.a, |acting| ["vacuum", "backup"].contains(&acting.command)).await;
    pair.target_gate.holds(2).await;
    pair.target_gate.close(vec!["pg_try_advisory_lock"]);
    runs.extend(pair.run_all(&pair.a, |acting| acting.command == "analyze").await);
    pair.target_gate.holds(3).await;

    pair.store_gate.pause();
    pair.target_gate.open();
    pair.has_happened(vacuum, &before).await;
    pair.has_happened(backup, &before).await;
    pair.a.logs("run's next step waits for the audit log", 1).await;
    assert_eq!(pair.effect(analyze).await, before["analyze"]);
    for run in runs.values() {
        assert_eq!(pair.record.get(*run).await.unwrap().unwrap().state, RunState::Running);
    }

    pair.store_gate.open();
    for (command, run) in &runs {
        let run = pair.ends(*run).await;
        assert_eq!(run.state, RunState::Succeeded, "{command}: {:?}", run.text("verdict"));
    }
    pair.has_happened(analyze, &before).await;
    assert_eq!(pair.record.verify().await.unwrap().first_error, None);
}
