//! The Teams app's manifest: what it offers comes from `commands/`, and its package is whole.

use countersign::catalog::Catalog;
use countersign::model::LoginKind;
use countersign::workflow;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const APP_ID: &str = "5f0c7b1e-55a4-4c3e-9a35-5b1d3b0e7f42";

fn manifest() -> Value {
    serde_json::from_str(include_str!("../../manifest/teams/manifest.json")).unwrap()
}

/// Teams shows twelve commands. An incident's: the menu's first questions, whatever else looks at sessions, and whatever ends
/// something in one.
#[test]
fn the_commands_are_an_incidents() {
    let catalog = Catalog::built_in().unwrap();
    let sessions = catalog.iter().filter(|command| command.header.group == "sessions");
    let ends = catalog.iter().filter(|command| command.header.login == LoginKind::Signal);
    let mut names: Vec<&str> = workflow::FIRST_COMMANDS.to_vec();
    for command in sessions.chain(ends) {
        if !names.contains(&command.name.as_str()) {
            names.push(&command.name);
        }
    }
    let offered = names
        .iter()
        .map(|name| json!({ "title": name, "description": catalog.find(name).unwrap().header.summary }));
    let offered: Vec<Value> = offered.collect();
    assert!(offered.len() <= 12, "Teams takes no more than twelve: {names:?}");
    let lists = manifest()["bots"][0]["commandLists"].clone();
    let all = json!(["team", "groupChat", "personal"]);
    let now = json!([{ "scopes": all, "triggers": ["mention", "slash"], "commands": offered }]);
    assert_eq!(
        lists,
        now,
        "paste this into manifest/teams/manifest.json:\n{}",
        serde_json::to_string_pretty(&now).unwrap()
    );
}

#[test]
fn private_answers_are_possible_wherever_the_bot_is_heard() {
    let bot = &manifest()["bots"][0];
    assert_eq!(bot["supportsTargetedMessages"], true);
    assert_eq!(bot["scopes"], bot["commandLists"][0]["scopes"]);
    assert_eq!(manifest()["version"], env!("CARGO_PKG_VERSION"));
}

/// Runs the packing, as `make teams-package` does.
fn package(app_id: &str, host: &str, archive: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifest/teams/package.py");
    Command::new("python3").arg(script).args([app_id, host]).arg(archive).output().unwrap()
}

/// What a file of an archive holds.
fn member(archive: &Path, name: &str) -> Vec<u8> {
    let read = "import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))";
    let output = Command::new("python3").args(["-c", read]).arg(archive).arg(name).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn the_package_is_the_manifest_and_its_icons_with_id_and_host_filled_in() {
    let directory = tempfile::tempdir().unwrap();
    let archive: PathBuf = directory.path().join("app.zip");
    let packed = package(APP_ID, "bot.contoso.com", &archive);
    assert!(packed.status.success(), "{packed:?}");
    let text = String::from_utf8(member(&archive, "manifest.json")).unwrap();
    assert!(!text.contains("00000000-") && !text.contains("example.com"), "{text}");
    let filled: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&filled["id"], &filled["bots"][0]["botId"]), (&json!(APP_ID), &json!(APP_ID)));
    assert_eq!(filled["developer"]["websiteUrl"], "https://bot.contoso.com");
    for (icon, side) in [("color", 192u32), ("outline", 32)] {
        let image = member(&archive, filled["icons"][icon].as_str().unwrap());
        assert!(image.starts_with(b"\x89PNG"), "{icon}");
        // Width and height stand at the beginning of every PNG.
        assert_eq!(image[16..24], [side.to_be_bytes(), side.to_be_bytes()].concat(), "{icon}");
    }
}

#[test]
fn a_package_for_nobody_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("app.zip");
    for (app_id, host, said) in [
        ("00000000-0000-0000-0000-000000000000", "bot.contoso.com", "no client id"),
        ("my-bot", "bot.contoso.com", "no client id"),
        (APP_ID, "countersign.example.com", "no host"),
        (APP_ID, "https://bot.contoso.com", "no host"),
    ] {
        let refused = package(app_id, host, &archive);
        assert!(!refused.status.success() && !archive.exists());
        let words = String::from_utf8(refused.stderr).unwrap();
        assert!(words.contains(said), "{words}");
    }
}
