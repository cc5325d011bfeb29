//! The HTTP clients of the webhook, of Entra and of Teams, built in one way. Slack's client is slack-morphism's own.

use reqwest::{Client, ClientBuilder, redirect};
use std::time::Duration;

/// Starts a client that follows no redirect, which would carry a token or a secret to another host.
pub fn builder(connect_timeout: Duration) -> ClientBuilder {
    // reqwest takes the process' provider of TLS; it is installed already, or now.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().connect_timeout(connect_timeout).redirect(redirect::Policy::none())
}
