//! The seam to the ledger: the truth about jobs, their ends, balances, nodes and accounts, and where archived records
//! are.
//!
//! It is split into halves by the roles that may hold them, so that breaking the one-way flow is a compile error: a
//! gateway accepts, cancels and reads; a verifier takes, settles and posts. The values come first (`rows`), then the
//! halves in the order of a job's life. Every method is given the time; a ledger reads no clock. Every method commits
//! before it returns, and implementations may share one commit between concurrent calls.
//!
//! Clocks can be wrong and be corrected. A time that was stored as more than a minute later than now was written by a
//! clock that was ahead, and must not block anything until it comes: such notices, leases, groups, claims and records
//! count as overdue. A job's own deadline is its client's choice and stays.

mod erasing;
mod erasure_reason;
mod erasure_step;
mod error;
mod feeding;
pub mod fold;
mod job_state;
mod key_book;
pub mod last_commit;
pub mod listing;
mod mail_book;
pub mod mail_codes;
mod many;
mod money_book;
mod network_book;
mod node_book;
pub mod node_days;
mod node_pools;
mod node_roster;
mod pruning;
pub mod rows;
mod share_book;
pub mod statements;
pub mod stored;
pub mod totals;
pub mod without_text;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use erasing::{Erasing, ErasureOrders, SegmentChanges};
pub use error::LedgerError;
pub use feeding::Feeding;
use infera_types::ids::{AccountId, Digest, JobId, SegmentId, VerifierId};
use infera_types::job::Settlement;
use infera_types::time::Timestamp;
pub use job_state::JobState;
pub use key_book::{AccountLook, KeyBook, KeyEnds};
pub use mail_book::{MailBook, MailOutbox};
pub use many::{JobBatches, JobLists, decided_together};
pub use money_book::{PriceBook, SpendBook};
pub use network_book::NetworkBook;
pub use node_book::NodeBook;
pub use node_pools::{NodeGroupBook, PoolBook};
pub use node_roster::{NodeReader, NodeRoster, PoolReader};
pub use pruning::Pruning;
pub use rows::*;
pub use share_book::ShareBook;

/// The gateway's writing half: accepts jobs and cancels them.
#[async_trait]
pub trait JobIntake: Send + Sync + fmt::Debug {
    /// Accepts a job, the only one of its request. When this returns [`Accepted::New`], the job survives any failure and will end exactly once. It
    /// is held if [`Standby::is_held`] says so, and no queue gets its notice before [`Feeding::offer`].
    /// With an idempotency key that the account used before, nothing is stored. Keys are remembered until their job's
    /// body is pruned, or until the job ends in a way that frees its key ([`infera_types::job::End::frees_key`]).
    /// What the job may cost is reserved, for its account and its key, in the month of its acceptance; a job for which that
    /// isn't left of a limit is refused, whichever process accepts. What the account says of paying then stays with the job.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Unknown`, read the job back by its id.
    async fn accept(&self, job: NewJob) -> Result<Accepted, LedgerError>;

    /// Records that the broker confirmed these jobs' notices, so that the sweeper leaves them alone.
    ///
    /// # Errors
    /// [`LedgerError`]; a lost mark costs only a second notice.
    async fn confirm(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError>;

    /// Ends a job as cancelled, unless it has ended already. A job of another account is [`Cancelled::Unknown`]. For
    /// a job that a verifier owns see [`JobOwner::settle`].
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn cancel(&self, account: &AccountId, job: JobId, now: Timestamp)
    -> Result<Cancelled, LedgerError>;

    /// Checks whether commits succeed: they do if the last commit of this process did, whatever it was for. If that
    /// failed, this call tries a commit of its own, of the size of an ordinary request, so that the end of an outage
    /// is noticed without traffic.
    ///
    /// # Errors
    /// [`LedgerError`], which says what makes commits fail, a full disk for example.
    async fn commits_come_through(&self) -> Result<(), LedgerError>;
}

/// Reads jobs; both roles may hold it.
#[async_trait]
pub trait JobReader: Send + Sync + fmt::Debug {
    /// Returns one job as its account may see it; none for other accounts' jobs.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn job(&self, account: &AccountId, job: JobId) -> Result<Option<JobView>, LedgerError>;

    /// Returns the settlements of those of `jobs` that have ended, in no particular order.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn settlements(&self, jobs: &[JobId]) -> Result<Vec<Settlement>, LedgerError>;

    /// Returns the outcome of accepting a request under this idempotency key, if the account used the key before:
    /// [`Accepted::Existing`] or [`Accepted::KeyReused`].
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn earlier_use(
        &self,
        account: &AccountId,
        idempotency: &Idempotency,
    ) -> Result<Option<Accepted>, LedgerError>;

    /// Returns at most `limit` jobs that ended as `poison`, newest first; with `only`, that job if it ended so. It is
    /// for an operator: each job comes with its request.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn poisoned(&self, only: Option<JobId>, limit: u32) -> Result<Vec<PoisonedJob>, LedgerError>;

    /// Returns the counts for `GET /network_stats`.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn statistics(&self, now: Timestamp) -> Result<Statistics, LedgerError>;
}

/// The verifier's half of a job's life.
#[async_trait]
pub trait JobOwner: Send + Sync + fmt::Debug {
    /// Takes jobs for `owner` in one statement, and returns the outcome for each notice. A job is taken if it has not
    /// ended and its owner is null or has no live lease, or its notice was redelivered. Taking counts as a handout.
    /// If the job had been handed out to an owner that never returned it, `lost_handouts` is raised by one, or by
    /// more, as [`Handout`] says for the way in which that owner took it. A job whose row cannot be read is skipped:
    /// its outcome is [`Take::Nothing`], and the log says why.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Unknown`, some jobs may be taken, and only a redelivered notice takes those again.
    async fn take(
        &self,
        owner: &VerifierId,
        notices: &[Notice],
        now: Timestamp,
    ) -> Result<Vec<Take>, LedgerError>;

    /// Returns jobs that were never dispatched: they become queued and unconfirmed, and their handout is not counted. Those of
    /// [`Lane::Own`](infera_types::service::Lane::Own) are held again. It applies only to rows that `owner` still owns.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn release(&self, owner: &VerifierId, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError>;

    /// Adds one miss that counts to the job's row.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn record_miss(&self, job: JobId, miss: &Miss) -> Result<(), LedgerError>;

    /// Ends a job, unless it has ended already: stores the settlement and the account's usage in one transaction. In it what
    /// was reserved for the job is given back and what it costs is spent, at the price of its acceptance.
    ///
    /// Of several answers of one request the first alone is charged with the prompt. An end without an answer frees the request's
    /// idempotency key, and ends the others as cancelled that have not ended: in the same transaction, or in one that follows it and
    /// that settling again repeats. Where that one is lost, the others go on to ends of their own.
    ///
    /// A job that was cancelled or expired while a verifier owned it is not archived until that verifier has reported
    /// which nodes it had asked: the group of the verifier's own settlement, which lost, becomes the group of the one
    /// that won. If none comes within half a minute, the job has no group.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Unknown`, settle the same again: the answer is [`Settled::Before`] with what is
    /// stored.
    async fn settle(&self, settlement: &Settlement) -> Result<Settled, LedgerError>;

    /// Appends the postings of a group and, with `closes`, marks the group as closed. Postings whose id exists
    /// already are skipped silently, because each is posted once. So is a second VALID of one node for one job: two
    /// verifiers that owned the job one after the other may both have asked the node.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn post(&self, job: JobId, postings: &[Posting], closes: bool) -> Result<(), LedgerError>;
}

/// Reputation, balances and disputes, which follow from postings.
#[async_trait]
pub trait Standing: Send + Sync + fmt::Debug {
    /// Folds at most `limit` postings, oldest first, into balances and reputation, and returns how many. Only one
    /// caller at a time does the work (the projector's lease). It also lets [`JobLists::ends`] return what was settled
    /// before this call.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn project(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError>;

    /// Returns every node's standing for every model.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn standings(&self) -> Result<Vec<NodeStanding>, LedgerError>;

    /// Returns an account's or a node's totals.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn balance(&self, subject: &str) -> Result<Balance, LedgerError>;

    /// Opens a dispute on a settled job, once; the first detail is kept.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn dispute(&self, job: JobId, detail: &str, now: Timestamp) -> Result<(), LedgerError>;

    /// Replays all postings from the beginning and returns the resulting balances, for comparison with the stored
    /// ones. It is for tests and an operator's check, and reads the whole history.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn replay(&self) -> Result<Vec<(String, Balance)>, LedgerError>;
}

/// Keeps the leases of live processes, and finds the work that dead ones left.
#[async_trait]
pub trait Sweeping: Send + Sync + fmt::Debug {
    /// Takes or renews the lease `name` for `holder` until `now + ttl`. Returns `false` if another holder has it. A
    /// verifier's own liveness is the lease named by its id; the sweeper's, the projector's and the archiver's leases
    /// have shared names. A `ttl` of zero releases the lease, and does nothing to one that another holder has.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn lease(
        &self,
        name: &str,
        holder: &VerifierId,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<bool, LedgerError>;

    /// Ends every lease. Only for the embedded start, before anything is handed out, when no other process can be
    /// alive.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn end_leases(&self, now: Timestamp) -> Result<(), LedgerError>;

    /// Finds work to recover, at most `limit` of each kind, oldest first. It changes only two things: the jobs that
    /// it returns for handing out become queued, unowned and unconfirmed (lost handouts are counted when a job is
    /// taken), and jobs whose verifier was waited for in vain (see [`JobOwner::settle`]) may be archived. Rows that
    /// cannot be read are skipped and logged.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn sweep(&self, question: &SweepQuestion, now: Timestamp) -> Result<Sweep, LedgerError>;

    /// Records that the broker has these notices again.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn handed_out(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError>;

    /// Returns the groups of these settled jobs, whether closed or not, with the settlements that they belong to.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn groups(&self, jobs: &[JobId]) -> Result<Vec<Group>, LedgerError>;
}

/// Accounts and their keys. The ledger sees keys only as SHA-256. An address names one account: the one that proved it by mail, or
/// else the first of the address. Its other accounts stand under it with `#` and their id, which no address looks like.
#[async_trait]
pub trait AccountBook: Send + Sync + fmt::Debug {
    /// Returns the account of this e-mail address. A missing account is created together with its first key in one
    /// commit, so that no account exists whose key was never handed over. An existing account gets no key by this.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn sign_up(
        &self,
        email: &str,
        key: Option<FirstKey>,
        now: Timestamp,
    ) -> Result<SignedUp, LedgerError>;

    /// Makes a new account with its first key, in one commit, whether or not the address has accounts already. The work is the
    /// same in both cases.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Unknown` an account may exist whose key was never handed over.
    async fn open_account(
        &self,
        email: &str,
        key: &FirstKey,
        now: Timestamp,
    ) -> Result<AccountId, LedgerError>;

    /// Stores a key of an account.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn issue_key(&self, key: &NewKey, now: Timestamp) -> Result<(), LedgerError>;

    /// Returns the record of a key; none if it is unknown, revoked or blocked, or its account is blocked. An expired key is
    /// returned with its expiry. [`KeyEnds::find_key`] says why there is none.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn key(&self, hash: Digest) -> Result<Option<KeyRecord>, LedgerError>;

    /// Revokes a key. An unknown key is not an error.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn revoke_key(&self, hash: Digest, now: Timestamp) -> Result<(), LedgerError>;
}

/// Records which archive segment holds which settled record.
#[async_trait]
pub trait ArchiveIndex: Send + Sync + fmt::Debug {
    /// Claims at most `limit` settled, closed and unarchived jobs for `segment`, and returns them, oldest first. It
    /// claims none while fewer than `limit` wait and all of those were settled after `ripe`. All records of a segment have the
    /// same retention, so that a segment can be deleted whole: each retention is claimed for itself, that of the oldest
    /// record first. Records with a retention wait 120 times as long as until `ripe`, an hour at most, because each retention has its
    /// own segments; and they were settled within about an hour, because a segment is deleted when its newest is to go. Jobs that are not to be stored are claimed once their text is erased. A segment that was
    /// claimed before gets the same rows again. Large requests and groups fill a segment before it has that many
    /// records.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn claim(
        &self,
        segment: SegmentId,
        limit: u32,
        ripe: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<SettledRecord>, LedgerError>;

    /// Returns the segments that were claimed before `older_than` and never recorded: they must be written again, to
    /// the same keys.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn unfinished(&self, older_than: Timestamp, now: Timestamp) -> Result<Vec<SegmentId>, LedgerError>;

    /// Records that the segment is in the archive under `key`, with its records at `places`.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn record(&self, segment: SegmentId, key: &str, places: &[RecordPlace]) -> Result<(), LedgerError>;

    /// Returns where a job's record is; none while it is not archived.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn locate(&self, job: JobId) -> Result<Option<ArchivedRecord>, LedgerError>;

    /// Returns what is left of a job's record that was deleted from the archive with its segment; none if it wasn't.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn removed(&self, job: JobId) -> Result<Option<RemovedRecord>, LedgerError>;
}
