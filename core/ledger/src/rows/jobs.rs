//! The values of a job's life: accepted, taken, cancelled, settled, overdue; and what the sweeper asks and finds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Keeping, Kept, Metadata};
use crate::job_state::JobState;
use crate::rows::{Charge, NodePool, OverLimit, Standby};
use infera_types::choice::Choice;
use infera_types::ids::{
    AccountId, AssignmentId, Digest, GatewayId, JobId, KeyId, ModelName, NodeId, OwnerId,
};
use infera_types::job::{GroupRecord, Settlement, VerificationPolicy, VerificationStatus};
use infera_types::money::{Payment, Price};
use infera_types::service::{Lane, ServiceTier};
use infera_types::time::Timestamp;

/// A job that is about to be accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// Its id, made by the gateway.
    pub id: JobId,
    /// Which of its request's answers it is. The jobs of one request are accepted together, the first one first; it alone has the
    /// idempotency key.
    pub choice: Choice,
    /// Whether the ids of the answer's tokens are told.
    pub shows_tokens: bool,
    /// The account that asks and pays.
    pub account: AccountId,
    /// The key under which it asks; none if it asks without one, as an operator does for it.
    pub key: Option<KeyId>,
    /// The model that is asked.
    pub model: ModelName,
    /// The request's JSON ([`infera_types::job::JobRequest`]).
    pub request: Vec<u8>,
    /// How much agreement is asked for.
    pub policy: VerificationPolicy,
    /// The gateway that waits for the completion.
    pub gateway: GatewayId,
    /// Whether a client waits: such a job fails at once if too few nodes exist, where others wait.
    pub synchronous: bool,
    /// When it was accepted; chat templates see it as the present.
    pub accepted_ms: Timestamp,
    /// When it ends as expired.
    pub deadline_ms: Timestamp,
    /// The epoch whose secret keys its noise and its draw.
    pub epoch: u64,
    /// The client's key, if it sent one.
    pub idempotency: Option<Idempotency>,
    /// How many of the account's jobs may wait at most (queued or running); the next is [`Accepted::Full`].
    pub waiting_max: u32,
    /// How much the bodies that are stored may take.
    pub room: Room,
    /// How it waits for its turn.
    pub standby: Standby,
    /// The client's pairs, by which it finds the job again.
    pub metadata: Metadata,
    /// How long its text is kept.
    pub keeping: Keeping,
    /// What it may cost; none if its model is free.
    pub charge: Option<Charge>,
}

/// The most bytes of requests that may be stored, from a job's acceptance until its body is pruned. Callers in
/// several processes that accept at the same moment may together exceed the bound of all accounts by what is on its
/// way, some MiB each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The bound of one account; beyond it a job is [`Accepted::NoRoomForAccount`].
    pub account_max_bytes: u64,
    /// The bound of all accounts together; beyond it a job is [`Accepted::NoRoom`].
    pub all_max_bytes: u64,
}

impl Room {
    /// No bounds.
    pub const UNBOUNDED: Self = Self { account_max_bytes: u64::MAX, all_max_bytes: u64::MAX };
}

/// A client's idempotency key, hashed, with the request that it was first used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// SHA-256 of the key.
    pub key: Digest,
    /// SHA-256 of the route and the raw body.
    pub fingerprint: Digest,
}

/// The outcome of an acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The job is accepted.
    New {
        /// Whether it is held in the ledger until its turn comes. If not, its notice is the caller's to publish.
        is_held: bool,
    },
    /// The same request under the same idempotency key was accepted before, as this job.
    Existing(JobId),
    /// Another request used that idempotency key, which is the client's fault.
    KeyReused,
    /// The account has as many waiting jobs as it may.
    Full {
        /// How many jobs wait.
        waiting: u32,
    },
    /// With this body the account would have more bytes stored than allowed.
    NoRoomForAccount {
        /// How many bytes it has stored.
        stored: u64,
    },
    /// With this body more bytes would be stored in all than allowed.
    NoRoom {
        /// How many bytes are stored.
        stored: u64,
    },
    /// The job may cost more than is left of a limit.
    OverLimit(OverLimit),
}

/// The outcome of a cancellation.
#[derive(Clone, Debug, PartialEq)]
pub enum Cancelled {
    /// The cancellation ended the job. The settlement is the row that was written.
    Now(Settlement),
    /// The job had ended before, with this settlement.
    Before(Settlement),
    /// The account has no such job.
    Unknown,
}

/// A job as its account sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// The job.
    pub id: JobId,
    /// Which of its request's answers it is.
    pub choice: Choice,
    /// Whether the ids of the answer's tokens are told.
    pub shows_tokens: bool,
    /// The model that is asked.
    pub model: ModelName,
    /// The tier that it is served in.
    pub tier: ServiceTier,
    /// The state.
    pub state: JobState,
    /// When it was accepted.
    pub accepted_ms: Timestamp,
    /// When it expires, or would have expired.
    pub deadline_ms: Timestamp,
    /// How it ended, if it did.
    pub settlement: Option<Settlement>,
    /// The dispute's state, if one was opened: `disputed`, `upheld` or `overturned`.
    pub dispute: Option<VerificationStatus>,
    /// The client's pairs.
    pub metadata: Metadata,
    /// What is kept of its text.
    pub kept: Kept,
    /// The price at which it was accepted; none if its model was free.
    pub price: Option<Price>,
}

/// Counts of the whole network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Jobs accepted since the ledger began.
    pub accepted: u64,
    /// Jobs that wait for a verifier.
    pub queued: u64,
    /// Jobs that a verifier owns.
    pub running: u64,
    /// Jobs that ended with an answer.
    pub succeeded: u64,
    /// Jobs that ended as failed.
    pub failed: u64,
    /// Jobs that ended as cancelled.
    pub cancelled: u64,
    /// Jobs that ended as expired.
    pub expired: u64,
    /// Tokens of all prompts that were answered.
    pub prompt_tokens: u64,
    /// Tokens of all answers.
    pub completion_tokens: u64,
    /// Nodes registered and not revoked.
    pub nodes: u64,
    /// Jobs with an open dispute.
    pub disputed: u64,
}

/// A job that ended as `poison`, with what is needed to ask the same again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoisonedJob {
    /// The job.
    pub id: JobId,
    /// The account that asked.
    pub account: AccountId,
    /// The model that was asked.
    pub model: ModelName,
    /// The request's JSON; none once its body is pruned.
    pub request: Option<Vec<u8>>,
    /// How much agreement was asked for.
    pub policy: VerificationPolicy,
    /// The nodes that it could go to.
    pub pool: NodePool,
    /// When it ended.
    pub settled_ms: Timestamp,
    /// How long its text is kept.
    pub keeping: Keeping,
}

/// One message from `jobs.{model}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The job.
    pub job: JobId,
    /// Whether the broker delivered it before.
    pub redelivered: bool,
    /// How its job is to be taken.
    pub handout: Handout,
}

impl Notice {
    /// Makes a notice whose job is taken beside others.
    #[must_use]
    pub const fn together(job: JobId, redelivered: bool) -> Self {
        Self { job, redelivered, handout: Handout::Together }
    }
}

/// How a job is taken, which decides what it means if the owner dies with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handout {
    /// Beside others, any of which may have killed the owner: one lost handout.
    Together,
    /// While the owner tries nothing else: [`LOST_ALONE`] lost handouts.
    Alone,
    /// Again, by the owner that took it as [`Handout::Alone`] and has survived trying it: from now on it counts as
    /// one of several. For any other owner this takes nothing.
    Survived,
}

/// The lost handouts that count for a job whose owner died while it tried nothing else. Two of them exceed the five
/// that make a job poison, and one does not, because a machine may be switched off at any moment.
pub const LOST_ALONE: u32 = 3;

impl Handout {
    /// Returns what is added to the lost handouts if the owner dies.
    #[must_use]
    pub const fn weight(self) -> i16 {
        match self {
            Self::Together | Self::Survived => 1,
            Self::Alone => LOST_ALONE as i16,
        }
    }

    /// Returns whether the job changes its owner.
    #[must_use]
    pub const fn is_new(self) -> bool {
        !matches!(self, Self::Survived)
    }
}

/// The outcome of one notice.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "some hundreds at most, for a moment; their bodies are larger")]
pub enum Take {
    /// The job is ours now.
    Taken(TakenJob),
    /// The job has ended: publish its completion again, and ack.
    Settled(Settlement),
    /// The job is unknown, or another live verifier owns it: ack and drop.
    Nothing(JobId),
}

/// A job that a verifier owns.
#[derive(Clone, Debug, PartialEq)]
pub struct TakenJob {
    /// The job.
    pub id: JobId,
    /// Which of its request's answers it is.
    pub choice: Choice,
    /// The account that asked.
    pub account: AccountId,
    /// The model that is asked.
    pub model: ModelName,
    /// The request's JSON.
    pub request: Vec<u8>,
    /// How much agreement is asked for.
    pub policy: VerificationPolicy,
    /// The gateway that waits.
    pub gateway: GatewayId,
    /// Whether a client waits.
    pub synchronous: bool,
    /// When it was accepted.
    pub accepted_ms: Timestamp,
    /// When it expires.
    pub deadline_ms: Timestamp,
    /// The epoch whose secret keys its noise and its draw.
    pub epoch: u64,
    /// The queue that it came from.
    pub lane: Lane,
    /// The tier that it is served in.
    pub tier: ServiceTier,
    /// The nodes that it may go to.
    pub pool: NodePool,
    /// The payment for it.
    pub payment: Payment,
    /// How many owners died with it; one that tried nothing else counts as [`LOST_ALONE`]. Over five: `poison`.
    pub lost_handouts: u32,
    /// Misses that counted under earlier owners.
    pub misses: Vec<Miss>,
}

/// A node that failed a job, kept on the job's row so that a new owner asks neither the node nor its owner again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miss {
    /// The assignment.
    pub assignment: AssignmentId,
    /// The node that failed it.
    pub node: NodeId,
    /// The owner of that node.
    pub owner: OwnerId,
}

/// The outcome of a settlement.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, never many in a collection")]
pub enum Settled {
    /// This settlement ended the job.
    Now,
    /// The job had ended before with this settlement; ours is dropped. (A settlement that is sent twice is `Before`
    /// with itself.)
    Before(Settlement),
}

/// The group of a settled job, with its settlement.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The settlement, with the group in it.
    pub settlement: Settlement,
    /// The group.
    pub record: GroupRecord,
    /// Whether its postings are complete.
    pub closed: bool,
}

/// A job that is to be ended without a node having been asked: past its deadline, or for a model that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverdueJob {
    /// The job.
    pub id: JobId,
    /// The account that asked.
    pub account: AccountId,
    /// The model that was asked.
    pub model: ModelName,
    /// The gateway that waits.
    pub gateway: GatewayId,
}

/// The sweeper's question, with everything that it knows and the ledger doesn't.
#[derive(Clone, Debug)]
pub struct SweepQuestion {
    /// Queues that are empty or were declared again, so that the notices in them were lost: each by its model and
    /// lane.
    pub empty_queues: Vec<(ModelName, Lane)>,
    /// Jobs whose notices the broker gave up after delivering them too often. Those that are queued are handed out
    /// again, all of them whatever the limit.
    pub dead: Vec<JobId>,
    /// Models that were removed and that no live node serves. Of their jobs those that no verifier has are found.
    pub unserved: Vec<ModelName>,
    /// How long a notice may stay unconfirmed before it is published again. The rule says 5 s.
    pub unconfirmed_for: Duration,
    /// The most of each kind that is found.
    pub limit: u32,
}

/// What the sweeper found.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// Jobs to be handed out again, each with the queue that its notice belongs in. Held jobs are never among them.
    pub hand_out: Vec<(JobId, ModelName, Lane)>,
    /// Jobs past their deadline, to be settled as expired.
    pub expired: Vec<OverdueJob>,
    /// Queued jobs of the unserved models, whether held or offered and before their deadline, to be settled as failed. Those
    /// that are handed out may be among them.
    pub unserved: Vec<OverdueJob>,
    /// Overdue groups whose verifier has no live lease, to be scored and closed.
    pub groups: Vec<Group>,
}
