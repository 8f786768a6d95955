//! What an operator may set, with the reason of each default, and what is wrong with settings. Only values: reading files and
//! flags is `core/program`'s. No part of the gateway lies below it but the checks of FastAPI.

mod host_name;
mod proxies;

use std::fmt;
use std::time::Duration;

use infera_ledger::Room;
use serde::{Deserialize, Serialize};

pub use host_name::HostName;
pub use proxies::{ClientAddress, TrustedProxies};

/// Holds the gateway's settings. A limit of 0 means: no such limit (for load tests); `check` refuses it where there must be
/// one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bounds open connections. It is lowered to what the limit on open files (`ulimit -n`, which is raised to its hard
    /// value at start) leaves beside the gateway's own needs. When all are taken, the one that has been idle for the
    /// longest is closed for a new one. 10,000 idle ones cost some 200 MB of buffers at worst.
    pub connections_max: usize,
    /// Bounds the connections of one address (of IPv6: one /64), to half of all at most. The address's longest idle one is
    /// closed for its next one; if all are in the middle of requests, the next one is refused. The default is a quarter
    /// of all: a large office behind one address has fewer, and three hostile addresses can't take all places. Trusted
    /// proxies have no share.
    pub connections_per_address_max: usize,
    /// Lists the addresses and networks of the proxies in front of this gateway, such as `["10.0.0.0/8"]`, which are
    /// believed when they tell their clients' addresses. Empty, the default, believes none: then clients behind a proxy
    /// all count as the proxy's address.
    pub trusted_proxies: TrustedProxies,
    /// Says how these tell them: by `x-forwarded-for`, the default because most proxies write it; by `forwarded`
    /// (RFC 7239); or by `proxy-protocol`, with which each of their connections then has to begin. Only one is read,
    /// because a proxy that writes one header passes the other on as its client wrote it.
    pub client_address_from: ClientAddress,
    /// Lists the names, without ports, that are answered beside those of loopback (`localhost`, `127.0.0.0/8`, `[::1]`).
    /// Other names get 421: on a loopback address always, because a web page could have its own name lead there and use
    /// the gateway from its visitors' browsers; on another address only if names are listed.
    pub hosts: Vec<HostName>,
    /// How long a head may take, in milliseconds, from its first byte or from the opening; one that isn't complete by then
    /// ends its connection (slowloris).
    pub header_timeout_ms: u64,
    /// How long a connection without a request is kept after the last reply, in milliseconds. Go's clients drop theirs after
    /// 90 s, others sooner: were we the first, a request that is just being sent would get no reply.
    pub idle_timeout_ms: u64,
    /// How long a body may take, in milliseconds; one that isn't complete by then is answered 408. At the largest size that
    /// is still 17 kB/s.
    pub body_timeout_ms: u64,
    /// Bounds a body, in bytes; larger ones are answered 413. The default is half of what the broker carries, so that an
    /// assignment always fits.
    pub body_max_bytes: usize,
    /// Bounds the bytes of bodies and replies over 16 kB that are in hand at once. Beyond it, large bodies are answered 503.
    /// This is room for 512 of the largest, and half of what a gateway's container may use.
    pub memory_max_bytes: usize,
    /// How long requests may still wait once a shutdown has begun, in milliseconds; then they get 503 with their job's id.
    pub drain_ms: u64,
    /// Bounds the jobs that clients wait for, all together. Each costs a connection and a few kB.
    pub waiters_max: usize,
    /// Bounds requests per minute and key, all at once if the client likes. 600 is ten a second.
    pub requests_per_minute: u32,
    /// Bounds requests in flight per key. A synchronous one is in flight for as long as its job takes.
    pub in_flight_max: u32,
    /// Bounds the jobs of one account that wait or run. Beyond it: 429, so that one account can't fill the ledger.
    pub waiting_max: u32,
    /// Bounds the bytes of one account's requests that lie in the ledger, until they are pruned a day after their jobs ended.
    /// Beyond it: 429. 1 GiB is as many requests of 1.2 kB as one key may send in a day, and not four minutes of the largest.
    pub account_stored_max_bytes: u64,
    /// Bounds the same of all accounts together. Beyond it: 503, so that what is accepted still fits onto the disk. 8 GiB
    /// are eight accounts at their limit, and leave room for answers and the log on a disk of 20 GB; a cluster's database
    /// may have more.
    pub stored_max_bytes: u64,
    /// Bounds sign-ups per minute and address. One person needs one.
    pub signups_per_minute: u32,
    /// Bounds registrations and checks of nodes per minute and address. A node asks every five minutes: three hundred of them
    /// may share an address, and a secret can be guessed at no useful rate.
    pub node_checks_per_minute: u32,
    /// How long a synchronous request waits if it doesn't say, in seconds. The default is the seed's.
    pub request_timeout_s: u64,
    /// How long a submitted job may take before it expires, in milliseconds. An hour outlives a lost verifier, a backlog and
    /// a restart; a client that forgot its job doesn't hold the queue for longer.
    pub submit_deadline_ms: u64,
    /// How many tokens an answer may have if a request on `/v1` doesn't say: most chat answers fit, and no node is held for
    /// long.
    pub max_tokens_default: u32,
    /// Bounds the tokens that a request may ask for. A replica reports four candidates a token, some 100 bytes: more tokens
    /// than this might not fit into the 1 MiB that the broker carries.
    pub max_tokens_max: u32,
    /// How long a key looked up in the ledger is believed, in milliseconds; a revoked one works no longer than this.
    pub key_ttl_ms: u64,
    /// Bounds the keys that are remembered, valid and invalid each. 10,000 cost about 2 MB.
    pub keys_max: usize,
    /// How long a verifier's summary of capacity counts, in milliseconds. They come every second.
    pub capacity_ttl_ms: u64,
    /// How often the catalogue is reloaded, in milliseconds.
    pub catalogue_refresh_ms: u64,
    /// Bounds the accepted jobs whose notice the broker doesn't have yet. Beyond it new ones are answered 503. Each costs some
    /// 200 bytes, and time to work off when the broker is back: more jobs than this are better asked for again then.
    pub outbox_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_per_address_max: 2_500,
            trusted_proxies: TrustedProxies::default(),
            client_address_from: ClientAddress::default(),
            hosts: Vec::new(),
            header_timeout_ms: 15_000,
            idle_timeout_ms: 95_000,
            body_timeout_ms: 30_000,
            body_max_bytes: 512 * 1024,
            memory_max_bytes: 256 * 1024 * 1024,
            drain_ms: 20_000,
            waiters_max: 10_000,
            requests_per_minute: 600,
            in_flight_max: 64,
            waiting_max: 10_000,
            account_stored_max_bytes: 1024 * 1024 * 1024,
            stored_max_bytes: 8 * 1024 * 1024 * 1024,
            signups_per_minute: 5,
            node_checks_per_minute: 60,
            request_timeout_s: 240,
            submit_deadline_ms: 60 * 60 * 1000,
            max_tokens_default: 256,
            max_tokens_max: 8_192,
            key_ttl_ms: 5_000,
            keys_max: 10_000,
            capacity_ttl_ms: 5_000,
            catalogue_refresh_ms: 1_000,
            outbox_max: 100_000,
        }
    }
}

/// Bounds how long a synchronous request may wait, in seconds. The longest is what OpenAI's SDK waits.
pub(crate) const REQUEST_TIMEOUT_S: std::ops::RangeInclusive<u64> = 1..=600;

/// Bounds the places of an outbox: a semaphore counts no further.
pub(crate) const OUTBOX_PLACES_MAX: usize = tokio::sync::Semaphore::MAX_PERMITS;

/// Says what is wrong with one setting, for the operator to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigMistake {
    /// The PROXY protocol is expected, and no proxy may send it.
    #[error(
        "gateway.client_address_from is \"proxy-protocol\" and gateway.trusted_proxies is empty: name the proxies that send it, such as [\"10.0.0.0/8\"]"
    )]
    NoProxies,
    /// A number is outside of what can be done.
    #[error("gateway.{setting} must be between {least} and {most}")]
    OutOfRange {
        /// The setting's name.
        setting: &'static str,
        /// The least that it may be.
        least: u64,
        /// The most.
        most: u64,
    },
}

/// Lists everything that is wrong with the settings, in a sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMistakes(Vec<ConfigMistake>);

impl fmt::Display for ConfigMistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&all.join("; "))
    }
}

impl std::error::Error for ConfigMistakes {}

impl Config {
    /// Checks that the settings can be used and go together.
    ///
    /// # Errors
    /// All [`ConfigMistakes`] at once.
    pub fn check(&self) -> Result<(), ConfigMistakes> {
        let mistakes = self.mistakes();
        if mistakes.is_empty() { Ok(()) } else { Err(ConfigMistakes(mistakes)) }
    }

    /// Returns everything that is wrong with the settings; empty if they can be used.
    #[must_use]
    pub fn mistakes(&self) -> Vec<ConfigMistake> {
        let mut mistakes = Vec::new();
        if self.client_address_from == ClientAddress::ProxyProtocol && self.trusted_proxies.is_empty() {
            mistakes.push(ConfigMistake::NoProxies);
        }
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (timeout_least, timeout_most) = REQUEST_TIMEOUT_S.into_inner();
        let ranges = [
            ("connections_max", count(self.connections_max), 1, u64::MAX),
            ("outbox_max", count(self.outbox_max), 1, count(OUTBOX_PLACES_MAX)),
            ("catalogue_refresh_ms", self.catalogue_refresh_ms, 1, u64::MAX),
            ("request_timeout_s", self.request_timeout_s, timeout_least, timeout_most),
        ];
        mistakes.extend(
            ranges
                .into_iter()
                .filter(|(_, value, least, most)| !(least..=most).contains(&value))
                .map(|(setting, _, least, most)| ConfigMistake::OutOfRange { setting, least, most }),
        );
        mistakes
    }

    /// Returns how long a head may take.
    #[must_use]
    pub const fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    /// Returns how long a connection may idle.
    #[must_use]
    pub const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// Returns how long a body may take.
    #[must_use]
    pub const fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    /// Returns how long waiting requests have after a shutdown began.
    #[must_use]
    pub const fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    /// Returns how much of the ledger requests may take; no limit is the largest number.
    #[must_use]
    pub const fn room(&self) -> Room {
        Room {
            account_max_bytes: limit(self.account_stored_max_bytes),
            all_max_bytes: limit(self.stored_max_bytes),
        }
    }

    /// Returns how many jobs of one account may wait; no limit is the largest number.
    #[must_use]
    pub const fn waiting_limit(&self) -> u32 {
        if self.waiting_max == 0 { u32::MAX } else { self.waiting_max }
    }
}

/// Returns a limit in bytes; 0 means that there is none.
const fn limit(bytes: u64) -> u64 {
    if bytes == 0 { u64::MAX } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_has_no_mistakes() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn all_mistakes_are_listed_at_once() {
        let config = Config {
            client_address_from: ClientAddress::ProxyProtocol,
            connections_max: 0,
            outbox_max: usize::MAX,
            catalogue_refresh_ms: 0,
            request_timeout_s: 601,
            ..Config::default()
        };
        assert_eq!(config.mistakes().len(), 5);
        let told = config.check().unwrap_err().to_string();
        for part in [
            "gateway.trusted_proxies is empty",
            "; gateway.connections_max must be between 1 and ",
            "; gateway.outbox_max must be between 1 and ",
            "; gateway.catalogue_refresh_ms must be between 1 and ",
            "; gateway.request_timeout_s must be between 1 and 600",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }
}
