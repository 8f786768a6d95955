//! API keys: their form, and the account that each belongs to. A key is `inf_`, thirty characters of base 62 (178
//! bits) and six more that are the CRC-32 of all that. The checksum lets us refuse a typo without a look-up, and lets
//! scanners for leaked secrets tell a key from a look-alike. Only a key's SHA-256 is stored: a fast hash is enough
//! for a random secret of that size.
//!
//! `auth` decides which headers carry a key.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use infera_ledger::{
    AccountBook, EndedKey, FirstKey, FoundKey, KeyBook, KeyEnd, KeyPrivacy, KeyRecord, LedgerError, NewKey,
    NodeGroupBook, NodePool, Scopes,
};
use infera_types::ids::{AccountId, Digest, KeyId};
use infera_types::time::Timestamp;

use crate::api::unauthorized::Unauthorized;

const PREFIX: &str = "inf_";
const RANDOM_LENGTH: usize = 30;
const CHECKSUM_LENGTH: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A well-formed API key. Its debug output shows the last four characters only.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ApiKey(…{})", self.hint())
    }
}

/// The error of an operating system that gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("no randomness from the operating system: {0}")]
pub struct NoRandomness(String);

impl NoRandomness {
    /// Makes the error that the operating system's own error means.
    pub(crate) fn new(error: &getrandom::Error) -> Self {
        Self(error.to_string())
    }
}

impl ApiKey {
    /// Makes a new random key.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut text = String::with_capacity(PREFIX.len() + RANDOM_LENGTH + CHECKSUM_LENGTH);
        text.push_str(PREFIX);
        while text.len() < PREFIX.len() + RANDOM_LENGTH {
            let mut bytes = [0; RANDOM_LENGTH];
            getrandom::fill(&mut bytes).map_err(|error| NoRandomness::new(&error))?;
            // Bytes above the largest multiple of 62 are skipped, because they would make some characters likelier.
            let characters = bytes.iter().filter(|&&byte| byte < 248).map(|&byte| digit(u32::from(byte)));
            let missing = PREFIX.len() + RANDOM_LENGTH - text.len();
            text.extend(characters.take(missing));
        }
        text.push_str(&checksum(&text));
        Ok(Self(text))
    }

    /// Returns the key in `text` if its form and its checksum are right.
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

    /// Returns the hash under which the ledger stores this key.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// Returns the key's last four characters, to show in lists.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.0[self.0.len() - 4..]
    }

    /// Returns the whole key, which is shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns what the ledger stores of this key when it is the first of a new account.
    #[must_use]
    pub fn first(&self) -> FirstKey {
        FirstKey { hash: self.hash(), hint: self.hint().to_owned() }
    }

    /// Returns the row that stores this key for `account`, with the scope `user` and without an end.
    #[must_use]
    pub fn row(&self, account: AccountId) -> NewKey {
        NewKey::plain(self.hash(), account, self.hint())
    }
}

/// Why a key isn't revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeKeyError {
    /// What was given is no key: the operator's mistake. It isn't repeated, since it may be a key with a typo.
    #[error(
        "standard input holds no API key (inf_…, 40 characters) and no SHA-256 of one (64 hexadecimal digits)"
    )]
    NoKey,
    /// The ledger has no such key; trying again changes nothing.
    #[error("no such key is valid: it was never issued here, or it is revoked already")]
    Unknown,
    /// The ledger is at fault.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Revokes the key in `text`, which may be the key itself or its SHA-256, and returns a sentence about it.
///
/// # Errors
/// [`RevokeKeyError`].
pub async fn revoke_key(text: &str, book: &dyn AccountBook) -> Result<String, RevokeKeyError> {
    let hash = ApiKey::parse(text).map(|key| key.hash()).or_else(|| text.parse::<Digest>().ok());
    let hash = hash.ok_or(RevokeKeyError::NoKey)?;
    let record = book.key(hash).await?.ok_or(RevokeKeyError::Unknown)?;
    book.revoke_key(hash, Timestamp::now()).await?;
    Ok(format!("the key that ends with {} of account {} is revoked", record.hint, record.account))
}

fn digit(value: u32) -> char {
    char::from(BASE62[(value % 62) as usize])
}

fn checksum(text: &str) -> String {
    let sum = crc32fast::hash(text.as_bytes());
    (0..6).rev().map(|place| digit(sum / 62_u32.pow(place))).collect()
}

/// The caller of a request, found by its API key. Limits and routes use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The key's hash, by which limits are counted.
    pub(crate) key: Digest,
    /// The account that pays for the request and owns its jobs.
    pub(crate) account: AccountId,
    /// Whether the account is proven, so that its jobs are counted by themselves.
    pub(crate) is_proven: bool,
    /// The weight of the account, at least 1.
    pub(crate) weight: u32,
    /// Whether the key may ask for the tier `priority`.
    pub(crate) may_prioritise: bool,
    /// The key's public id.
    pub(crate) id: KeyId,
    /// What the key permits.
    pub(crate) scopes: Scopes,
    /// The time from which the key is no longer valid.
    pub(crate) expires_ms: Option<Timestamp>,
    /// The nodes that the key's jobs go to where a request says nothing.
    pub(crate) pool: NodePool,
    /// What the key says of its jobs' text.
    pub(crate) privacy: KeyPrivacy,
}

/// A cache of the ledger's answers about keys, bounded in time and in number.
#[derive(Debug)]
pub(crate) struct KeyCache {
    book: Arc<dyn KeyBook>,
    pools: Arc<dyn NodeGroupBook>,
    ttl: Duration,
    max: usize,
    known: Mutex<HashMap<Digest, (Arc<Caller>, Instant)>>,
    /// The keys that open nothing, with what is on record of them, if there is anything.
    closed: Mutex<HashMap<Digest, (Option<EndedKey>, Instant)>>,
    /// How often keys were forgotten. What was read before isn't kept after.
    forgettings: AtomicU64,
}

impl KeyCache {
    /// Makes a cache of at most `max` valid and `max` invalid keys, each of which is believed for `ttl`.
    #[must_use]
    pub(crate) fn new(
        book: Arc<dyn KeyBook>,
        pools: Arc<dyn NodeGroupBook>,
        ttl: Duration,
        max: usize,
    ) -> Self {
        let (known, closed, forgettings) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        Self { book, pools, ttl, max, known, closed, forgettings }
    }

    /// Returns the caller that the key belongs to, or why the key opens nothing: it was never issued, is revoked or blocked, or
    /// has expired.
    ///
    /// # Errors
    /// The ledger's error, if the key had to be looked up.
    pub(crate) async fn caller(
        &self,
        key: &ApiKey,
    ) -> Result<Result<Arc<Caller>, Unauthorized>, LedgerError> {
        let caller = self.recorded(key.hash()).await?;
        let now = Timestamp::now();
        Ok(match caller {
            Ok(caller) if caller.expires_ms.is_some_and(|expires| expires <= now) => {
                Err(Unauthorized::Expired)
            }
            caller => caller,
        })
    }

    /// Forgets keys, valid or not, of which `is_changed` says so by their id and account: the next request with one looks it up.
    /// Other gateways learn of a change when they look the key up, after `ttl` at the latest.
    pub(crate) fn forget(&self, is_changed: impl Fn(&KeyId, &AccountId) -> bool) {
        self.forgettings.fetch_add(1, Ordering::SeqCst);
        lock(&self.known).retain(|_, (caller, _)| !is_changed(&caller.id, &caller.account));
        lock(&self.closed)
            .retain(|_, (ended, _)| !ended.as_ref().is_some_and(|key| is_changed(&key.id, &key.account)));
    }

    /// Returns the caller that a key on record belongs to, whether or not the key has expired.
    async fn recorded(&self, hash: Digest) -> Result<Result<Arc<Caller>, Unauthorized>, LedgerError> {
        let now = Instant::now();
        let fresh = |since: &Instant| now.duration_since(*since) < self.ttl;
        let known =
            lock(&self.known).get(&hash).filter(|(_, since)| fresh(since)).map(|(c, _)| Arc::clone(c));
        if let Some(caller) = known {
            return Ok(Ok(caller));
        }
        if let Some((ended, _)) = lock(&self.closed).get(&hash).filter(|(_, since)| fresh(since)) {
            return Ok(Err(why(ended.as_ref())));
        }
        let before = self.forgettings.load(Ordering::SeqCst);
        // Under the map's lock: what forgets keys meanwhile comes behind, and takes this one with it.
        let is_current = || self.forgettings.load(Ordering::SeqCst) == before;
        let found = self.book.find_key(hash).await?;
        if let Some(FoundKey::Valid(record)) = found {
            let KeyRecord { account, id, scopes, expires_ms, proven, weight, .. } = record;
            let KeyRecord { may_prioritise, privacy, .. } = record;
            let pool = self.pools.key_pool(&id).await?;
            let caller = Arc::new(Caller {
                key: hash,
                account,
                is_proven: proven,
                weight,
                may_prioritise,
                id,
                scopes,
                expires_ms,
                pool,
                privacy,
            });
            let mut known = lock(&self.known);
            if is_current() {
                make_room(&mut known, self.max, |(_, since)| fresh(since));
                known.insert(hash, (Arc::clone(&caller), now));
            }
            return Ok(Ok(caller));
        }
        let ended = match found {
            Some(FoundKey::Ended(ended)) => Some(ended),
            _ => None,
        };
        let reason = why(ended.as_ref());
        lock(&self.known).remove(&hash);
        let mut closed = lock(&self.closed);
        if is_current() {
            make_room(&mut closed, self.max, |(_, since)| fresh(since));
            closed.insert(hash, (ended, now));
        }
        Ok(Err(reason))
    }
}

/// Returns why a key opens nothing that isn't valid on record, or isn't on record.
fn why(ended: Option<&EndedKey>) -> Unauthorized {
    match ended.map(|key| key.end) {
        None => Unauthorized::Unknown,
        Some(KeyEnd::Revoked) => Unauthorized::Revoked,
        Some(KeyEnd::Blocked) => Unauthorized::KeyBlocked,
        Some(KeyEnd::AccountBlocked) => Unauthorized::AccountBlocked,
    }
}

/// Drops stale entries once the map is full, and all entries if that frees no room.
fn make_room<V>(map: &mut HashMap<Digest, V>, max: usize, fresh: impl Fn(&V) -> bool) {
    if map.len() >= max {
        map.retain(|_, value| fresh(value));
    }
    if map.len() >= max {
        map.clear();
    }
}

/// Locks a map, even if another task panicked while it held the lock: no change here can be left half done.
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
