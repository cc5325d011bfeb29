//! Tokens of Microsoft Entra, by a managed identity or a client secret. There is no chain of credentials to fall through: the
//! configuration says which. The crate keeps a token until shortly before it expires.

use anyhow::Context;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, HttpClient, Transport};
use azure_identity::{
    ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId,
};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;

/// From asking for a token to having it, repeats included.
const WITHIN: Duration = Duration::from_secs(15);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Who asks.
pub enum CredentialKind<'a> {
    /// The managed identity with that client id, where Countersign runs.
    ManagedIdentity { client_id: &'a str },
    /// An Entra application.
    Application { tenant: &'a str, client_id: &'a str, secret: &'a SecretString },
}

/// Gives out tokens for one scope.
pub struct Tokens {
    credential: Arc<dyn TokenCredential>,
    scope: String,
}

impl Tokens {
    /// # Errors
    /// What the crate can't make a credential of.
    pub fn new(who: &CredentialKind<'_>, scope: &str) -> anyhow::Result<Tokens> {
        // A redirect would carry the secret elsewhere.
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Tokens::over(Arc::new(client.context("setting up the client of Entra")?), who, scope)
    }

    fn over(http: Arc<dyn HttpClient>, who: &CredentialKind<'_>, scope: &str) -> anyhow::Result<Tokens> {
        let client_options =
            ClientOptions { transport: Some(Transport::new(http)), ..ClientOptions::default() };
        let credential: Arc<dyn TokenCredential> = match who {
            CredentialKind::ManagedIdentity { client_id } => {
                let user_assigned_id = Some(UserAssignedId::ClientId((*client_id).to_owned()));
                let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
                ManagedIdentityCredential::new(Some(options)).map_err(told)?
            }
            CredentialKind::Application { tenant, client_id, secret } => {
                let secret = Secret::new(secret.expose_secret().to_owned());
                let options = ClientSecretCredentialOptions { client_options };
                ClientSecretCredential::new(tenant, (*client_id).to_owned(), secret, Some(options))
                    .map_err(told)?
            }
        };
        Ok(Tokens { credential, scope: scope.to_owned() })
    }

    /// A token that is good now.
    ///
    /// # Errors
    /// When Entra gives none, in words that hold nothing of its answer.
    pub async fn token(&self) -> anyhow::Result<SecretString> {
        let scopes = [self.scope.as_str()];
        let asked = self.credential.get_token(&scopes, None);
        let token = tokio::time::timeout(WITHIN, asked).await.context("Entra gave no token in time")?;
        Ok(SecretString::from(token.map_err(told)?.token.secret().to_owned()))
    }
}

/// The kind of an error alone: its text can hold a whole answer.
fn told(error: azure_core::Error) -> anyhow::Error {
    anyhow::anyhow!("Entra gave no token: {}", error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use axum::extract::{Form, Path, State};
    use axum::http::StatusCode;
    use azure_core::http::{AsyncRawResponse, Request, Url};
    use parking_lot::Mutex;
    use serde_json::{Value, json};
    use std::collections::HashMap;

    const TENANT: &str = "11111111-2222-3333-4444-555555555555";
    const APP: &str = "3c0a7c52-1b55-4b0b-9f4c-0d6f3a5e7b11";
    const SECRET: &str = "s3cret~of/the app";
    const SCOPE: &str = "https://api.botframework.com/.default";

    /// Carries what is meant for Entra, which the crate reaches over HTTPS alone, to a pretend one.
    #[derive(Debug)]
    struct ProxyTransport {
        http: reqwest::Client,
        port: u16,
    }

    #[async_trait]
    impl HttpClient for ProxyTransport {
        async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
            assert_eq!(request.url().origin().ascii_serialization(), "https://login.microsoftonline.com");
            let mut there = request.clone();
            let path = request.url().path();
            *there.url_mut() = Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).unwrap();
            self.http.execute_request(&there).await
        }
    }

    type TokenRequest = Arc<Mutex<Vec<HashMap<String, String>>>>;

    async fn answers(
        State(asked): State<TokenRequest>,
        Path(tenant): Path<String>,
        Form(form): Form<HashMap<String, String>>,
    ) -> (StatusCode, axum::Json<Value>) {
        let known = tenant == TENANT && form["client_id"] == APP && form["client_secret"] == SECRET;
        let told = format!("AADSTS7000215: Invalid client secret provided: {}", form["client_secret"]);
        asked.lock().push(form);
        if !known {
            let refused = json!({ "error": "invalid_client", "error_description": told });
            return (StatusCode::UNAUTHORIZED, axum::Json(refused));
        }
        let token = json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": "a-token" });
        (StatusCode::OK, axum::Json(token))
    }

    /// The tokens of an application with this secret, and what Entra was asked.
    async fn tokens(secret: &str) -> (Tokens, TokenRequest) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let asked = TokenRequest::default();
        let route = axum::routing::post(answers);
        let entra = axum::Router::new().route("/{tenant}/oauth2/v2.0/token", route);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let entra = entra.with_state(Arc::clone(&asked));
        tokio::spawn(async move { axum::serve(listener, entra).await });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let secret = SecretString::from(secret.to_owned());
        let who = CredentialKind::Application { tenant: TENANT, client_id: APP, secret: &secret };
        (Tokens::over(Arc::new(ProxyTransport { http, port }), &who, SCOPE).unwrap(), asked)
    }

    #[tokio::test]
    async fn an_application_asks_with_its_secret_and_keeps_the_token() {
        let (tokens, asked) = tokens(SECRET).await;
        for _ in 0..2 {
            assert_eq!(tokens.token().await.unwrap().expose_secret(), "a-token");
        }
        let asked = asked.lock();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0]["grant_type"], "client_credentials");
        assert_eq!(asked[0]["scope"], SCOPE);
    }

    #[tokio::test]
    async fn what_entra_says_of_a_wrong_secret_is_told_without_it() {
        let (tokens, asked) = tokens("a wrong secret").await;
        let error = tokens.token().await.unwrap_err();
        assert!(!asked.lock().is_empty());
        let told = format!("{error:#} {error:?}");
        assert!(told.contains("Entra gave no token"), "{told}");
        assert!(!told.contains("wrong secret") && !told.contains("AADSTS"), "{told}");
    }
}
