//! A team's own limits: from where on a value that a command judges is worth a look, or an act, in one environment.

use super::{Catalog, Command};
use crate::config::{Environment, ThresholdOverride};

impl Catalog {
    /// Takes each environment's own limits.
    ///
    /// # Errors
    /// All mistakes at once: a command or a value that is not judged, a limit to act at that comes before the one to watch.
    pub fn with_limits(mut self, environments: &[Environment]) -> Result<Catalog, Vec<String>> {
        let mut mistakes = Vec::new();
        for (environment, limit) in
            environments.iter().flat_map(|e| e.limits.iter().map(|limit| (&e.name, limit)))
        {
            if let Err(wrong) = self.adjust(environment, limit) {
                mistakes.push(format!("thresholds of the environment `{environment}`: {wrong}"));
            }
        }
        if mistakes.is_empty() { Ok(self) } else { Err(mistakes) }
    }

    fn adjust(&mut self, environment: &str, limit: &ThresholdOverride) -> Result<(), String> {
        let ThresholdOverride { command: name, column, warning, critical } = limit;
        let known = self.commands.get(name).ok_or_else(|| format!("there is no command `{name}`"))?;
        let key = (environment.to_owned(), name.clone());
        let command = self.adjusted.entry(key).or_insert_with(|| known.clone());
        let Some(threshold) = command.header.thresholds.get_mut(column) else {
            let judged: Vec<&str> = known.header.thresholds.keys().map(String::as_str).collect();
            return Err(match judged.as_slice() {
                [] => format!("`{name}` judges nothing"),
                judged => format!("`{name}` doesn't judge `{column}`; it judges {}", judged.join(", ")),
            });
        };
        threshold.warning = warning.or(threshold.warning);
        threshold.critical = critical.or(threshold.critical);
        match (threshold.warning, threshold.critical) {
            (Some(warning), Some(critical))
                if (critical < warning) != threshold.below && critical != warning =>
            {
                Err(format!("`{name}.{column}` would be acted on at {critical} and watched from {warning}"))
            }
            _ => Ok(()),
        }
    }

    /// The command with the limits of that environment.
    pub fn adjusted<'a>(&'a self, command: &'a Command, environment: &str) -> &'a Command {
        self.adjusted.get(&(environment.to_owned(), command.name.clone())).unwrap_or(command)
    }
}
