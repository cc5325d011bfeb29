//! What an answer has looked at: made from the sections that ran, and without an all-clear where one of them could not.

use crate::catalog_objects::Object;
use crate::harness::{World, severity, words};
use crate::majors::{Form, forms};
use countersign::catalog::{Scope, Section};
use countersign::model::{Coverage, Severity};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;

/// At most so many characters: three lines of small print on a phone 390 pixels wide.
const MAX_CHARACTERS: usize = 130;

/// Each subject of the answer's list, and the targets on which it was looked at.
fn looked_at(told: &str) -> BTreeMap<String, String> {
    let Some(list) = told.lines().find_map(|line| line.strip_prefix("Looked at: ")) else {
        return BTreeMap::new();
    };
    let places = list.trim_end_matches('.').split("; ");
    let subjects = places.flat_map(|part| {
        let (subjects, place) = part.rsplit_once(" on ").unwrap();
        subjects.split(", ").flat_map(|subject| subject.split(" and ")).map(move |subject| {
            let whole = subject.trim_end_matches(" (in part)");
            (whole.to_owned(), format!("{place}{}", &subject[whole.len()..]))
        })
    });
    subjects.collect()
}

/// A list's entries for the words of a section, which may be several.
fn places<'a>(list: &'a BTreeMap<String, String>, subject: &str) -> Vec<Option<&'a String>> {
    let words = subject.split(", ").flat_map(|words| words.split(" and "));
    words.map(|words| list.get(words)).collect()
}

/// The sections that run for a form of a command.
fn sections<'w>(world: &World, form: &'w Form<'_>) -> Vec<&'w Section> {
    let all = form.command.sections(world.cluster.version_num() / 10_000).iter();
    let applies = |section: &&Section| {
        section.when.as_ref().is_none_or(|when| form.values.contains_key(&when.argument) == when.must_be_set)
    };
    all.filter(applies).collect()
}

/// True if the answer says that a section was not checked: by name, or because its target gave no answer at all.
fn is_told(told: &str, subject: &str, target: &str) -> bool {
    let is_named = |line: &str| {
        let line = line.trim_start_matches("WARNING: ");
        let subjects = line.strip_prefix(&format!("Not checked on {target}: "));
        let subjects = subjects.and_then(|subjects| subjects.split(" (").next()).unwrap_or_default();
        format!(", {subjects}, ").contains(&format!(", {subject}, "))
    };
    let silent = ["CRITICAL: No result from ", "CRITICAL: No whole answer from "];
    let is_silent =
        |line: &str| silent.iter().any(|verdict| line.starts_with(verdict)) && line.contains(target);
    told.lines().any(|line| is_named(line) || is_silent(line))
}

/// Takes an object away and asks. The sections that name it, and what is wrong with the answer.
async fn without(
    world: &World,
    form: &Form<'_>,
    object: &Object,
    databases: &[Client],
) -> (BTreeSet<String>, Vec<String>) {
    let mut found = false;
    for database in databases {
        found |= object.take_away(database).await;
    }
    let answer = world.ask("Ana Example", &form.line()).await.unwrap();
    for database in databases {
        object.give_back(database).await;
    }
    let naming = sections(world, form).into_iter().filter(|section| Object::of(section).contains(object));
    let naming: Vec<&Section> = naming.filter(|_| found).collect();
    let (told, list) = (words(&answer), looked_at(&words(&answer)));
    let mut wrong = Vec::new();
    if !naming.is_empty() && severity(&answer) < Severity::Warning {
        wrong.push("it looks like an all-clear".to_owned());
    }
    for section in &naming {
        let subject = section.subject(form.command);
        let target = if section.scope == Scope::Database { "asset-service" } else { "primary" };
        let listed: Vec<&String> = places(&list, &subject).into_iter().flatten().collect();
        // Some sections answer without what they may not read, and say so.
        let in_part = !listed.is_empty() && listed.iter().all(|place| place.ends_with(" (in part)"));
        if !in_part && (!is_told(&told, &subject, target) || answer.coverage == Coverage::Whole) {
            wrong.push(format!("{subject}: not told of"));
        }
        if !in_part && listed.iter().any(|place| !place.starts_with("9 of 10 databases")) {
            wrong.push(format!("{subject}: looked at on {listed:?}"));
        }
    }
    let wrong = wrong.iter().map(|wrong| format!("{} without {}: {wrong}: {told}", form.line(), object.name));
    (naming.iter().map(|section| section.subject(form.command)).collect(), wrong.collect())
}

/// What is wrong with a whole answer's list: it has every section, and fits on a phone.
fn wrong_list(told: &str, form: &Form<'_>, sections: &[&Section]) -> Vec<String> {
    let list = looked_at(told);
    let has_checks = sections.iter().any(|section| section.check);
    let shown = sections.iter().filter(|section| !section.limits && !has_checks);
    let missing = shown.map(|section| section.subject(form.command));
    let missing = missing.filter(|subject| places(&list, subject).iter().any(Option::is_none));
    let mut wrong: Vec<String> = missing.map(|subject| format!("{subject}: not listed: {told}")).collect();
    let printed = told.lines().find(|line| line.starts_with("Looked at: ")).unwrap_or_default();
    if has_checks && !printed.is_empty() || printed.chars().count() > MAX_CHARACTERS {
        wrong.push(format!("too long, or there are checks: {printed}"));
    }
    wrong
}

/// For each relation and function that a section reads: without it, the section leaves the list and is told of.
#[tokio::test(flavor = "multi_thread")]
async fn a_section_without_its_privilege_leaves_the_list_and_is_named() {
    let world = World::start().await;
    let mut databases = Vec::new();
    for database in ["postgres", "asset_service_db"] {
        databases.push(world.cluster.connect(database).await.unwrap());
    }
    let mut wrong = Vec::new();
    for form in forms(&world) {
        let sections = sections(&world, &form);
        let found = wrong_list(&world.told(&form.line()).await, &form, &sections);
        wrong.extend(found.into_iter().map(|wrong| format!("{}: {wrong}", form.line())));
        let mut tried = BTreeSet::new();
        for object in sections.iter().flat_map(|section| Object::of(section)).collect::<BTreeSet<_>>() {
            let (naming, found) = without(&world, &form, &object, &databases).await;
            tried.extend(naming);
            wrong.extend(found);
        }
        // The age of a backup is no object of a database.
        let reading = sections.iter().filter(|section| !Object::of(section).is_empty());
        let all: BTreeSet<String> = reading.map(|section| section.subject(form.command)).collect();
        let untried: Vec<&String> = all.difference(&tried).collect();
        wrong.extend((tried != all).then(|| format!("{}: not taken away: {untried:?}", form.line())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A database that gives no answer is not counted among those that were looked at.
#[tokio::test(flavor = "multi_thread")]
async fn the_list_counts_the_databases_that_answered() {
    let world = World::start().await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    superuser.batch_execute("ALTER DATABASE payout_service_db RENAME TO lost").await.unwrap();
    let told = world.told("sequences").await;
    assert!(told.starts_with("CRITICAL: No whole answer from payout-service.\n"), "{told}");
    assert!(told.contains("\nLooked at: sequences on 9 of 10 databases.\n"), "{told}");
    superuser.batch_execute("ALTER DATABASE lost RENAME TO payout_service_db").await.unwrap();
    let told = world.told("sequences").await;
    assert!(told.contains("\nLooked at: sequences on all 10 databases.\n"), "{told}");
}

/// One privilege that is missing everywhere takes one line.
#[tokio::test(flavor = "multi_thread")]
async fn databases_with_the_same_reason_share_a_line() {
    let world = World::start().await;
    let refuses = "Countersign's login is missing the privilege";
    for (service, _) in &world.team.services {
        let database = world.cluster.connect(&service.database).await.unwrap();
        database.batch_execute("REVOKE SELECT ON pg_catalog.pg_constraint FROM PUBLIC").await.unwrap();
    }
    let told = world.told("indexes all").await;
    let line = format!(
        "Not checked on all 10 databases: redundant indexes, foreign keys, unused indexes, primary keys (each refuses it: {refuses}).\n"
    );
    assert!(told.contains(&line), "{told}");
    let two = ["auth_service_db", "user_service_db"];
    for (service, _) in
        world.team.services.iter().filter(|(service, _)| !two.contains(&service.database.as_str()))
    {
        let database = world.cluster.connect(&service.database).await.unwrap();
        database.batch_execute("GRANT SELECT ON pg_catalog.pg_constraint TO PUBLIC").await.unwrap();
    }
    let told = world.told("indexes all").await;
    assert!(told.contains(&line.replace("all 10 databases", "auth-service and user-service")), "{told}");
}

/// What a section could not see of its subject is not claimed.
#[tokio::test(flavor = "multi_thread")]
async fn the_list_says_what_was_looked_at_in_part() {
    let world = World::start().await;
    let told = world.told("bloat asset-service").await;
    assert!(told.contains("\nLooked at: bloat (in part) and dead rows on asset-service.\n"), "{told}");
    let list = "\nLooked at: idle transactions on primary; their locked tables on all 10 databases.\n";
    let told = world.told("idle").await;
    assert!(told.contains(list), "{told}");
    let session = world.cluster.connect("asset_service_db").await.unwrap();
    session.batch_execute("SET track_activities = off").await.unwrap();
    let told = world.told("idle").await;
    assert!(told.contains(&list.replace(" on primary", " (in part) on primary")), "{told}");
}
