//! Keys and tokens: the Bot Framework's, which sign what Teams sends, and those of the managed identity, which the bot gets.

use super::World;
use super::faults::{called, plain_error};
use axum::extract::{Query, State as AxumState};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair, PublicKeyComponents};
use ring::signature::RSA_PKCS1_SHA256;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The issuer of the Bot Framework's tokens.
pub const ISSUER: &str = "https://api.botframework.com";

/// What the header of a managed identity's endpoint must say.
const IDENTITY_HEADER: &str = "fake-identity-header";

/// Read when first needed, and shared by every fake Teams of the process. The last is never published.
static KEYS: LazyLock<Vec<KeyPair>> = LazyLock::new(|| {
    let keys = PrivatePkcs8KeyDer::pem_slice_iter(include_bytes!("keys.pem"));
    keys.map(|key| KeyPair::from_pkcs8(key.expect("PEM").secret_pkcs8_der()).expect("an RSA key")).collect()
});

/// A key that is published, by its place among [`KEYS`].
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub number: usize,
    /// Members besides those of the key itself; the last of a name counts.
    pub members: Vec<(String, Value)>,
}

impl Published {
    pub(super) fn new(number: usize) -> Published {
        let endorsements = ("endorsements".to_owned(), json!(["msteams", "webchat", "skype"]));
        Published { number, members: vec![endorsements] }
    }
}

fn kid(number: usize) -> String {
    format!("fake-key-{number}")
}

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The newest published key.
    Newest,
    /// A key of that number, under its own id, published or not.
    Key(usize),
    /// A key that is never published, under the newest one's id.
    Stranger,
    /// HMAC with what everybody can read: the newest key's public part.
    PublicPart,
    /// Nobody: `alg` is `none`.
    Nobody,
}

/// A token to be, as Teams would make it; tests change what they like.
#[derive(Debug, Clone)]
pub struct Token {
    pub claims: Value,
    pub signer: Signer,
}

impl World {
    /// What Teams would sign for the bot now.
    pub fn token(&self) -> Token {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let claims = json!({
            "serviceurl": self.service_url(), "nbf": now - 300, "exp": now + 3300, "iss": ISSUER,
            "aud": self.settings().app,
        });
        Token { claims, signer: Signer::Newest }
    }

    /// The token as it goes into the header.
    pub fn sign(&self, token: &Token) -> String {
        let newest = self.state().published.last().expect("a key").number;
        match token.signer {
            Signer::Newest => signed(token, newest, newest),
            Signer::Key(number) => signed(token, number, number),
            Signer::Stranger => signed(token, KEYS.len() - 1, newest),
            Signer::PublicPart => {
                let message = unsigned(&json!({ "typ": "JWT", "alg": "HS256", "kid": kid(newest) }), token);
                let public = jwk(newest)["n"].as_str().expect("a modulus").to_owned();
                let mut mac = Hmac::<Sha256>::new_from_slice(public.as_bytes()).expect("a key");
                mac.update(message.as_bytes());
                format!("{message}.{}", base64(mac.finalize().into_bytes()))
            }
            Signer::Nobody => format!("{}.", unsigned(&json!({ "alg": "none", "typ": "JWT" }), token)),
        }
    }

    /// A new key signs from now on; the older ones stay published, or not.
    pub fn rotate_keys(&self, older_stay: bool) {
        self.change(|state| {
            let next = state.published.last().map_or(0, |key| key.number + 1);
            assert!(next < KEYS.len() - 1, "no more keys");
            if !older_stay {
                state.published.clear();
            }
            state.published.push(Published::new(next));
        });
    }

    /// Which channels the newest key is good for.
    pub fn endorse(&self, channels: &[&str]) {
        self.publish_with("endorsements", json!(channels));
    }

    /// Publishes the newest key with another member: what it is for, or how it signs.
    pub fn publish_with(&self, member: &str, value: Value) {
        self.change(|state| {
            let key = state.published.last_mut().expect("a key");
            key.members.push((member.to_owned(), value));
        });
    }

    /// The address of the Bot Framework's metadata.
    pub fn openid_url(&self) -> String {
        format!("http://{}/v1/.well-known/openidconfiguration", self.addr)
    }

    /// The environment variables of the managed identity.
    pub fn identity(&self) -> [(&'static str, String); 2] {
        [
            ("IDENTITY_ENDPOINT", format!("http://{}/msi/token", self.addr)),
            ("IDENTITY_HEADER", IDENTITY_HEADER.to_owned()),
        ]
    }

    /// From now on no token counts that was given out before.
    pub fn revoke_tokens(&self) {
        self.change(|state| state.tokens.clear());
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The header and the claims, as they are signed.
fn unsigned(header: &Value, token: &Token) -> String {
    format!("{}.{}", base64(header.to_string()), base64(token.claims.to_string()))
}

/// The token, signed by one key under the id of another.
fn signed(token: &Token, signer: usize, named: usize) -> String {
    let message = unsigned(&json!({ "typ": "JWT", "alg": "RS256", "kid": kid(named) }), token);
    let key = &KEYS[signer];
    let mut signature = vec![0; key.public().modulus_len()];
    let signing = key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature);
    signing.expect("a signature");
    format!("{message}.{}", base64(signature))
}

fn jwk(number: usize) -> Value {
    let public: PublicKeyComponents<Vec<u8>> = KEYS[number].public().into();
    json!({ "kty": "RSA", "alg": "RS256", "n": base64(public.n), "e": base64(public.e) })
}

pub(super) async fn metadata(AxumState(world): AxumState<Arc<World>>) -> Response {
    let answer = json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://invalid.botframework.com",
        "jwks_uri": format!("http://{}/v1/.well-known/keys", world.addr),
        "id_token_signing_alg_values_supported": ["RS256", "RS384", "RS512"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    });
    called(&world, "metadata", async || axum::Json(answer).into_response()).await
}

pub(super) async fn keys(AxumState(world): AxumState<Arc<World>>) -> Response {
    called(&world, "keys", async || {
        let published = world.state().published.clone();
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
    AxumState(world): AxumState<Arc<World>>,
    Query(asked): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    called(&world, "token", async || {
        let is = |key: &str, value: &str| asked.get(key).is_some_and(|asked| asked == value);
        let settings = world.settings();
        if headers.get("x-identity-header").is_none_or(|header| header != IDENTITY_HEADER) {
            return plain_error(StatusCode::UNAUTHORIZED, "the header is not this endpoint's");
        }
        if !is("resource", ISSUER) || !is("client_id", &settings.app) || !asked.contains_key("api-version") {
            let why = format!("no identity for {asked:?}");
            world.change(|state| state.wrong.push(why.clone()));
            return plain_error(StatusCode::BAD_REQUEST, &why);
        }
        let number = world.calls("token");
        let token = format!("fake-bearer-{number}");
        world.change(|state| state.tokens.insert(token.clone(), Instant::now()));
        let until = SystemTime::now() + settings.token_life;
        let until = until.duration_since(UNIX_EPOCH).expect("a clock").as_secs().to_string();
        axum::Json(json!({
            "access_token": token, "expires_on": until, "resource": ISSUER, "token_type": "Bearer",
            "client_id": settings.app,
        }))
        .into_response()
    })
    .await
}
