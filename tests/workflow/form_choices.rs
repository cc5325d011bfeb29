//! What the forms of acting commands offer, on the sample incident: each choice leads to a plan.

use crate::forms::fields;
use crate::harness::{ANA, BEN, CARA, Scene, Servers, Twist};
use crate::schedule_year::replica;
use countersign::catalog::{Catalog, Command};
use countersign::command_line::{Values, to_line};
use countersign::demo::fake_slack::Modal;
use countersign::demo::postgres::Options;
use countersign::demo::sample::{Sample, SampleIncident};
use countersign::model::{ENVIRONMENT_FIELD, REASON_FIELD, Risk, RunState};
use serde_json::Value;

/// Services of which each choice is tried: that of the incident, and one with partitions.
const EXAMINED: [&str; 2] = ["asset-service", "analytics-service"];

/// Refusals that no list of choices can foresee: each command, and the words.
const EXPECTED: [(&str, &str); 6] = [
    // The sample has nothing for it to do.
    ("enable-stats", "already has pg_stat_statements"),
    // One service has a failed migration, which the refusal leads on from.
    ("migrate ", "Deploys are blocked"),
    ("migrate-resolve", "was never started, so it can't be rolled back"),
    // The incident's lock.
    ("vacuum-full", "is locked"),
    ("purge", "is locked"),
    ("kill-idle", "No session"),
];

const MORE: &str = "[sql]\ndirectory = \"sql\"\n[break_glass]\nrole = \"last-resort\"\n\
    [migrate]\ndeploy = [\"/bin/true\"]\nresolve = [\"/bin/true\", \"{as}\", \"{migration}\"]\ndirectory = \"/\"\n\
    [[schedule]]\nname = \"Night\"\nrun = \"analyze asset-service\"\nenvironments = [\"production\"]\nat = \"0 0 29 2 *\"\n\
    [[schedule]]\nname = \"Noon\"\nrun = \"analyze asset-service\"\nenvironments = [\"production\"]\nat = \"0 12 29 2 *\"\n\
    [[schedule]]\nname = \"Watch\"\nrun = \"health\"\nenvironments = [\"production\"]\nat = \"0 6 29 2 *\"\nreport = \"changes\"\n";

const WAIT: &str = "/* summary = \"Waits\" */\nSELECT pg_sleep(600);";

const OLD_ROWS: &str = "CREATE TABLE IF NOT EXISTS public.old_rows (id serial PRIMARY KEY, at timestamptz);
    ALTER TABLE public.old_rows OWNER TO asset_svc;
    INSERT INTO public.old_rows (at) SELECT now() - interval '90 days' FROM generate_series(1, 10)";

/// A bot for a server of its own, with the sample's logins and incident.
async fn scene() -> (Scene, SampleIncident) {
    let settings = vec![("max_connections".to_owned(), "100".to_owned())];
    let options = Options { settings, ..Options::default() };
    let (cluster, team) = Sample::small().start(options).await.expect("a server with the sample");
    let servers: &'static Servers = Box::leak(Box::new(Servers { cluster, team }));
    let mut instead =
        vec![("roles = [\"on-call\"]".to_owned(), "roles = [\"on-call\", \"last-resort\"]".to_owned())];
    instead.extend(servers.team.services.iter().map(|(service, _)| {
        let database = format!("database = \"{}\"\n", service.database);
        (database.clone(), format!("{database}migrations = \"migrations\"\n"))
    }));
    let instead = instead.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
    let twist = Twist { servers: Some(servers), more: MORE, instead, ..Twist::default() };
    let mut scene = Scene::without_bot(twist).await;
    let write = |path: &str, text: &str| {
        let path = scene.directory.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("the directory");
        std::fs::write(path, text).expect("a file");
    };
    for migration in ["20250915140000_email_unique", "20300101090000_new_field"] {
        write(&format!("migrations/{migration}/migration.sql"), "SELECT 1;");
    }
    write("sql/wait.sql", WAIT);
    scene.bot = Some(scene.stage.bot().await.expect("a bot"));
    let incident = SampleIncident::start(&servers.cluster, &servers.team).await.expect("the incident");
    (scene, incident)
}

/// Makes requests of two people, a run in progress, one to review, one to continue, and a paused window.
async fn make_runs(scene: &Scene, incident: &SampleIncident) {
    let idle = incident.pids().pool;
    for (who, pid) in [(ANA, idle[0]), (CARA, idle[1])] {
        scene.card(who, &format!("kill {pid} --env production")).await;
    }
    let line = format!("break-glass kill {} --env production --reason \"a drill\"", idle[2]);
    let killed = scene.asks(ANA, &line).await;
    scene.until(&killed.at(), " ended.").await;
    let card = scene.card(ANA, "run-sql wait auth-service --env production").await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until_state("run-sql", RunState::Running).await;
    let database = scene.servers.cluster.connect("asset_service_db").await.expect("the database");
    database.batch_execute(OLD_ROWS).await.expect("old rows");
    let card =
        scene.card(ANA, "purge asset-service old_rows --column at --older-than 1d --env production").await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until_state("purge", RunState::Succeeded).await;
    database.batch_execute(OLD_ROWS).await.expect("more old rows");
    assert_eq!(scene.tampers("UPDATE runs SET state = 'stopped' WHERE command = 'purge'"), 1);
    replica(scene).await.start_due_windows("2028-02-29T06:00:00Z".parse().unwrap()).await;
    let paused = scene.asks(ANA, "schedule-pause Night --env production").await;
    scene.until(&paused.at(), "Night is paused").await;
}

/// A field's choices; none of a field that is typed into.
struct Choices {
    name: String,
    values: Vec<String>,
}

async fn choices(scene: &Scene, who: &str, modal: &Modal) -> Vec<Choices> {
    let mut all = Vec::new();
    for input in modal.inputs() {
        let (name, element) = (input["block_id"].as_str().expect("a name"), &input["element"]);
        let values = match element["type"].as_str() {
            Some("static_select") => {
                let options = element["options"].as_array().expect("options").iter();
                options.filter_map(|option| option["value"].as_str().map(str::to_owned)).collect()
            }
            Some("external_select") => {
                scene.offers(who, modal, name, "").await.into_iter().map(|(value, _)| value).collect()
            }
            _ => Vec::new(),
        };
        all.push(Choices { name: name.to_owned(), values });
    }
    all
}

/// One person's form of a command, as it is when the environment and a service are chosen.
struct Filling<'a> {
    scene: &'a Scene,
    command: &'a Command,
    who: &'a str,
    has_environment: bool,
    choices: Vec<Choices>,
}

impl Filling<'_> {
    /// Every way to complete these values by choices. What is typed is the same each time.
    fn completions(&self, values: Values) -> Vec<Values> {
        let Some(spec) = self.command.header.args.iter().find(|spec| spec.is_missing(&values)) else {
            return vec![values];
        };
        let choices = self.choices.iter().find(|choices| choices.name == spec.name);
        let values_of_field = match choices {
            Some(choices) if !choices.values.is_empty() => choices.values.clone(),
            _ if spec.name == "older-than" => vec!["1s".to_owned()],
            _ => return Vec::new(),
        };
        let complete = |value: String| {
            let mut values = values.clone();
            values.insert(spec.name.clone(), value);
            self.completions(values)
        };
        values_of_field.into_iter().flat_map(complete).collect()
    }

    /// The refusals, if none of the ways to complete these values leads to a plan.
    async fn refusal(&self, values: Values) -> Option<String> {
        let mut refusals = format!("{} {values:?}:\n", self.command.name);
        for values in self.completions(values) {
            let line = to_line(&self.command.name, &self.command.header.args, &values);
            let environment = if self.has_environment { " --env production" } else { "" };
            let line = format!("{line}{environment} --dry-run");
            let answer = self.scene.asks(self.who, &line).await.plain();
            if answer.contains("Dry run") {
                return None;
            }
            refusals.push_str(&format!("{line}: {answer}\n"));
        }
        Some(refusals)
    }
}

/// The services that a form asks for before its other fields; one `None` for a form that asks for none.
fn services(first: &Modal) -> Vec<Option<String>> {
    let is_service = |input: &&Value| input["block_id"] == "service";
    let field = first.inputs().find(is_service).filter(|_| first.view["submit"]["text"] == "Next");
    let options = field.and_then(|input| input["element"]["options"].as_array());
    let Some(options) = options else { return vec![None] };
    let values = options.iter().filter_map(|option| option["value"].as_str());
    values.filter(|value| *value != "all").map(|value| Some(value.to_owned())).collect()
}

/// Fills in the environment and the service of a command's form.
async fn fill_in<'a>(
    scene: &'a Scene,
    command: &'a Command,
    who: &'a str,
    service: Option<&str>,
) -> (Filling<'a>, Values) {
    let mut modal = match scene.workspace().modal(who) {
        Some(open) => open,
        None => scene.opens(who, &format!("{} --dry-run", command.name)).await,
    };
    let has_environment = fields(&modal).contains(&ENVIRONMENT_FIELD);
    let mut values = Values::new();
    if modal.view["submit"]["text"] == "Next" {
        let mut first = vec![(ENVIRONMENT_FIELD, "production")];
        if let Some(service) = service {
            first.push(("service", service));
            values.insert("service".to_owned(), service.to_owned());
        }
        scene.submits(who, &modal, &first).await;
        modal = scene.workspace().modal(who).expect("the next form");
    }
    let mut choices = choices(scene, who, &modal).await;
    choices.retain(|choices| ![ENVIRONMENT_FIELD, REASON_FIELD].contains(&choices.name.as_str()));
    scene.workspace().close_modal(&modal.id);
    (Filling { scene, command, who, has_environment, choices }, values)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_choice_of_an_acting_command_leads_to_a_plan() {
    let (scene, incident) = scene().await;
    make_runs(&scene, &incident).await;
    let catalog = Catalog::built_in().expect("the catalogue");
    let asks = |command: &&Command| command.header.risk != Risk::Read && !command.header.args.is_empty();
    let (mut refused, mut tried) = (Vec::new(), 0);
    for command in catalog.iter().filter(asks) {
        let is_about_a_run = command.header.args.iter().any(|spec| spec.name == "run");
        // Whoever is on call requests; about a run there are others who decide.
        let people: &[&str] = if is_about_a_run { &[ANA, BEN, CARA] } else { &[ANA] };
        for who in people {
            let first = scene.opens(who, &format!("{} --dry-run", command.name)).await;
            for service in services(&first) {
                let (filling, values) = fill_in(&scene, command, who, service.as_deref()).await;
                let is_nothing_there =
                    is_about_a_run && filling.choices.iter().all(|choices| choices.values.is_empty());
                if !is_nothing_there {
                    refused.extend(filling.refusal(values.clone()).await);
                }
                let is_examined = service.is_none_or(|service| EXAMINED.contains(&service.as_str()));
                for Choices { name, values: offered } in filling.choices.iter().filter(|_| is_examined) {
                    for value in offered {
                        let mut values = values.clone();
                        values.insert(name.clone(), value.clone());
                        refused.extend(filling.refusal(values).await);
                        tried += 1;
                    }
                }
            }
        }
    }
    let is_of = |refusals: &String, (command, words): &(&str, &str)| {
        refusals.starts_with(command) && refusals.contains(words)
    };
    for expected in &EXPECTED {
        assert!(refused.iter().any(|refusals| is_of(refusals, expected)), "{expected:?} is not refused");
    }
    refused.retain(|refusals| !EXPECTED.iter().any(|expected| is_of(refusals, expected)));
    assert!(refused.is_empty(), "{} of {tried} choices are refused:\n{}", refused.len(), refused.join("\n"));
    assert!(tried > 150, "only {tried} choices are offered");
}
