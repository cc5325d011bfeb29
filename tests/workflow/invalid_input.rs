//! Whatever a person types gets a clear answer that says what to type instead, and changes nothing.

use crate::harness::{ANA, Scene, Twist};
use countersign::store::Store;

/// What is typed, what the answer says is wrong, and what it says to type instead.
const WRONG: &[(&str, &str, &str)] = &[
    ("bloked", "no command “bloked”", "Did you mean /db blocked?"),
    ("xyzzy", "no command “xyzzy”", "help"),
    ("kil 4711", "no command “kil”", "kill <pid>"),
    ("kill", "Missing <pid>", "kill <pid>"),
    ("kill --env production", "Missing <pid>", "kill <pid>"),
    ("kill 4711 4712 --env production", "don't know what to do with “4712”", "kill <pid>"),
    ("kill 0 --env production", "0 is no session", "blocked"),
    ("kill -1 --env production", "“-1” is not a process id", "such as"),
    ("kill all --env production", "“all” is not a process id", "such as"),
    ("kill 4711.5 --env production", "not a process id", "such as"),
    ("kill 99999999999 --env production", "not a process id", "such as"),
    ("kill 4711;DROP --env production", "not a process id", "such as"),
    ("kill 2147483647 --env production", "no session 2147483647 on production", "blocked"),
    ("cancel", "Missing <pid>", "cancel <pid>"),
    ("cancel 0 --env production", "0 is no session", "blocked"),
    ("cancel 2147483647 --env production", "no session 2147483647", "blocked"),
    ("kill 4711 --env prodution", "no environment “prodution”", "--env production"),
    ("kill 4711 --env mars", "no environment “mars”", "--env production"),
    ("kill 4711 --env", "`--env` needs a value", "--env …"),
    ("kill 4711 --env \"\"", "`--env` needs a value", "--env …"),
    ("kill 4711 --env production --env staging", "`--env` is given twice", ""),
    ("kill 4711 --env production --server a --server b", "`--server` is given twice", ""),
    ("kill 4711 --env production --server", "`--server` needs a value", "kill <pid>"),
    ("kill 4711 --env production --resaon x", "no option `--resaon`", "Did you mean `--reason`"),
    ("kill 4711 --env production --force", "no option `--force`", "kill <pid>"),
    ("kill 4711 --env production --backend_start 2020", "no option `--backend_start`", "kill <pid>"),
    ("kill 4711 --env production --", "A lone `--` means nothing", "Leave it out"),
    ("kill 4711 --env production --reason", "`--reason` needs a value", "--reason …"),
    ("kill 4711 --env production --reason \"it hangs", "quote in “it hangs” isn't closed", "Close it"),
    ("kill 4711 --env production —reason “it hangs", "quote in “it hangs” isn't closed", "Close it"),
    ("kill 4711", "Which environment?", "--env production"),
    ("blocked", "Which environment?", "--env production"),
    ("blocked now --env production", "don't know what to do with “now”", "blocked"),
    ("blocked --over 5m --env production", "no option `--over`", "blocked"),
    ("kill \"\" --env production", "Missing <pid>", "kill <pid>"),
    (
        "kill \"47\u{0}11\" --env production",
        "“47” is followed by an invisible character (U+0000)",
        "without it",
    ),
    ("kill 4711 --env production --reason \"\u{1b}[2J\"", "(U+001B)", "without it"),
    ("kill 4711 --server \"\" --env production", "`--server` needs a value", "kill <pid>"),
    ("use", "Missing <environment>", "use <environment>"),
    ("use mars", "no environment “mars”", "production, staging"),
    ("use stagin", "no environment “stagin”", "staging"),
    ("use staging production", "don't know what to do with “production”", "use <environment>"),
    ("withdraw", "Missing <run>", "withdraw <run>"),
    ("withdraw abc", "“abc” is not the number of a run", "show 128"),
    ("withdraw 0", "“0” is not the number of a run", "show 128"),
    ("withdraw 9999", "no run #9999", "pending"),
    ("unfreeze", "Nothing is frozen", ""),
    ("freeze now", "don't know what to do with “now”", "freeze"),
    ("tidy nothing --env staging", "no service “nothing”", "asset-service"),
    ("tidy asset-servise --env staging", "no service “asset-servise”", "asset-service"),
    ("tidy all --env staging", "one database at a time", "tidy <service>"),
    ("tidy asset --over 0s --env staging", "“0s” is zero, which would match everything", "30s, 5m, 2h or 7d"),
    ("tidy asset --over soon --env staging", "“soon” is not a duration", "30s, 5m, 2h or 7d"),
    ("tidy asset --over 5 --env staging", "“5” is not a duration", "30s, 5m, 2h or 7d"),
    ("tidy asset --by luck --env staging", "“luck” is not one of size, age", ""),
    ("tidy asset --most lots --env staging", "“lots” is not a whole number", "such as 10"),
];

const TIDY: &str = "/*\nsummary = \"Tidies up\"\ngroup = \"act\"\nrisk = \"danger\"\nscope = \"database\"\nlogin = \"operator\"\n\
    args = [{ name = \"service\", type = \"service\", positional = true, required = true, help = \"whose\" },\n\
    { name = \"over\", type = \"duration\", default = \"30s\", help = \"how old\" },\n\
    { name = \"by\", type = \"choice\", choices = [\"size\", \"age\"], help = \"what first\" },\n\
    { name = \"most\", type = \"int\", help = \"how many\" }]\n\
    example = \"tidy asset-service\"\n*/\nSELECT count(*) FROM pg_class WHERE :'over'::interval > '0' OR :'by' = 'x' OR :'most'::int > 1";

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_says_what_to_type_instead_and_changes_nothing() {
    let scene = Scene::with(Twist { commands: vec![("tidy.sql", TIDY)], ..Twist::default() }).await;
    scene.without_forms();
    let mut sessions = Vec::new();
    for number in 0..3 {
        sessions.push(scene.session(&format!("bystander-{number}")).await);
    }
    let mut wrong: Vec<(String, &str, &str)> =
        WRONG.iter().map(|(line, what, how)| ((*line).to_owned(), *what, *how)).collect();
    wrong.push(("x".repeat(40_000), "has 40000 characters; a command has 4000 at most", "--reason"));
    wrong.push((
        format!("kill 4711 --reason \"{}\"", "ß".repeat(40_000)),
        "a command has 4000 at most",
        "--reason",
    ));
    let mut unclear = Vec::new();
    for (line, what, how) in &wrong {
        let told = scene.asks(ANA, line).await;
        let said = told.plain();
        // Code is shown in its own style, without the marks.
        let has = |words: &str| said.contains(words) || said.contains(&words.replace('`', ""));
        if !has(what)
            || !has(how)
            || told.ephemeral_to.as_deref() != Some(ANA)
            || said.chars().count() > 1_000
        {
            unclear.push(format!(
                "{}: wanted “{what}” and “{how}”, got:\n{said}",
                countersign::suggest::shown(line)
            ));
        }
    }
    assert!(unclear.is_empty(), "{}", unclear.join("\n\n"));
    assert_eq!(scene.runs_in_all().await, 0);
    assert_eq!(scene.store().frozen().await.unwrap(), None);
    scene.refused(ANA, "blocked", "Which environment?").await;
    for (_, pid) in &sessions {
        assert!(scene.is_there(*pid).await);
    }
    assert!(scene.sent("chat.postMessage").is_empty() && scene.sent("chat.update").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_phones_make_of_dashes_and_quotes_means_the_same() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    for line in [
        format!("kill {pid} —env production —reason “it’s stuck” –dry-run"),
        format!("KILL {pid} –env Production ―reason ‘stuck again’ −dry-run"),
        format!("kill {pid} --env=production --reason=\"a = b\" --dry-run"),
        format!("  kill\u{a0}{pid}\t--env  production --dry-run "),
    ] {
        let told = scene.asks(ANA, &line).await.plain();
        assert!(told.contains("Dry run") && told.contains("PRODUCTION"), "{line}: {told}");
        assert!(told.contains(&format!("Ends session {pid}")), "{line}: {told}");
    }
    let card = scene.card(ANA, &format!("kill {pid} —env production —reason “it’s stuck, isn't it”")).await;
    assert!(card.plain().contains("it’s stuck, isn't it"), "{}", card.plain());
    assert_eq!(scene.only_run("kill").await.text("reason"), Some("it’s stuck, isn't it"));
}
