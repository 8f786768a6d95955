//! A job on its way: accepted, taken, cancelled, settled, overdue; and what the sweeper asks about them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use infera_types::ids::{AccountId, AssignmentId, Digest, GatewayId, JobId, ModelName, NodeId, OwnerId};
use infera_types::job::{GroupRecord, Settlement, VerificationPolicy, VerificationStatus};
use infera_types::time::Timestamp;

/// A job about to be accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// Its id, made at the edge.
    pub id: JobId,
    /// The account that asks and pays.
    pub account: AccountId,
    /// Which model.
    pub model: ModelName,
    /// The request's JSON ([`infera_types::job::JobRequest`]).
    pub request: Vec<u8>,
    /// How much agreement is asked for.
    pub policy: VerificationPolicy,
    /// Which gateway waits for the completion.
    pub gateway: GatewayId,
    /// Whether a client waits: such a job fails at once where others would wait for nodes.
    pub synchronous: bool,
    /// When it was accepted; what chat templates see as the present.
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
}

/// How many bytes of requests may be stored, from a job's acceptance until its body is pruned. Callers that accept in the same
/// moment at several processes may together go beyond the second by what is on its way, some MiB each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Of one account; beyond it the next is [`Accepted::NoRoomForAccount`].
    pub account_max_bytes: u64,
    /// Of all accounts; beyond it the next is [`Accepted::NoRoom`].
    pub all_max_bytes: u64,
}

impl Room {
    /// As much as there is.
    pub const UNBOUNDED: Self = Self { account_max_bytes: u64::MAX, all_max_bytes: u64::MAX };
}

/// A client's idempotency key, hashed, with what it was first used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// SHA-256 of the key.
    pub key: Digest,
    /// SHA-256 of the route and the raw body.
    pub fingerprint: Digest,
}

/// What became of an acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is a job now.
    New,
    /// The same request under the same idempotency key was accepted before, as this job.
    Existing(JobId),
    /// Another request used that idempotency key; the client's fault.
    KeyReused,
    /// The account has as many waiting jobs as it may.
    Full {
        /// How many.
        waiting: u32,
    },
    /// With this body the account would have more bytes stored than it may.
    NoRoomForAccount {
        /// How many it has, in bytes.
        stored: u64,
    },
    /// With this body more bytes would be stored than may be, in all.
    NoRoom {
        /// How many are, in bytes.
        stored: u64,
    },
}

/// What became of a cancellation.
#[derive(Clone, Debug, PartialEq)]
pub enum Cancelled {
    /// The job ended by it. The settlement is the row that was written.
    Now(Settlement),
    /// It ended before, so.
    Before(Settlement),
    /// There is no such job for this account.
    Unknown,
}

/// How a job that hasn't ended stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for a verifier.
    Queued,
    /// A verifier has it.
    Running,
    /// See its settlement.
    Ended,
}

/// A job as its account sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// The job.
    pub id: JobId,
    /// Which model.
    pub model: ModelName,
    /// Where it stands.
    pub state: JobState,
    /// When it was accepted.
    pub accepted_ms: Timestamp,
    /// When it expires or would have.
    pub deadline_ms: Timestamp,
    /// How it ended, if it did.
    pub settlement: Option<Settlement>,
    /// The dispute's state, if one was opened: `disputed`, `upheld` or `overturned`.
    pub dispute: Option<VerificationStatus>,
}

/// Counts of the whole network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Jobs accepted since the ledger began.
    pub accepted: u64,
    /// Waiting for a verifier.
    pub queued: u64,
    /// In a verifier's hands.
    pub running: u64,
    /// Ended with an answer.
    pub succeeded: u64,
    /// Ended as failed.
    pub failed: u64,
    /// Ended as cancelled.
    pub cancelled: u64,
    /// Ended as expired.
    pub expired: u64,
    /// Tokens of all prompts answered.
    pub prompt_tokens: u64,
    /// Tokens of all answers.
    pub completion_tokens: u64,
    /// Nodes registered and not revoked.
    pub nodes: u64,
    /// Jobs with an open dispute.
    pub disputed: u64,
}

/// A job that ended as `poison`, with what it takes to make another like it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoisonedJob {
    /// The job.
    pub id: JobId,
    /// The account that asked.
    pub account: AccountId,
    /// Which model.
    pub model: ModelName,
    /// The request's JSON; none once its body is pruned.
    pub request: Option<Vec<u8>>,
    /// How much agreement was asked for.
    pub policy: VerificationPolicy,
    /// When it ended.
    pub settled_ms: Timestamp,
}

/// One message from `jobs.{model}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The job.
    pub job: JobId,
    /// Whether the broker gave it out before.
    pub redelivered: bool,
    /// How its job is to be taken.
    pub handout: Handout,
}

impl Notice {
    /// A notice whose job is taken beside others.
    #[must_use]
    pub const fn together(job: JobId, redelivered: bool) -> Self {
        Self { job, redelivered, handout: Handout::Together }
    }
}

/// How a job is taken, which says what it means if the owner dies with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handout {
    /// Beside others, any of which may be what killed the owner: one lost handout.
    Together,
    /// While the owner tries nothing else: [`LOST_ALONE`] lost handouts.
    Alone,
    /// Again, by the owner that has it from [`Handout::Alone`] and has lived through trying it: from now on it counts as
    /// one of several. Nothing for anybody else.
    Survived,
}

/// Lost handouts that a job counts for whose owner died while it tried nothing else. Two of them are over the five that
/// make a job poison, and one isn't: a machine may be switched off at any moment.
pub const LOST_ALONE: u32 = 3;

impl Handout {
    /// What is added to the lost handouts if the owner dies.
    #[must_use]
    pub const fn weight(self) -> i16 {
        match self {
            Self::Together | Self::Survived => 1,
            Self::Alone => LOST_ALONE as i16,
        }
    }

    /// Whether the job goes from hand to hand; otherwise it stays in the same.
    #[must_use]
    pub const fn is_new(self) -> bool {
        !matches!(self, Self::Survived)
    }
}

/// What became of one notice.
#[derive(Clone, Debug, PartialEq)]
pub enum Take {
    /// It is ours now.
    Taken(TakenJob),
    /// It ended: publish its completion again, ack.
    Settled(Settlement),
    /// Unknown, or another live verifier has it: ack and drop.
    Nothing(JobId),
}

/// A job in a verifier's hands.
#[derive(Clone, Debug, PartialEq)]
pub struct TakenJob {
    /// The job.
    pub id: JobId,
    /// The account that asked.
    pub account: AccountId,
    /// Which model.
    pub model: ModelName,
    /// The request's JSON.
    pub request: Vec<u8>,
    /// How much agreement is asked for.
    pub policy: VerificationPolicy,
    /// Which gateway waits.
    pub gateway: GatewayId,
    /// Whether a client waits.
    pub synchronous: bool,
    /// When it was accepted.
    pub accepted_ms: Timestamp,
    /// When it expires.
    pub deadline_ms: Timestamp,
    /// The epoch whose secret keys it.
    pub epoch: u64,
    /// How many owners died with it; one that tried nothing else counts for [`LOST_ALONE`]. Over five: `poison`.
    pub lost_handouts: u32,
    /// Misses that counted under earlier owners.
    pub misses: Vec<Miss>,
}

/// A node that failed a job, kept on the job's row so that a new owner doesn't ask it or its owner again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miss {
    /// The assignment.
    pub assignment: AssignmentId,
    /// The node that failed it.
    pub node: NodeId,
    /// The owner of that node.
    pub owner: OwnerId,
}

/// What became of a settlement.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, never stored in bulk")]
pub enum Settled {
    /// The job ended by it.
    Now,
    /// It ended before, so; ours is dropped. (The same settlement sent twice is `Before` with itself.)
    Before(Settlement),
}

/// The group of a settled job, with what it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The settlement, with the group in it.
    pub settlement: Settlement,
    /// The group.
    pub record: GroupRecord,
    /// Whether its postings are complete.
    pub closed: bool,
}

/// A job past its deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverdueJob {
    /// The job.
    pub id: JobId,
    /// The account that asked.
    pub account: AccountId,
    /// Which model.
    pub model: ModelName,
    /// Which gateway waits.
    pub gateway: GatewayId,
}

/// What the sweeper asks: everything it knows that the ledger doesn't.
#[derive(Clone, Debug)]
pub struct SweepQuestion {
    /// Models whose queue holds nothing, or was declared again: what waits there was lost.
    pub empty_queues: Vec<ModelName>,
    /// Jobs whose notices the broker has given up after giving them out too often. Those that are queued are handed out
    /// again, all of them whatever the limit.
    pub dead: Vec<JobId>,
    /// How long a notice may stay unconfirmed before it is published again. The rule says 5 s.
    pub unconfirmed_for: Duration,
    /// How many of each kind are found at most.
    pub limit: u32,
}

/// What the sweeper finds.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// To be handed out again.
    pub hand_out: Vec<(JobId, ModelName)>,
    /// Past their deadline: to be settled as expired.
    pub expired: Vec<OverdueJob>,
    /// Overdue groups whose verifier has no live lease: to be scored and closed.
    pub groups: Vec<Group>,
}
