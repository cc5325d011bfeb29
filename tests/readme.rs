//! What the README says of the commands comes from `commands/`.

use countersign::catalog::Catalog;

#[test]
fn the_command_table_is_the_catalog() {
    let readme = include_str!("../README.md");
    let (_, after) = readme.split_once("<!-- countersign commands -->\n").expect("the table's beginning");
    let (table, _) = after.split_once("<!-- end -->").expect("the table's end");
    let now = Catalog::built_in().expect("the commands").markdown();
    assert_eq!(table.trim(), now.trim(), "run `cargo run -- commands` and paste its table into README.md");
}

#[test]
fn the_test_command_of_the_readme_is_the_one_that_ci_runs() {
    for file in [include_str!("../README.md"), include_str!("../.ci/run")] {
        assert!(file.contains("make test"));
    }
}

#[test]
fn the_example_of_a_teams_command_is_the_file() {
    let (_, after) = include_str!("../README.md")
        .split_once("<!-- deploy/commands/trim-audit-log.sql -->\n```sql\n")
        .expect("the example's beginning");
    let (example, _) = after.split_once("```\n<!-- end -->").expect("the example's end");
    assert_eq!(example, include_str!("../deploy/commands/trim-audit-log.sql"));
}
