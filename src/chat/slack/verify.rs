//! Proves that a request comes from Slack: HMAC-SHA256 over the raw body, five minutes of tolerance. Never logs a body, a
//! signature or a secret.

use axum::http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use slack_morphism::signature_verifier::{SlackEventSignatureVerifier, SlackEventSignatureVerifierError};

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

#[cfg(test)]
mod tests {
    use super::*;
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    const BODY: &str = "command=%2Fdb&text=locks";

    fn signed(secret: &str, age: i64) -> HeaderMap {
        let timestamp = (jiff::Timestamp::now().as_second() - age).to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("v0:{timestamp}:{BODY}").as_bytes());
        let signature = format!("v0={}", hex::encode(mac.finalize().into_bytes()));
        let mut headers = HeaderMap::new();
        headers.insert("x-slack-request-timestamp", timestamp.parse().unwrap());
        headers.insert("x-slack-signature", signature.parse().unwrap());
        headers
    }

    fn verifier(secrets: &[&str]) -> SignatureVerifier {
        SignatureVerifier::new(&secrets.iter().map(|s| SecretString::from(*s)).collect::<Vec<_>>())
    }

    #[test]
    fn any_configured_secret_counts() {
        let both = verifier(&["old", "new"]);
        assert_eq!(both.verify(&signed("old", 0), BODY), Ok(()));
        assert_eq!(both.verify(&signed("new", 200), BODY), Ok(()));
        assert_eq!(both.verify(&signed("other", 0), BODY), Err(SignatureError::Wrong));
        assert_eq!(both.verify(&signed("new", 0), "command=%2Fdb&text=kill"), Err(SignatureError::Wrong));
    }

    #[test]
    fn old_future_and_absent_signatures_are_refused() {
        let verifier = verifier(&["secret"]);
        assert_eq!(verifier.verify(&signed("secret", 400), BODY), Err(SignatureError::Stale));
        assert_eq!(verifier.verify(&signed("secret", -400), BODY), Err(SignatureError::Stale));
        assert_eq!(verifier.verify(&HeaderMap::new(), BODY), Err(SignatureError::Absent));
    }

    #[test]
    fn no_secret_and_an_empty_secret_let_nobody_in() {
        assert_eq!(verifier(&[]).verify(&signed("", 0), BODY), Err(SignatureError::Wrong));
        assert_eq!(verifier(&[""]).verify(&signed("", 0), BODY), Err(SignatureError::Wrong));
    }
}
