//! The gateway's settings, with the reason of each default, and the checks on them. They are only values:
//! `core/program` reads files and flags. Of the gateway's rooms, only `fastapi` may be below this one.

mod cors_origin;
mod currency;
mod host_name;
mod proxies;

use std::fmt;
use std::time::Duration;

use infera_ledger::Room;
use infera_types::day::DAY_MS;
use serde::{Deserialize, Serialize};

pub use cors_origin::CorsOrigin;
pub use currency::Currency;
pub use host_name::HostName;
pub use proxies::{ClientAddress, TrustedProxies};

/// The gateway's settings. A limit of 0 means no limit, which is meant for load tests; `check` refuses it where a
/// limit is needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The largest number of open connections. It is lowered to what the limit on open files leaves beside the
    /// gateway's own needs (`ulimit -n`, which is raised to its hard value at start). When all places are taken, the
    /// connection that has been idle for the longest is closed for a new one. 10,000 idle connections cost some 200
    /// MB of buffers at worst.
    pub connections_max: usize,
    /// The largest number of connections from one address (of IPv6: one /64); never more than half of all. When an
    /// address has used up its share, its own longest idle connection is closed for its next one; if none of them is
    /// idle, the next one is refused. The default is a quarter of all places: a large office behind one address needs
    /// fewer, and three hostile addresses can't take all places. Trusted proxies have no such limit.
    pub connections_per_address_max: usize,
    /// The addresses and networks of the proxies in front of this gateway, such as `["10.0.0.0/8"]`. They are
    /// believed when they tell their clients' addresses. The default is empty and believes no proxy: all clients
    /// behind one then count as the proxy's address.
    pub trusted_proxies: TrustedProxies,
    /// How trusted proxies tell their clients' addresses: by `x-forwarded-for`, the default because most proxies
    /// write it; by `forwarded` (RFC 7239); or by `proxy-protocol`, which must then begin each of their connections.
    /// Only one of them is read, because a proxy that writes one header passes on the other as its client wrote it.
    pub client_address_from: ClientAddress,
    /// The host names, without ports, under which the gateway answers besides those of loopback (`localhost`,
    /// `127.0.0.0/8`, `[::1]`). Requests for other names get 421. A listener on a loopback address always checks
    /// this, because a web page could have its own name resolve to loopback and use the gateway from its visitors'
    /// browsers. A listener on another address checks it only if names are listed.
    pub hosts: Vec<HostName>,
    /// The web pages whose scripts may use the gateway from a browser, as origins such as `["https://app.example"]`, or
    /// `["*"]` for all. The default is empty: browsers then keep replies from pages of other sites. Keys are sent by the
    /// page itself and never by the browser on its own, so a listed page gains nothing without one.
    pub cors_origins: Vec<CorsOrigin>,
    /// How long a request's head may take, in milliseconds, from its first byte or from the opening of the
    /// connection. A slower head (slowloris) ends its connection.
    pub header_timeout_ms: u64,
    /// How long a connection without a request is kept after its last reply, in milliseconds. Go's clients close
    /// theirs after 90 s and most others sooner. If the gateway closed first, a request that is just being sent would
    /// get no reply.
    pub idle_timeout_ms: u64,
    /// How long a body may take, in milliseconds; a slower one is answered 408. The largest body needs 17 kB/s to
    /// arrive in time.
    pub body_timeout_ms: u64,
    /// The largest body, in bytes; larger ones are answered 413. The default is half of what the broker carries, so
    /// that an assignment always fits.
    pub body_max_bytes: usize,
    /// The largest sum of all bodies and replies over 16 kB that are in memory at once, in bytes. Beyond this, large
    /// bodies are answered 503. The default has room for 512 of the largest bodies and is half of the memory of a
    /// gateway's container.
    pub memory_max_bytes: usize,
    /// How long requests may still wait after a shutdown has begun, in milliseconds. Then they get 503 with their
    /// job's id.
    pub drain_ms: u64,
    /// The largest number of clients that wait for a job's end. Each costs a connection and a few kB.
    pub waiters_max: usize,
    /// The largest number of requests per minute and key. A client may send them all at once. 600 is ten a second.
    pub requests_per_minute: u32,
    /// The largest number of tokens per minute and key: those of the prompt and of the longest answer that is asked for,
    /// corrected when the answer is known. The default is that of 600 requests of 10,000 tokens, which are the largest
    /// answers with some prompt, so that this limit binds only beyond what the other one is for.
    pub tokens_per_minute: u64,
    /// The largest number of looks per minute and key: reading jobs, models, keys and counts, and cancelling. They have an
    /// allowance of their own, so that a client which used up its requests can still collect and cancel its jobs. 6,000 is
    /// a hundred a second.
    pub looks_per_minute: u32,
    /// How many keys' limits all keys of one account may use together; 0: any number. With the default, an account gains
    /// nothing by having more keys.
    pub account_limit_keys: u32,
    /// The window over which the limits per minute count, in milliseconds. It is a minute, as their names say, but in tests.
    pub limit_window_ms: u64,
    /// The largest number of requests in flight per key. A synchronous request is in flight for as long as its job
    /// takes.
    pub in_flight_max: u32,
    /// How long a request beyond that waits for another to end before it is refused, in milliseconds; as many may wait as
    /// may be in flight. Five seconds are longer than most answers take, and shorter than clients notice as a hang.
    pub turn_wait_ms: u64,
    /// The largest number of jobs of one account that wait or run. Beyond this: 429, so that one account can't fill
    /// the ledger.
    pub waiting_max: u32,
    /// The largest number of one account's jobs (of unproven accounts: of their network's) that lie in a model's queue
    /// for clients that wait. Further ones are held in the ledger until their turn, in which every account gets its
    /// share. Eight keep a person and a small program out of the turns altogether, and cost another account's client
    /// no more than eight jobs' time. At most 10,000; 0 offers all at once.
    pub offered_max: u32,
    /// The largest sum of one account's requests in the ledger, in bytes. They are pruned a day after their jobs
    /// ended. Beyond this: 429. 1 GiB is as many requests of 1.2 kB as one key may send in a day, or as many of the
    /// largest as it may send in four minutes.
    pub account_stored_max_bytes: u64,
    /// The largest sum of all accounts' requests in the ledger, in bytes. Beyond this: 503, so that accepted jobs
    /// still fit onto the disk. 8 GiB are eight accounts at their limit and leave room for answers and the log on a
    /// disk of 20 GB; a cluster's database may have more.
    pub stored_max_bytes: u64,
    /// The largest number of sign-ups per minute and address. One person needs one.
    pub signups_per_minute: u32,
    /// The largest number of registrations and checks of nodes per minute and address. A node asks every five
    /// minutes, so three hundred nodes may share an address, and secrets can't be guessed at a useful rate.
    pub node_checks_per_minute: u32,
    /// The largest number of nodes that one account may register; 0 means no limit. Verifiers read all registered nodes
    /// each second, and a runner with more machines than this is known to the operator.
    pub nodes_per_account_max: u64,
    /// How long a synchronous request waits if it doesn't say, in seconds. The default is that of the seed.
    pub request_timeout_s: u64,
    /// How long the job of a client that went away waits for the same request to come again, in milliseconds, before it is
    /// cancelled; 0: it is cancelled at once. Half a minute is longer than clients wait before they retry, and short enough
    /// that a job for which no one waits costs little.
    pub abandoned_ms: u64,
    /// How long a submitted job may take before it expires, in milliseconds. An hour is longer than the loss of a
    /// verifier, a backlog or a restart, and short enough that a job that its client forgot doesn't hold the queue.
    pub submit_deadline_ms: u64,
    /// How long the text of a job that isn't to be stored is kept after its end, in milliseconds; at most a day. Its end can
    /// be collected until then. Ten minutes are longer than a client's retries and polls, and as long as the longest wait of a
    /// synchronous client.
    pub unstored_ms: u64,
    /// The most days of retention that a key may have. Beyond a year, a key without retention serves as well.
    pub retention_days_max: u32,
    /// The answer's length if a request on `/v1` doesn't give one, in tokens. Most chat answers fit, and no node is
    /// busy for long.
    pub max_tokens_default: u32,
    /// The largest answer that a request may ask for, in tokens. A replica reports four candidates for each token,
    /// some 100 bytes; a longer answer might not fit into the 1 MiB that the broker carries.
    pub max_tokens_max: u32,
    /// How long a key that was looked up in the ledger is believed, in milliseconds; at most 5,000. A key that is revoked
    /// or blocked, or whose account is blocked, works no longer than this at any gateway. With the default a block holds
    /// everywhere within five seconds, the ledger's own time included, and a busy key costs a look-up every four.
    pub key_ttl_ms: u64,
    /// The largest number of keys that are remembered, valid and invalid ones each. 10,000 cost about 2 MB.
    pub keys_max: usize,
    /// How long a verifier's summary of capacity is believed, in milliseconds. One comes every second.
    pub capacity_ttl_ms: u64,
    /// The currency of models' prices and of costs, in three capital letters. Amounts are never converted: it only says what
    /// they are in, so that all gateways of a network need the same. The default is that of most listings of models.
    pub currency: Currency,
    /// How often the catalogue and its prices are reloaded, in milliseconds.
    pub catalogue_refresh_ms: u64,
    /// The largest number of accepted jobs whose notice the broker doesn't have yet. Beyond this, new jobs are
    /// answered 503. Each costs some 200 bytes, and time to publish once the broker is back; clients had better send
    /// more jobs than this again then.
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
            cors_origins: Vec::new(),
            header_timeout_ms: 15_000,
            idle_timeout_ms: 95_000,
            body_timeout_ms: 30_000,
            body_max_bytes: 512 * 1024,
            memory_max_bytes: 256 * 1024 * 1024,
            drain_ms: 20_000,
            waiters_max: 10_000,
            requests_per_minute: 600,
            tokens_per_minute: 6_000_000,
            looks_per_minute: 6_000,
            account_limit_keys: 1,
            limit_window_ms: 60_000,
            in_flight_max: 64,
            turn_wait_ms: 5_000,
            waiting_max: 10_000,
            offered_max: 8,
            account_stored_max_bytes: 1024 * 1024 * 1024,
            stored_max_bytes: 8 * 1024 * 1024 * 1024,
            signups_per_minute: 5,
            node_checks_per_minute: 60,
            nodes_per_account_max: 1_000,
            request_timeout_s: 240,
            abandoned_ms: 30_000,
            submit_deadline_ms: 60 * 60 * 1000,
            unstored_ms: 10 * 60 * 1000,
            retention_days_max: 365,
            max_tokens_default: 256,
            max_tokens_max: 8_192,
            key_ttl_ms: 4_000,
            keys_max: 10_000,
            capacity_ttl_ms: 5_000,
            currency: Currency::default(),
            catalogue_refresh_ms: 1_000,
            outbox_max: 100_000,
        }
    }
}

/// The bounds of a synchronous request's waiting time, in seconds. The longest is what OpenAI's SDK waits.
pub(crate) const REQUEST_TIMEOUT_S: std::ops::RangeInclusive<u64> = 1..=600;

/// The largest number of one share's jobs in a model's first queue. Counting more would cost each acceptance more than
/// the turns that it saves.
const OFFERED_MOST: u64 = 10_000;
/// The longest retention, in days: a hundred years, so that times stay within what tables hold.
const RETENTION_MOST_DAYS: u64 = 36_500;

/// The longest time that a key may be believed, in milliseconds: a block has to hold everywhere within five seconds.
const KEY_TTL_MAX_MS: u64 = 5_000;

/// The largest number of places in an outbox: a semaphore counts no further.
pub(crate) const OUTBOX_PLACES_MAX: usize = tokio::sync::Semaphore::MAX_PERMITS;

/// A mistake in the settings, which the operator has to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigMistake {
    /// The PROXY protocol is expected, but no proxy is trusted to send it.
    #[error(
        "gateway.client_address_from is \"proxy-protocol\" and gateway.trusted_proxies is empty: name the proxies \
         that send it, such as [\"10.0.0.0/8\"]"
    )]
    NoProxies,
    /// A number is out of range.
    #[error("gateway.{setting} must be between {least} and {most}")]
    OutOfRange {
        /// The setting's name.
        setting: &'static str,
        /// The smallest value that is allowed.
        least: u64,
        /// The largest value that is allowed.
        most: u64,
    },
}

/// All mistakes in the settings, one sentence each.
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
    /// Checks that each setting can be used and that they fit together.
    ///
    /// # Errors
    /// All [`ConfigMistakes`] at once.
    pub fn check(&self) -> Result<(), ConfigMistakes> {
        let mistakes = self.mistakes();
        if mistakes.is_empty() { Ok(()) } else { Err(ConfigMistakes(mistakes)) }
    }

    /// Returns all mistakes in the settings; empty if they can be used.
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
            ("abandoned_ms", self.abandoned_ms, 0, 600_000),
            ("limit_window_ms", self.limit_window_ms, 1_000, 60_000),
            ("turn_wait_ms", self.turn_wait_ms, 0, 60_000),
            ("key_ttl_ms", self.key_ttl_ms, 0, KEY_TTL_MAX_MS),
            ("request_timeout_s", self.request_timeout_s, timeout_least, timeout_most),
            ("offered_max", u64::from(self.offered_max), 0, OFFERED_MOST),
            ("unstored_ms", self.unstored_ms, 0, DAY_MS),
            ("retention_days_max", u64::from(self.retention_days_max), 1, RETENTION_MOST_DAYS),
        ];
        mistakes.extend(
            ranges
                .into_iter()
                .filter(|(_, value, least, most)| !(least..=most).contains(&value))
                .map(|(setting, _, least, most)| ConfigMistake::OutOfRange { setting, least, most }),
        );
        mistakes
    }

    /// Returns how long a request's head may take.
    #[must_use]
    pub const fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    /// Returns how long a connection may be idle.
    #[must_use]
    pub const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// Returns how long a body may take.
    #[must_use]
    pub const fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    /// Returns how long the job of a client that went away waits for it.
    #[must_use]
    pub const fn abandoned(&self) -> Duration {
        Duration::from_millis(self.abandoned_ms)
    }

    /// Returns how long requests may still wait after a shutdown has begun.
    #[must_use]
    pub const fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    /// Returns the window over which the limits per minute count.
    #[must_use]
    pub const fn limit_window(&self) -> Duration {
        Duration::from_millis(self.limit_window_ms)
    }

    /// Returns how long a request waits for its turn.
    #[must_use]
    pub const fn turn_wait(&self) -> Duration {
        Duration::from_millis(self.turn_wait_ms)
    }

    /// Returns how much room requests may take in the ledger. No limit is given as the largest number.
    #[must_use]
    pub const fn room(&self) -> Room {
        Room {
            account_max_bytes: limit(self.account_stored_max_bytes),
            all_max_bytes: limit(self.stored_max_bytes),
        }
    }

    /// Returns how many jobs of one share may lie in a model's first queue. No limit is given as the largest number.
    #[must_use]
    pub const fn offered_limit(&self) -> u32 {
        if self.offered_max == 0 { u32::MAX } else { self.offered_max }
    }

    /// Returns how many jobs of one account may wait or run. No limit is given as the largest number.
    #[must_use]
    pub const fn waiting_limit(&self) -> u32 {
        if self.waiting_max == 0 { u32::MAX } else { self.waiting_max }
    }
}

/// Returns a limit in bytes, in which 0 means that there is none.
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
            offered_max: 10_001,
            ..Config::default()
        };
        assert_eq!(config.mistakes().len(), 6);
        let told = config.check().unwrap_err().to_string();
        for part in [
            "gateway.trusted_proxies is empty",
            "; gateway.connections_max must be between 1 and ",
            "; gateway.outbox_max must be between 1 and ",
            "; gateway.catalogue_refresh_ms must be between 1 and ",
            "; gateway.request_timeout_s must be between 1 and 600",
            "; gateway.offered_max must be between 0 and 10000",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }
}
