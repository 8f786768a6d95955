//! The values by which held jobs are offered to the broker: the share that a job counts under, what waits, and the
//! oldest held jobs of each account.

use std::fmt;

use infera_types::ids::{AccountId, JobId, ModelName};
use infera_types::service::{Lane, ServiceTier};

/// What a job is counted under when the network is shared: a proven account by itself, and all unproven accounts of
/// one network of addresses together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(String);

impl Share {
    /// Makes the share from its text. A proven account's is its id; a network's is its address with its length.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How a new job waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    /// The queue that it waits in.
    pub lane: Lane,
    /// Its tier.
    pub tier: ServiceTier,
    /// What it is counted under.
    pub share: Share,
    /// The weight of the share, at least 1: a share of weight 2 gets twice the tokens of one of weight 1.
    pub weight: u32,
    /// The number of the share's jobs that may lie in the model's first queue when this one is accepted; from that
    /// number on, the job is held in the ledger. With 0 every job is held, with `u32::MAX` none of the first lane.
    /// Callers in several processes that accept at the same moment may together exceed it by what is on its way.
    pub offered_max: u32,
    /// An estimate of the prompt's tokens, which the job's turn is charged with until its usage is known.
    pub prompt_tokens: u64,
}

impl Standby {
    /// Makes the standby of a job whose client waits and which is never held, counted under its account alone.
    #[must_use]
    pub fn never_held(account: &AccountId) -> Self {
        Self {
            lane: Lane::First,
            tier: ServiceTier::Default,
            share: Share::new(account.as_str()),
            weight: 1,
            offered_max: u32::MAX,
            prompt_tokens: 0,
        }
    }

    /// Returns whether a job that waits like this is held whatever lies in the queue.
    #[must_use]
    pub const fn is_always_held(&self) -> bool {
        matches!(self.lane, Lane::Later) || self.offered_max == 0
    }

    /// Returns whether a job that waits like this is held while `offered` jobs of its share lie in the model's first
    /// queue. Jobs of the later queue are always held, because each of them has its turn.
    #[must_use]
    pub const fn is_held(&self, offered: u32) -> bool {
        self.is_always_held() || offered >= self.offered_max
    }
}

/// The jobs of one kind that wait for a verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingJobs {
    /// The model.
    pub model: ModelName,
    /// The lane.
    pub lane: Lane,
    /// The jobs that were offered to the broker.
    pub offered: u64,
    /// The jobs that are held in the ledger.
    pub held: u64,
}

/// A question for held jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldQuestion {
    /// The model.
    pub model: ModelName,
    /// The lane.
    pub lane: Lane,
    /// The last flow of the previous answer, if that was cut off: this one begins behind it.
    pub after: Option<FlowKey>,
    /// The most flows that are returned.
    pub flows_max: u32,
    /// The most jobs per flow.
    pub jobs_max: u32,
}

/// The jobs of one account in one tier, which are offered in the order in which they were accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// What it is counted under.
    pub share: Share,
    /// The tier.
    pub tier: ServiceTier,
    /// The account.
    pub account: AccountId,
}

/// One flow with its oldest held jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The flow.
    pub key: FlowKey,
    /// The share's weight, as its oldest held job says.
    pub weight: u32,
    /// The tokens that one answer of the account usually takes; none before its first answer.
    pub usual_answer_tokens: Option<u64>,
    /// The sum over the account's answered jobs of what they used beyond what they were charged with when they were
    /// offered. It falls where answers were shorter than usual; only differences between two readings mean anything.
    pub excess_tokens: i64,
    /// The oldest held jobs, oldest first.
    pub jobs: Vec<HeldJob>,
}

/// One held job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldJob {
    /// The job.
    pub id: JobId,
    /// The estimate of its prompt's tokens.
    pub prompt_tokens: u64,
    /// The nodes that it is computed on.
    pub replicas: u8,
    /// Whether a client waits for its answer.
    pub is_awaited: bool,
}

/// A job whose turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The job.
    pub id: JobId,
    /// The tokens that its flow is charged with, for the difference to be known when the job's usage is.
    pub charged_tokens: u64,
}
