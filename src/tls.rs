//! TLS for the clients of one process: the provider of cryptography, and the system's certificates, which are read once.

use anyhow::Context;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

static SYSTEM_ROOTS: Mutex<Option<Arc<RootCertStore>>> = Mutex::new(None);

/// The certificates that the system trusts. Reading them takes longer than all else at the start.
///
/// # Errors
/// The system has none.
pub fn system_roots() -> anyhow::Result<Arc<RootCertStore>> {
    let mut system_roots = SYSTEM_ROOTS.lock();
    if let Some(roots) = &*system_roots {
        return Ok(Arc::clone(roots));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    anyhow::ensure!(!roots.is_empty(), "the system has no certificates to trust");
    Ok(Arc::clone(system_roots.insert(Arc::new(roots))))
}

/// The certificates that are trusted: those of the file, or without one the system's.
///
/// # Errors
/// The file can't be read or used, or the system has no certificates.
pub fn roots(ca_file: Option<&Path>) -> anyhow::Result<Arc<RootCertStore>> {
    let Some(path) = ca_file else { return system_roots() };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).context("reading ca_file")? {
        roots.add(certificate.context("reading ca_file")?).context("using ca_file")?;
    }
    Ok(Arc::new(roots))
}

/// The configuration of a client that trusts these certificates.
///
/// # Errors
/// The provider knows none of the versions of TLS that are safe.
pub fn client_config(roots: Arc<RootCertStore>) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
