//! Decides in which order held jobs are offered: the flow that was served least goes first.
//!
//! There are two levels. Above, the jobs of one share and tier stand together, and their weight is that of the tier times
//! that of the share. Within, the accounts of the share take turns with equal weights, and each account's jobs go in the
//! order in which they were accepted. At both levels the next is the one that was served the fewest tokens per weight (see
//! [`line`]). Therefore:
//!
//! * the tokens per weight of two that both wait differ by one job of either at most;
//! * one that comes, or comes back, begins at the present: what it didn't ask for earlier it gets no credit for;
//! * none waits for ever, because serving the others moves them past it.
//!
//! A job is charged with an estimate. What its account used beyond, or left, is charged later (see [`FairShare::refresh`]).

mod line;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use std::vec;

use infera_ledger::{Flow, FlowKey, HeldJob, Share, Turn};
use infera_types::ids::{AccountId, JobId};
use infera_types::service::ServiceTier;
use tokio::time::Instant;

use line::{Line, Place};

/// The tokens that an answer of an account is taken to have before its first: what a request gets that names no length.
const ANSWER_TOKENS_DEFAULT: u64 = 256;

/// The most tokens that a job is charged with before they are known: more than the context of any model has, and little
/// enough that a wrong estimate delays its account by seconds.
const CHARGED_TOKENS_MAX: u64 = 1 << 20;

/// How long a flow is remembered that has nothing held, with what it was served. A client that submits again at once must
/// not lose its debts by it; after some minutes the others are past it anyhow.
const ABSENT_FOR: Duration = Duration::from_secs(600);

/// Bounds the remembered flows that have nothing held: as many as are expected to wait at once, in some megabytes.
const ABSENT_MAX: usize = 10_000;

/// The order of one queue's held jobs, and what each flow was charged with.
#[derive(Debug)]
pub struct FairShare {
    /// How long the given lists may be; one of this length may have been cut off.
    jobs_max: usize,
    refreshes: u64,
    last_number: u64,
    groups: HashMap<u64, Group>,
    flows: HashMap<u64, Contender>,
    group_numbers: HashMap<(Share, ServiceTier), u64>,
    flow_numbers: HashMap<FlowKey, u64>,
    accounts: HashMap<AccountId, Account>,
    /// The groups' order.
    line: Line,
    /// What was picked since the last refresh: each job's flow and its charge.
    picked: HashMap<JobId, (u64, u64)>,
    /// The flows that have nothing held, and since when.
    absent: BTreeSet<(Instant, u64)>,
}

/// The flows of one share and tier.
#[derive(Debug)]
struct Group {
    place: Place,
    weight: u64,
    /// The refresh that the weight is from.
    weighed: u64,
    /// The accounts' order.
    line: Line,
    /// How many flows are remembered.
    flows: usize,
}

/// One flow.
#[derive(Debug)]
struct Contender {
    key: FlowKey,
    group: u64,
    place: Place,
    jobs: vec::IntoIter<HeldJob>,
    /// Whether there may be more than these.
    is_cut_off: bool,
    answer_tokens: u64,
    /// The last refresh in which it had jobs.
    seen: u64,
    absent_since: Option<Instant>,
}

/// What is known of an account, over all its flows.
#[derive(Debug)]
struct Account {
    /// The last reading of its excess.
    excess_tokens: i64,
    /// The flow that was charged last, to which corrections go.
    charged: Option<u64>,
    /// How many flows are remembered.
    flows: usize,
}

impl Default for FairShare {
    /// Begins with nothing held; the lists that it is given will be whole.
    fn default() -> Self {
        Self::of_lists(usize::MAX)
    }
}

impl FairShare {
    /// Begins with nothing held. The lists of jobs that it is given will have `jobs_max` jobs at most, and one with as many
    /// may have been cut off: when the turn comes to a flow whose list is used up but may go on, [`FairShare::next`] returns
    /// what it has until then.
    #[must_use]
    pub fn of_lists(jobs_max: usize) -> Self {
        Self {
            jobs_max: jobs_max.max(1),
            refreshes: 0,
            last_number: 0,
            groups: HashMap::new(),
            flows: HashMap::new(),
            group_numbers: HashMap::new(),
            flow_numbers: HashMap::new(),
            accounts: HashMap::new(),
            line: Line::default(),
            picked: HashMap::new(),
            absent: BTreeSet::new(),
        }
    }

    /// Replaces what is known to be held by `flows`, all of the queue's, each with its oldest jobs.
    ///
    /// A job that was picked and is still held was not offered after all; its charge is taken back. By how much an account's
    /// `excess_tokens` has changed since its last reading is added to what it was charged with, once, however many flows it
    /// has. The first reading of an account changes nothing.
    pub fn refresh(&mut self, flows: Vec<Flow>, now: Instant) {
        self.refreshes += 1;
        let mut coming = Vec::with_capacity(flows.len());
        for flow in flows.into_iter().filter(|flow| !flow.jobs.is_empty()) {
            let number = self.number_of(&flow);
            self.take_back(number, &flow.jobs);
            coming.push((number, flow));
        }
        self.picked.clear();
        for (number, flow) in &coming {
            self.correct_account(*number, flow);
        }
        for (number, flow) in coming {
            self.hold(number, flow);
        }
        self.dismiss(now);
        self.forget(now);
    }

    /// Picks at most `count` jobs in fair order, and charges their flows.
    pub fn next(&mut self, count: usize) -> Vec<Turn> {
        std::iter::from_fn(|| self.pick()).take(count).collect()
    }

    fn pick(&mut self) -> Option<Turn> {
        let group = self.groups.get_mut(&self.line.first()?)?;
        let number = group.line.first()?;
        let flow = self.flows.get_mut(&number)?;
        let job = flow.jobs.next()?;
        let tokens = job.prompt_tokens.saturating_add(flow.answer_tokens).clamp(1, CHARGED_TOKENS_MAX);
        self.line.serve(&mut group.place, tokens, group.weight);
        group.line.serve(&mut flow.place, tokens, 1);
        if flow.jobs.as_slice().is_empty() && !flow.is_cut_off {
            group.leave(&mut self.line, flow);
        }
        if let Some(account) = self.accounts.get_mut(&flow.key.account) {
            account.charged = Some(number);
        }
        self.picked.insert(job.id, (number, tokens));
        Some(Turn { id: job.id, charged_tokens: tokens })
    }

    /// Returns the number of a flow, which is new or known.
    fn number_of(&mut self, flow: &Flow) -> u64 {
        let Flow { key, excess_tokens, .. } = flow;
        if let Some(number) = self.flow_numbers.get(key) {
            return *number;
        }
        let group = match self.group_numbers.get(&(key.share.clone(), key.tier)) {
            Some(group) => *group,
            None => {
                let number = self.new_number();
                self.group_numbers.insert((key.share.clone(), key.tier), number);
                self.groups.insert(number, Group::new(number));
                number
            }
        };
        let number = self.new_number();
        self.flow_numbers.insert(key.clone(), number);
        self.flows.insert(number, Contender::new(key.clone(), number, group));
        if let Some(group) = self.groups.get_mut(&group) {
            group.flows += 1;
        }
        let account = Account { excess_tokens: *excess_tokens, charged: None, flows: 0 };
        self.accounts.entry(key.account.clone()).or_insert(account).flows += 1;
        number
    }

    fn new_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Takes back what a flow was charged with for jobs that are still held. It has waited all the time then.
    fn take_back(&mut self, number: u64, jobs: &[HeldJob]) {
        for job in jobs {
            if let Some((charged, tokens)) = self.picked.remove(&job.id)
                && charged == number
            {
                self.correct(number, -i128::from(tokens));
                self.wait(number, Line::resume);
            }
        }
    }

    fn correct_account(&mut self, number: u64, flow: &Flow) {
        let Some(account) = self.accounts.get_mut(&flow.key.account) else { return };
        let beyond = i128::from(flow.excess_tokens) - i128::from(account.excess_tokens);
        account.excess_tokens = flow.excess_tokens;
        let charged = account.charged.filter(|charged| self.flows.contains_key(charged));
        if beyond != 0 {
            self.correct(charged.unwrap_or(number), beyond);
        }
    }

    fn correct(&mut self, number: u64, tokens: i128) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        let Some(group) = self.groups.get_mut(&flow.group) else { return };
        self.line.correct(&mut group.place, tokens, group.weight);
        group.line.correct(&mut flow.place, tokens, 1);
    }

    /// Takes in what a flow holds, and lets it wait.
    fn hold(&mut self, number: u64, held: Flow) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        if flow.seen == self.refreshes {
            // The same flow again, read while it changed: the first reading stands.
            return;
        }
        flow.seen = self.refreshes;
        flow.is_cut_off = held.jobs.len() >= self.jobs_max;
        flow.jobs = held.jobs.into_iter();
        flow.answer_tokens = held.usual_answer_tokens.unwrap_or(ANSWER_TOKENS_DEFAULT);
        if let Some(since) = flow.absent_since.take() {
            self.absent.remove(&(since, number));
        }
        if let Some(group) = self.groups.get_mut(&flow.group) {
            let weight = u64::from(flow.key.tier.weight()).saturating_mul(u64::from(held.weight.max(1)));
            group.weigh(weight, self.refreshes);
        }
        self.wait(number, Line::enter);
    }

    fn wait(&mut self, number: u64, begin: fn(&mut Line, &mut Place)) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        let Some(group) = self.groups.get_mut(&flow.group) else { return };
        if !flow.place.waits() {
            begin(&mut group.line, &mut flow.place);
        }
        if !group.place.waits() {
            begin(&mut self.line, &mut group.place);
        }
    }

    /// Takes flows out of the order that have nothing held any more.
    fn dismiss(&mut self, now: Instant) {
        for (number, flow) in &mut self.flows {
            if flow.seen == self.refreshes || flow.absent_since.is_some() {
                continue;
            }
            flow.absent_since = Some(now);
            flow.jobs = Vec::new().into_iter();
            self.absent.insert((now, *number));
            if let Some(group) = self.groups.get_mut(&flow.group) {
                group.leave(&mut self.line, flow);
            }
        }
    }

    /// Forgets flows that have had nothing held for long, and the longest absent of too many.
    fn forget(&mut self, now: Instant) {
        while let Some((since, number)) = self.absent.first().copied()
            && (now.duration_since(since) >= ABSENT_FOR || self.absent.len() > ABSENT_MAX)
        {
            self.absent.pop_first();
            let Some(Contender { key, group: of, .. }) = self.flows.remove(&number) else { continue };
            self.flow_numbers.remove(&key);
            if let Some(account) = self.accounts.get_mut(&key.account) {
                account.flows -= 1;
                if account.flows == 0 {
                    self.accounts.remove(&key.account);
                }
            }
            if let Some(group) = self.groups.get_mut(&of) {
                group.flows -= 1;
                if group.flows == 0 {
                    self.groups.remove(&of);
                    self.group_numbers.remove(&(key.share, key.tier));
                }
            }
        }
    }
}

impl Group {
    fn new(number: u64) -> Self {
        Self { place: Place::new(number), weight: 1, weighed: 0, line: Line::default(), flows: 0 }
    }

    /// Takes the greatest weight that one refresh tells: all flows of a share should tell the same.
    fn weigh(&mut self, weight: u64, refresh: u64) {
        self.weight = if self.weighed == refresh { self.weight.max(weight) } else { weight };
        self.weighed = refresh;
    }

    /// Takes a flow out of the order, and the group with its last.
    fn leave(&mut self, groups: &mut Line, flow: &mut Contender) {
        self.line.leave(&mut flow.place);
        if self.line.is_empty() {
            groups.leave(&mut self.place);
        }
    }
}

impl Contender {
    fn new(key: FlowKey, number: u64, group: u64) -> Self {
        Self {
            key,
            group,
            place: Place::new(number),
            jobs: Vec::new().into_iter(),
            is_cut_off: false,
            answer_tokens: ANSWER_TOKENS_DEFAULT,
            seen: 0,
            absent_since: None,
        }
    }
}
