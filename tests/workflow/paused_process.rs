//! A process that is paused for so long that another takes it for dead, and then wakes: at each moment of
//! each command's execution its effect happens once, and the record tells it.

use crate::acting_commands::{ACTING_COMMANDS, ActingCommand};
use crate::harness::found;
use crate::pair::{Effects, Pair, Runs};
use crate::process::kinds;
use countersign::actions::{self, EffectGuard, Implementation};
use countersign::catalog::Catalog;
use countersign::model::RunState;
use countersign::store::Store;

/// A moment of an execution at which its process is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Ready to take its lock on the target: it asks the audit log afterwards.
    BeforeLock,
    /// It has its lock, has asked the audit log, and the statement that acts is on its way.
    WithLock,
    /// It has acted, and its end isn't recorded.
    AfterEffect,
}

impl Moment {
    /// Words of the messages to a target that are held: every lock of Countersign's, or the statement that acts.
    fn held_words(self) -> Vec<&'static str> {
        match self {
            Moment::WithLock => ACTING_COMMANDS.iter().map(|acting| acting.statement).collect(),
            Moment::BeforeLock | Moment::AfterEffect => {
                vec!["pg_try_advisory_lock", "pg_advisory_xact_lock"]
            }
        }
    }

    /// Tells whether a second run of the command is requested while the first one's process is paused.
    fn has_second_run(self, acting: &ActingCommand) -> bool {
        self != Moment::AfterEffect && acting.beside_the_lock.second.is_some()
    }

    /// Tells whether the command's effect comes only when the first run's process wakes.
    fn acts_after_waking(self, acting: &ActingCommand) -> bool {
        self == Moment::WithLock
            && acting.beside_the_lock.second.is_some_and(|state| state != RunState::Succeeded)
    }
}

/// Pauses A at that moment of every command, lets B take its runs over and others be requested beside them, and wakes A.
async fn pause_at(moment: Moment) {
    let pair = Pair::new().await;
    let before = pair.effects().await;
    pair.target_gate.close(moment.held_words());
    let first = pair.run_all(&pair.a, |_| true).await;
    pair.target_gate.holds(ACTING_COMMANDS.len()).await;
    assert_eq!(pair.effects().await, before);
    let mut effects = Effects::new();
    if moment == Moment::AfterEffect {
        pair.store_gate.close(vec!["succeeded"]);
        pair.target_gate.open();
        effects = pair.have_happened(&before, |_| true).await;
        pair.store_gate.holds(1).await;
    }
    pair.a_is_taken_for_dead(&first).await;
    let second = pair.run_all(&pair.b, |acting| moment.has_second_run(acting)).await;
    pair.second_runs_end(moment, &second).await;
    if moment != Moment::AfterEffect {
        effects = pair.have_happened(&before, |acting| !moment.acts_after_waking(acting)).await;
    }
    if moment == Moment::WithLock {
        pair.b_judges_nothing(&first).await;
    }

    // From here on A's word alone counts.
    pair.b.pause();
    pair.target_gate.open();
    pair.store_gate.open();
    pair.a.resume();
    effects.extend(pair.have_happened(&before, |acting| moment.acts_after_waking(acting)).await);
    pair.a.logs("execution ended", first.len()).await;
    pair.first_runs_end(moment, &first).await;
    assert_eq!(pair.effects().await, effects);
    assert_eq!(pair.record.verify().await.unwrap().first_error, None);
}

impl Pair {
    async fn second_runs_end(&self, moment: Moment, second: &Runs) {
        for acting in ACTING_COMMANDS.iter().filter(|acting| moment.has_second_run(acting)) {
            let beside_the_lock = acting.beside_the_lock.second.filter(|_| moment == Moment::WithLock);
            let expected = beside_the_lock.unwrap_or(RunState::Succeeded);
            let run = self.ends(second[acting.command]).await;
            assert_eq!(run.state, expected, "{}: {:?}", acting.command, run.text("verdict"));
        }
    }

    /// Waits until B has looked at every run whose session waits to act, and has recorded no outcome.
    async fn b_judges_nothing(&self, first: &Runs) {
        for acting in ACTING_COMMANDS.iter().filter(|acting| acting.beside_the_lock.second.is_some()) {
            let run = first[acting.command];
            found(&format!("B to look at {}", acting.command), async || {
                let looks = self.b.logged("run outcome not known yet");
                looks.iter().any(|line| line["fields"]["run"] == run).then_some(())
            })
            .await;
            let run = self.record.get(run).await.unwrap().unwrap();
            assert_eq!(run.state, RunState::Interrupted, "{}: {:?}", acting.command, run.text("verdict"));
        }
    }

    async fn first_runs_end(&self, moment: Moment, first: &Runs) {
        for acting in &ACTING_COMMANDS {
            let run = self.ends(first[acting.command]).await;
            let verdict = run.text("verdict").unwrap_or_default();
            assert!(kinds(&run).contains(&"interrupted"), "{}: {run:?}", acting.command);
            match moment {
                Moment::BeforeLock if moment.has_second_run(acting) => {
                    // B may have looked at the target before A woke.
                    let words = ["another process took the run over", "Countersign was interrupted"];
                    assert!(
                        words.iter().any(|words| verdict.contains(words)),
                        "{}: {verdict}",
                        acting.command
                    );
                }
                Moment::WithLock => {
                    assert_eq!(run.state, acting.beside_the_lock.first, "{}: {verdict}", acting.command);
                }
                Moment::BeforeLock | Moment::AfterEffect => {
                    assert_eq!(run.state, RunState::Succeeded, "{}: {verdict}", acting.command);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_before_the_lock_it_does_nothing_more() {
    pause_at(Moment::BeforeLock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_with_the_lock_it_acts_once_and_nobody_beside_it() {
    pause_at(Moment::WithLock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_after_it_acted_it_is_recorded_once() {
    pause_at(Moment::AfterEffect).await;
}

/// A new command that changes something needs a scene here, unless its effect is in the audit log alone.
#[test]
fn every_command_with_an_effect_elsewhere_is_paused_here() {
    let catalog = Catalog::built_in().unwrap();
    for command in catalog.iter() {
        let Some(Implementation::Action(action)) = actions::find(command) else { continue };
        let guards = action.effect_guards();
        assert!(!guards.is_empty(), "{}", command.name);
        let has_scene = ACTING_COMMANDS.iter().any(|acting| acting.command == command.name);
        let is_elsewhere =
            [EffectGuard::TargetLock, EffectGuard::RunKey].iter().any(|guard| guards.contains(guard));
        assert_eq!(has_scene, is_elsewhere, "{}: {guards:?}", command.name);
    }
}
