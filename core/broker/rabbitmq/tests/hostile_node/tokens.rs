//! Tokens that no gateway made, and tokens that have expired.

use std::process::Command;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::LongString;
use ring::hmac;

use crate::signing::{self, head, token};
use crate::stage::{ACCESS_REFUSED, PATIENCE, Stage, code, in_seconds, log_in, named, next, signed, silent};

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
    let others = |kind: &[&str]| {
        let file = folder.path().join("other.key");
        let made = Command::new("openssl").arg("genpkey").args(kind).arg("-out").arg(&file).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        file.to_str().unwrap().to_owned()
    };
    let other = others(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    assert!(is_refused(&signing::signed(&claims, &other)).await, "another key");

    // A forger has our public key. It is no shared secret, and an RSA key is not accepted.
    let public = std::fs::read(named("TEST_TOKEN_KEY").replace(".key", ".pub")).unwrap();
    for text in [public.as_slice(), public.trim_ascii_end()] {
        let forged = token(&head("HS256"), &claims, |message| by_secret(text, message));
        assert!(is_refused(&forged).await, "the public key as a shared secret");
    }
    let rsa = others(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    assert!(is_refused(&token(&head("RS256"), &claims, |message| by_rsa(&rsa, message))).await, "RSA");

    for algorithm in ["none", "None", "NONE"] {
        for signature in [&b""[..], &[0; 3]] {
            let forged = token(&head(algorithm), &claims, |_| signature.to_vec());
            assert!(is_refused(&forged).await, "{algorithm}");
        }
    }

    let good = signed(&claims);
    let signature = good.rsplit('.').next().unwrap();
    let mut better = claims.clone();
    better["scope"] =
        serde_json::json!(["rabbitmq.read:*/*", "rabbitmq.write:*/*", "rabbitmq.tag:administrator"]);
    let unsigned = token(&head("ES256"), &better, |_| Vec::new());
    assert!(is_refused(&format!("{unsigned}{signature}")).await, "more scopes under the old signature");
    stage.clear().await;
}

/// Signs with a shared secret (`HS256`).
fn by_secret(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

/// Signs with an RSA key in a PEM file (`RS256`).
fn by_rsa(key_file: &str, message: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("message");
    std::fs::write(&file, message).unwrap();
    let signing = ["dgst", "-sha256", "-sign", key_file];
    let signed = Command::new("openssl").args(signing).arg(&file).output().unwrap();
    assert!(signed.status.success() && !signed.stdout.is_empty(), "{signed:?}");
    signed.stdout
}

/// A token that our key signed for another service, or for none, is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_for_something_else_are_refused() {
    let stage = Stage::set().await;
    let mut claims = stage.claims();
    claims["aud"] = "another-service".into();
    assert!(is_refused(&signed(&claims)).await);
    stage.clear().await;
}

/// A node that logged in with a valid token and does not bring the next one can send nothing after the token's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_runs_out_says_nothing_more() {
    let stage = Stage::set().await;
    let mut claims = stage.claims();
    claims["exp"] = in_seconds(3).into();
    let connection = log_in(&signed(&claims)).await.unwrap();
    let channel = stage.channel(&connection).await;
    stage.speak_properly(&channel, "early").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    // RabbitMQ 4.3 closes the channel then; earlier releases refuse what is sent on it.
    if channel.status().connected() {
        let properties = BasicProperties::default().with_user_id(stage.node.as_str().into());
        let key = format!("{}.heartbeat", stage.node);
        assert_eq!(stage.publish(&channel, &key, properties, "late").await, Err(ACCESS_REFUSED));
    }
    let mut hears = stage.hears().await;
    assert_eq!(next(&mut hears).await.message.id, "early");
    silent(&mut hears).await;
    stage.clear().await;
}

/// An open connection takes a new token only if a gateway made it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_not_renewed_by_a_forgery() {
    let stage = Stage::set().await;
    let mut better = stage.claims();
    better["scope"] = serde_json::json!(["rabbitmq.read:*/*", "rabbitmq.write:*/*"]);
    let forged = token(&head("HS256"), &better, |message| by_secret(b"guess", message));
    let connection = stage.connect().await;
    let renewed = connection.update_secret(LongString::from(forged), "mine".into());
    let renewed = tokio::time::timeout(PATIENCE, renewed).await.expect("an answer");
    assert!(renewed.is_err(), "taken");
    stage.clear().await;
}
