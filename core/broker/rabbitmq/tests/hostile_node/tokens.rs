//! Tokens that are not, or no longer, a gateway's word.

use std::process::Command;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, encode};
use lapin::BasicProperties;
use lapin::types::LongString;

use crate::stage::{ACCESS_REFUSED, PATIENCE, Stage, code, header, in_seconds, log_in, named, signed};

/// Base64 as JWTs have it (RFC 4648, URL alphabet, no padding).
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let digit = word >> (18 - 6 * place) & 63;
            text.push(char::from(ALPHABET[digit as usize]));
        }
    }
    text
}

async fn is_refused(token: &str) -> bool {
    match log_in(token).await {
        Ok(_) => false,
        Err(error) => code(&error) == ACCESS_REFUSED,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ran_out_is_refused() {
    let stage = Stage::set().await;
    let mut claims = stage.claims();
    claims["exp"] = in_seconds(-1).into();
    assert!(is_refused(&signed(&claims)).await);
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_tokens_are_refused() {
    let stage = Stage::set().await;
    let claims = stage.claims();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.key");
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let other = EncodingKey::from_rsa_pem(&std::fs::read(&file).unwrap()).unwrap();
    assert!(is_refused(&encode(&header(Algorithm::RS256), &claims, &other).unwrap()).await, "another key");

    let public = std::fs::read(named("TEST_TOKEN_KEY").replace(".key", ".pub")).unwrap();
    for text in [public.as_slice(), public.trim_ascii_end()] {
        let shared = EncodingKey::from_secret(text);
        let token = encode(&header(Algorithm::HS256), &claims, &shared).unwrap();
        assert!(is_refused(&token).await, "the public key as a shared secret");
    }

    let body = base64url(claims.to_string().as_bytes());
    for algorithm in ["none", "None", "NONE"] {
        let head =
            base64url(format!("{{\"alg\":\"{algorithm}\",\"typ\":\"JWT\",\"kid\":\"nodes\"}}").as_bytes());
        for signature in ["", "AAAA"] {
            assert!(is_refused(&format!("{head}.{body}.{signature}")).await, "{algorithm}");
        }
    }

    let good = signed(&claims);
    let (signing, signature) = good.rsplit_once('.').unwrap();
    let mut better = claims.clone();
    better["scope"] =
        serde_json::json!(["rabbitmq.read:*/*", "rabbitmq.write:*/*", "rabbitmq.tag:administrator"]);
    let (head, _) = signing.split_once('.').unwrap();
    let body = base64url(better.to_string().as_bytes());
    assert!(is_refused(&format!("{head}.{body}.{signature}")).await, "more scopes under the old signature");
    stage.clear().await;
}

/// A token that our key signed, but for another service, or for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_for_something_else_are_refused() {
    let stage = Stage::set().await;
    let mut claims = stage.claims();
    claims["aud"] = "another-service".into();
    assert!(is_refused(&signed(&claims)).await);
    stage.clear().await;
}

/// It logged in with a good token, and doesn't bring the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_runs_out_says_nothing_more() {
    let stage = Stage::set().await;
    let mut claims = stage.claims();
    claims["exp"] = in_seconds(3).into();
    let connection = log_in(&signed(&claims)).await.unwrap();
    let channel = stage.channel(&connection).await;
    stage.speak_properly(&channel, "early").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let properties = BasicProperties::default().with_user_id(stage.node.as_str().into());
    let key = format!("{}.heartbeat", stage.node);
    assert_eq!(stage.publish(&channel, &key, properties, "late").await, Err(ACCESS_REFUSED));
    stage.clear().await;
}

/// An open connection takes a new token only if a gateway made it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_not_renewed_by_a_forgery() {
    let stage = Stage::set().await;
    let mut better = stage.claims();
    better["scope"] = serde_json::json!(["rabbitmq.read:*/*", "rabbitmq.write:*/*"]);
    let forged = encode(&header(Algorithm::HS256), &better, &EncodingKey::from_secret(b"guess")).unwrap();
    let connection = stage.connect().await;
    let renewed = connection.update_secret(LongString::from(forged), "mine".into());
    let renewed = tokio::time::timeout(PATIENCE, renewed).await.expect("an answer");
    assert!(renewed.is_err(), "taken");
    stage.clear().await;
}
