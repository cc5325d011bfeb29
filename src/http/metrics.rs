//! The page `/metrics`. What this process counts is there already; what the audit log and the backup storage hold is looked up when
//! the page is asked for, at most once in an interval, however many ask.

use crate::actions;
use crate::app::App;
use crate::metrics::{BackupLabels, WindowLabels};
use crate::schedule::EnvironmentWindow;
use crate::storage::StorageResult;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

const STORE_INTERVAL: Duration = Duration::from_secs(10);
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
const BACKUP_INTERVAL: Duration = Duration::from_secs(60);
const BACKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page, and the times of the last looks.
pub(super) struct MetricsPage {
    app: Arc<App>,
    looks: Mutex<Looks>,
}

#[derive(Default)]
struct Looks {
    store: Option<Instant>,
    backups: Option<Instant>,
}

/// True once per interval.
fn is_due(last: &mut Option<Instant>, interval: Duration) -> bool {
    let now = Instant::now();
    let is_due = last.is_none_or(|last| now.duration_since(last) >= interval);
    if is_due {
        *last = Some(now);
    }
    is_due
}

impl MetricsPage {
    pub fn router(app: &Arc<App>) -> Router {
        let page = Arc::new(MetricsPage { app: Arc::clone(app), looks: Mutex::default() });
        Router::new().route("/metrics", get(async move || page.answer().await))
    }

    async fn answer(&self) -> Response {
        self.look().await;
        match self.app.metrics.text() {
            Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }

    /// Looks up what is due. Whoever asks meanwhile waits for it.
    async fn look(&self) {
        let mut looks = self.looks.lock().await;
        let Looks { store, backups } = &mut *looks;
        let look_at_store = async {
            if is_due(store, STORE_INTERVAL) {
                self.look_at_store().await;
            }
        };
        let look_at_backups = async {
            if is_due(backups, BACKUP_INTERVAL) {
                self.look_at_backups().await;
            }
        };
        tokio::join!(look_at_store, look_at_backups);
        for (environment, usage) in self.app.environments.connection_usage() {
            self.app.metrics.set_connections(environment, usage);
        }
    }

    async fn look_at_store(&self) {
        let metrics = &self.app.metrics;
        match tokio::time::timeout(STORE_TIMEOUT, self.app.audit.store.status()).await {
            Ok(Ok(status)) => {
                metrics.set_schema_version(status.schema_version);
                metrics.set_open_runs("pending", status.pending);
                metrics.set_open_runs("approved", status.approved);
                metrics.set_open_runs("running", status.running);
                metrics.set_undelivered_cards(status.undelivered_cards);
                self.look_at_windows().await;
            }
            Ok(Err(_)) | Err(_) => metrics.forget_store(),
        }
    }

    async fn look_at_windows(&self) {
        if !self.app.schedule.iter().any(EnvironmentWindow::is_watching) {
            return;
        }
        let states = tokio::time::timeout(STORE_TIMEOUT, self.app.audit.store.watch_states()).await;
        let Ok(Ok(states)) = states else { return self.app.metrics.forget_store() };
        let windows = self.app.schedule.iter().filter(|window| window.is_watching());
        let looks = windows.map(|window| {
            let stored_at = window.state(&states).and_then(|state| state.stored_at);
            let at = stored_at.map_or(0.0, |at| at.as_millisecond() as f64 / 1_000.0);
            (WindowLabels { environment: window.environment.clone(), window: window.name.clone() }, at)
        });
        self.app.metrics.set_newest_looks(looks);
    }

    async fn look_at_backups(&self) {
        let found = tokio::time::timeout(BACKUP_TIMEOUT, self.newest_backups()).await;
        let found = found.map_err(anyhow::Error::from).and_then(|found| found.map_err(anyhow::Error::from));
        if let Err(error) = &found {
            tracing::warn!(?error, "listing backups for the metrics failed");
        }
        self.app.metrics.set_backups(found.ok());
    }

    /// The newest backup of each service in each environment.
    async fn newest_backups(&self) -> StorageResult<Vec<(BackupLabels, Option<f64>)>> {
        let app = &self.app;
        let databases = app.config.environments.iter().flat_map(|environment| {
            app.environments.services().iter().map(move |service| (environment, service))
        });
        let backups = databases.map(|(environment, service)| async move {
            let started_at = actions::newest_started_at(app, &environment.name, &service.database).await?;
            let labels = BackupLabels {
                environment: environment.name.clone(),
                production: environment.production,
                service: service.name.clone(),
            };
            Ok((labels, started_at.map(|started_at| started_at.as_millisecond() as f64 / 1_000.0)))
        });
        futures::future::try_join_all(backups).await
    }
}
