//! `schedule`: what was due and didn't run is the first thing that is said.

use crate::harness::{ANA, DAN, Scene, Twist};
use jiff::{Span, Timestamp, tz::TimeZone};

/// Due two days ago, and then not for a year.
fn two_days_ago() -> String {
    let due = Timestamp::now().to_zoned(TimeZone::UTC).checked_sub(Span::new().days(2)).unwrap();
    due.strftime("%-M %-H %-d %-m *").to_string()
}

fn window((name, run, environment): (&str, &str, &str), within: &str) -> String {
    format!(
        "\n[[schedule]]\nname = \"{name}\"\nrun = \"{run}\"\nenvironments = [\"{environment}\"]\n\
         at = \"{}\"\nwithin = \"{within}\"\n",
        two_days_ago()
    )
}

async fn told(scene: &Scene) -> String {
    scene.asks(ANA, "schedule").await.plain()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_due_and_did_not_run_is_said_first() {
    let more = window(("Nightly dump", "backup asset-service", "production"), "1h")
        + &window(("Sizes", "sizes", "staging"), "7d");
    let scene = Scene::with(Twist { more: &more, ..Twist::default() }).await;
    let never = told(&scene).await;
    assert!(never.contains("Nightly dump (production) was due at "), "{never}");
    assert!(never.contains("and the history has no run of it."), "{never}");
    assert!(never.contains("schedule run \"Nightly dump\" --env production runs it now."), "{never}");

    // Others' runs of the same command are not the window's.
    scene.asks(ANA, "backup asset-service --env staging").await;
    scene.asks(ANA, "backup user-service --env production").await;
    assert!(told(&scene).await.contains("has no run of it"));

    let card = scene.asks(ANA, "backup asset-service --env production").await;
    scene.until(&card.at(), "SHA-256").await;
    let done = told(&scene).await;
    assert!(done.contains("2 windows are on time; next is "), "{done}");
    assert!(done.contains("succeeded "), "{done}");
    assert!(done.contains("never"), "the sizes were asked by nobody, and are not late yet: {done}");

    let newest =
        "UPDATE runs SET state = 'failed' WHERE id = (SELECT max(id) FROM runs WHERE command = 'backup')";
    assert_eq!(scene.tampers(newest), 1);
    let failed = told(&scene).await;
    assert!(failed.contains(", failed.") && failed.contains("show "), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_windows_it_says_how_to_have_one_and_of_elsewhere_nothing() {
    let scene = Scene::usual().await;
    assert!(told(&scene).await.contains("No maintenance window is configured"));
    let looks_at_staging = [(
        "role = \"observer\"\nenvironments = [\"*\"]",
        "role = \"observer\"\nenvironments = [\"staging\"]",
    )];
    let more = window(("Nightly dump", "backup asset-service", "production"), "1h");
    let twist = Twist { more: &more, instead: looks_at_staging.into(), ..Twist::default() };
    let scene = Scene::with(twist).await;
    let dan = scene.asks(DAN, "schedule").await.plain();
    assert!(
        dan.contains("No maintenance window is configured in the environments that you can read."),
        "{dan}"
    );
}
