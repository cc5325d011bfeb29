//! Keys and tokens: those of the Bot Framework, which sign Teams' activities, and those of the managed identity, which the bot gets.

use super::Tenant;
use super::faults::{called, plain_error};
use axum::Form;
use axum::extract::{Path, Query, State as AxumState};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair, PublicKeyComponents};
use ring::signature::RSA_PKCS1_SHA256;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::sync::LazyLock;
use std::time::Instant;

/// The issuer of the Bot Framework's tokens.
pub const ISSUER: &str = "https://api.botframework.com";

/// The header that the endpoint of the managed identity requires.
const IDENTITY_HEADER: &str = "fake-identity-header";

/// The secret of the bot's application: a fixed sample value.
const CLIENT_SECRET: &str = "fake-client-secret";

/// Sample keys, shared by every tenant of the process. The last is never published.
static KEYS: LazyLock<Vec<KeyPair>> = LazyLock::new(|| {
    let keys = PrivatePkcs8KeyDer::pem_slice_iter(include_bytes!("keys.pem"));
    keys.filter_map(|key| KeyPair::from_pkcs8(key.ok()?.secret_pkcs8_der()).ok()).collect()
});

/// A published key, by its index in [`KEYS`].
#[derive(Debug, Clone)]
pub(super) struct PublishedKey {
    pub number: usize,
    /// Members of the published form besides those of the key itself; the last of a name counts.
    pub members: Vec<(String, Value)>,
}

impl PublishedKey {
    /// The key that is published at first.
    ///
    /// # Errors
    /// When the sample keys can't be read.
    pub(super) fn first() -> io::Result<PublishedKey> {
        if KEYS.len() < 2 {
            return Err(io::Error::other("the sample keys of the fake Teams can't be read"));
        }
        Ok(PublishedKey::new(0))
    }

    fn new(number: usize) -> PublishedKey {
        let endorsements = ("endorsements".to_owned(), json!(["msteams", "webchat", "skype"]));
        PublishedKey { number, members: vec![endorsements] }
    }
}

fn kid(number: usize) -> String {
    format!("fake-key-{number}")
}

/// The key that signs a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The newest published key.
    Newest,
    /// A key of that number, under its own id, published or not.
    Key(usize),
    /// A key that is never published, under the newest one's id.
    Stranger,
    /// HMAC with the public part of the newest key, which anyone can read.
    PublicPart,
    /// No key: `alg` is `none`.
    Unsigned,
}

/// A token that is yet to be signed: as Teams makes it, unless a test changes it.
#[derive(Debug, Clone)]
pub struct BotFrameworkToken {
    pub claims: Value,
    pub signer: Signer,
}

impl Tenant {
    /// The token for an activity that is sent now.
    pub fn token(&self) -> BotFrameworkToken {
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({
            "serviceurl": self.service_url(), "nbf": now - 300, "exp": now + 3300, "iss": ISSUER,
            "aud": self.settings().app,
        });
        BotFrameworkToken { claims, signer: Signer::Newest }
    }

    /// Signs a token for the header `Authorization`.
    pub fn sign(&self, token: &BotFrameworkToken) -> String {
        let newest = self.state().published.last().map_or(0, |key| key.number);
        match token.signer {
            Signer::Newest => signed(token, newest, newest),
            Signer::Key(number) => signed(token, number, number),
            Signer::Stranger => signed(token, KEYS.len() - 1, newest),
            Signer::PublicPart => {
                let message = unsigned(&json!({ "typ": "JWT", "alg": "HS256", "kid": kid(newest) }), token);
                let public = modulus(newest);
                let key = hmac::Key::new(hmac::HMAC_SHA256, public.as_bytes());
                format!("{message}.{}", base64(hmac::sign(&key, message.as_bytes())))
            }
            Signer::Unsigned => format!("{}.", unsigned(&json!({ "alg": "none", "typ": "JWT" }), token)),
        }
    }

    /// Signs with the next key from now on, or with the first one again after the last.
    pub fn rotate_keys(&self, keep_older_published: bool) {
        self.change(|state| {
            let next = state.published.last().map_or(0, |key| key.number + 1) % (KEYS.len() - 1);
            if !keep_older_published {
                state.published.clear();
            }
            state.published.push(PublishedKey::new(next));
        });
    }

    /// Publishes the newest key as valid for these channels only.
    pub fn endorse(&self, channels: &[&str]) {
        self.publish_with("endorsements", json!(channels));
    }

    /// Publishes the newest key with another member, such as its `use` or `alg`.
    pub fn publish_with(&self, member: &str, value: Value) {
        self.change(|state| {
            let newest = state.published.last_mut();
            newest.into_iter().for_each(|key| key.members.push((member.to_owned(), value.clone())));
        });
    }

    /// The address of the Bot Framework's metadata.
    pub fn openid_url(&self) -> String {
        format!("http://{}/v1/.well-known/openidconfiguration", self.inner.address)
    }

    /// The environment variables of the managed identity.
    pub fn identity(&self) -> [(&'static str, String); 2] {
        [
            ("IDENTITY_ENDPOINT", format!("http://{}/msi/token", self.inner.address)),
            ("IDENTITY_HEADER", IDENTITY_HEADER.to_owned()),
        ]
    }

    /// The base of Entra for the bot's application, without a slash at the end.
    pub fn login_url(&self) -> String {
        format!("http://{}", self.inner.address)
    }

    /// The secret of the bot's application.
    pub fn client_secret(&self) -> &'static str {
        CLIENT_SECRET
    }

    /// Issues a bearer token for the Connector.
    fn issue_token(&self) -> String {
        let token = format!("fake-bearer-{}", self.calls("token"));
        self.change(|state| state.tokens.insert(token.clone(), Instant::now()));
        token
    }

    /// Refuses, from now on, every token issued so far.
    pub fn revoke_tokens(&self) {
        self.change(|state| state.tokens.clear());
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The header and the claims, as they are signed.
fn unsigned(header: &Value, token: &BotFrameworkToken) -> String {
    format!("{}.{}", base64(header.to_string()), base64(token.claims.to_string()))
}

/// The token, signed by one key under the id of another.
fn signed(token: &BotFrameworkToken, signer: usize, named: usize) -> String {
    let message = unsigned(&json!({ "typ": "JWT", "alg": "RS256", "kid": kid(named) }), token);
    let key = &KEYS[signer];
    let mut signature = vec![0; key.public().modulus_len()];
    if key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).is_err() {
        // The bot refuses a token without a signature.
        signature.clear();
    }
    format!("{message}.{}", base64(signature))
}

fn public_part(number: usize) -> PublicKeyComponents<Vec<u8>> {
    KEYS[number].public().into()
}

fn modulus(number: usize) -> String {
    base64(public_part(number).n)
}

fn jwk(number: usize) -> Value {
    json!({ "kty": "RSA", "alg": "RS256", "n": modulus(number), "e": base64(public_part(number).e) })
}

pub(super) async fn metadata(AxumState(tenant): AxumState<Tenant>) -> Response {
    let answer = json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://invalid.botframework.com",
        "jwks_uri": format!("http://{}/v1/.well-known/keys", tenant.inner.address),
        "id_token_signing_alg_values_supported": ["RS256", "RS384", "RS512"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    });
    called(&tenant, "metadata", async || axum::Json(answer).into_response()).await
}

pub(super) async fn keys(AxumState(tenant): AxumState<Tenant>) -> Response {
    called(&tenant, "keys", async || {
        let published = tenant.state().published.clone();
        let keys = published.iter().map(|key| {
            let mut shown = jwk(key.number);
            shown["use"] = json!("sig");
            shown["kid"] = json!(kid(key.number));
            shown["x5t"] = json!(kid(key.number));
            for (member, value) in &key.members {
                shown[member] = value.clone();
            }
            shown
        });
        axum::Json(json!({ "keys": keys.collect::<Vec<_>>() })).into_response()
    })
    .await
}

/// Source: <https://learn.microsoft.com/azure/app-service/overview-managed-identity>.
pub(super) async fn managed_identity(
    AxumState(tenant): AxumState<Tenant>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    called(&tenant, "token", async || {
        let is = |key: &str, value: &str| query.get(key).is_some_and(|given| given == value);
        let settings = tenant.settings();
        if headers.get("x-identity-header").is_none_or(|header| header != IDENTITY_HEADER) {
            return plain_error(StatusCode::UNAUTHORIZED, "the header is not this endpoint's");
        }
        if !is("resource", ISSUER) || !is("client_id", &settings.app) || !query.contains_key("api-version") {
            let why = format!("no identity for {query:?}");
            tenant.change(|state| state.unknown_requests.push(why.clone()));
            return plain_error(StatusCode::BAD_REQUEST, &why);
        }
        let token = tenant.issue_token();
        let until = jiff::Timestamp::now().as_second().saturating_add_unsigned(settings.token_life.as_secs());
        axum::Json(json!({
            "access_token": token, "expires_on": until.to_string(), "resource": ISSUER, "token_type": "Bearer",
            "client_id": settings.app,
        }))
        .into_response()
    })
    .await
}

/// Source: <https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-authentication>.
pub(super) async fn application(
    AxumState(tenant): AxumState<Tenant>,
    Path(directory): Path<String>,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    called(&tenant, "token", async || {
        let is = |key: &str, value: &str| form.get(key).is_some_and(|given| given == value);
        let settings = tenant.settings();
        let scope = format!("{ISSUER}/.default");
        let is_bot = is("client_id", &settings.app) && is("client_secret", CLIENT_SECRET);
        if directory != settings.tenant || !is_bot || !is("scope", &scope) {
            return plain_error(StatusCode::UNAUTHORIZED, "no token for this application");
        }
        let token = tenant.issue_token();
        let life = settings.token_life.as_secs();
        axum::Json(json!({ "token_type": "Bearer", "expires_in": life, "access_token": token }))
            .into_response()
    })
    .await
}
