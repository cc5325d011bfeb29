//! Keys and tokens: the Bot Framework's, which sign what Teams sends, and those of the managed identity, which the bot gets.

use super::World;
use super::faults::{called, plain_error};
use axum::extract::{Query, State as AxumState};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rsa::pkcs1::EncodeRsaPrivateKey;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Bits of a key; as the Bot Framework's.
const BITS: usize = 2048;

/// The issuer of the Bot Framework's tokens.
pub const ISSUER: &str = "https://api.botframework.com";

/// What the header of a managed identity's endpoint must say.
const IDENTITY_HEADER: &str = "pretend-identity-header";

/// Made when first needed, and shared by every pretend Teams of the process. The last is never published.
static KEYS: [LazyLock<EncodingKey>; 4] = [const { LazyLock::new(key) }; 4];

fn key() -> EncodingKey {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, BITS).expect("a key");
    EncodingKey::from_rsa_der(key.to_pkcs1_der().expect("its DER").as_bytes())
}

/// A key that is published, by its place among [`KEYS`].
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub number: usize,
    pub endorsements: Vec<String>,
}

impl Published {
    pub(super) fn new(number: usize) -> Published {
        let endorsements = ["msteams", "webchat", "skype"].map(str::to_owned).into();
        Published { number, endorsements }
    }
}

fn kid(number: usize) -> String {
    format!("pretend-key-{number}")
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
        let signed = |number: usize, name: usize| {
            let header = Header { kid: Some(kid(name)), ..Header::new(Algorithm::RS256) };
            encode(&header, &token.claims, &KEYS[number]).expect("a token")
        };
        match token.signer {
            Signer::Newest => signed(newest, newest),
            Signer::Key(number) => signed(number, number),
            Signer::Stranger => signed(KEYS.len() - 1, newest),
            Signer::PublicPart => {
                let header = Header { kid: Some(kid(newest)), ..Header::new(Algorithm::HS256) };
                let public = jwk(newest)["n"].as_str().expect("a modulus").to_owned();
                encode(&header, &token.claims, &EncodingKey::from_secret(public.as_bytes())).expect("a token")
            }
            Signer::Nobody => {
                let signed = signed(newest, newest);
                let claims = signed.split('.').nth(1).expect("claims");
                // {"alg":"none","typ":"JWT"}
                format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.")
            }
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
        let channels = channels.iter().map(|channel| (*channel).to_owned()).collect();
        self.change(|state| state.published.last_mut().expect("a key").endorsements = channels);
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

fn jwk(number: usize) -> Value {
    let jwk = Jwk::from_encoding_key(&KEYS[number], Algorithm::RS256).expect("a public key");
    serde_json::to_value(jwk).expect("JSON")
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
            shown["endorsements"] = json!(key.endorsements);
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
        let token = format!("pretend-bearer-{number}");
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
