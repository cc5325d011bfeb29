//! The commands that the demo's page completes, from the catalogue and the configuration. The page itself knows nothing of them.

use super::fake_slack::{ArgumentHint, CommandHint};
use crate::catalog::{Catalog, Command};
use crate::command_line::ArgType;
use crate::config::Config;
use crate::model::Risk;

/// Every command with its arguments, and the names that each may be.
pub fn commands(catalog: &Catalog, config: &Config) -> Vec<CommandHint> {
    let names: Vec<String> = catalog.iter().map(|command| command.name.clone()).collect();
    let environments: Vec<String> = config.environments.iter().map(|one| one.name.clone()).collect();
    let services: Vec<String> = config.services.iter().map(|one| one.name.clone()).collect();
    let choices = |kind: ArgType| match kind {
        ArgType::Service => services.clone(),
        ArgType::Environment => environments.clone(),
        ArgType::Command => names.clone(),
        _ => Vec::new(),
    };
    let hint = |command: &Command| {
        let arguments =
            command.header.args.iter().filter(|argument| !argument.hidden).map(|argument| ArgumentHint {
                name: argument.name.clone(),
                help: argument.help.clone(),
                choices: argument.choices.iter().cloned().chain(choices(argument.kind)).collect(),
                positional: argument.positional,
                switch: argument.switch,
            });
        let arguments = arguments.chain(common_options(command.header.risk, &environments)).collect();
        CommandHint { name: command.name.clone(), summary: command.header.summary.clone(), arguments }
    };
    catalog.iter().map(hint).collect()
}

/// The options that every command of a risk takes.
fn common_options(risk: Risk, environments: &[String]) -> Vec<ArgumentHint> {
    let option = |name: &str, help: &str, switch| ArgumentHint {
        name: name.to_owned(),
        help: help.to_owned(),
        choices: Vec::new(),
        positional: false,
        switch,
    };
    let environment = option("env", "the environment", false);
    let mut options = vec![ArgumentHint { choices: environments.to_vec(), ..environment }];
    if risk == Risk::Read {
        options.push(option("private", "shows the answer to you alone", true));
    } else {
        options.push(option("dry-run", "shows the plan and changes nothing", true));
        options.push(option("reason", "recorded, and shown to approvers", false));
    }
    options
}
