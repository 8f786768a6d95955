//! Makes tokens as gateways sign them, and as forgers would.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

/// Signs the claims as a gateway does, with the private key in a PEM file.
pub(crate) fn signed(claims: &Value, key_file: &str) -> String {
    let pem = std::fs::read_to_string(key_file).unwrap();
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let (der, random) = (STANDARD.decode(lines).unwrap(), SystemRandom::new());
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random).unwrap();
    token(&head("ES256"), claims, |text| key.sign(&random, text).unwrap().as_ref().to_vec())
}

/// Returns the header by which RabbitMQ finds its key.
pub(crate) fn head(algorithm: &str) -> Value {
    json!({ "typ": "JWT", "alg": algorithm, "kid": "nodes" })
}

/// Makes a token (RFC 7519) of these parts; `sign` is given the text to sign.
pub(crate) fn token(head: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let text = format!("{head}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(sign(text.as_bytes()));
    format!("{text}.{signature}")
}
