//! Backups against a real PostgreSQL: a finished one restores, and one cut short in any way leaves none.

use countersign::actions::backup::{BackupError, DumpJob, Manifest, dump, newest, prefix};
use countersign::storage::Key;
use futures::TryStreamExt;
use harness::{ASKER, DATABASE, SOON, Scene, until};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Mutex;

mod full_disk;
mod harness;
#[path = "../servers/installed.rs"]
mod installed;
mod majors;

#[tokio::test]
async fn a_finished_backup_restores_with_equal_row_counts() {
    let scene = Scene::start().await;
    scene.fill_oddly().await;
    let told = Mutex::new(Vec::new());
    let manifest = dump(&scene.job(), &|moved| told.lock().unwrap().push(moved)).await.unwrap();

    assert_eq!(scene.files(), [manifest.key.clone(), manifest.key.replace(".dump", ".manifest.json")]);
    let listed = newest(&scene.storage, &prefix("staging", DATABASE), usize::MAX).await.unwrap().backups;
    let listed: Vec<_> = listed.into_iter().map(|backup| backup.manifest).collect();
    assert_eq!(listed, std::slice::from_ref(&manifest));
    let bytes = scene.bytes(&manifest).await;
    assert_eq!((bytes.len() as u64, hex::encode(Sha256::digest(&bytes))), (manifest.bytes, manifest.sha256));
    assert!(told.lock().unwrap().last().unwrap().is_verifying);
    assert!(manifest.server_version.starts_with("15."), "{}", manifest.server_version);
    assert_eq!((manifest.requested_by.as_str(), manifest.run), ("Ana", 7));

    let dumped = scene.restore(&bytes, "restored").await;
    dumped.unwrap();
    let counts = scene.counts("restored").await;
    assert_eq!(counts, scene.counts(DATABASE).await);
    assert_eq!(counts.len(), 4, "{counts:?}");
}

#[tokio::test]
async fn a_killed_pg_dump_leaves_no_backup_and_the_next_one_works() {
    let scene = Scene::start().await;
    scene.fill_largely().await;
    // Shorter than the dump takes: pg_dump has to lift it.
    scene.run("ALTER ROLE dumper SET statement_timeout = '500ms'").await;
    let job = scene.job();
    let attempt = dump(&job, &|_| {});
    let meddle = async {
        scene.copying().await;
        let pid = scene.pg_dump().expect("a pg_dump under way");
        harness::signal(pid, "STOP");
        let uploads = scene.files();
        assert!(uploads.iter().all(|file| file.contains(".dump.part#")), "{uploads:?}");
        assert_eq!(uploads.len(), 1);
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        assert!(!arguments.contains(harness::PASSWORD), "{arguments}");
        assert!(environment.contains(&format!("PGPASSWORD={}", harness::PASSWORD)));
        assert!(!environment.contains("CARGO"), "nothing of ours: {environment}");
        assert_eq!(scene.asker().await, ASKER);
        harness::signal(pid, "KILL");
    };
    let (result, ()) = tokio::join!(attempt, meddle);

    let why = result.unwrap_err();
    assert_eq!(why.to_string(), "pg_dump did not finish: it was killed by signal 9");
    scene.assert_nothing_left().await;

    let manifest = dump(&job, &|_| {}).await.unwrap();
    scene.restore(&scene.bytes(&manifest).await, "restored").await.unwrap();
    assert_eq!(scene.counts("restored").await, scene.counts(DATABASE).await);
}

#[tokio::test]
async fn a_closed_connection_leaves_no_backup() {
    let scene = Scene::start().await;
    scene.fill_largely().await;
    let job = scene.job();
    let attempt = dump(&job, &|_| {});
    let meddle = async {
        scene.copying().await;
        scene.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'dumper'").await;
    };
    let (result, ()) = tokio::join!(attempt, meddle);

    let Err(why @ BackupError::Dump(_)) = result else { panic!("{result:?}") };
    // A server whose client is slow to read can't always say why it goes.
    let said =
        ["terminating connection due to administrator command", "server closed the connection unexpectedly"];
    assert!(said.iter().any(|said| why.to_string().contains(said)), "{why}");
    scene.assert_nothing_left().await;
}

#[tokio::test]
async fn a_dump_that_nobody_waits_for_ends_and_leaves_nothing() {
    let scene = Scene::start().await;
    scene.fill_largely().await;
    {
        let job = scene.job();
        let attempt = dump(&job, &|_| {});
        tokio::select! {
            result = attempt => panic!("it is done too early: {result:?}"),
            () = scene.copying() => {}
        }
    }
    until("pg_dump ends and its upload is gone", || scene.pg_dump().is_none() && scene.files().is_empty())
        .await;
    scene.assert_nothing_left().await;
}

/// A client that cuts the archive short and says that all is well.
#[tokio::test]
async fn an_archive_that_pg_restore_cannot_read_is_no_backup() {
    let scene = Scene::start().await;
    scene.fill_oddly().await;
    let whole = dump(&scene.job(), &|_| {}).await.unwrap();
    let real = scene.installation.pg_dump();
    let liar = scene.client(&format!(
        "#!/bin/sh\n{} \"$@\" | head -c {}\nexit 0\n",
        real.display(),
        whole.bytes - 10
    ));
    let mut job = scene.job();
    job.run = 8;
    job.installation = &liar;
    let result = dump(&job, &|_| {}).await;

    let Err(why @ BackupError::Unreadable(_)) = result else { panic!("{result:?}") };
    assert!(why.to_string().contains("end of file"), "{why}");
    assert_eq!(scene.files().len(), 2, "the backup before it, and its manifest: {:?}", scene.files());
}

#[tokio::test]
async fn a_refused_login_is_told_without_host_or_password() {
    let scene = Scene::start().await;
    let mut job: DumpJob<'_> = scene.job();
    job.connection.password = Some("not-the-password".into());
    let why = dump(&job, &|_| {}).await.unwrap_err().to_string();
    assert!(why.contains("password authentication failed"), "{why}");
    assert!(!why.contains("127.0.0.1") && !why.contains("not-the-password"), "{why}");
    scene.assert_nothing_left().await;
}

#[tokio::test]
async fn what_a_dead_process_left_is_cleared_by_the_next_backup() {
    let scene = Scene::start().await;
    let below = scene.directory.path().join("staging").join(DATABASE);
    std::fs::create_dir_all(&below).unwrap();
    for left in ["20260101T000000Z-1.dump.part", "20260101T000000Z-2.dump.part#1"] {
        std::fs::write(below.join(left), "half").unwrap();
    }
    let manifest: Manifest = dump(&scene.job(), &|_| {}).await.unwrap();
    assert_eq!(scene.files(), [manifest.key.clone(), manifest.key.replace(".dump", ".manifest.json")]);
}

#[tokio::test]
async fn clients_are_found_by_what_they_say() {
    let scene = Scene::start().await;
    let newer = scene.client("#!/bin/sh\necho 'pg_dump (PostgreSQL) 99.1 (test)'\n");
    let config = countersign::config::BackupSettings {
        directory: scene.directory.path().to_owned(),
        tools: vec![newer.directory.clone()],
        search_path: vec!["/usr/bin".into(), scene.installation.directory.clone()],
    };
    let tools = countersign::actions::backup::find_installations(&config).await;
    assert!(tools.iter().all(|tool| tool.directory != Path::new("/usr/bin")), "a wrapper: {tools:?}");
    let choose_installation = countersign::actions::backup::choose_installation;
    assert_eq!(choose_installation(&tools, 15).unwrap().directory, scene.installation.directory);
    assert_eq!(choose_installation(&tools, 98).unwrap().directory, newer.directory);
    assert!(choose_installation(&tools, 100).unwrap_err().install_hint().contains("postgresql-client-100"));
}

impl Scene {
    async fn bytes(&self, manifest: &Manifest) -> Vec<u8> {
        let read = self.storage.read(&Key::parse(&manifest.key).unwrap()).await.unwrap();
        let chunks: Vec<_> = read.try_collect().await.unwrap();
        chunks.concat()
    }

    async fn assert_nothing_left(&self) {
        assert_eq!(self.files(), Vec::<String>::new());
        assert!(newest(&self.storage, &Key::default(), usize::MAX).await.unwrap().total == 0);
        tokio::time::timeout(SOON, async {
            while self.pg_dump().is_some() {
                tokio::time::sleep(harness::POLL).await;
            }
        })
        .await
        .expect("no pg_dump stays");
    }
}
