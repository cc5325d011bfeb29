//! What the server and its databases are set to: sequences near their end, settings, extensions; and that what may not be
//! seen is said to be so.

use crate::harness::{World, severity, words};
use countersign::demo::sample::LoginAccount;
use countersign::model::Severity;

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_near_its_end_and_one_that_may_not_be_seen() {
    let world = World::start().await;
    let campaign = world.ask("Ana Example", "sequences campaign-service").await.unwrap();
    let told = words(&campaign);
    let verdict = "CRITICAL: campaign-service: \"CampaignMember_id_seq\" has used 95 % of its range; 107,374,182 numbers are left.\n";
    assert!(told.starts_with(verdict), "{told}");
    assert!(
        told.contains("\n\"CampaignMember_id_seq\" | 95 % | 107,374,182 | \"CampaignMember\".id"),
        "{told}"
    );
    assert!(told.contains("widen the range of \"CampaignMember_id_seq\" (ALTER SEQUENCE)"), "{told}");
    let all = world.told("sequences").await;
    assert!(
        all.starts_with(verdict) && all.contains("\ncampaign-service | \"CampaignMember_id_seq\" | 95 %"),
        "{all}"
    );

    let asset = world.told("sequences asset-service").await;
    assert!(asset.starts_with("OK: No sequence is near its limit: "), "{asset}");
    let admin = world.cluster.connect("asset_service_db").await.unwrap();
    let make = "CREATE SCHEMA \"Old stuff\"; CREATE TABLE \"Old stuff\".\"User\" (id smallint DEFAULT nextval('audit_logs_id_seq'));
        CREATE SEQUENCE \"Näch ste\" INCREMENT -1 MINVALUE -100; SELECT setval('\"Näch ste\"', -80);
        CREATE SEQUENCE again MAXVALUE 10 CYCLE; SELECT setval('again', 10);
        SELECT setval('audit_logs_id_seq', 30000); GRANT SELECT ON \"Näch ste\", again TO countersign_read;
        REVOKE SELECT ON asset_versions_id_seq FROM countersign_read";
    admin.batch_execute(make).await.unwrap();
    let told = world.told("sequences asset-service").await;
    assert!(
        told.starts_with(
            "CRITICAL: asset-service: audit_logs_id_seq has used 92 % of its range; 2,767 numbers are left.\n"
        ),
        "{told}"
    );
    assert!(
        told.contains("\naudit_logs_id_seq | 92 % | 2,767 | \"Old stuff\".\"User\".id, audit_logs.id"),
        "{told}"
    );
    assert!(told.contains("\n\"Näch ste\" | 80 % | 20 | - | -\n"), "{told}");
    assert!(told.contains("\nagain | 100 % | - | - | cycles\n"), "{told}");
    assert!(told.contains("\nasset-service doesn't let countersign_read read every sequence: GRANT SELECT ON ALL SEQUENCES IN SCHEMA public"), "{told}");
    assert!(told.contains("\nasset_versions_id_seq | - | - | asset_versions.id | no privilege\n"), "{told}");

    let holder = world.cluster.connect("asset_service_db").await.unwrap();
    holder.batch_execute("BEGIN; ALTER SEQUENCE audit_logs_id_seq INCREMENT 2").await.unwrap();
    let told = world.told("sequences asset-service").await;
    assert!(
        told.contains("\naudit_logs_id_seq | - | - | ") && told.contains(" | locked by another session"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_were_changed_that_wait_and_that_stay_secret() {
    let world = World::start().await;
    let admin = world.cluster.connect("postgres").await.unwrap();
    let (_, account) = world.team.service("asset-service").unwrap();
    for sql in [
        "ALTER SYSTEM SET work_mem = '77MB'".to_owned(),
        "ALTER SYSTEM SET max_connections = 61".to_owned(),
        "ALTER SYSTEM SET primary_conninfo = 'host=h password=hunter2'".to_owned(),
        "ALTER SYSTEM SET archive_command = 'push --token hunter2 %p'".to_owned(),
        format!("ALTER ROLE {} SET app.jwt_secret = 'hunter2'", account.user),
        format!("ALTER ROLE {} IN DATABASE asset_service_db SET work_mem = '78MB'", account.user),
        "SELECT pg_reload_conf()".to_owned(),
    ] {
        admin.batch_execute(&sql).await.unwrap();
    }
    let settings = world.until("settings", |told| severity(told) == Severity::Warning).await;
    let told = words(&settings);
    let verdict =
        "WARNING: primary: max_connections waits for a server restart; until then the old value applies.\n";
    assert!(told.starts_with(verdict), "{told}");
    assert!(told.contains("\nmax_connections | 60 | 100 | waiting for a restart\n"), "{told}");
    for name in ["primary_conninfo", "archive_command"] {
        assert!(told.contains(&format!("\n{name} | set (hidden) | - | ")), "no {name} in {told}");
    }
    let work_mem = world.told("settings work_mem").await;
    assert!(work_mem.contains("\nwork_mem | 77 MB | 4096 kB"), "{work_mem}");
    assert!(
        work_mem.contains(&format!("\n{} | asset_service_db | work_mem | 78MB\n", account.user)),
        "{work_mem}"
    );
    let secret = world.told("settings jwt").await;
    assert!(
        secret.contains(&format!("\n{} | all | app.jwt_secret | set (hidden)\n", account.user)),
        "{secret}"
    );
    for told in [told, secret, work_mem] {
        assert!(!told.contains("hunter2"), "{told}");
    }
    let ours = world.told("settings lock_timeout").await;
    assert!(ours.contains("\nlock_timeout | - | overridden by Countersign\n"), "{ours}");
    assert!(!ours.contains("deadlock_timeout | -"), "{ours}");
    let nothing = world.told("settings no%such_thing").await;
    assert!(nothing.contains("primary: no setting has a matching name.\n"), "{nothing}");
    // `_` is a letter of names, not a wildcard.
    assert!(world.told("settings workXmem").await.contains("no setting has a matching"));
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_that_could_be_updated_or_lack_their_library() {
    let world = World::start().await;
    let good = world.told("extensions asset-service").await;
    assert!(good.starts_with("OK: All extensions are up to date.\n"), "{good}");
    assert!(good.contains("\nplpgsql | 1.0 | pg_catalog\n"), "{good}");
    assert!(good.contains("[Preloaded libraries] libraries\npg_stat_statements\n"), "{good}");
    let admin = world.cluster.connect("asset_service_db").await.unwrap();
    admin
        .batch_execute("UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'plpgsql'")
        .await
        .unwrap();
    let told = world.told("extensions asset-service").await;
    assert!(told.starts_with("WARNING: asset-service: an update is available for plpgsql.\n"), "{told}");
    assert!(told.contains("\nplpgsql | 0.9 | 1.0 | pg_catalog\n"), "{told}");
    assert!(told.ends_with("in that database: ALTER EXTENSION plpgsql UPDATE\n"), "{told}");
    admin
        .batch_execute("UPDATE pg_extension SET extname = 'gone-one' WHERE extname = 'plpgsql'")
        .await
        .unwrap();
    let told = world.told("extensions").await;
    assert!(
        told.starts_with("CRITICAL: asset-service: the server has no files for \"gone-one\": "),
        "{told}"
    );
}

/// Sessions, sequences, widths and settings: each question says which right it lacks, none that nothing was found.
#[tokio::test(flavor = "multi_thread")]
async fn without_rights_nobody_says_nothing_found() {
    let mut world = World::start().await;
    let admin = world.cluster.connect("postgres").await.unwrap();
    admin.batch_execute("CREATE ROLE blind LOGIN PASSWORD 'blind'").await.unwrap();
    world.read_as(&LoginAccount { user: "blind".into(), password: "blind".into() }).await;
    for (question, says) in [
        ("idle", "doesn't let blind see other roles' sessions: GRANT pg_monitor TO blind"),
        ("locks 4711", "doesn't let blind see other roles' sessions: GRANT pg_monitor TO blind"),
        ("autovacuum", "doesn't let blind see other roles' sessions: GRANT pg_monitor TO blind"),
        ("bloat asset-service", "asset-service: Countersign's reader may not SELECT from "),
        (
            "sequences asset-service",
            "asset-service doesn't let blind read every sequence: GRANT SELECT ON ALL SEQUENCES",
        ),
        ("settings", "primary doesn't let blind see every setting: GRANT pg_monitor TO blind"),
        (
            "extensions asset-service",
            "primary doesn't let blind see every setting: GRANT pg_monitor TO blind",
        ),
    ] {
        let answer = world.ask("Ana Example", question).await.unwrap();
        let told = words(&answer);
        assert!(severity(&answer) >= Severity::Warning, "{question}: {told}");
        assert!(told.contains(says), "{question}: {told}");
        for lie in [
            "No session",
            "No sequence",
            "No table",
            "No problem found",
            "Nothing found",
            "Autovacuum keeps up",
            "All extensions",
        ] {
            assert!(!told.contains(lie), "{question} says “{lie}”: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_asterisk_matches_any_characters() {
    let world = World::start().await;
    for (pattern, matches) in
        [("%", false), ("auto%", false), ("auto\\vacuum", false), ("auto*naptime", true)]
    {
        let told = world.told(&format!("settings {pattern} --env production")).await;
        assert_eq!(!told.contains("no setting has a matching name"), matches, "{pattern}: {told}");
    }
}
