//! API keys: what they look like, and which account one belongs to. A key is `inf_`, thirty characters of base 62
//! (178 bits) and six more that are their CRC-32, so that a typo is refused without a look-up and scanners for
//! leaked secrets can tell a key from a look-alike. Keys are kept as SHA-256 only: a fast hash is right for a random
//! secret of that size.
//!
//! Which headers carry a key is decided in `auth`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use infera_ledger::{AccountBook, FirstKey, LedgerError, NewKey};
use infera_types::ids::{AccountId, Digest};

const PREFIX: &str = "inf_";
const RANDOM_LENGTH: usize = 30;
const CHECKSUM_LENGTH: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Is a well-formed key. Printing it for debugging shows the last four characters only.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ApiKey(…{})", self.hint())
    }
}

/// Says that the operating system had no randomness to give.
#[derive(Debug, thiserror::Error)]
#[error("no randomness from the operating system: {0}")]
pub struct NoRandomness(String);

impl ApiKey {
    /// Makes a fresh key.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut text = String::with_capacity(PREFIX.len() + RANDOM_LENGTH + CHECKSUM_LENGTH);
        text.push_str(PREFIX);
        while text.len() < PREFIX.len() + RANDOM_LENGTH {
            let mut bytes = [0; RANDOM_LENGTH];
            getrandom::fill(&mut bytes).map_err(|error| NoRandomness(error.to_string()))?;
            // Bytes over the largest multiple of 62 are left out, or some characters would be likelier.
            let characters = bytes.iter().filter(|&&byte| byte < 248).map(|&byte| digit(u32::from(byte)));
            let missing = PREFIX.len() + RANDOM_LENGTH - text.len();
            text.extend(characters.take(missing));
        }
        text.push_str(&checksum(&text));
        Ok(Self(text))
    }

    /// Returns the key in `text`, if its form and checksum are right.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_key = text.len() == PREFIX.len() + RANDOM_LENGTH + CHECKSUM_LENGTH
            && text.starts_with(PREFIX)
            && text[PREFIX.len()..].bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_key {
            return None;
        }
        let (body, sum) = text.split_at(PREFIX.len() + RANDOM_LENGTH);
        (checksum(body) == sum).then(|| Self(text.to_owned()))
    }

    /// Returns what the ledger knows it by.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// Returns its last four characters, for lists.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.0[self.0.len() - 4..]
    }

    /// Returns the whole key, to show it once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns what the ledger keeps of it when an account begins with it.
    #[must_use]
    pub fn first(&self) -> FirstKey {
        FirstKey { hash: self.hash(), hint: self.hint().to_owned() }
    }

    /// Returns the row that stores it for `account`.
    #[must_use]
    pub fn row(&self, account: AccountId) -> NewKey {
        NewKey { hash: self.hash(), account, hint: self.hint().to_owned() }
    }
}

fn digit(value: u32) -> char {
    char::from(BASE62[(value % 62) as usize])
}

fn checksum(text: &str) -> String {
    let sum = crc32fast::hash(text.as_bytes());
    (0..6).rev().map(|place| digit(sum / 62_u32.pow(place))).collect()
}

/// Is the caller of a request: found out by its key, used by limits and routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Is the key's hash, by which limits are counted.
    pub(crate) key: Digest,
    /// Is the account that pays and owns.
    pub(crate) account: AccountId,
}

/// Holds the ledger's answers about keys, remembered for a short time and in bounded numbers.
#[derive(Debug)]
pub(crate) struct KeyCache {
    book: Arc<dyn AccountBook>,
    ttl: Duration,
    max: usize,
    known: Mutex<HashMap<Digest, (Arc<Caller>, Instant)>>,
    unknown: Mutex<HashMap<Digest, Instant>>,
}

impl KeyCache {
    /// Makes a cache of at most `max` valid and `max` invalid keys, each believed for `ttl`.
    #[must_use]
    pub(crate) fn new(book: Arc<dyn AccountBook>, ttl: Duration, max: usize) -> Self {
        Self { book, ttl, max, known: Mutex::default(), unknown: Mutex::default() }
    }

    /// Returns the caller that the key belongs to; none if it was never issued or is revoked.
    ///
    /// # Errors
    /// The ledger's, where it had to be asked.
    pub(crate) async fn caller(&self, key: &ApiKey) -> Result<Option<Arc<Caller>>, LedgerError> {
        let hash = key.hash();
        let now = Instant::now();
        let fresh = |since: &Instant| now.duration_since(*since) < self.ttl;
        let known =
            lock(&self.known).get(&hash).filter(|(_, since)| fresh(since)).map(|(c, _)| Arc::clone(c));
        if known.is_some() {
            return Ok(known);
        }
        if lock(&self.unknown).get(&hash).is_some_and(fresh) {
            return Ok(None);
        }
        if let Some(record) = self.book.key(hash).await? {
            let caller = Arc::new(Caller { key: hash, account: record.account });
            let mut known = lock(&self.known);
            make_room(&mut known, self.max, |(_, since)| fresh(since));
            known.insert(hash, (Arc::clone(&caller), now));
            return Ok(Some(caller));
        }
        lock(&self.known).remove(&hash);
        let mut unknown = lock(&self.unknown);
        make_room(&mut unknown, self.max, fresh);
        unknown.insert(hash, now);
        Ok(None)
    }
}

/// Forgets what is stale once the map is full, and everything if that wasn't enough.
fn make_room<V>(map: &mut HashMap<Digest, V>, max: usize, fresh: impl Fn(&V) -> bool) {
    if map.len() >= max {
        map.retain(|_, value| fresh(value));
    }
    if map.len() >= max {
        map.clear();
    }
}

/// Locks a map. One that another task panicked over is still a map: nothing here leaves one half changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_the_common_one() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn keys_are_read_back_and_typos_refused() {
        let key = ApiKey::generate().unwrap();
        assert_eq!(key.expose().len(), 40);
        assert_eq!(ApiKey::parse(key.expose()), Some(key.clone()));
        assert!(!format!("{key:?}").contains(&key.expose()[..20]));
        for index in 0..key.expose().len() {
            let mut bytes = key.expose().as_bytes().to_vec();
            bytes[index] = if bytes[index] == b'x' { b'y' } else { b'x' };
            assert_eq!(ApiKey::parse(std::str::from_utf8(&bytes).unwrap()), None, "{index}");
        }
        for wrong in ["", "inf_", &"é".repeat(20), &key.expose()[1..], &format!("{}0", key.expose())] {
            assert_eq!(ApiKey::parse(wrong), None);
        }
    }

    #[test]
    fn fresh_keys_differ() {
        assert_ne!(ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
    }

    #[test]
    fn a_full_map_makes_room() {
        let mut map: HashMap<Digest, bool> = (0..4_u8).map(|n| (Digest::of(&[n]), n % 2 == 0)).collect();
        make_room(&mut map, 4, |fresh| *fresh);
        assert_eq!(map.len(), 2);
        make_room(&mut map, 2, |fresh| *fresh);
        assert!(map.is_empty());
    }
}
