//! What Prometheus scrapes. Each bot has a registry of its own: the tests run several in one process. Recording costs an atomic
//! addition; the text is made when it is asked for. A label is a name of the configuration or of this program, never text that a
//! person or a server chose.

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Upper bounds in seconds: of answers from memory, from a disk, and at the time limits of platforms and stores.
const BUCKETS: [f64; 9] = [0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 3.0, 10.0];

type FloatGauge = Gauge<f64, AtomicU64>;
/// Of a metric that is absent at times, but has no labels.
type NoLabels = [(&'static str, &'static str); 0];
type HistogramFamily<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlatformLabels {
    platform: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    platform: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    command: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreErrorLabels {
    call: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EnvironmentLabels {
    environment: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlatformErrorLabels {
    platform: &'static str,
    method: String,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
}

/// A window that reports changes, in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WindowLabels {
    pub environment: String,
    pub window: String,
}

/// A service's database in an environment, as the labels of its newest backup.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackupLabels {
    pub environment: String,
    pub production: bool,
    pub service: String,
}

/// The connections of an environment's pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionUsage {
    pub in_use: usize,
    pub idle: usize,
    pub limit: usize,
    /// Queries that wait for one.
    pub waiting: usize,
}

/// A number of things that wait, and for how long the first one has.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waiting {
    pub count: u64,
    /// Zero if nothing waits.
    pub oldest_age: Duration,
}

/// The metrics of one bot.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    acknowledgements: HistogramFamily<PlatformLabels>,
    refusals: Family<RefusalLabels, Counter>,
    runs: Family<RunLabels, Counter>,
    store_available: Gauge,
    store_calls: HistogramFamily<CallLabels>,
    store_errors: Family<StoreErrorLabels, Counter>,
    platform_errors: Family<PlatformErrorLabels, Counter>,
    tasks: TaskMetrics,
    connections: ConnectionMetrics,
    shared: SharedMetrics,
}

/// Background tasks, by name.
#[derive(Debug, Default)]
struct TaskMetrics {
    interval: Family<TaskLabels, FloatGauge>,
    last_run: Family<TaskLabels, FloatGauge>,
    last_run_failed: Family<TaskLabels, Gauge>,
}

/// Pools, by environment.
#[derive(Debug, Default)]
struct ConnectionMetrics {
    in_use: Family<EnvironmentLabels, Gauge>,
    idle: Family<EnvironmentLabels, Gauge>,
    limit: Family<EnvironmentLabels, Gauge>,
    waiting: Family<EnvironmentLabels, Gauge>,
}

/// What all replicas on one audit log and one backup storage report alike. Absent while it can't be read.
#[derive(Debug, Default)]
struct SharedMetrics {
    schema_version: Family<NoLabels, Gauge>,
    open_runs: Family<StateLabels, Gauge>,
    oldest_open_run: Family<StateLabels, FloatGauge>,
    newest_look: Family<WindowLabels, FloatGauge>,
    undelivered_cards: Family<NoLabels, Gauge>,
    oldest_undelivered_card: Family<NoLabels, FloatGauge>,
    backup_storage_available: Gauge,
    newest_backup: Family<BackupLabels, FloatGauge>,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

fn gauge_value(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("countersign"),
            acknowledgements: Family::new_with_constructor(histogram),
            refusals: Family::default(),
            runs: Family::default(),
            store_available: Gauge::default(),
            store_calls: Family::new_with_constructor(histogram),
            store_errors: Family::default(),
            platform_errors: Family::default(),
            tasks: TaskMetrics::default(),
            connections: ConnectionMetrics::default(),
            shared: SharedMetrics::default(),
        };
        metrics.register_own();
        metrics.tasks.register(&mut metrics.registry);
        metrics.connections.register(&mut metrics.registry);
        metrics.shared.register(&mut metrics.registry);
        metrics
    }
}

// The registry ends each description with a full stop, and each counter's name with `_total`.
impl Metrics {
    fn register_own(&mut self) {
        let registry = &mut self.registry;
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The version of this replica", build);
        registry.register(
            "acknowledgement_duration_seconds",
            "Time until this replica acknowledged a signed request of the chat platform",
            self.acknowledgements.clone(),
        );
        registry.register(
            "refused_requests",
            "Requests to the chat platform's routes that this replica refused, by HTTP status: most have no good signature",
            self.refusals.clone(),
        );
        registry.register(
            "runs",
            "Runs that this replica recorded as ended, by outcome. An interrupted one counts again once its outcome is known",
            self.runs.clone(),
        );
        registry.register(
            "store_available",
            "1 if the audit log answered this replica within the last seconds, else 0",
            self.store_available.clone(),
        );
        registry.register(
            "store_call_duration_seconds",
            "Time until the audit log answered this replica's call, failures included",
            self.store_calls.clone(),
        );
        registry.register(
            "store_errors",
            "Calls of this replica that the audit log failed",
            self.store_errors.clone(),
        );
        registry.register(
            "platform_errors",
            "Calls of this replica that the chat platform refused or left without an answer, repeats included",
            self.platform_errors.clone(),
        );
    }

    /// A signed request was acknowledged.
    pub fn acknowledged(&self, platform: &'static str, took: Duration) {
        self.acknowledgements.get_or_create(&PlatformLabels { platform }).observe(took.as_secs_f64());
    }

    /// A request without a good signature, or one that is too large, was refused with this HTTP status.
    pub fn refused(&self, platform: &'static str, status: u16) {
        self.refusals.get_or_create(&RefusalLabels { platform, status }).inc();
    }

    /// A run was recorded as ended.
    pub fn run_ended(&self, command: &str, outcome: &'static str) {
        self.runs.get_or_create(&RunLabels { command: command.to_owned(), outcome }).inc();
    }

    pub fn set_store_available(&self, is_available: bool) {
        self.store_available.set(is_available.into());
    }

    /// A call of the store has ended, with an error for this reason if it failed.
    pub fn store_called(&self, call: &'static str, took: Duration, failure: Option<&'static str>) {
        self.store_calls.get_or_create(&CallLabels { call }).observe(took.as_secs_f64());
        if let Some(reason) = failure {
            self.store_errors.get_or_create(&StoreErrorLabels { call, reason }).inc();
        }
    }

    /// A call of the platform has failed. The code must be one of those that its module knows.
    pub fn platform_failed(&self, platform: &'static str, method: &str, code: &'static str) {
        let labels = PlatformErrorLabels { platform, method: method.to_owned(), code };
        self.platform_errors.get_or_create(&labels).inc();
    }

    /// A background task will run at this interval. It counts as having run now: one that hangs from the start is noticed, too.
    pub fn task_scheduled(&self, task: &'static str, interval: Duration) {
        let labels = TaskLabels { task };
        self.tasks.interval.get_or_create(&labels).set(interval.as_secs_f64());
        self.tasks.last_run.get_or_create(&labels).set(now());
        self.tasks.last_run_failed.get_or_create(&labels).set(0);
    }

    /// A background task has run.
    pub fn task_ran(&self, task: &'static str, has_failed: bool) {
        let labels = TaskLabels { task };
        self.tasks.last_run.get_or_create(&labels).set(now());
        self.tasks.last_run_failed.get_or_create(&labels).set(has_failed.into());
    }

    pub fn set_connections(&self, environment: &str, usage: ConnectionUsage) {
        let labels = EnvironmentLabels { environment: environment.to_owned() };
        let set = |family: &Family<EnvironmentLabels, Gauge>, count| {
            family.get_or_create(&labels).set(gauge_value(count));
        };
        set(&self.connections.in_use, usage.in_use);
        set(&self.connections.idle, usage.idle);
        set(&self.connections.limit, usage.limit);
        set(&self.connections.waiting, usage.waiting);
    }

    pub fn set_schema_version(&self, version: i64) {
        self.shared.schema_version.get_or_create(&[]).set(version);
    }

    /// The runs that are in an open state.
    pub fn set_open_runs(&self, state: &'static str, runs: Waiting) {
        let labels = StateLabels { state };
        self.shared.open_runs.get_or_create(&labels).set(gauge_value(runs.count));
        self.shared.oldest_open_run.get_or_create(&labels).set(runs.oldest_age.as_secs_f64());
    }

    /// The newest looks of the windows that report changes, in seconds since 1970.
    pub fn set_newest_looks(&self, looks: impl IntoIterator<Item = (WindowLabels, f64)>) {
        for (labels, at) in looks {
            self.shared.newest_look.get_or_create(&labels).set(at);
        }
    }

    pub fn set_undelivered_cards(&self, cards: Waiting) {
        self.shared.undelivered_cards.get_or_create(&[]).set(gauge_value(cards.count));
        self.shared.oldest_undelivered_card.get_or_create(&[]).set(cards.oldest_age.as_secs_f64());
    }

    /// The audit log can't be read: its figures are absent, since old ones would look like news.
    pub fn forget_store(&self) {
        self.shared.schema_version.clear();
        self.shared.open_runs.clear();
        self.shared.oldest_open_run.clear();
        self.shared.newest_look.clear();
        self.shared.undelivered_cards.clear();
        self.shared.oldest_undelivered_card.clear();
    }

    /// The newest restorable backups, each with its time in seconds since 1970 (UTC) or `None`; `None` for all if the storage can't be
    /// read.
    pub fn set_backups(&self, backups: Option<Vec<(BackupLabels, Option<f64>)>>) {
        self.shared.backup_storage_available.set(backups.is_some().into());
        self.shared.newest_backup.clear();
        for (labels, started_at) in backups.into_iter().flatten() {
            self.shared.newest_backup.get_or_create(&labels).set(started_at.unwrap_or_default());
        }
    }

    /// Everything, in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// None is known: writing to a text doesn't fail.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl TaskMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "background_task_interval_seconds",
            "Pause between two runs of this replica's background task",
            self.interval.clone(),
        );
        registry.register(
            "background_task_last_run_timestamp_seconds",
            "End of the background task's last run on this replica, or this replica's start, in seconds since 1970",
            self.last_run.clone(),
        );
        registry.register(
            "background_task_last_run_failed",
            "1 if the background task's last run on this replica failed, else 0",
            self.last_run_failed.clone(),
        );
    }
}

impl ConnectionMetrics {
    fn register(&self, registry: &mut Registry) {
        for (name, help, family) in [
            (
                "connections_in_use",
                "Connections of this replica to the environment's servers that a query or a run has; warm ones are not counted",
                &self.in_use,
            ),
            (
                "connections_idle",
                "Open connections of this replica to the environment's servers that wait for a query",
                &self.idle,
            ),
            (
                "connections_limit",
                "Most connections that this replica opens to the environment's servers, idle ones included",
                &self.limit,
            ),
            (
                "connections_waiting",
                "Queries of this replica that wait for a connection to the environment's servers",
                &self.waiting,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
    }
}

impl SharedMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "store_schema_version",
            "Version of the audit log's tables, the same on every replica",
            self.schema_version.clone(),
        );
        registry.register(
            "open_runs",
            "Runs in the audit log that wait for approval (pending), for their start (approved) or for their end (running), the same on every replica",
            self.open_runs.clone(),
        );
        registry.register(
            "oldest_open_run_age_seconds",
            "Time since the oldest run in that state was requested, 0 if there is none, the same on every replica",
            self.oldest_open_run.clone(),
        );
        registry.register(
            "newest_look_timestamp_seconds",
            "End of the newest look of a window that reports changes, in seconds since 1970, 0 if it never looked, the same on every replica",
            self.newest_look.clone(),
        );
        registry.register(
            "undelivered_cards",
            "Messages that show less than the audit log, the same on every replica",
            self.undelivered_cards.clone(),
        );
        registry.register(
            "oldest_undelivered_card_age_seconds",
            "Longest time since a change of a run that its message doesn't show, 0 if all are shown, the same on every replica",
            self.oldest_undelivered_card.clone(),
        );
        registry.register(
            "backup_storage_available",
            "1 if this replica could list the backups within the last minute, else 0",
            self.backup_storage_available.clone(),
        );
        registry.register(
            "newest_backup_timestamp_seconds",
            "Start of the newest backup of a service that can be restored, in seconds since 1970, 0 if there is none",
            self.newest_backup.clone(),
        );
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1_000.0
}
