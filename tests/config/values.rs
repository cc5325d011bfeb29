//! What names, references, logins, TLS and limits must be.

use super::{MINIMAL, all_set, problems, reports, with};
use countersign::config::{Config, StoreSettings, Tls};
use countersign::model::{LoginKind, PlatformKind};
use countersign::postgres::Environments;
use std::time::Duration;

#[test]
fn slack_is_told_apart_from_anything_else() {
    reports(
        r#"workspaces = ["T0TEAM"]"#,
        "workspaces = []",
        &["deploy/x.toml:30:14: `workspaces` must name at least one: only those get an answer"],
    );
    reports(
        r#"workspaces = ["T0TEAM"]"#,
        "workspaces = [\"team\"]\napi_url = \"http://slack.example.com/api\"\ncommand = \"db\"",
        &[
            "deploy/x.toml:30:15: `team` is no workspace id, which looks like T012AB3CD",
            "deploy/x.toml:31:11: `api_url` must be an https URL (http to this machine only: the token goes there), not `http://slack.example.com/api`",
            "deploy/x.toml:32:11: `command` must be a slash and up to 31 lower-case letters, digits, `-` or `_`, not `db`",
        ],
    );
    let local = with("[slack]", "[slack]\napi_url = \"http://127.0.0.1:4000/api/\"");
    let config = Config::parse("x.toml", &local, &all_set).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.chat.slack.expect("slack").api_url, "http://127.0.0.1:4000/api");
}

#[test]
fn a_login_name_is_one_persons_and_its_requests_have_a_channel() {
    let good = with("slack = [\"U0ANA\"]", "terminal = [\"ana\", \"CORP\\\\ana\"]")
        .replace("[slack]", "[slack]\nterminal_channel = \"C0INCIDENT\"");
    let config = Config::parse("x.toml", &good, &all_set).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.people[0].accounts(PlatformKind::Terminal), ["ana", "CORP\\ana"]);
    assert_eq!(config.chat.slack.expect("slack").terminal_channel.as_deref(), Some("C0INCIDENT"));
    let wrong = with("slack = [\"U0ANA\"]", "terminal = [\"ana\", \"ana\", \"a b\", \"\"]")
        .replace("[slack]", "[slack]\nterminal_channel = \"#incident\"");
    assert_eq!(
        problems(&wrong),
        [
            "deploy/x.toml:23:20: the login name `ana` is already given at line 23",
            "deploy/x.toml:23:27: `a b` isn't a login name, as `whoami` shows it",
            "deploy/x.toml:23:34: `` isn't a login name, as `whoami` shows it",
            "deploy/x.toml:30:20: `terminal_channel` must be a channel's id, which looks like C012AB3CD, not `#incident`",
        ]
    );
}

#[test]
fn names_are_given_once_and_can_be_typed() {
    let twice = format!(
        "{MINIMAL}[[services]]\nname = \"asset-service\"\ndatabase = \"other\"\n[[people]]\nname = \"ana\"\nslack = [\"U0ANA\"]\n"
    );
    assert_eq!(
        problems(&twice),
        [
            "deploy/x.toml:34:8: the service `asset-service` is already given at line 19",
            "deploy/x.toml:37:8: the person `ana` is already given at line 22",
            "deploy/x.toml:38:10: the Slack account `U0ANA` is already given at line 23",
        ]
    );
    let rule = "1 to 63 lower-case letters, digits and dashes, beginning with no dash";
    for wrong in ["Assets", "-assets", "as sets", "ässets", &"a".repeat(64)] {
        let found = problems(&with(r#"name = "asset-service""#, &format!("name = \"{wrong}\"")));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&format!("deploy/x.toml:19:8: `name` must be {rule}, not `")),
            "{found:?}"
        );
    }
    reports(
        r#"name = "asset-service""#,
        r#"name = """#,
        &[&format!("deploy/x.toml:19:8: `name` must be {rule}, not empty")],
    );
    reports(
        r#"name = "Ana""#,
        r#"name = "A\u0007na""#,
        &[
            "deploy/x.toml:22:8: `name` must be 1 to 64 characters, no control characters, no space at its ends, not `A\\u{7}na`",
        ],
    );
    reports(
        r#"host = "db.example.com""#,
        "host = \"db.example.com\"\n[[environments.servers]]\nname = \"primary\"\nhost = \"bob@db:5432\"",
        &[
            "deploy/x.toml:13:8: the server `primary` is already given at line 10",
            "deploy/x.toml:14:8: `host` must be a host's name or IP address, without port or user, not `bob@db:5432`",
        ],
    );
}

#[test]
fn references_must_lead_somewhere() {
    reports(
        r#"environments = ["*"]"#,
        r#"environments = ["prodution"]"#,
        &["deploy/x.toml:27:17: there is no environment `prodution`; did you mean `production`?"],
    );
    reports(
        r#"database = "asset_service_db""#,
        "database = \"asset_service_db\"\nservers = { production = \"primry\", staging = \"primary\" }",
        &[
            "deploy/x.toml:21:26: `production` has no server `primry`; did you mean `primary`?",
            "deploy/x.toml:21:36: there is no environment `staging`; known here: production",
        ],
    );
    reports(
        r#"roles = ["on-call"]"#,
        r#"roles = ["on-cal"]"#,
        &[
            "deploy/x.toml:24:10: the role `on-cal` grants nothing, as no [[access]] names it; did you mean `on-call`?",
        ],
    );
    reports(
        r#"run = ["read"]"#,
        "",
        &["deploy/x.toml:25:1: a grant must say what may be `run` or `approve`d"],
    );
    reports(
        r#"slack = ["U0ANA"]"#,
        "slack = [\"ana\"]\nteams = [\"D04A\"]",
        &[
            "deploy/x.toml:23:10: `ana` isn't a Slack user id, which looks like U012AB3CD",
            "deploy/x.toml:24:10: `D04A` isn't an Entra object id, a UUID in lower case",
        ],
    );
}

#[test]
fn the_reader_is_no_other_login_too() {
    let acts = "is the same user as `reader`, `looker`: the reader must not be able to act";
    reports(r#"user = "doer""#, r#"user = "looker""#, &[&format!("deploy/x.toml:16:8: `operator` {acts}")]);
    reports(
        "[environments.logins.operator]",
        "[environments.logins.signal]\nuser = \"looker\"\n[environments.logins.operator]",
        &[&format!("deploy/x.toml:16:8: `signal` {acts}")],
    );
    let reads = "is the same user as `reader`, `looker`: the reader must not be able to read every table";
    reports(
        "[environments.logins.operator]",
        "[environments.logins.dump]\nuser = \"looker\"\n[environments.logins.operator]",
        &[&format!("deploy/x.toml:16:8: `dump` {reads}")],
    );
}

/// A purpose without a login of its own is the operator's, and never the reader's.
#[test]
fn each_purpose_has_its_login() {
    let finer = with(
        "[environments.logins.operator]",
        "[environments.logins.signal]\nuser = \"ender\"\n[environments.logins.dump]\nuser = \"dumper\"\n\
         [environments.logins.operator]",
    );
    for (text, expected) in [
        (MINIMAL, ["looker", "doer", "doer", "doer", "doer", "doer"]),
        (&finer, ["looker", "doer", "ender", "dumper", "doer", "doer"]),
    ] {
        let config = Config::parse("deploy/x.toml", text, &all_set).expect("a configuration");
        let targets = Environments::new(&config).expect("targets");
        let serves = |purpose| targets.login(&config.environments[0], purpose).expect("a login").1.user;
        let logins = [
            LoginKind::Reader,
            LoginKind::Operator,
            LoginKind::Signal,
            LoginKind::Dump,
            LoginKind::Maintain,
            LoginKind::Owner,
        ];
        assert_eq!(logins.map(serves), expected);
    }
    reports(
        "[environments.logins.operator]",
        "[environments.logins.dumper]\nuser = \"dumper\"\n[environments.logins.operator]",
        &["deploy/x.toml:15:22: unknown key `dumper`; did you mean `dump`?"],
    );
}

#[test]
fn tls_is_off_on_this_machine_only() {
    reports(
        "production = true",
        "production = true\ntls = \"off\"",
        &[
            "deploy/x.toml:9:7: `tls` may be off for this machine's own servers only, and `db.example.com` isn't one",
        ],
    );
    reports(
        "production = true",
        "production = true\ntls = \"of\"\nca_file = \"nowhere.pem\"",
        &[
            "deploy/x.toml:9:7: `tls` can't be `of`; did you mean `off`?",
            "deploy/x.toml:10:11: `ca_file` names no file that is there",
        ],
    );
    for host in ["localhost", "127.0.0.1", "127.1.2.3", "::1"] {
        let text =
            with("production = true", "production = true\ntls = \"off\"").replace("db.example.com", host);
        let config = Config::parse("x.toml", &text, &all_set).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.environments[0].tls, Tls::Off);
    }
}

#[test]
fn numbers_and_durations_stay_in_bounds() {
    reports(
        "production = true",
        "production = true\nconnections = 0\nconnect_timeout = \"2m\"\nlock_timeout = \"0s\"\nstatement_timeout = \"15\"",
        &[
            "deploy/x.toml:9:15: `connections` must be from 1 to 200, not 0",
            "deploy/x.toml:10:19: `connect_timeout` must be more than 0s and at most 1m, not 2m",
            "deploy/x.toml:11:16: `lock_timeout` must be more than 0s and at most 1m, not 0s",
            "deploy/x.toml:12:21: `statement_timeout` is `15`, but a duration is a whole number and a unit: 500ms, 30s, 15 min, 1h30m, 12h or 7d",
        ],
    );
    reports(
        r#"host = "db.example.com""#,
        "host = \"db.example.com\"\nport = 70000",
        &["deploy/x.toml:12:8: `port` must be from 1 to 65535, not 70000"],
    );
    reports(
        "[slack]",
        "[approval]\nwait = \"25h\"\n[slack]",
        &["deploy/x.toml:30:8: `wait` must be more than 0s and at most 1d, not 25h"],
    );
    reports(
        r#"listen = "127.0.0.1:8080""#,
        r#"listen = ":8080""#,
        &[
            "deploy/x.toml:1:10: `listen` must be an IP address and a port, like 0.0.0.0:8080 or [::]:8080, not `:8080`",
        ],
    );
}

#[test]
fn a_hint_fills_in_only_what_it_can() {
    reports(
        "production = true",
        "production = true\nconnect_hints = [\"psql -h {host} -d {databse} ${HOME} {.items}\"]",
        &["deploy/x.toml:9:18: a hint can't fill in `databse`; did you mean `database`?"],
    );
}

#[test]
fn an_environment_has_limits_of_its_own() {
    let given = "name = \"production\"\nthresholds.health.connections_pct = { warning = 60, critical = 82.5 }\nthresholds.long.for_s.critical = 90";
    let config = Config::parse("x.toml", &with("name = \"production\"", given), &all_set);
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let limits: Vec<_> =
        config.environments[0].limits.iter().map(|l| (l.column.as_str(), l.warning, l.critical)).collect();
    assert_eq!(limits, [("connections_pct", Some(60.0), Some(82.5)), ("for_s", None, Some(90.0))]);
    reports(
        "name = \"production\"",
        "name = \"production\"\nthresholds.health = { blocked = 3, lag_s = { warn = 1, critical = \"1m\" } }",
        &[
            "deploy/x.toml:8:33: `blocked` must be { warning = …, critical = … }, not a whole number",
            "deploy/x.toml:8:46: unknown key `warn`; did you mean `warning`?",
            "deploy/x.toml:8:67: `critical` must be a number, not a string",
        ],
    );
}

/// One place for the audit log, and none of the targets' databases.
#[test]
fn the_audit_log_has_one_place_of_its_own() {
    let place = |host: &str, database: &str, more: &str| {
        format!("[store.postgres]\nhost = \"{host}\"\ndatabase = \"{database}\"\nuser = \"recorder\"\n{more}")
    };
    let given = |lines: &str| with("[store]\npath = \"countersign.db\"", lines);
    let good = given(&place("record.example.com", "countersign", "password = { env = \"RECORD\" }"));
    let config = Config::parse("x.toml", &good, &all_set).unwrap_or_else(|problems| panic!("{problems}"));
    let StoreSettings::Postgres(settings) = &config.store else { panic!("{:?}", config.store) };
    assert_eq!(config.shutdown_delay, Duration::from_secs(5), "others take over");
    assert_eq!((settings.server.port, settings.database.as_str()), (5432, "countersign"));
    assert_eq!(settings.tls, Tls::Verified { ca_file: None });

    let cases = [
        (given("[store]"), "missing key `path` of `store`".to_owned()),
        (
            given(&format!("[store]\npath = \"x.db\"\n{}", place("record.example.com", "countersign", ""))),
            "the audit log has one place: `path` or `[store.postgres]`, not both".to_owned(),
        ),
        (
            given(&place("DB.example.com", "asset_service_db", "")),
            "the audit log needs a server of its own, and this one is primary of production".to_owned(),
        ),
        (
            given(&place("record.example.com", "countersign", "tls = \"off\"")),
            "`tls` may be off for this machine's own servers only".to_owned(),
        ),
    ];
    for (text, message) in cases {
        let found = problems(&text);
        assert!(found.len() == 1 && found[0].contains(&message), "{message}: {found:?}");
    }
    let elsewhere = given(&place("db.example.com", "asset_service_db", "port = 5433"));
    assert!(Config::parse("x.toml", &elsewhere, &all_set).is_ok(), "another server");
}

#[test]
fn metrics_have_an_address_of_their_own() {
    let address = |listen: &str| format!("{MINIMAL}[metrics]\nlisten = \"{listen}\"\n");
    let config = Config::parse("x.toml", &address("127.0.0.1:9187"), &all_set);
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.metrics_listen, Some(([127, 0, 0, 1], 9187).into()));
    let config = Config::parse("x.toml", MINIMAL, &all_set).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.metrics_listen, None);
    for (listen, says) in [
        ("9187", "`listen` must be an IP address and a port, like 127.0.0.1:9187, not `9187`"),
        ("LISTEN", "`listen` must be another address than the LISTEN of the chat platforms"),
    ] {
        let chat =
            MINIMAL.lines().find_map(|line| line.strip_prefix("listen = \"")).unwrap().trim_end_matches('"');
        let (listen, says) = (listen.replace("LISTEN", chat), says.replace("LISTEN", chat));
        let told = problems(&address(&listen));
        assert!(told.len() == 1 && told[0].ends_with(&says), "{told:?}");
    }
}
