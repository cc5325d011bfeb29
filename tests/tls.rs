//! TLS to PostgreSQL: verified against the configured authority and the server's name, or there is no connection; by our own
//! connections and by pg_dump alike.

use countersign::actions::backup::{
    ClientConnection, DumpJob, choose_installation, dump, find_installations,
};
use countersign::app::App;
use countersign::command_line::Values;
use countersign::config::{BackupSettings, Config, Server, Tls};
use countersign::demo::postgres::{self, Cluster, Options};
use countersign::model::{Block, LoginKind, Severity};
use countersign::postgres::{Address, Unreachable};
use countersign::preflight::{self, CheckContext, Finding};
use countersign::sql::{self, QueryRequest};
use countersign::storage::Storage;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};

const PASSWORD: &str = "tls-hush-5512";

/// An authority of a team's own, and its certificate as a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn found(directory: &Path, name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let file = directory.join(format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { issuer: Issuer::new(params, key), file }
    }

    /// A server's certificate for that name, valid until that year.
    fn certify(&self, directory: &Path, (host, until): (&str, i32)) -> postgres::ServerCertificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let file = |what: &str| directory.join(format!("{host}-{until}.{what}"));
        std::fs::write(file("pem"), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        postgres::ServerCertificate { cert: file("pem"), key: file("key") }
    }
}

async fn server(tls: Option<postgres::ServerCertificate>) -> Cluster {
    let settings = vec![("log_connections".to_owned(), "on".to_owned())];
    let cluster = Cluster::start(Options { tls, settings, ..Options::default() }).await.unwrap();
    let role =
        format!("CREATE ROLE secured LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_data, pg_monitor");
    cluster.connect("postgres").await.unwrap().batch_execute(&role).await.unwrap();
    cluster
}

async fn app(cluster: &Cluster, tls: &str) -> App {
    assemble(tls, &[("primary", cluster)], &[("asset-service", "postgres", "primary")]).await
}

/// A team's bot: its servers, and its services with database and server.
async fn assemble(tls: &str, servers: &[(&str, &Cluster)], services: &[(&str, &str, &str)]) -> App {
    let server = |(name, cluster): &(&str, &Cluster)| {
        format!("{{ name = \"{name}\", host = \"localhost\", port = {} }}", cluster.port())
    };
    let service = |(name, database, server): &(&str, &str, &str)| {
        format!(
            "[[services]]\nname = \"{name}\"\ndatabase = \"{database}\"\nservers = {{ production = \"{server}\" }}\n"
        )
    };
    let text = format!(
        r#"
listen = "127.0.0.1:8080"
store.path = "x.db"
backups.directory = "b"
[[environments]]
name = "production"
production = true
{tls}
servers = [{}]
logins.reader = {{ user = "secured", password = {{ env = "READER" }} }}
logins.operator = {{ user = "operator", password = {{ env = "OPERATOR" }} }}
{}
"#,
        servers.iter().map(server).collect::<Vec<_>>().join(", "),
        services.iter().map(service).collect::<String>()
    );
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("x.toml");
    let config = Config::parse(&name.to_string_lossy(), &text, &|_| Some(PASSWORD.to_owned()));
    countersign::bootstrap::assemble(config.unwrap_or_else(|wrong| panic!("{wrong}"))).await.unwrap()
}

async fn encrypted(app: &App) -> Result<bool, Unreachable> {
    let address = Address {
        environment: "production".to_owned(),
        server: "primary".to_owned(),
        database: Some("postgres".to_owned()),
        login: LoginKind::Reader,
    };
    let lease = app.environments.acquire(&address, "tls").await?;
    let rows = lease.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await.unwrap();
    Ok(rows[0].is_true("ssl"))
}

/// Whether the role's password was ever taken by this server.
fn let_in(cluster: &Cluster) -> bool {
    log(cluster).contains("connection authorized: user=secured")
}

fn log(cluster: &Cluster) -> String {
    std::fs::read_to_string(cluster.log_path()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_spoken_to_once_its_certificate_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::found(directory.path(), "ours");
    let theirs = Authority::found(directory.path(), "theirs");
    let cluster = server(Some(ours.certify(directory.path(), ("localhost", 2100)))).await;

    for (what, tls) in [
        ("another authority", format!("ca_file = {:?}", theirs.file)),
        ("the system's authorities", String::new()),
    ] {
        match encrypted(&app(&cluster, &tls).await).await {
            Err(Unreachable::Tls(why)) => assert!(why.contains("certificate"), "{what}: {why}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    assert!(!let_in(&cluster), "a password went to a server that was not verified");
    assert_eq!(encrypted(&app(&cluster, &format!("ca_file = {:?}", ours.file)).await).await, Ok(true));
    assert!(let_in(&cluster));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_of_a_certificate_that_cannot_be_verified() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::found(directory.path(), "ours");
    let theirs = Authority::found(directory.path(), "theirs");
    let cluster = server(Some(ours.certify(directory.path(), ("localhost", 2100)))).await;
    let findings = async |authority: &Authority| -> Vec<Finding> {
        let app = app(&cluster, &format!("ca_file = {:?}", authority.file)).await;
        let report = preflight::check(
            &CheckContext {
                config: &app.config,
                catalog: &app.catalog,
                environments: &app.environments,
                access: &app.access,
                schedule: &app.schedule,
            },
            None,
        )
        .await;
        assert!(report.missing_count() > 0);
        report.sections.into_iter().find(|(place, _)| place == "production").unwrap().1
    };
    let [only] = &findings(&theirs).await[..] else { panic!("it is told once") };
    assert!(only.details.contains("TLS") && only.details.contains("certificate"), "{only:?}");
    assert_eq!(only.subject, "primary as reader");
    let fix = only.fix.as_deref().unwrap();
    assert!(fix.contains("set the authority's certificate as `ca_file` of production"), "{fix}");
    assert!(!let_in(&cluster), "a password went to a server that was not verified");
    let verified = findings(&ours).await;
    assert!(
        verified.len() > 1 && verified.iter().all(|found| !found.details.contains("TLS")),
        "{verified:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_servers_certificate_an_expired_one_or_none_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::found(directory.path(), "ours");
    for (certified, why) in [
        (Some(("elsewhere.example", 2100)), "not valid for name"),
        (Some(("localhost", 2001)), "expired"),
        (None, "the server offers none"),
    ] {
        let tls = certified.map(|certified| ours.certify(directory.path(), certified));
        let cluster = server(tls).await;
        match encrypted(&app(&cluster, &format!("ca_file = {:?}", ours.file)).await).await {
            Err(Unreachable::Tls(told)) => assert!(told.contains(why), "{told}"),
            other => panic!("{why}: {other:?}"),
        }
        assert!(!let_in(&cluster), "{why}: the password went there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_verifies_as_strictly() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::found(directory.path(), "ours");
    let theirs = Authority::found(directory.path(), "theirs");
    let cluster = server(Some(ours.certify(directory.path(), ("localhost", 2100)))).await;
    let target = directory.path().join("backups");
    let tools = vec![cluster.bin_dir().to_owned()];
    let backups = BackupSettings { directory: target, tools, search_path: Vec::new() };
    let tools = find_installations(&backups).await;
    let storage = Storage::open(&backups).unwrap();
    let job = |host: &str, authority: &Authority| DumpJob {
        storage: &storage,
        installation: choose_installation(&tools, cluster.version_num() / 10_000).unwrap(),
        connection: ClientConnection {
            server: Server { name: "primary".into(), host: host.into(), port: cluster.port() },
            database: "postgres".into(),
            user: "secured".into(),
            password: Some(PASSWORD.to_owned().into()),
            tls: Tls::Verified { ca_file: Some(authority.file.clone()) },
            timeout: std::time::Duration::from_secs(10),
            application: "countersign #7 ana".into(),
        },
        environment: "production",
        server_version: "15.x".into(),
        table_bytes: 1,
        requested_by: "Ana",
        run: 7,
    };
    // 127.0.0.1 is the same server under a name that its certificate doesn't have.
    for (host, authority) in [("localhost", &theirs), ("127.0.0.1", &ours)] {
        let why = dump(&job(host, authority), &|_| {}).await.unwrap_err().to_string();
        assert!(why.contains("certificate"), "{why}");
        assert!(!why.contains(PASSWORD), "{why}");
    }
    assert!(!let_in(&cluster), "pg_dump handed the password to a server that was not verified");
    let made = dump(&job("localhost", &ours), &|_| {}).await.unwrap();
    assert!(made.bytes > 0);
    assert!(log(&cluster).contains("SSL enabled"), "{}", log(&cluster));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_service_down_one_hanging_and_one_without_tls_hide_none_of_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::found(directory.path(), "ours");
    let certificate = || Some(ours.certify(directory.path(), ("localhost", 2100)));
    let well = server(certificate()).await;
    let mut down = server(certificate()).await;
    let hanging = server(certificate()).await;
    let open = server(None).await;
    let admin = well.connect("postgres").await.unwrap();
    let mut services =
        vec![("down", "postgres", "down"), ("hanging", "postgres", "hanging"), ("open", "postgres", "open")];
    for name in ["one", "two", "three", "four", "five", "six", "seven"] {
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        services.push((name, name, "main"));
    }
    let servers = [("main", &well), ("down", &down), ("hanging", &hanging), ("open", &open)];
    let app = assemble(&format!("ca_file = {:?}", ours.file), &servers, &services).await;
    down.stop().unwrap();
    let _frozen = hanging.freeze().unwrap();

    let health = app.catalog.find("health").unwrap();
    let question = QueryRequest {
        command: health,
        environment: "production",
        values: &Values::new(),
        application_name: "tls",
    };
    let sections = sql::run(&app.environments, &question).await.unwrap();
    let answer = sql::present(health, &app.catalog, "production", &sections);
    let told = |wanted: &str| {
        answer.blocks.iter().any(|block| matches!(block, Block::Text(text) if text.words() == wanted))
    };
    for why in [
        "down refuses connections: the server is down or the network is in the way",
        "hanging doesn't answer (waited 3 s)",
        "open shows no TLS that can be verified (the server offers none)",
    ] {
        assert!(told(why), "{why}: {:?}", answer.blocks);
    }
    let Some(Block::Verdict { severity: Severity::Critical, text }) = answer.blocks.first() else {
        panic!("no verdict")
    };
    assert_eq!(text.words(), "No whole answer from down, hanging, open.");
    let answered: Vec<&str> = sections[0].rows.iter().map(|row| row.target.label()).collect();
    assert_eq!(answered, ["one", "two", "three", "four", "five", "six", "seven"]);
    assert_eq!(sections[1].rows.iter().map(|row| row.target.label()).collect::<Vec<_>>(), ["main"]);
}
