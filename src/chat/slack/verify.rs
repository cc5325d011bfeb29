//! Proves that a request comes from Slack: HMAC-SHA256 over the raw body, five minutes of tolerance. Never logs a body, a
//! signature or a secret.

use axum::http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use slack_morphism::signature_verifier::{SlackEventSignatureVerifier, SlackEventSignatureVerifierError};

/// Digits of a timestamp: enough for 30,000 years.
const MAX_DIGITS: usize = 12;

/// The signing secrets that count: one, or two while one is being rotated.
pub struct SignatureVerifier {
    verifiers: Vec<SlackEventSignatureVerifier>,
}

/// Reason that a request is not Slack's. All of them are answered with 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the signature or its timestamp is absent")]
    Absent,
    #[error("the signature is wrong")]
    Wrong,
    #[error("the timestamp isn't written as Slack writes it")]
    Timestamp,
    /// More than 300 seconds old or in the future: a replay, or a clock that is off.
    #[error("the signature is too old, or of the future")]
    Stale,
}

impl SignatureVerifier {
    /// Without a secret every request is refused.
    pub fn new(secrets: &[SecretString]) -> Self {
        let verifiers = secrets
            .iter()
            .map(|secret| SlackEventSignatureVerifier::new(&secret.expose_secret().to_owned().into()))
            .collect();
        SignatureVerifier { verifiers }
    }

    /// Checks the raw body as it came over the wire, before anything else reads it.
    /// Source: <https://api.slack.com/authentication/verifying-requests-from-slack>.
    pub fn verify(&self, headers: &HeaderMap, body: &str) -> Result<(), SignatureError> {
        let header =
            |name| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(SignatureError::Absent);
        let signature = header(SlackEventSignatureVerifier::SLACK_SIGNED_HASH_HEADER)?;
        let timestamp = header(SlackEventSignatureVerifier::SLACK_SIGNED_TIMESTAMP)?;
        if !is_timestamp(timestamp) {
            return Err(SignatureError::Timestamp);
        }
        let mut error = SignatureError::Wrong;
        for verifier in &self.verifiers {
            match verifier.verify(signature, body, timestamp) {
                Ok(()) => return Ok(()),
                Err(SlackEventSignatureVerifierError::IncorrectOrExpiredTimestampError(_)) => {
                    error = SignatureError::Stale;
                }
                Err(_) => {}
            }
        }
        Err(error)
    }
}

/// True for seconds since 1970 in digits, as Slack writes them: no sign, no leading zero, and not so many that a sum overflows.
fn is_timestamp(text: &str) -> bool {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number && !text.starts_with('0') && text.len() <= MAX_DIGITS
}
