//! Keys, tokens of the Bot Framework, tokens of the managed identity.

use super::*;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign::demo::fake_teams::{ISSUER, Signer};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{DecodingKey, DecodingKeyKind, decode_header};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use std::time::Duration;

async fn published(teams: &Teams) -> (Vec<Value>, JwkSet) {
    let metadata: Value = reqwest::get(teams.openid_url()).await.unwrap().json().await.unwrap();
    assert_eq!(metadata["issuer"], ISSUER);
    let keys: Value =
        reqwest::get(metadata["jwks_uri"].as_str().unwrap()).await.unwrap().json().await.unwrap();
    (keys["keys"].as_array().unwrap().clone(), serde_json::from_value(keys).unwrap())
}

fn holds(token: &str, key: &Jwk, audience: &str) -> bool {
    let key = DecodingKey::from_jwk(key).unwrap();
    let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() else { return false };
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(message.split_once('.').unwrap().1).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["exp"].as_i64().unwrap() > jiff::Timestamp::now().as_second()
        && claims["iss"] == ISSUER
        && claims["aud"] == audience
        && RsaPublicKeyComponents { n, e }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &signature)
            .is_ok()
}

#[tokio::test]
async fn only_a_token_of_a_published_key_holds() {
    let teams = quick().await;
    let app = teams.settings().app;
    let (_, keys) = published(&teams).await;
    let mut token = teams.token();
    for (signer, good) in [
        (Signer::Newest, true),
        (Signer::Key(0), true),
        (Signer::Stranger, false),
        (Signer::PublicPart, false),
    ] {
        token.signer = signer;
        let signed = teams.sign(&token);
        let key = keys.find(&decode_header(&signed).unwrap().kid.unwrap()).unwrap();
        assert_eq!(holds(&signed, key, &app), good, "{signer:?}");
        assert!(!holds(&signed, key, "another"));
    }
    token.signer = Signer::Unsigned;
    assert!(decode_header(teams.sign(&token)).is_err());
}

#[tokio::test]
async fn keys_rotate_and_say_what_they_are_good_for() {
    let teams = quick().await;
    let old = teams.sign(&teams.token());
    teams.rotate_keys(true);
    teams.endorse(&["webchat"]);
    let (raw, keys) = published(&teams).await;
    assert_eq!(keys.keys.len(), 2);
    assert!(raw[0]["endorsements"].as_array().unwrap().contains(&json!("msteams")));
    assert_eq!(raw[1]["endorsements"], json!(["webchat"]));
    let kid = |token: &str| decode_header(token).unwrap().kid.unwrap();
    assert_ne!(kid(&old), kid(&teams.sign(&teams.token())));
    teams.rotate_keys(false);
    let (_, keys) = published(&teams).await;
    assert!(keys.find(&kid(&old)).is_none());
    assert!(keys.find(&kid(&teams.sign(&teams.token()))).is_some());
    assert_eq!((teams.calls("metadata"), teams.calls("keys")), (2, 2));
}

#[tokio::test]
async fn the_managed_identity_answers_the_bot_alone() {
    let teams = quick().await;
    let [(_, endpoint), (_, header)] = teams.identity();
    let app = teams.settings().app;
    let whole = format!("?api-version=2019-08-01&resource={ISSUER}&client_id={app}");
    for (query, header, expected) in [
        (whole.clone(), header.as_str(), 200),
        (whole.clone(), "another", 401),
        (whole.replace(&app, "another"), &header, 400),
        (whole.replace("botframework", "example"), &header, 400),
        (whole.replace("api-version", "version"), &header, 400),
    ] {
        let request = reqwest::Client::new().get(format!("{endpoint}{query}"));
        let answer = request.header("x-identity-header", header).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{query} {header}");
    }
    assert_eq!(teams.take_refusals().len(), 3);
}

#[tokio::test]
async fn the_connector_hears_only_who_has_a_token_that_still_counts() {
    let settings = TenantSettings { token_life: Duration::from_secs(3), ..TenantSettings::default() };
    let teams = teams(settings).await;
    let post = ("POST", &*activities(CHANNEL));
    assert_eq!(call_as(&teams, "made-up", post, hello()).await.0, 401);
    let token = bearer(&teams).await;
    assert_eq!(call_as(&teams, &token, post, hello()).await.0, 201);
    teams.revoke_tokens();
    assert_eq!(call_as(&teams, &token, post, hello()).await.0, 401);
    let token = bearer(&teams).await;
    let mut until = 0;
    while call_as(&teams, &token, ("GET", "v3/conversations/x/pagedmembers"), Value::Null).await.0 != 401 {
        until += 1;
        assert!(until < 1_000_000, "the token never ends");
    }
}
