//! Shell completions and manual pages: they know every command and option of the program.

use std::process::Command;

fn countersign(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_countersign")).args(arguments).output().expect("the program");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The commands, as `--help` lists them.
fn commands() -> Vec<String> {
    let help = countersign(&["--help"]);
    let (_, list) = help.split_once("Commands:\n").expect("the list");
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names: Vec<String> =
        lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).map(str::to_owned).collect();
    let names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
    assert!(names.len() > 7, "{names:?}");
    names
}

#[test]
fn bash_completes_commands_and_options() {
    let script = countersign(&["completions", "bash"]);
    let complete = |words: &str| {
        let test = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _countersign countersign \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; \
             echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["--norc", "-c", &test]).output().expect("bash");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    assert_eq!(complete("countersign chec"), "check");
    assert_eq!(complete("countersign check --on"), "--only");
    assert_eq!(complete("countersign check --only s"), "servers");
    assert_eq!(complete("countersign new"), "new-command");
}

#[test]
fn every_shell_knows_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = countersign(&["completions", shell]);
        for name in commands() {
            assert!(script.contains(&name), "{shell}: {name}");
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let root = countersign(&["man"]);
    assert!(root.contains(".TH countersign 1") && root.contains(".SH SUBCOMMANDS"), "{root}");
    for name in commands() {
        let in_troff = name.replace('-', "\\-");
        assert!(root.contains(&format!("countersign\\-{in_troff}(1)")), "{name}: {root}");
        let page = countersign(&["man", &name]);
        assert!(page.contains(&format!(".TH countersign-{name} 1")), "{name}: {page}");
        let help = countersign(&["help", &name]);
        for option in help.split_whitespace().filter_map(|word| word.strip_prefix("--")) {
            let option: String = option.chars().take_while(|c| c.is_alphanumeric()).collect();
            assert!(page.contains(&option), "{name}: --{option}: {page}");
        }
    }
    let output = Command::new(env!("CARGO_BIN_EXE_countersign")).args(["man", "nothing"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && error.contains("there is no command nothing: "), "{error}");
}
