//! Logging, and the TLS provider that the whole process uses.

use tracing::Span;

/// Writes the log as JSON lines on standard error, at `default_filter` unless `RUST_LOG` chooses otherwise, and installs the
/// provider of cryptography for TLS. Called once in a process, before anything else.
pub fn init(default_filter: &str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| default_filter.into());
    let _ = tracing_subscriber::fmt()
        .json()
        .with_current_span(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

/// The span of a run's work: each log line within it names the run. Of the highest level, so that no filter hides it.
pub fn run_span(run: i64, command: &str) -> Span {
    tracing::error_span!("run", run, command)
}
