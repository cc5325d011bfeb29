//! The scopes of the bot's token: those that Countersign uses, and what doesn't work without each. The app's manifest lists the same.

use std::collections::BTreeSet;

/// The scope that only role groups need.
const GROUP_SCOPE: &str = "usergroups:read";

/// Each scope, and what is missing without it. Source: <https://docs.slack.dev/reference/scopes>.
const SCOPES: [(&str, &str); 11] = [
    ("commands", "the slash command doesn't arrive"),
    ("chat:write", "answers and approval cards can't be posted"),
    ("app_mentions:read", "mentions don't arrive, so no command works in a thread"),
    ("users:read", "accounts can't be confirmed, so every command is refused"),
    ("channels:read", "no approval can be requested in public channels, and every answer there is private"),
    ("groups:read", "no approval can be requested in private channels, and every answer there is private"),
    ("im:read", "direct messages can't be told from channels"),
    ("mpim:read", "no approval can be requested in group messages, and every answer there is private"),
    ("im:write", "approvers and requesters can't be told directly"),
    ("files:write", "an answer that is too long for a message has no file with the rest"),
    (GROUP_SCOPE, "members of the role groups can't be read, so those roles count for no person"),
];

/// The scopes that are missing, each with what that breaks: "`im:write` (approvers and requesters can't be told directly)".
/// `granted` is a list with commas, as Slack's header `x-oauth-scopes` has it.
pub(super) fn missing(granted: &str, has_groups: bool) -> Vec<String> {
    let granted: BTreeSet<&str> = granted.split(',').map(str::trim).collect();
    let needed = SCOPES.iter().filter(|(scope, _)| has_groups || *scope != GROUP_SCOPE);
    let missing = needed.filter(|(scope, _)| !granted.contains(scope));
    missing.map(|(scope, without)| format!("`{scope}` ({without})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_asks_for_the_same_scopes() {
        let manifest = include_str!("../../../manifest/slack.yaml");
        let (_, scopes) = manifest.split_once("\n    bot:\n").unwrap();
        let (scopes, _) = scopes.split_once("\nsettings:").unwrap();
        // The groups' one is there to be uncommented.
        let listed =
            scopes.lines().filter_map(|line| line.trim().trim_start_matches("# ").strip_prefix("- "));
        let known: Vec<&str> = SCOPES.iter().map(|(scope, _)| *scope).collect();
        assert_eq!(listed.collect::<Vec<_>>(), known);
        assert_eq!(scopes.matches(&format!("# - {GROUP_SCOPE}")).count(), 1);
    }

    #[test]
    fn a_missing_scope_is_named_with_what_it_breaks() {
        let granted = |but: &str| {
            let scopes = SCOPES.iter().map(|(scope, _)| *scope).filter(|scope| *scope != but);
            scopes.collect::<Vec<_>>().join(", ")
        };
        for (scope, without) in SCOPES {
            assert_eq!(missing(&granted(scope), true), [format!("`{scope}` ({without})")]);
        }
        assert!(missing(&granted(GROUP_SCOPE), false).is_empty());
        assert_eq!(missing("", false).len(), SCOPES.len() - 1);
    }
}
