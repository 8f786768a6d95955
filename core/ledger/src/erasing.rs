//! The parts of the ledger that erase the text of jobs: one takes orders, one carries them out, one records what that changes in
//! the archive.
//!
//! A job's erasure goes through steps, which tables hold as numbers ([`crate::erasure_step!`]): its time is set, its text is gone
//! from the ledger, its segment has an object without the text and the old object is to be removed, nothing is left. Each step is
//! one commit and can be repeated, so that an eraser which is cut off anywhere is followed by another. What is kept: the job's
//! row, how it ended, verdicts and usage.

use std::fmt;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::rows::{
    AccountErasure, ErasureOrdered, ExpiredSegment, JobErasure, ReplacedObject, Replacement,
    RewritableSegment,
};
use infera_types::ids::{AccountId, JobId, SegmentId};
use infera_types::time::Timestamp;

/// Takes orders to erase text, and says how far they have come.
#[async_trait]
pub trait ErasureOrders: Send + Sync + fmt::Debug {
    /// Orders the erasure of an ended job's text. With an account, only its own jobs are known. The same order again
    /// changes nothing.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn erase_job(
        &self,
        account: Option<&AccountId>,
        job: JobId,
        now: Timestamp,
    ) -> Result<ErasureOrdered, LedgerError>;

    /// Returns how far the erasure of a job's text has come; none for an unknown job.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn job_erasure(
        &self,
        account: Option<&AccountId>,
        job: JobId,
        now: Timestamp,
    ) -> Result<Option<JobErasure>, LedgerError>;

    /// Orders the erasure of the text of all jobs of an account that were accepted by now: of those that have ended at once,
    /// of the others when they end. Returns how far it has come; none if there is no such account. An order that is still
    /// finding its jobs stays as it is.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn erase_account(
        &self,
        account: &AccountId,
        now: Timestamp,
    ) -> Result<Option<AccountErasure>, LedgerError>;

    /// Returns how far the last such order has come; none if there was none.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn account_erasure(
        &self,
        account: &AccountId,
        now: Timestamp,
    ) -> Result<Option<AccountErasure>, LedgerError>;
}

/// Carries out erasures in the ledger, and says which segments have text that is erased. One holder of the archiver's lease
/// does it at a time, because it replaces segments' objects.
#[async_trait]
pub trait Erasing: Send + Sync + fmt::Debug {
    /// Looks at no more than `limit` jobs of one account whose erasure was ordered, in the order of their ids, and queues
    /// them. Returns how many it looked at, and 0 only if no such order is open.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn find_ordered(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError>;

    /// Erases the text of no more than `limit` jobs whose time has come, the longest due first, and returns how many. A
    /// job whose group is open waits, because late replicas are compared with the answer. Gone are the request, the
    /// answer, the tokens and numbers of replicas, the idempotency keys and the client's pairs. A record that is not archived
    /// yet becomes claimable by this, without text.
    ///
    /// # Errors
    /// [`LedgerError`]; some texts may be gone then, and the others are found again.
    async fn erase_text(&self, limit: u32, now: Timestamp) -> Result<u32, LedgerError>;

    /// Returns no more than `limit` segments with records whose text was erased from the ledger by `erased_by`, each with all
    /// of its records whose text is. Records that wait for the end of their segment's retention are no reason to rewrite it.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn rewritable(
        &self,
        limit: u32,
        erased_by: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<RewritableSegment>, LedgerError>;

    /// Ends erasures of jobs whose archived records have no text.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn end_erasures(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError>;

    /// Puts off the erasures in a segment that can't be rewritten, until `until`, so that they don't keep others back.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn postpone(&self, segment: SegmentId, until: Timestamp) -> Result<(), LedgerError>;
}

/// Records which objects of the archive were replaced or removed by the eraser.
#[async_trait]
pub trait SegmentChanges: Send + Sync + fmt::Debug {
    /// Makes a new object, which the archive holds, the one of its segment, if the old one still is. Returns whether it was.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn replace(&self, replacement: &Replacement) -> Result<bool, LedgerError>;

    /// Returns no more than `limit` objects that were replaced.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn replaced(&self, limit: u32) -> Result<Vec<ReplacedObject>, LedgerError>;

    /// Forgets an object that was replaced and is gone, and ends the erasures that waited for that.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn forget_replaced(&self, segment: SegmentId, now: Timestamp) -> Result<(), LedgerError>;

    /// Returns no more than `limit` segments whose retention is over, the oldest first.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn expired(&self, limit: u32, now: Timestamp) -> Result<Vec<ExpiredSegment>, LedgerError>;

    /// Records that an expired segment is gone from the archive, and ends the erasures that waited for that. The hashes of
    /// its records stay ([`crate::ArchiveIndex::removed`]).
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn segment_removed(&self, segment: SegmentId, now: Timestamp) -> Result<(), LedgerError>;
}
