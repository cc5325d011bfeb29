//! The steps of docs/install.md from nothing to the first answer, as the page has them: the commands are read from it. They run on a
//! directory in the place of the host's, or, where `COUNTERSIGN_TEST_CHROOT` names one, in that chroot with the package (`make deb`).

use countersign::demo::fake_slack::{self, Account, Ack, Channel, Kind, Settings, Workspace};
use countersign::demo::free_port;
use countersign::demo::postgres::{Cluster, Options};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const PAGE: &str = include_str!("../../docs/install.md");
const CHANNEL: &str = "C0INCIDENT";
/// Whoever waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const DATABASE: &str = "asset_service_db";

/// Directories and files of the package; on a directory in the place of the host's they are below it.
const PLACES: [&str; 5] = [
    "/etc/countersign",
    "/usr/share/countersign",
    "/usr/bin/countersign",
    "/var/lib/countersign",
    "/usr/lib/systemd/system",
];

/// A numbered step: its title, its text and its blocks of commands.
struct Step {
    title: String,
    text: String,
    commands: Vec<String>,
}

/// The steps under the heading.
fn steps(page: &str, heading: &str) -> Vec<Step> {
    let section = page.split_once(&format!("\n{heading}\n")).expect("the section").1;
    let section = section.split("\n## ").next().expect("its end");
    let mut steps: Vec<String> = Vec::new();
    for line in section.lines() {
        let number = format!("{}. **", steps.len() + 1);
        match (line.strip_prefix(&number), steps.last_mut()) {
            (Some(rest), _) => steps.push(format!("{rest}\n")),
            // Whatever is indented belongs to the step.
            (None, Some(step)) if line.is_empty() || line.starts_with("   ") => {
                *step += &format!("{}\n", line.trim_start_matches("   "));
            }
            _ => {}
        }
    }
    steps
        .into_iter()
        .map(|text| {
            let title = text.split('.').next().expect("a title").to_owned();
            let commands = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
            Step { title, commands: commands.map(str::to_owned).collect(), text }
        })
        .collect()
}

/// The machine on which the steps are taken.
struct Host {
    /// A chroot, or the directory that is in the place of the host's.
    root: PathBuf,
    is_chroot: bool,
    cluster: Cluster,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Host {
    async fn new() -> Host {
        let cluster = Cluster::start(Options::default()).await.expect("a PostgreSQL server");
        let superuser = cluster.connect("postgres").await.expect("the superuser");
        cluster.protect().await.expect("a server that is safe in a crash");
        superuser.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await.expect("a database");
        let directory = tempfile::tempdir().expect("a directory");
        let chroot = std::env::var_os("COUNTERSIGN_TEST_CHROOT").map(PathBuf::from);
        let is_chroot = chroot.is_some();
        let root = chroot.unwrap_or_else(|| directory.path().to_owned());
        let port = free_port().expect("a port");
        let host = Host { root, is_chroot, cluster, port, _directory: directory };
        let tools = host.root.join("tools");
        fs::create_dir_all(&tools).expect("a directory");
        let stand_in = tools.join("host.sh");
        fs::copy(root_of_sources().join("tests/package/host.sh"), stand_in).expect("the stand-in");
        for name in ["sudo", "apt", "nano", "systemd-run", "systemctl"] {
            symlink("host.sh", tools.join(name)).expect("a name of the stand-in");
        }
        if !is_chroot {
            host.place_files();
        }
        host
    }

    /// Puts the package's files where the package has them; what is made from the program alone is left out.
    fn place_files(&self) {
        let manifest: toml::Table = include_str!("../../Cargo.toml").parse().expect("the manifest");
        let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().expect("the assets");
        for asset in assets {
            let [source, target] = [0, 1].map(|at| asset[at].as_str().expect("a path"));
            let source = match source.strip_prefix("target/") {
                Some("release/countersign") => PathBuf::from(env!("CARGO_BIN_EXE_countersign")),
                Some(_) => continue,
                None => root_of_sources().join(source),
            };
            let target = self.root.join(target);
            let pattern = source.file_name().expect("a name").to_string_lossy().into_owned();
            let directory = source.parent().expect("a directory");
            let names =
                fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("a file").path());
            let mut placed = 0;
            for path in names.filter(|path| matches(path, &pattern)) {
                let is_directory = asset[1].as_str().is_some_and(|target| target.ends_with('/'));
                let to = if is_directory {
                    target.join(path.file_name().expect("a name"))
                } else {
                    target.clone()
                };
                fs::create_dir_all(to.parent().expect("a directory")).expect("the directory");
                symlink_or_copy(&path, &to);
                placed += 1;
            }
            assert!(placed > 0, "no file is {}", source.display());
        }
        let unit = fs::read_to_string(root_of_sources().join("deploy/debian/countersign.service"))
            .expect("the unit");
        fs::create_dir_all(self.root.join("usr/lib/systemd/system")).expect("a directory");
        fs::write(self.root.join("usr/lib/systemd/system/countersign.service"), self.placed(&unit))
            .expect("the unit");
        let state = self.root.join("var/lib/countersign");
        fs::create_dir_all(&state).expect("the state's directory");
        fs::set_permissions(&state, Permissions::from_mode(0o700)).expect("its mode");
    }

    /// A text whose paths are those of this host.
    fn placed(&self, text: &str) -> String {
        let root = if self.is_chroot { String::new() } else { self.root.display().to_string() };
        PLACES.iter().fold(text.to_owned(), |text, place| text.replace(place, &format!("{root}{place}")))
    }

    /// The place of a file, seen from here.
    fn path(&self, place: &str) -> PathBuf {
        self.root.join(place.trim_start_matches('/'))
    }

    /// Types commands into a shell, and the answers to what they ask.
    fn types(&self, commands: &str, answers: &str) -> Output {
        let account = "setpriv --reuid=countersign --regid=countersign --clear-groups --no-new-privs --bounding-set=-all";
        let inside = if self.is_chroot { String::new() } else { self.root.display().to_string() };
        // Without a terminal psql asks for a password on standard error.
        let mut command = Command::new("setsid");
        command.arg("--wait");
        if self.is_chroot {
            command.arg("chroot").arg(&self.root);
        }
        let mut child = command
            .args(["bash", "-euo", "pipefail", "-c", &self.placed(commands)])
            .env_clear()
            .env("PATH", format!("{inside}/tools:{inside}/usr/bin:/usr/bin:/bin:/usr/sbin:/sbin"))
            .env("PGPASSWORD", self.cluster.superuser_password())
            .env("ACCOUNT", if self.is_chroot { account } else { "" })
            .env("INSTALL", if self.is_chroot { "apt-get install --yes" } else { "" })
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("UNIT", format!("{inside}/usr/lib/systemd/system/countersign.service"))
            .env("SERVICE_LOG", format!("{inside}/tools/log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        let _ = child.stdin.take().expect("its input").write_all(answers.as_bytes());
        child.wait_with_output().expect("its end")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("tools/log")).unwrap_or_default()
    }
}

impl Drop for Host {
    /// Ends the service.
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.path("tools/log.pid")) {
            let _ = Command::new("kill").arg(pid.trim()).status();
        }
    }
}

fn root_of_sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn matches(path: &Path, pattern: &str) -> bool {
    let name = path.file_name().expect("a name").to_string_lossy();
    pattern.strip_prefix('*').map_or(name == pattern, |end| name.ends_with(end))
}

/// The program is large and never changed.
fn symlink_or_copy(from: &Path, to: &Path) {
    if from.ends_with("countersign") {
        symlink(from, to).expect("a link");
    } else {
        fs::copy(from, to).expect("a copy");
    }
}

/// The workspace of the page's reader: they, the incident's channel, and a bot that nobody has invited.
async fn workspace() -> Workspace {
    let slack = Workspace::start(Settings::default()).await.expect("a workspace");
    slack.add_person(Account::new("U0ANA", "ana", Kind::Member));
    slack.add_channel(channel(false));
    slack
}

fn channel(is_bot_member: bool) -> Channel {
    Channel { id: CHANNEL.into(), name: "incident-42".into(), is_bot_member, ..Channel::default() }
}

/// What a reader replaces on the page by their own names.
fn with_own_names(host: &Host, text: &str) -> String {
    let server = format!("host={} port={}", host.cluster.host(), host.cluster.port());
    let address = format!("{}:{}", host.cluster.host(), host.cluster.port());
    [
        ("host=db.example.com port=5432", server.as_str()),
        ("db.example.com:5432", &address),
        ("user=postgres", &format!("user={}", host.cluster.superuser())),
        ("T0123ABCD", fake_slack::TEAM),
        ("U0123ABCD", "U0ANA"),
        ("xoxb-…", fake_slack::BOT_TOKEN),
        ("SLACK_SIGNING_SECRET=…", &format!("SLACK_SIGNING_SECRET={}", fake_slack::SIGNING_SECRET)),
        ("READER_PASSWORD=…", "READER_PASSWORD=reads-1"),
        ("OPERATOR_PASSWORD=…", "OPERATOR_PASSWORD=acts-2"),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (theirs, own)| text.replace(theirs, own))
}

/// The command that a step tells to type in the chat.
fn typed_in_chat(step: &Step) -> &str {
    step.text.split('`').nth(1).unwrap_or_else(|| panic!("a command: {}", step.text))
}

/// Slack's verification of the address, which somebody repeats until the service listens.
async fn verification(slack: &Workspace) -> Ack {
    let until = Instant::now() + PATIENCE;
    loop {
        let ack = slack.verifies_events_url("a challenge").await;
        if ack.status != 0 || Instant::now() > until {
            return ack;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Takes a step of the page.
async fn take(step: &Step, host: &Host, slack: &Workspace) {
    let file = "/etc/countersign/countersign.toml";
    let answers = match step.title.as_str() {
        "Logins" => "reads-1\nreads-1\nacts-2\nacts-2\n".to_owned(),
        // Slack, production, the person's name, the directory.
        "Configuration" => format!("\n\nana\n{}\n", host.placed("/var/lib/countersign")),
        "Secrets" => step
            .text
            .split("```ini\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .expect("the file")
            .to_owned(),
        _ => String::new(),
    };
    for commands in &step.commands {
        let output = host.types(&with_own_names(host, commands), &with_own_names(host, &answers));
        let log = host.log();
        assert!(output.status.success(), "{}: {output:#?}\n{log}", step.title);
        if step.title == "Check" {
            let out = String::from_utf8_lossy(&output.stdout);
            assert!(out.starts_with("OK: All checks passed."), "{out}");
        }
    }
    match step.title.as_str() {
        "Slack app" => {
            let manifest =
                fs::read_to_string(host.path("/usr/share/countersign/slack.yaml")).expect("the manifest");
            assert!(manifest.contains("https://countersign.example.com/slack/events"), "{manifest}");
        }
        // The workspace is a fake, and many tests listen at once.
        "Ids" => {
            let path = host.path(file);
            let text = fs::read_to_string(&path).expect("the configuration");
            let api = format!("[slack]\napi_url = \"{}\"", slack.api_url());
            let text =
                text.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", host.port)).replace("[slack]", &api);
            fs::write(&path, text).expect("the configuration");
        }
        "Address" => {
            slack.connect_bot(&format!("http://127.0.0.1:{}", host.port));
            let ack = verification(slack).await;
            assert!(ack.ok() && ack.body.contains("a challenge"), "{ack:?}\n{}", host.log());
        }
        "Channel" => {
            assert_eq!(typed_in_chat(step), "/invite @countersign");
            slack.add_channel(channel(true));
        }
        "First answer" => {
            assert!(slack.say("U0ANA", CHANNEL, typed_in_chat(step)).await.ok(), "{}", host.log())
        }
        "Package" | "Logins" | "Configuration" | "Secrets" | "Check" | "Start" => {
            assert!(!step.commands.is_empty(), "{}", step.title);
        }
        other => panic!("nobody takes the step {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_the_page_lead_from_nothing_to_the_first_answer() {
    let steps = steps(PAGE, "## From nothing to the first answer");
    assert!((8..=12).contains(&steps.len()), "{} steps", steps.len());
    let (host, slack) = (Host::new().await, workspace().await);
    for step in &steps {
        take(step, &host, &slack).await;
    }
    let answer = slack.wait_for("the first answer", |slack| {
        slack
            .visible_messages("U0ANA", CHANNEL)
            .iter()
            .map(|message| message.plain())
            .find(|text| text.contains("Connections"))
    });
    let answer = answer.await.unwrap_or_else(|why| panic!("{why}\n{}", host.log()));
    assert!(answer.contains("ana requested health on") && answer.contains("PRODUCTION"), "{answer}");
    // The audit log is copied while the service runs, as the page on operations says; the copy has the run.
    let copy = include_str!("../../docs/operations.md")
        .split("```sh\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let copy = copy.expect("the command").replace("/backup/", "/var/lib/countersign/");
    let copy = copy.replace("countersign.db'\"", "copy.db'\"");
    let output = host.types(&copy, "");
    assert!(output.status.success(), "{output:?}");
    let record = host.path("/var/lib/countersign/copy.db");
    let record =
        countersign::store::sqlite::SqliteStore::open(&record, Default::default()).expect("the copy");
    let filter = countersign::store::Filter { include_reads: true, ..Default::default() };
    let runs = countersign::store::Store::list(&record, filter).await.expect("the runs").runs;
    assert_eq!(runs.iter().map(|run| run.request.command.as_str()).collect::<Vec<_>>(), ["health"]);
}
