//! Tokens of Microsoft Entra, by a managed identity or a client secret. There is no chain of credentials to fall through: the
//! configuration says which. The crate keeps a token until shortly before it expires.

use anyhow::Context;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, Transport};
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
pub enum Who<'a> {
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
    pub fn new(who: &Who<'_>, scope: &str) -> anyhow::Result<Tokens> {
        let client = reqwest::Client::builder().connect_timeout(CONNECT_WITHIN).build();
        let client = client.context("setting up the client of Entra")?;
        let client_options =
            ClientOptions { transport: Some(Transport::new(Arc::new(client))), ..ClientOptions::default() };
        let credential: Arc<dyn TokenCredential> = match who {
            Who::ManagedIdentity { client_id } => {
                let user_assigned_id = Some(UserAssignedId::ClientId((*client_id).to_owned()));
                let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
                ManagedIdentityCredential::new(Some(options)).map_err(told)?
            }
            Who::Application { tenant, client_id, secret } => {
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
