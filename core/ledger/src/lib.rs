//! The seam to the ledger: the truth about jobs, their ends, what is owed, who there is, and where records lie.
//!
//! It is cut into halves by who may hold them, so that breaking the one-way flow is a compile error: a gateway
//! accepts, cancels and reads; a verifier takes, settles and posts. Values first (`rows`), then the halves in the
//! order of a job's life. Every method is given the time; a ledger reads no clock. Every method commits before it
//! returns, and implementations may share one commit between concurrent calls.
//!
//! Clocks are set wrong and set right again. What was stored as of later than now and a minute was written by a clock that
//! was ahead, and holds nothing up until its time comes: such notices, leases, groups, claims and records count as overdue.
//! A job's own deadline is its client's and stays.

mod error;
pub mod fold;
pub mod last_commit;
mod node_book;
mod pruning;
pub mod rows;
pub mod stored;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use error::LedgerError;
use infera_types::ids::{AccountId, Digest, JobId, SegmentId, VerifierId};
use infera_types::job::Settlement;
use infera_types::time::Timestamp;
pub use node_book::NodeBook;
pub use pruning::Pruning;
pub use rows::*;

/// The gateway's writing half: a job begins, and may be called off.
#[async_trait]
pub trait JobIntake: Send + Sync + fmt::Debug {
    /// Accepts a job. When this returns [`Accepted::New`], the job survives anything and will end exactly once.
    /// With an idempotency key that the account used before, nothing is stored; keys are remembered until their job's
    /// body is pruned, or until it ends in a way that frees them ([`infera_types::job::End::frees_key`]).
    ///
    /// # Errors
    /// [`LedgerError`]; after `Unknown` read the job back by its id.
    async fn accept(&self, job: NewJob) -> Result<Accepted, LedgerError>;

    /// The broker confirmed these jobs' notices; the sweeper leaves them alone.
    ///
    /// # Errors
    /// [`LedgerError`]; a lost mark only costs a second notice.
    async fn confirm(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError>;

    /// Ends a job as cancelled, unless it ended before. A job of another account is [`Cancelled::Unknown`]. For one
    /// that a verifier has in hand see [`JobOwner::settle`].
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn cancel(&self, account: &AccountId, job: JobId, now: Timestamp)
    -> Result<Cancelled, LedgerError>;

    /// Whether commits come through: fine if the last one of this process did, whatever it was for. If it failed, one of
    /// this call's own is tried, of the size of an ordinary request, so that the end of an outage is seen without traffic.
    ///
    /// # Errors
    /// [`LedgerError`]: what keeps commits from coming through, a full disk for example.
    async fn commits_come_through(&self) -> Result<(), LedgerError>;
}

/// Reading jobs; both roles may hold it.
#[async_trait]
pub trait JobReader: Send + Sync + fmt::Debug {
    /// One job as its account may see it; none for other accounts' jobs.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn job(&self, account: &AccountId, job: JobId) -> Result<Option<JobView>, LedgerError>;

    /// The settlements of those of `jobs` that ended, in no order.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn settlements(&self, jobs: &[JobId]) -> Result<Vec<Settlement>, LedgerError>;

    /// What accepting under this idempotency key would come to, if the account used it before: [`Accepted::Existing`]
    /// or [`Accepted::KeyReused`].
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn earlier_use(
        &self,
        account: &AccountId,
        idempotency: &Idempotency,
    ) -> Result<Option<Accepted>, LedgerError>;

    /// Jobs that ended as `poison`, newest first, at most `limit`; with `only`, that one if it did. For an operator: each
    /// comes with its request.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn poisoned(&self, only: Option<JobId>, limit: u32) -> Result<Vec<PoisonedJob>, LedgerError>;

    /// Counts for `GET /network_stats`.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn statistics(&self, now: Timestamp) -> Result<Statistics, LedgerError>;
}

/// The verifier's half of a job's life.
#[async_trait]
pub trait JobOwner: Send + Sync + fmt::Debug {
    /// Takes jobs for `owner` in one statement, and says of each id what became of it. Taken: not ended, and its
    /// owner is null, has no live lease, or the notice was redelivered. Taking counts as a handout; if the row was
    /// handed out to an owner that never gave it back, `lost_handouts` has been raised by one, or as [`Handout`] says of how
    /// that owner took it. One whose row can't be read is
    /// passed by: [`Take::Nothing`] comes of it, and the log says why.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Unknown` some may be taken, which only a redelivered notice takes again.
    async fn take(
        &self,
        owner: &VerifierId,
        notices: &[Notice],
        now: Timestamp,
    ) -> Result<Vec<Take>, LedgerError>;

    /// Gives jobs back that were never dispatched: queued, unconfirmed, and the handout uncounted. Only rows that
    /// `owner` still owns.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn release(&self, owner: &VerifierId, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError>;

    /// Adds one miss that counts to the job's row.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn record_miss(&self, job: JobId, miss: &Miss) -> Result<(), LedgerError>;

    /// Ends a job: the settlement, and the account's usage with it, in one transaction, unless the job ended before.
    ///
    /// A job that was cancelled or expired while a verifier had it in hand is not archived until that verifier has
    /// said whom it had asked: the group of its own settlement, which lost, becomes the group of the one that won.
    /// If none comes within half a minute, there is none.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Unknown` settle the same again: it answers [`Settled::Before`] with what is there.
    async fn settle(&self, settlement: &Settlement) -> Result<Settled, LedgerError>;

    /// Appends the postings of a group and, with `closes`, marks the group closed. Postings whose id is there
    /// already are left out silently: each is posted once. So is a second VALID of one node for one job: two verifiers
    /// that had the job one after the other may both have asked it.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn post(&self, job: JobId, postings: &[Posting], closes: bool) -> Result<(), LedgerError>;
}

/// Reputation, balances and disputes: what follows from postings.
#[async_trait]
pub trait Standing: Send + Sync + fmt::Debug {
    /// Folds at most `limit` postings, oldest first, into balances and reputation; returns how many. Only one caller
    /// at a time gets anything to do (the projector's lease).
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn project(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError>;

    /// Every node's standing for every model.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn standings(&self) -> Result<Vec<NodeStanding>, LedgerError>;

    /// An account's or node's totals.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn balance(&self, subject: &str) -> Result<Balance, LedgerError>;

    /// Opens a dispute on a settled job, once; the first detail stays.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn dispute(&self, job: JobId, detail: &str, now: Timestamp) -> Result<(), LedgerError>;

    /// Replays all postings from nothing and returns the balances that come out, for comparison with what is
    /// stored. For tests and an operator's check; reads the whole history.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn replay(&self) -> Result<Vec<(String, Balance)>, LedgerError>;
}

/// Keeps the leases of what is alive, and finds what was left lying by what isn't.
#[async_trait]
pub trait Sweeping: Send + Sync + fmt::Debug {
    /// Takes or renews the lease `name` for `holder` until `now + ttl`. `false`: someone else holds it. A
    /// verifier's own liveness is the lease named by its id; the sweeper's, the projector's and the archiver's are shared
    /// names. Taking it for no time lets go of it, and does nothing to one that someone else holds.
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

    /// Ends every lease: only for the embedded start, before anything is handed out, when no other process can live.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn end_leases(&self, now: Timestamp) -> Result<(), LedgerError>;

    /// What needs hands, at most `limit` of each kind, oldest first. Changes nothing but this: what it returns for
    /// handing out has become queued, unowned and unconfirmed (lost handouts are counted when it is taken), and jobs
    /// whose verifier was waited for in vain (see [`JobOwner::settle`]) may be archived. Rows that can't be read are left
    /// out and logged.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn sweep(&self, question: &SweepQuestion, now: Timestamp) -> Result<Sweep, LedgerError>;

    /// The broker has these notices again.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn handed_out(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError>;

    /// The groups of these settled jobs, whether closed or not, with the settlement they belong to.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn groups(&self, jobs: &[JobId]) -> Result<Vec<Group>, LedgerError>;
}

/// The network as such: what names mean, who runs nodes, the epoch's secret.
#[async_trait]
pub trait NetworkBook: Send + Sync + fmt::Debug {
    /// The catalogue, by name.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn catalogue(&self) -> Result<Vec<CatalogueEntry>, LedgerError>;

    /// Adds or replaces one entry.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn list_model(&self, entry: &CatalogueEntry) -> Result<(), LedgerError>;

    /// Registers a node under its runner's chosen name, or finds it again if the secret is the same.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn register_node(&self, node: &NewNode, now: Timestamp) -> Result<Registered, LedgerError>;

    /// All nodes that are not revoked.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn nodes(&self) -> Result<Vec<NodeRecord>, LedgerError>;

    /// The epoch with this number, or with `None` the present one (made with `fresh_secret` if there is none).
    ///
    /// # Errors
    /// [`LedgerError`]; an unknown number is [`LedgerError::Row`].
    async fn epoch(
        &self,
        number: Option<u64>,
        fresh_secret: Digest,
        now: Timestamp,
    ) -> Result<Epoch, LedgerError>;
}

/// Accounts and their keys. Keys come and go as SHA-256 only.
#[async_trait]
pub trait AccountBook: Send + Sync + fmt::Debug {
    /// Returns the account of this e-mail address, made if there is none, and then with its first key in the same commit:
    /// no account is left behind whose key was never handed over. An account that exists gets no key by this.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn sign_up(
        &self,
        email: &str,
        key: Option<FirstKey>,
        now: Timestamp,
    ) -> Result<SignedUp, LedgerError>;

    /// Stores a key of an account.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn issue_key(&self, key: &NewKey, now: Timestamp) -> Result<(), LedgerError>;

    /// What a key may do; none if unknown or revoked.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn key(&self, hash: Digest) -> Result<Option<KeyRecord>, LedgerError>;

    /// Revokes a key; unknown ones are fine.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn revoke_key(&self, hash: Digest, now: Timestamp) -> Result<(), LedgerError>;
}

/// Which settled records lie in which archive segment.
#[async_trait]
pub trait ArchiveIndex: Send + Sync + fmt::Debug {
    /// Claims at most `limit` settled, closed and unarchived jobs for `segment`, and returns them, oldest first; none while
    /// fewer than `limit` wait and all of them were settled after `ripe`. A segment that was claimed before gets the same
    /// rows again. Records whose requests and groups are large fill a segment before they reach that number.
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

    /// Segments that were claimed and never recorded, claimed before `older_than`: to be written again, to the same key.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn unfinished(&self, older_than: Timestamp, now: Timestamp) -> Result<Vec<SegmentId>, LedgerError>;

    /// The segment is in the archive under `key`; its records lie where `places` says.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn record(&self, segment: SegmentId, key: &str, places: &[RecordPlace]) -> Result<(), LedgerError>;

    /// Where a job's record lies; none while it isn't archived.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn locate(&self, job: JobId) -> Result<Option<ArchivedRecord>, LedgerError>;
}
