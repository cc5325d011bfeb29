//! Proves that an activity comes from Teams: the Bot Framework's token, its signature, issuer, audience and times, and that the
//! key that signed it is endorsed for Teams. [`VerifiedToken`] has what the activity itself must match. Never logs a token.
//! Source: <https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-authentication>.

use crate::config;
use crate::http_client;
use anyhow::Context;
use axum::http::{HeaderMap, header};
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Validation};
use parking_lot::Mutex;
use ring::signature::{self as rsa, RsaParameters, RsaPublicKeyComponents};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use signature::Verifier;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Difference of clocks; same source.
const CLOCK_SKEW_S: u64 = 300;
/// The keys are fetched again after a day, same source; and when an unknown one signs, but not more often than
/// [`FETCH_INTERVAL`]: whoever can reach the port must not make us ask.
const KEYS_LIFETIME: Duration = Duration::from_secs(24 * 3_600);
const FETCH_INTERVAL: Duration = Duration::from_secs(60);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Valid tokens to remember: Teams uses one for many requests, and a signature costs more than all the rest.
const MAX_TOKENS: usize = 1_000;
/// A token of the Bot Framework has about 1,200 characters.
const MAX_TOKEN_LENGTH: usize = 8_192;
/// Keys that a bad answer can make us hold at most.
const MAX_KEYS: usize = 64;

/// Reason why an activity is not Teams'. All of them are answered with 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("there is no bearer token")]
    Absent,
    #[error("the token can't be read, or is signed otherwise than Teams does")]
    Malformed,
    #[error("the token's key is not the Bot Framework's")]
    UnknownKey,
    #[error("the token is forged, too old, of the future, or somebody else's")]
    Wrong,
    #[error("the Bot Framework's keys can't be had")]
    NoKeys,
}

/// Facts that the token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The service that the activity must name as its own.
    pub service_url: String,
    /// The channels whose activities the key may sign.
    pub endorsed: Arc<[String]>,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "serviceurl", alias = "serviceUrl")]
    service_url: Option<String>,
    exp: i64,
}

#[derive(Clone)]
struct Key {
    key: DecodingKey,
    endorsed: Arc<[String]>,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, Key>,
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
}

/// A token's digest to the facts that it proves, and its expiry (UTC seconds).
type VerifiedTokens = HashMap<[u8; 32], (i64, VerifiedToken)>;

/// Checks tokens for one bot.
pub struct TokenVerifier {
    client: reqwest::Client,
    openid_url: String,
    validation: Validation,
    keys: Mutex<Keys>,
    /// Held by the one who fetches the keys, while the others wait.
    fetching: tokio::sync::Mutex<()>,
    verified: Mutex<VerifiedTokens>,
}

#[derive(Deserialize)]
struct Metadata {
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

impl TokenVerifier {
    /// Fails when the system has no certificates to trust.
    pub fn new(config: &config::TeamsSettings) -> anyhow::Result<Self> {
        // Harmless when repeated.
        let _ = PROVIDER.install_default();
        let client = http_client::builder(FETCH_TIMEOUT).timeout(FETCH_TIMEOUT).build();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.algorithms = vec![Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];
        validation.leeway = CLOCK_SKEW_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.app_id]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud"]);
        Ok(TokenVerifier {
            client: client.context("setting up the client of the Bot Framework")?,
            openid_url: config.openid_url.clone(),
            validation,
            keys: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            verified: Mutex::default(),
        })
    }

    /// Checks the token of a request, before its body is read as anything.
    pub async fn verify(&self, headers: &HeaderMap) -> Result<VerifiedToken, TokenError> {
        let token = bearer(headers)?;
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = jiff::Timestamp::now().as_second();
        if let Some((expiry, verified)) = self.verified.lock().get(&digest)
            && now < *expiry
        {
            return Ok(verified.clone());
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
        if !self.validation.algorithms.contains(&header.alg) {
            return Err(TokenError::Malformed);
        }
        let key = self.key(&header.kid.ok_or(TokenError::Malformed)?).await?;
        let decoded = jsonwebtoken::decode::<Claims>(token, &key.key, &self.validation);
        let claims = decoded.map_err(|_| TokenError::Wrong)?.claims;
        // Tokens of Entra and of the emulator name no service: they are not the Bot Framework's.
        let service_url = claims.service_url.ok_or(TokenError::Wrong)?;
        let verified = VerifiedToken { service_url, endorsed: key.endorsed };
        let mut known = self.verified.lock();
        if known.len() >= MAX_TOKENS {
            known.retain(|_, (expiry, _)| now < *expiry);
            if known.len() >= MAX_TOKENS {
                known.clear();
            }
        }
        known.insert(digest, (claims.exp, verified.clone()));
        Ok(verified)
    }

    /// The key with that id, as it is published now or was within the last day.
    async fn key(&self, id: &str) -> Result<Key, TokenError> {
        if let Some(key) = self.cached_key(id) {
            return key;
        }
        let _turn = self.fetching.lock().await;
        // Another may have fetched them while this one waited.
        if let Some(key) = self.cached_key(id) {
            return key;
        }
        let fetched = self.fetch().await;
        // Not before: whoever comes meanwhile waits for its turn, and isn't refused.
        self.keys.lock().tried_at = Some(Instant::now());
        match fetched {
            Ok(fetched) => {
                let mut keys = self.keys.lock();
                keys.fetched_at = Some(Instant::now());
                // Tokens are not valid any longer than their keys are published.
                if keys.by_id.keys().any(|id| !fetched.contains_key(id)) {
                    self.verified.lock().clear();
                }
                keys.by_id = fetched;
                keys.by_id.get(id).cloned().ok_or(TokenError::UnknownKey)
            }
            Err(error) => {
                tracing::warn!(%error, "fetching the Bot Framework's keys failed");
                Err(TokenError::NoKeys)
            }
        }
    }

    /// A key that is known; an error as long as the keys may not be fetched again; `None` when they may.
    fn cached_key(&self, id: &str) -> Option<Result<Key, TokenError>> {
        let keys = self.keys.lock();
        let fresh = keys.fetched_at.is_some_and(|at| at.elapsed() < KEYS_LIFETIME);
        if let Some(key) = keys.by_id.get(id).filter(|_| fresh) {
            return Some(Ok(key.clone()));
        }
        let just_tried = keys.tried_at.is_some_and(|at| at.elapsed() < FETCH_INTERVAL);
        let error = if keys.fetched_at.is_some() { TokenError::UnknownKey } else { TokenError::NoKeys };
        just_tried.then_some(Err(error))
    }

    async fn fetch(&self) -> anyhow::Result<HashMap<String, Key>> {
        let metadata: Metadata = self.get(&self.openid_url).await.context("reading the OpenID metadata")?;
        let set: KeySet = self.get(&metadata.jwks_uri).await.context("reading the keys")?;
        Ok(set.keys.into_iter().take(MAX_KEYS).filter_map(key).collect())
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> anyhow::Result<T> {
        anyhow::ensure!(config::is_safe_url(url), "it is not encrypted");
        let answer = self.client.get(url).send().await.map_err(reqwest::Error::without_url)?;
        Ok(answer.error_for_status().map_err(reqwest::Error::without_url)?.json().await?)
    }
}

/// A key with its endorsements, which are no part of the standard.
fn key(mut entry: serde_json::Value) -> Option<(String, Key)> {
    let endorsed = entry["endorsements"].take();
    let endorsed: Vec<String> = serde_json::from_value(endorsed).unwrap_or_default();
    let jwk: Jwk = serde_json::from_value(entry).ok()?;
    let id = jwk.common.key_id.clone()?;
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some((id, Key { key, endorsed: endorsed.into() }))
}

fn bearer(headers: &HeaderMap) -> Result<&str, TokenError> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = value.and_then(|value| value.split_once(' ')).ok_or(TokenError::Absent)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        Err(TokenError::Absent)
    } else if token.len() > MAX_TOKEN_LENGTH {
        Err(TokenError::Malformed)
    } else {
        Ok(token)
    }
}

/// RSA signatures, checked with ring, which TLS has linked already. Nothing is signed here.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: rsa_verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

struct RsaVerifier {
    algorithm: Algorithm,
    parameters: &'static RsaParameters,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl Verifier<Vec<u8>> for RsaVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let key = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
        key.verify(self.parameters, message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RsaVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn rsa_verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let parameters = match algorithm {
        Algorithm::RS256 => &rsa::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &rsa::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &rsa::RSA_PKCS1_2048_8192_SHA512,
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } if key.family() == AlgorithmFamily::Rsa => {
            // Some publish leading zeros, which ring refuses.
            let digits = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect();
            let (modulus, exponent) = (digits(n), digits(e));
            Ok(Box::new(RsaVerifier { algorithm: *algorithm, parameters, modulus, exponent }))
        }
        _ => Err(ErrorKind::InvalidKeyFormat.into()),
    }
}
