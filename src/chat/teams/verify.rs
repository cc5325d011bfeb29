//! Proves that an activity comes from Teams: the Bot Framework's token, its signature, issuer, audience and times, and that the
//! key that signed it is endorsed for Teams. [`VerifiedToken`] has what the activity itself must match. Never logs a token.
//! Source: <https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-authentication>.

use crate::config;
use crate::http_client;
use anyhow::Context;
use axum::http::{HeaderMap, header};
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
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
/// The old keys count for this long while they can't be fetched again.
const KEYS_GRACE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The first pause after a failed fetch, and the longest: each is twice the one before. Teams sends nothing again that was refused.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
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
    /// The one algorithm that it signs with, where it names one.
    algorithm: Option<KeyAlgorithm>,
    endorsed: Arc<[String]>,
}

/// Keys as they were published last.
#[derive(Default)]
struct Keys {
    by_id: HashMap<String, Key>,
    fetched_at: Option<Instant>,
    /// Not before this may they be fetched again.
    next_fetch: Option<Instant>,
    failures: u32,
}

/// The result of looking for a key.
enum Lookup {
    Found(Key),
    Refused(TokenError),
    /// They have to be fetched; the old key counts if that fails.
    Fetch(Option<Key>),
}

impl Keys {
    fn look_up(&self, id: &str, now: Instant) -> Lookup {
        let age = self.fetched_at.map(|at| now.saturating_duration_since(at));
        let is_younger = |than| age.is_some_and(|age| age < than);
        let key = self.by_id.get(id).cloned().filter(|_| is_younger(KEYS_GRACE));
        let may_fetch = self.next_fetch.is_none_or(|next| next <= now);
        match key {
            Some(key) if is_younger(KEYS_LIFETIME) || !may_fetch => Lookup::Found(key),
            key if may_fetch => Lookup::Fetch(key),
            _ => Lookup::Refused(self.absence()),
        }
    }

    fn absence(&self) -> TokenError {
        if self.fetched_at.is_some() { TokenError::UnknownKey } else { TokenError::NoKeys }
    }

    fn succeed(&mut self, keys: HashMap<String, Key>, now: Instant) {
        *self =
            Keys { by_id: keys, fetched_at: Some(now), next_fetch: Some(now + FETCH_INTERVAL), failures: 0 };
    }

    fn fail(&mut self, now: Instant) {
        self.next_fetch = Some(now + (FIRST_PAUSE * 2_u32.pow(self.failures.min(8))).min(LONGEST_PAUSE));
        self.failures += 1;
    }
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
        // An extension that has to be understood isn't: <https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11>.
        if !self.validation.algorithms.contains(&header.alg) || header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let key = self.key(&header.kid.ok_or(TokenError::Malformed)?).await?;
        if key.algorithm.is_some_and(|algorithm| algorithm.to_string() != format!("{:?}", header.alg)) {
            return Err(TokenError::Wrong);
        }
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

    /// The key with that id, as it is published now or was within the last day; an older one while the keys can't be had.
    async fn key(&self, id: &str) -> Result<Key, TokenError> {
        let look_up = || self.keys.lock().look_up(id, Instant::now());
        let _turn = match look_up() {
            Lookup::Found(key) => return Ok(key),
            Lookup::Refused(error) => return Err(error),
            // Whoever has an old key doesn't wait for another's fetch.
            Lookup::Fetch(Some(old)) => match self.fetching.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(old),
            },
            Lookup::Fetch(None) => self.fetching.lock().await,
        };
        // Another may have fetched them while this one waited.
        let old = match look_up() {
            Lookup::Found(key) => return Ok(key),
            Lookup::Refused(error) => return Err(error),
            Lookup::Fetch(old) => old,
        };
        let fetched = self.fetch().await;
        let mut keys = self.keys.lock();
        match fetched {
            Ok(fetched) => {
                // Tokens are not valid any longer than their keys are published.
                if keys.by_id.keys().any(|id| !fetched.contains_key(id)) {
                    self.verified.lock().clear();
                }
                keys.succeed(fetched, Instant::now());
                keys.by_id.get(id).cloned().ok_or(TokenError::UnknownKey)
            }
            Err(error) => {
                keys.fail(Instant::now());
                tracing::warn!(%error, "fetching the Bot Framework's keys failed");
                old.ok_or(keys.absence())
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<HashMap<String, Key>> {
        let metadata: Metadata = self.get(&self.openid_url).await.context("reading the OpenID metadata")?;
        let set: KeySet = self.get(&metadata.jwks_uri).await.context("reading the keys")?;
        let keys: HashMap<_, _> = set.keys.into_iter().take(MAX_KEYS).filter_map(key).collect();
        anyhow::ensure!(!keys.is_empty(), "there is no key for signatures among them");
        Ok(keys)
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> anyhow::Result<T> {
        anyhow::ensure!(config::is_safe_url(url), "it is not encrypted");
        let answer = self.client.get(url).send().await.map_err(reqwest::Error::without_url)?;
        Ok(answer.error_for_status().map_err(reqwest::Error::without_url)?.json().await?)
    }
}

/// A key with its endorsements, which are no part of the standard; `None` for a key that isn't there to check signatures.
/// Source: <https://www.rfc-editor.org/rfc/rfc7517#section-4.2>.
fn key(mut entry: serde_json::Value) -> Option<(String, Key)> {
    let endorsed = entry.as_object_mut()?.remove("endorsements");
    let endorsed = endorsed.as_ref().and_then(|endorsed| endorsed.as_array()).into_iter().flatten();
    let endorsed: Vec<String> = endorsed.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    let jwk: Jwk = serde_json::from_value(entry).ok()?;
    let common = &jwk.common;
    let is_for_signatures = common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
    let verifies = |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
    let rsa = [KeyAlgorithm::RS256, KeyAlgorithm::RS384, KeyAlgorithm::RS512];
    let is_rsa = common.key_algorithm.is_none_or(|algorithm| rsa.contains(&algorithm));
    if !is_for_signatures || !common.key_operations.as_ref().is_none_or(verifies) || !is_rsa {
        return None;
    }
    let (id, algorithm) = (common.key_id.clone()?, common.key_algorithm);
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some((id, Key { key, algorithm, endorsed: endorsed.into() }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn published(change: serde_json::Value) -> Option<(String, Key)> {
        let mut entry =
            json!({ "kty": "RSA", "kid": "k", "n": "sXch", "e": "AQAB", "endorsements": ["msteams"] });
        entry.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        key(entry)
    }

    #[test]
    fn a_key_counts_for_what_it_is_published_for() {
        for (change, counts) in [
            (json!({}), true),
            (json!({ "use": "sig", "alg": "RS256" }), true),
            (json!({ "alg": "RS512" }), true),
            (json!({ "key_ops": ["verify"] }), true),
            (json!({ "use": "enc" }), false),
            (json!({ "use": "tls" }), false),
            (json!({ "key_ops": ["encrypt"] }), false),
            (json!({ "alg": "PS256" }), false),
            (json!({ "alg": "HS256" }), false),
            (json!({ "alg": "RSA-OAEP" }), false),
            (json!({ "alg": "of next year" }), false),
            (json!({ "kty": "oct", "k": "c2VjcmV0" , "alg": "HS256" }), false),
            (json!({ "kid": null }), false),
        ] {
            assert_eq!(published(change.clone()).is_some(), counts, "{change}");
        }
        for entry in [json!(null), json!(5), json!("x"), json!([]), json!(["endorsements"]), json!({})] {
            assert!(key(entry.clone()).is_none(), "{entry}");
        }
    }

    #[test]
    fn what_is_no_name_among_the_endorsements_is_skipped() {
        let endorsed = |value| published(json!({ "endorsements": value })).unwrap().1.endorsed;
        assert_eq!(*endorsed(json!([null, 5, "msteams", ["webchat"]])), ["msteams".to_owned()]);
        for none in [json!(null), json!("msteams"), json!({ "msteams": true }), json!([["msteams"]])] {
            assert!(endorsed(none.clone()).is_empty(), "{none}");
        }
    }

    /// What a lookup says, in a word.
    fn found(keys: &Keys, id: &str, now: Instant) -> &'static str {
        match keys.look_up(id, now) {
            Lookup::Found(_) => "found",
            Lookup::Refused(TokenError::NoKeys) => "no keys",
            Lookup::Refused(_) => "unknown",
            Lookup::Fetch(Some(_)) => "fetch, or the old one",
            Lookup::Fetch(None) => "fetch",
        }
    }

    #[test]
    fn keys_are_asked_for_soon_after_a_failure_and_slowly_after_a_success() {
        let (mut keys, start) = (Keys::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(found(&keys, "k", start), "fetch");
        for (failure, pause) in [2, 4, 8, 16, 30, 30, 30].into_iter().enumerate() {
            keys.fail(start);
            assert_eq!(found(&keys, "k", start + pause * second - second), "no keys", "{failure}");
            assert_eq!(found(&keys, "k", start + pause * second), "fetch", "{failure}");
        }
        keys.succeed(HashMap::from([published(json!({})).unwrap()]), start);
        assert_eq!(found(&keys, "k", start), "found");
        assert_eq!(found(&keys, "other", start + 59 * second), "unknown");
        assert_eq!(found(&keys, "other", start + 60 * second), "fetch");
        keys.fail(start + 60 * second);
        assert_eq!(found(&keys, "other", start + 61 * second), "unknown");
        assert_eq!(found(&keys, "other", start + 62 * second), "fetch", "the success was long ago");
    }

    #[test]
    fn old_keys_count_while_new_ones_cannot_be_had() {
        let (mut keys, start) = (Keys::default(), Instant::now());
        keys.succeed(HashMap::from([published(json!({})).unwrap()]), start);
        let later = start + KEYS_LIFETIME;
        assert_eq!(found(&keys, "k", later), "fetch, or the old one");
        keys.fail(later);
        assert_eq!(found(&keys, "k", later), "found", "until the next fetch");
        assert_eq!(found(&keys, "k", later + FIRST_PAUSE), "fetch, or the old one");
        assert_eq!(found(&keys, "k", start + KEYS_GRACE), "fetch", "not for ever");
    }
}
