//! Logging, and the TLS provider that the whole process uses.

/// Writes the log as JSON lines on standard error, at `default_filter` unless `RUST_LOG` chooses otherwise, and installs the
/// provider of cryptography for TLS. Called once in a process, before anything else.
pub fn init(default_filter: &str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| default_filter.into());
    let _ = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
