//! A year of starts, by an injected clock: two replicas on one audit log, restarts, clocks that are set back, an outage, and both changes
//! of summer time in two zones. Each due time is started or counted as missed, exactly once.

use crate::harness::{ANA, Scene, Twist, found};
use crate::replicas::{scene_on_one_log, shared_log};
use countersign::demo::harness::INCIDENT;
use countersign::model::Run;
use countersign::schedule::ScheduledStart;
use countersign::store::{Filter, Store};
use countersign::workflow::Workflow;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A bot that starts windows only when it is told the time.
pub async fn replica(scene: &Scene) -> Arc<Workflow> {
    let app = countersign::bootstrap::assemble(scene.stage.checked().unwrap()).await.unwrap();
    let platforms = countersign::chat::platforms(&app).unwrap();
    Workflow::new(app, countersign::chat::senders(&platforms))
}

/// A window in the configuration, and the instants at which it is due in 2027.
struct Expected {
    name: &'static str,
    section: String,
    due: Vec<Timestamp>,
}

impl Expected {
    /// A window at a time of each Sunday: clocks change on Sundays. `gap` is the day on which the time is skipped, and the end of
    /// the gap. `connect` reads the configuration only: what is simulated is the schedule.
    fn sundays(name: &'static str, zone: &str, hour: i8, gap: Option<(Date, &str)>) -> Expected {
        let section = format!(
            "\n[[schedule]]\nname = \"{name}\"\nrun = \"connect asset-service\"\nenvironments = [\"production\"]\n\
             at = \"30 {hour} * * SUN\"\nzone = \"{zone}\"\nchannel = \"{INCIDENT}\"\n"
        );
        let zone = TimeZone::get(zone).unwrap();
        let sundays = date(2027, 1, 3).series(7.days()).take_while(|day| day.year() == 2027);
        // Of a repeated time this is the first.
        let usual = |day: Date| zone.to_zoned(day.at(hour, 30, 0, 0)).unwrap().timestamp();
        let due = sundays.map(|day| match gap {
            Some((skipped, end)) if skipped == day => at(end),
            _ => usual(day),
        });
        Expected { name, section, due: due.collect() }
    }
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

async fn starts(store: &dyn Store, window: &str) -> Vec<(Run, ScheduledStart)> {
    let requester = Some(format!("schedule {window}"));
    let filter = Filter { requester, include_reads: true, limit: usize::MAX, ..Filter::default() };
    let runs = store.list(filter).await.unwrap().runs;
    runs.into_iter().map(|run| (run.clone(), ScheduledStart::of(&run).expect("a start"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_due_time_of_a_year_is_started_or_counted_as_missed_once() {
    let (berlin, new_york) = ("Europe/Berlin", "America/New_York");
    let windows = [
        Expected::sundays("Berlin", berlin, 2, Some((date(2027, 3, 28), "2027-03-28T01:00:00Z"))),
        Expected::sundays("New York early", new_york, 1, None),
        Expected::sundays("New York", new_york, 2, Some((date(2027, 3, 14), "2027-03-14T07:00:00Z"))),
    ];
    let more: String = windows.iter().map(|window| window.section.as_str()).collect();
    let scene = scene_on_one_log(Twist { more: &more, ..Twist::default() }).await;
    let mut replicas = [replica(&scene).await, replica(&scene).await];
    let is_away = |time: &Timestamp| (at("2027-05-28T12:00:00Z")..at("2027-06-10T12:00:00Z")).contains(time);

    let back = at("2027-06-10T12:00:00Z");
    let due_times = windows.iter().flat_map(|window| window.due.iter().copied());
    let times: BTreeSet<Timestamp> = due_times.chain([back]).collect();
    for (step, due) in times.iter().filter(|due| !is_away(due)).enumerate() {
        if step % 29 == 7 {
            replicas[step % 2] = replica(&scene).await;
        }
        let [first, second] = &replicas;
        let late = *due + SignedDuration::from_secs(step as i64 % 50);
        tokio::join!(first.start_due_windows(*due), second.start_due_windows(late));
        let earlier = SignedDuration::from_hours(15 * 24);
        if step % 17 == 3 && !is_away(&(*due - earlier)) {
            // One replica's clock is set back across the due time and the days before it, and goes on from there.
            for hours in [6 * 24, 3, 0] {
                first.start_due_windows(*due - SignedDuration::from_hours(hours)).await;
            }
        }
    }

    let store = shared_log(&scene).await;
    for Expected { name, due, .. } in &windows {
        let starts = starts(&store, name).await;
        let started: Vec<Timestamp> = starts.iter().rev().map(|(_, start)| start.due).collect();
        let mut away: Vec<Timestamp> = due.iter().copied().filter(is_away).collect();
        // The last of those that nobody started is recorded as not started, and counts the others.
        let last_missed = away.pop();
        let wanted: Vec<Timestamp> =
            due.iter().copied().filter(|due| !is_away(due) || Some(*due) == last_missed).collect();
        assert_eq!(started, wanted, "{name}");
        let missed: Vec<_> = starts.iter().filter(|(_, start)| start.missed > 0).collect();
        let [(_, after)] = missed[..] else { panic!("{name}: {missed:?}") };
        assert_eq!((after.missed, after.missed_since), (away.len(), away.first().copied()), "{name}");
    }
    assert_eq!(store.verify().await.unwrap().first_error, None);
    // Nobody is told of those that went well.
    let told = || {
        let messages = scene.workspace().visible_messages(ANA, INCIDENT);
        messages.iter().map(|message| message.plain()).collect::<Vec<String>>()
    };
    let told = found("three messages", async || Some(told()).filter(|told| told.len() >= 3)).await;
    assert_eq!(told.len(), 3, "{told:#?}");
    for since in ["2027-05-30 00:30", "2027-05-30 05:30", "2027-05-30 06:30"] {
        let words = format!("The start at {since} UTC was missed.");
        assert!(told.iter().any(|told| told.contains(&words)), "{words}: {told:#?}");
    }
}
