//! What an operator may set, with the reason of each default. Only values: reading files and flags is core's.

use std::time::Duration;

use infera_ledger::Room;
use serde::{Deserialize, Serialize};

use crate::layers::hosts::HostName;
use crate::proxies::{ClientAddress, TrustedProxies};

/// The gateway's settings. A limit of 0 means: no such limit (for load tests).
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
    /// A head that isn't complete by then, from its first byte or from the opening, ends its connection (slowloris).
    pub header_timeout_ms: u64,
    /// How long a connection without a request is kept after the last reply, in milliseconds. Go's clients drop theirs after
    /// 90 s, others sooner: were we the first, a request that is just being sent would get no reply.
    pub idle_timeout_ms: u64,
    /// A body that isn't complete by then is answered 408. At the largest size that is still 17 kB/s.
    pub body_timeout_ms: u64,
    /// Larger bodies are answered 413. Half of what the broker carries, so that an assignment always fits.
    pub body_max_bytes: usize,
    /// Bytes of bodies and replies over 16 kB that are in hand at once. Beyond it, large bodies are answered 503. This is room for
    /// 512 of the largest, and half of what a gateway's container may use.
    pub memory_max_bytes: usize,
    /// How long requests may still wait once a shutdown has begun, in milliseconds; then they get 503 with their job's id.
    pub drain_ms: u64,
    /// Jobs that clients wait for, all together. Each costs a connection and a few kB.
    pub waiters_max: usize,
    /// Requests per minute and key, all at once if the client likes. 600 is ten a second.
    pub requests_per_minute: u32,
    /// Requests in flight per key. A synchronous one is in flight for as long as its job takes.
    pub in_flight_max: u32,
    /// Jobs of one account that may wait or run. Beyond it: 429, so that one account can't fill the ledger.
    pub waiting_max: u32,
    /// Bytes of one account's requests that may lie in the ledger, until they are pruned a day after their jobs ended.
    /// Beyond it: 429. 1 GiB is as many requests of 1.2 kB as one key may send in a day, and not four minutes of the largest.
    pub account_stored_max_bytes: u64,
    /// The same of all accounts together. Beyond it: 503, so that what is accepted still fits onto the disk. 8 GiB are eight
    /// accounts at their limit, and leave room for answers and the log on a disk of 20 GB; a cluster's database may have more.
    pub stored_max_bytes: u64,
    /// Sign-ups per minute and address. One person needs one.
    pub signups_per_minute: u32,
    /// Registrations and checks of nodes per minute and address. A node asks every five minutes: three hundred of them
    /// may share an address, and a secret can be guessed at no useful rate.
    pub node_checks_per_minute: u32,
    /// What a synchronous request waits for if it doesn't say. The seed's default.
    pub request_timeout_s: u64,
    /// How long a submitted job may take before it expires, in milliseconds. An hour outlives a lost verifier, a backlog and
    /// a restart; a client that forgot its job doesn't hold the queue for longer.
    pub submit_deadline_ms: u64,
    /// Tokens of an answer if a request on `/v1` doesn't say: most chat answers fit, and no node is held for long.
    pub max_tokens_default: u32,
    /// No request may ask for more. A replica reports four candidates a token, some 100 bytes: more tokens than this
    /// might not fit into the 1 MiB that the broker carries.
    pub max_tokens_max: u32,
    /// How long a key looked up in the ledger is believed, in milliseconds; a revoked one works no longer than this.
    pub key_ttl_ms: u64,
    /// Keys remembered, valid and invalid each. 10,000 cost about 2 MB.
    pub keys_max: usize,
    /// How long a verifier's summary of capacity counts, in milliseconds. They come every second.
    pub capacity_ttl_ms: u64,
    /// How often the catalogue is reloaded, in milliseconds.
    pub catalogue_refresh_ms: u64,
    /// Jobs accepted whose notice the broker doesn't have yet. Beyond it new ones are answered 503. Each costs some
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

/// Shortest and longest that a synchronous request may wait, in seconds. The longest is what OpenAI's SDK waits.
pub const REQUEST_TIMEOUT_S: std::ops::RangeInclusive<u64> = 1..=600;

/// Says which settings don't go together, for the operator to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigMistake {
    /// The PROXY protocol is expected, and no proxy may send it.
    #[error(
        "gateway.client_address_from is \"proxy-protocol\" and gateway.trusted_proxies is empty: name the proxies that send it, such as [\"10.0.0.0/8\"]"
    )]
    NoProxies,
}

impl Config {
    /// Checks that the settings go together.
    ///
    /// # Errors
    /// [`ConfigMistake`].
    pub fn check(&self) -> Result<(), ConfigMistake> {
        let expects_proxies = self.client_address_from == ClientAddress::ProxyProtocol;
        if expects_proxies && self.trusted_proxies.is_empty() {
            Err(ConfigMistake::NoProxies)
        } else {
            Ok(())
        }
    }

    /// How long a head may take.
    #[must_use]
    pub const fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    /// How long a connection may idle.
    #[must_use]
    pub const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// How long a body may take.
    #[must_use]
    pub const fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    /// How long waiting requests have after a shutdown began.
    #[must_use]
    pub const fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    /// How much of the ledger requests may take; no limit is the largest number.
    #[must_use]
    pub const fn room(&self) -> Room {
        Room {
            account_max_bytes: limit(self.account_stored_max_bytes),
            all_max_bytes: limit(self.stored_max_bytes),
        }
    }

    /// Jobs of one account that may wait; no limit is the largest number.
    #[must_use]
    pub const fn waiting_limit(&self) -> u32 {
        if self.waiting_max == 0 { u32::MAX } else { self.waiting_max }
    }
}

/// A limit in bytes; 0 means that there is none.
const fn limit(bytes: u64) -> u64 {
    if bytes == 0 { u64::MAX } else { bytes }
}
