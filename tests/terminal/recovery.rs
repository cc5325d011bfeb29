//! A terminal's process is ended in the middle of its work: the next one sees that, and is not held up by it.

use crate::harness::World;
use countersign::model::RunState;
use std::time::Duration;

async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..3_000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_of_a_process_that_was_ended_holds_up_no_other() {
    let world = World::usual().await;
    let database = world.servers.team.service("auth-service").expect("the service").0.database.clone();
    let holder = world.servers.cluster.connect(&database).await.expect("the superuser");
    // A dump waits for the lock of every table.
    holder
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS held_up (); BEGIN; LOCK TABLE held_up IN ACCESS EXCLUSIVE MODE",
        )
        .await
        .expect("a lock");
    let mut child = world.starts(&["run", "backup", "auth-service", "--env", "staging"]);
    let is_running = async || world.recorded().await.into_iter().find(|run| run.state == RunState::Running);
    let run = until(is_running).await;
    let pid = child.id().expect("a process that lives").to_string();
    assert!(std::process::Command::new("kill").arg(pid).status().expect("kill").success());
    child.wait().await.expect("an end");
    holder.batch_execute("ROLLBACK").await.expect("no lock");
    assert_eq!(world.recorded().await[0].state, RunState::Running);

    let said = world.runs("backup auth-service --env staging").await;
    assert!(said.status == 0 && said.out.contains("OK: "), "{said:?}");
    let shown = world.runs(&format!("show {}", run.id)).await;
    assert!(shown.out.contains("interrupted"), "{shown:?}");
    // PostgreSQL notices a moment later that the dump's client is gone.
    until(async || world.runs("jobs").await.out.contains("OK: No runs are in progress.").then_some(())).await;
}
