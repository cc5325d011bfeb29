//! Signatures of Slack's requests.

use axum::http::HeaderMap;
use countersign::chat::slack::verify::{SignatureError, SignatureVerifier};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::SecretString;
use sha2::Sha256;

const BODY: &str = "command=%2Fdb&text=locks";

fn signed(secret: &str, age: i64) -> HeaderMap {
    signed_at(secret, &(jiff::Timestamp::now().as_second() - age).to_string())
}

fn signed_at(secret: &str, timestamp: &str) -> HeaderMap {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("v0:{timestamp}:{BODY}").as_bytes());
    let signature = format!("v0={}", hex::encode(mac.finalize().into_bytes()));
    let mut headers = HeaderMap::new();
    headers.insert("x-slack-request-timestamp", timestamp.parse().unwrap());
    headers.insert("x-slack-signature", signature.parse().unwrap());
    headers
}

#[test]
fn only_a_recent_signature_by_a_secret_that_counts_is_good() {
    let (good, wrong, stale) = (Ok(()), Err(SignatureError::Wrong), Err(SignatureError::Stale));
    let two: &[&str] = &["old", "new"];
    for (secrets, secret, age, body, expected) in [
        (two, "old", 0, BODY, good),
        (two, "new", 200, BODY, good),
        (two, "other", 0, BODY, wrong),
        (two, "new", 0, "command=%2Fdb&text=kill", wrong),
        (two, "new", 400, BODY, stale),
        (two, "new", -400, BODY, stale),
        (&[], "", 0, BODY, wrong),
        (&[""], "", 0, BODY, wrong),
    ] {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
        let verifier = SignatureVerifier::new(&secrets);
        assert_eq!(verifier.verify(&signed(secret, age), body), expected, "{secret} {age} {body}");
        assert_eq!(verifier.verify(&HeaderMap::new(), body), Err(SignatureError::Absent));
    }
}

#[test]
fn a_timestamp_counts_only_as_slack_writes_it() {
    let verifier = SignatureVerifier::new(&["secret".into()]);
    let now = jiff::Timestamp::now().as_second();
    assert_eq!(verifier.verify(&signed_at("secret", &now.to_string()), BODY), Ok(()));
    for timestamp in [
        format!("+{now}"),
        format!("-{now}"),
        format!("0{now}"),
        format!("{now}.0"),
        format!("{now}e0"),
        format!("{now} {now}"),
        format!("{now}0000000000"),
        i64::MIN.to_string(),
        i64::MAX.to_string(),
        "9223372036854775808".to_owned(),
        "99999999999999999999999999".to_owned(),
        "0".to_owned(),
        "0x6566".to_owned(),
        "now".to_owned(),
        String::new(),
    ] {
        let refused = verifier.verify(&signed_at("secret", &timestamp), BODY);
        assert_eq!(refused, Err(SignatureError::Timestamp), "{timestamp}");
    }
}
