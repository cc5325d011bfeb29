//! Azure, the only user of its crates: tokens of Microsoft Entra, by a managed identity or a client secret. There is no chain of credentials to fall through: the
//! configuration says which. The crate keeps a token until shortly before it expires.

use crate::http_client;
use anyhow::Context;
use async_trait::async_trait;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, Request, Transport, Url};
use azure_identity::{
    ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId,
};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;

/// From asking for a token to having it, repeats included.
const TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The identity that asks for tokens.
pub enum CredentialKind<'a> {
    /// The managed identity with that client id, where Countersign runs.
    ManagedIdentity { client_id: &'a str },
    /// An Entra application. The URL is Entra's address: another in a sovereign cloud.
    Application { tenant: &'a str, client_id: &'a str, secret: &'a SecretString, login_url: &'a str },
}

/// Tokens for one scope.
pub struct Tokens {
    credential: Arc<dyn TokenCredential>,
    scope: String,
}

impl Tokens {
    /// # Errors
    /// When the system has no certificates to trust, or the crate can't make a credential.
    pub fn new(kind: &CredentialKind<'_>, scope: &str) -> anyhow::Result<Tokens> {
        let client = http_client::builder(CONNECT_TIMEOUT).build().context("setting up Entra's client")?;
        let options = |client: Arc<dyn HttpClient>| ClientOptions {
            transport: Some(Transport::new(client)),
            ..ClientOptions::default()
        };
        let credential: Arc<dyn TokenCredential> = match *kind {
            CredentialKind::ManagedIdentity { client_id } => {
                let user_assigned_id = Some(UserAssignedId::ClientId(client_id.to_owned()));
                let client_options = options(Arc::new(client));
                let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
                ManagedIdentityCredential::new(Some(options)).map_err(credential_error)?
            }
            CredentialKind::Application { tenant, client_id, secret, login_url } => {
                let login_url = login_url.trim_end_matches('/').to_owned();
                let client_options = options(Arc::new(EntraTransport { client, login_url }));
                let secret = Secret::new(secret.expose_secret().to_owned());
                let options = Some(ClientSecretCredentialOptions { client_options });
                let credential = ClientSecretCredential::new(tenant, client_id.to_owned(), secret, options);
                credential.map_err(credential_error)?
            }
        };
        Ok(Tokens { credential, scope: scope.to_owned() })
    }

    /// A token that has not expired.
    ///
    /// # Errors
    /// When Entra gives none, in words that hold nothing of its answer.
    pub async fn token(&self) -> anyhow::Result<SecretString> {
        let scopes = [self.scope.as_str()];
        let requested = self.credential.get_token(&scopes, None);
        let token = tokio::time::timeout(TIMEOUT, requested).await.context("Entra gave no token in time")?;
        Ok(SecretString::from(token.map_err(credential_error)?.token.secret().to_owned()))
    }
}

/// Sends the crate's requests for Entra to the configured address. The crate itself refuses an address without TLS, such as that of
/// a fake on this machine; the configuration has checked it.
#[derive(Debug)]
struct EntraTransport {
    client: reqwest::Client,
    /// Without a slash at the end.
    login_url: String,
}

#[async_trait]
impl HttpClient for EntraTransport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut request = request.clone();
        *request.url_mut() = Url::parse(&format!("{}{}", self.login_url, request.url().path()))?;
        self.client.execute_request(&request).await
    }
}

/// Reports only an error's kind: its text can hold a whole answer.
fn credential_error(error: azure_core::Error) -> anyhow::Error {
    anyhow::anyhow!("Entra gave no token: {}", error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::{Form, Path, State};
    use axum::http::StatusCode;
    use parking_lot::Mutex;
    use serde_json::{Value, json};
    use std::collections::HashMap;

    const TENANT: &str = "11111111-2222-3333-4444-555555555555";
    const APP: &str = "3c0a7c52-1b55-4b0b-9f4c-0d6f3a5e7b11";
    const SECRET: &str = "s3cret~of/the app";
    const SCOPE: &str = "https://api.botframework.com/.default";

    type TokenRequests = Arc<Mutex<Vec<HashMap<String, String>>>>;

    async fn answers(
        State(requests): State<TokenRequests>,
        Path(tenant): Path<String>,
        Form(form): Form<HashMap<String, String>>,
    ) -> (StatusCode, axum::Json<Value>) {
        let known = tenant == TENANT && form["client_id"] == APP && form["client_secret"] == SECRET;
        let description = format!("AADSTS7000215: Invalid client secret provided: {}", form["client_secret"]);
        requests.lock().push(form);
        let refused = json!({ "error": "invalid_client", "error_description": description });
        let token = json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": "a-token" });
        if known { (StatusCode::OK, token.into()) } else { (StatusCode::UNAUTHORIZED, refused.into()) }
    }

    /// The tokens of an application with this secret, and the requests that reached Entra.
    async fn tokens(secret: &str) -> (Tokens, TokenRequests) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let requests = TokenRequests::default();
        let route = axum::routing::post(answers);
        let entra = axum::Router::new().route("/{tenant}/oauth2/v2.0/token", route);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let entra = entra.with_state(Arc::clone(&requests));
        tokio::spawn(async move { axum::serve(listener, entra).await });
        let secret = SecretString::from(secret.to_owned());
        let login_url = format!("http://127.0.0.1:{port}/");
        let kind = CredentialKind::Application {
            tenant: TENANT,
            client_id: APP,
            secret: &secret,
            login_url: &login_url,
        };
        (Tokens::new(&kind, SCOPE).unwrap(), requests)
    }

    #[tokio::test]
    async fn an_application_asks_with_its_secret_and_keeps_the_token() {
        let (tokens, requests) = tokens(SECRET).await;
        for _ in 0..2 {
            assert_eq!(tokens.token().await.unwrap().expose_secret(), "a-token");
        }
        let requests = requests.lock();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0]["grant_type"], "client_credentials");
        assert_eq!(requests[0]["scope"], SCOPE);
    }

    #[tokio::test]
    async fn what_entra_says_of_a_wrong_secret_is_told_without_it() {
        let (tokens, requests) = tokens("a wrong secret").await;
        let error = tokens.token().await.unwrap_err();
        assert!(!requests.lock().is_empty());
        let text = format!("{error:#} {error:?}");
        assert!(text.contains("Entra gave no token"), "{text}");
        assert!(!text.contains("wrong secret") && !text.contains("AADSTS"), "{text}");
    }
}
