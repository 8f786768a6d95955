//! Randomness that depends on a job's key and on nothing else.

use hmac::{Hmac, Mac};
use infera_types::ids::Digest;
use sha2::Sha256;

/// Returns a number in (0, 1) that is uniform over keys: the first 53 bits of HMAC-SHA256(key, label | 0 | text), moved off
/// both ends by half a step.
pub(crate) fn uniform(key: &Digest, label: &[u8], text: &[u8]) -> f64 {
    let hash = keyed_hash(key, label, text);
    let first = hash.as_bytes().iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    // 53 bits are what an f64 holds exactly.
    ((first >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// Returns HMAC-SHA256(key, label | 0 | text): one independent draw per label and text.
pub(crate) fn keyed_hash(key: &Digest, label: &[u8], text: &[u8]) -> Digest {
    // HMAC fills its key up to a block with zeros; a key of that length can't be refused.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key.as_bytes());
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in [label, &[0], text] {
        mac.update(part);
    }
    Digest::from_bytes(mac.finalize().into_bytes().into())
}
