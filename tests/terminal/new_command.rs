//! `countersign new-command`: its file is a custom command that loads and runs.

use crate::harness::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_command_loads_and_runs() {
    let world = World::usual().await;
    let said = world.say(&["new-command", "live-rows"]).await;
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out.contains("[commands]\n    directory = \"commands\"\n"), "{}", said.out);
    let config = format!("{}\n[commands]\ndirectory = \"commands\"\n", world.stage.config);
    std::fs::write(world.directory().join("countersign.toml"), config).unwrap();

    let said = world.say(&["check", "--only", "servers"]).await;
    assert_eq!(said.status, 0, "{said:?}");
    let said = world.runs("live-rows asset-service --most 3 --env staging").await;
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out.contains("live rows") && said.out.contains("public"), "{}", said.out);
    let said = world.runs("help live-rows").await;
    assert!(said.flat().contains("Tables of a service with the most live rows"), "{}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_is_overwritten_and_no_command_replaced() {
    let world = World::usual().await;
    let path = world.directory().join("commands/mine.sql");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "kept").unwrap();
    for (name, words) in [
        ("mine", "File exists"),
        ("health", "`health` is a command already and can't be replaced"),
        ("Live_Rows", "lower-case letters, digits and dashes only"),
        ("../mine", "lower-case letters, digits and dashes only"),
        ("", "lower-case letters, digits and dashes only"),
    ] {
        let said = world.say(&["new-command", name]).await;
        assert!(said.status == 1 && said.err.contains(words), "{name}: {said:?}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(
        std::fs::read_dir(world.directory()).unwrap().count(),
        2,
        "the configuration and the directory"
    );
}
