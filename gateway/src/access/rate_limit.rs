//! Limits on how much one key, and all keys of one account together, may ask: requests and tokens per minute, and requests
//! at once (`turns`). Looking at jobs and cancelling them have an allowance of their own. Sign-ups and nodes have no key and
//! are counted by address, by governor (`by_address`); keys need places in line, which it doesn't have (`allowance`). All of it
//! is in memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::HeaderMap;
use infera_types::ids::{AccountId, Digest};
use infera_types::shutdown::Shutdown;

use super::allowance::{Allowance, Attempt, Rate};
use super::by_address::ByAddress;
use super::keys::Caller;
use super::limit_headers::{self, AllLeft, Left};
use super::spent::{Held, Quantity, Untold};
use super::turns::{Turn, TurnBounds, Turns};
use crate::api::error::ApiError;
use crate::api::too_many_requests::Limit;
use crate::config::Config;

/// How often keys and addresses that have their full allowance again are forgotten.
const CLEAN_EVERY: Duration = Duration::from_secs(30);

/// A key may have this many times as many looks in flight as requests. Looks end in milliseconds: the bound is for clients
/// that don't read what they ask for. As many jobs may it follow, which take no turns from its looks.
const LOOKS_TIMES: u32 = 4;

/// How long a look waits for its turn: longer than a client that reads takes for all of its replies.
const LOOK_WAIT: Duration = Duration::from_secs(30);

/// What a request asks of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// It asks for an answer or a job.
    Request,
    /// It looks at something or cancels it.
    Look,
    /// It follows a job until its end.
    Follow,
}

/// The limits of one key or account, by what they count; none where there is no limit.
#[derive(Clone, Copy, Debug)]
struct Rates {
    requests: Option<Rate>,
    tokens: Option<Rate>,
    looks: Option<Rate>,
}

/// What one key or account may still spend.
#[derive(Debug)]
struct Spending {
    requests: Option<Allowance>,
    tokens: Option<Allowance>,
    looks: Option<Allowance>,
}

impl Spending {
    fn new(rates: Rates, now: Instant) -> Self {
        let allowance = |rate: Option<Rate>| rate.map(|rate| Allowance::new(rate, now));
        Self {
            requests: allowance(rates.requests),
            tokens: allowance(rates.tokens),
            looks: allowance(rates.looks),
        }
    }

    fn of(&mut self, quantity: Quantity) -> Option<&mut Allowance> {
        match quantity {
            Quantity::Requests => self.requests.as_mut(),
            Quantity::Tokens => self.tokens.as_mut(),
            Quantity::Looks => self.looks.as_mut(),
        }
    }

    fn is_idle(&mut self, now: Instant) -> bool {
        let all = [&mut self.requests, &mut self.tokens, &mut self.looks];
        all.into_iter().flatten().all(|allowance| allowance.is_idle(now))
    }
}

/// The spending of all keys and accounts that aren't idle.
#[derive(Debug, Default)]
struct Book {
    keys: HashMap<Digest, Spending>,
    accounts: HashMap<AccountId, Spending>,
}

/// The counters of all limits.
#[derive(Debug)]
pub(crate) struct Limits {
    window: Duration,
    of_key: Rates,
    of_account: Rates,
    book: Mutex<Book>,
    /// What was spent here and isn't told to other gateways yet.
    pub(super) untold: Untold,
    pub(super) turns: Turns,
    look_turns: Turns,
    follow_turns: Turns,
    /// The tokens that are reserved for jobs whose end comes later.
    pub(super) held: Held,
    signups: ByAddress,
    nodes: ByAddress,
}

impl Limits {
    /// Makes counters at zero. A setting of 0 means no limit.
    #[must_use]
    pub(crate) fn new(config: &Config) -> Self {
        let window = config.limit_window();
        let rates = |times: u64| Rates {
            requests: Rate::new(u64::from(config.requests_per_minute) * times, window),
            tokens: Rate::new(config.tokens_per_minute.saturating_mul(times), window),
            looks: Rate::new(u64::from(config.looks_per_minute) * times, window),
        };
        let keys = config.account_limit_keys;
        let turns = |times: u32, wait: Duration| {
            let key_max = config.in_flight_max.saturating_mul(times);
            Turns::new(TurnBounds { key_max, account_max: key_max.saturating_mul(keys), wait })
        };
        Self {
            window,
            of_key: rates(1),
            of_account: rates(u64::from(keys)),
            book: Mutex::default(),
            untold: Untold::default(),
            turns: turns(1, config.turn_wait()),
            look_turns: turns(LOOKS_TIMES, LOOK_WAIT),
            follow_turns: turns(LOOKS_TIMES, config.turn_wait()),
            held: Held::default(),
            signups: ByAddress::new(config.signups_per_minute, window),
            nodes: ByAddress::new(config.node_checks_per_minute, window),
        }
    }

    /// Counts a request and returns its turn, perhaps after a moment. A refused request isn't counted.
    ///
    /// # Errors
    /// [`ApiError::Limited`].
    pub(crate) async fn admit(
        &self,
        caller: &Caller,
        work: Work,
        attempt: Attempt,
    ) -> Result<Turn, ApiError> {
        let (quantity, turns, limit) = match work {
            Work::Request => (Quantity::Requests, &self.turns, Limit::Rate),
            Work::Look => (Quantity::Looks, &self.look_turns, Limit::Looks),
            Work::Follow => (Quantity::Looks, &self.follow_turns, Limit::Looks),
        };
        let now = Instant::now();
        self.spend(caller, (quantity, 1), attempt, now).map_err(|wait| ApiError::Limited(limit, wait))?;
        turns.take(caller, attempt).await.map_err(|wait| {
            self.give_back((caller.key, &caller.account), (quantity, 1));
            ApiError::Limited(Limit::InFlight, wait)
        })
    }

    /// Returns how many requests of one key can be in flight at all; none if there is no bound.
    pub(crate) fn in_flight_most(&self) -> Option<u32> {
        self.turns.most()
    }

    /// Returns turns for further answers of a request that has its own, at once or not at all: to wait with some of them would
    /// keep others from theirs.
    ///
    /// # Errors
    /// [`ApiError::Limited`].
    pub(crate) fn admit_more(
        &self,
        caller: &Caller,
        more: u32,
        attempt: Attempt,
    ) -> Result<Vec<Turn>, ApiError> {
        self.turns.take_more(caller, more, attempt).map_err(|wait| ApiError::Limited(Limit::InFlight, wait))
    }

    /// Spends an amount of the key and of its account, if both have it.
    ///
    /// # Errors
    /// The time after which the client should try again. Its place in line is kept until then.
    pub(super) fn spend(
        &self,
        caller: &Caller,
        (quantity, amount): (Quantity, u64),
        attempt: Attempt,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut book = self.lock();
        let mut both = self.both(&mut book, (caller.key, &caller.account), quantity, now);
        let mut may = true;
        for allowance in both.iter_mut().flatten() {
            may &= allowance.may_spend(amount, attempt, now);
        }
        if may {
            both.into_iter().flatten().for_each(|allowance| allowance.spend(amount, attempt, now));
            drop(book);
            self.untold.add((caller.key, &caller.account), quantity, signed(amount));
            return Ok(());
        }
        let dues: Option<Vec<Instant>> =
            both.iter().flatten().map(|allowance| allowance.due(amount, now)).collect();
        let due = dues.and_then(|dues| dues.into_iter().max());
        let mut wait = Duration::ZERO;
        for allowance in both.into_iter().flatten() {
            if let Some(due) = due {
                allowance.promise(amount, due);
            }
            wait = wait.max(allowance.told(due, now));
        }
        Err(wait)
    }

    /// Gives back what was spent and not used.
    pub(super) fn give_back(&self, of: (Digest, &AccountId), (quantity, amount): (Quantity, u64)) {
        let (mut book, now) = (self.lock(), Instant::now());
        let both = self.both(&mut book, of, quantity, now);
        both.into_iter().flatten().for_each(|allowance| allowance.give_back(amount, now));
        drop(book);
        self.untold.add(of, quantity, -signed(amount));
    }

    /// Spends what was used already, even if it isn't left.
    pub(super) fn spend_anyway(&self, of: (Digest, &AccountId), (quantity, amount): (Quantity, u64)) {
        self.hear(of, quantity, signed(amount));
        self.untold.add(of, quantity, signed(amount));
    }

    /// Spends, or gives back, what was spent or given back at another gateway.
    pub(super) fn hear(&self, of: (Digest, &AccountId), quantity: Quantity, amount: i64) {
        let (mut book, now) = (self.lock(), Instant::now());
        for allowance in self.both(&mut book, of, quantity, now).into_iter().flatten() {
            if amount < 0 {
                allowance.give_back(amount.unsigned_abs(), now);
            } else {
                allowance.spend_elsewhere(amount.unsigned_abs(), now);
            }
        }
    }

    fn both<'a>(
        &self,
        book: &'a mut Book,
        (key, account): (Digest, &AccountId),
        quantity: Quantity,
        now: Instant,
    ) -> [Option<&'a mut Allowance>; 2] {
        let Book { keys, accounts } = book;
        if !accounts.contains_key(account) {
            accounts.insert(account.clone(), Spending::new(self.of_account, now));
        }
        let of_key = keys.entry(key).or_insert_with(|| Spending::new(self.of_key, now)).of(quantity);
        [of_key, accounts.get_mut(account).and_then(|spending| spending.of(quantity))]
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes into `headers` what is left of the caller's limits: of its key's or of its account's, whichever is less.
    pub(crate) fn tell(&self, caller: &Caller, headers: &mut HeaderMap) {
        let now = Instant::now();
        let mut all = AllLeft { in_flight: self.turns.left(caller), ..AllLeft::default() };
        {
            let mut book = self.lock();
            let mut least = |quantity| {
                let both = self.both(&mut book, (caller.key, &caller.account), quantity, now);
                let left = |allowance: &mut Allowance| Left {
                    limit: allowance.limit(),
                    left: allowance.left(now),
                    reset: allowance.reset(now),
                };
                both.into_iter().flatten().map(left).min_by_key(|left| left.left)
            };
            all.requests = least(Quantity::Requests);
            all.tokens = least(Quantity::Tokens);
            all.looks = least(Quantity::Looks);
        }
        limit_headers::write(&all, self.window, headers);
    }

    /// Counts a sign-up by its address.
    ///
    /// # Errors
    /// [`ApiError::Limited`].
    pub(crate) fn admit_signup(&self, address: IpAddr) -> Result<(), ApiError> {
        self.signups.spend(address).map_err(|wait| ApiError::Limited(Limit::Signups, wait))
    }

    /// Counts a node's registration or check by its address.
    ///
    /// # Errors
    /// [`ApiError::Limited`].
    pub(crate) fn admit_node(&self, address: IpAddr) -> Result<(), ApiError> {
        self.nodes.spend(address).map_err(|wait| ApiError::Limited(Limit::Nodes, wait))
    }

    /// Writes into `headers` what an address has left of the sign-ups, or of the registrations and checks of nodes.
    pub(crate) fn tell_address(&self, limit: Limit, address: IpAddr, headers: &mut HeaderMap) {
        let (name, left) = match limit {
            Limit::Signups => ("signups", self.signups.left(address)),
            Limit::Nodes => ("nodes", self.nodes.left(address)),
            _ => return,
        };
        if let Some(left) = left {
            limit_headers::write_address(name, left, self.window, headers);
        }
    }

    /// Forgets keys and addresses that have their full allowance again, until `stop`. One task does this for all
    /// counters.
    pub(crate) async fn clean(&self, stop: &Shutdown) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CLEAN_EVERY) => {}
            }
            let now = Instant::now();
            {
                let mut book = self.lock();
                book.keys.retain(|_, spending| !spending.is_idle(now));
                book.accounts.retain(|_, spending| !spending.is_idle(now));
                book.keys.shrink_to_fit();
                book.accounts.shrink_to_fit();
            }
            self.held.forget(self.window, now);
            self.turns.clean(now);
            self.look_turns.clean(now);
            self.signups.clean();
            self.nodes.clean();
        }
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// Returns what a request says of earlier tries. OpenAI's clients count them in a header.
#[must_use]
pub(crate) fn attempt(headers: &HeaderMap) -> Attempt {
    let Some(value) = headers.get("x-stainless-retry-count") else { return Attempt::Unknown };
    match value.to_str().ok().and_then(|text| text.parse::<u32>().ok()) {
        Some(0) => Attempt::First,
        Some(_) => Attempt::Again,
        None => Attempt::Unknown,
    }
}
