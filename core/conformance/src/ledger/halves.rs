//! The ledger that a check is given, and how it reports that a call went otherwise than it must.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use infera_ledger::{
    AccountBook, ArchiveIndex, Erasing, ErasureOrders, Feeding, JobBatches, JobIntake, JobLists, JobOwner,
    JobReader, KeyBook, LedgerError, MailBook, MailOutbox, NetworkBook, NodeBook, NodeGroupBook, NodeReader,
    NodeRoster, Pruning, SegmentChanges, ShareBook, Standing, Sweeping,
};
use infera_types::time::Timestamp;

/// The halves of one ledger.
#[derive(Clone, Debug)]
pub struct Halves {
    /// Accepting and cancelling.
    pub intake: Arc<dyn JobIntake>,
    /// Accepting and cancelling several at once.
    pub batches: Arc<dyn JobBatches>,
    /// Lists of jobs and their ends in order.
    pub lists: Arc<dyn JobLists>,
    /// Reading.
    pub reader: Arc<dyn JobReader>,
    /// Taking and settling.
    pub owner: Arc<dyn JobOwner>,
    /// Reputation and balances.
    pub standing: Arc<dyn Standing>,
    /// Leases and leftovers.
    pub sweeping: Arc<dyn Sweeping>,
    /// Offering held jobs.
    pub feeding: Arc<dyn Feeding>,
    /// Catalogue, nodes, epochs.
    pub network: Arc<dyn NetworkBook>,
    /// Admission of nodes.
    pub nodes: Arc<dyn NodeBook>,
    /// Nodes as their owners see them.
    pub roster: Arc<dyn NodeRoster>,
    /// What owners want of nodes and what nodes did.
    pub node_reader: Arc<dyn NodeReader>,
    /// Groups of nodes, and pools.
    pub groups: Arc<dyn NodeGroupBook>,
    /// Accounts and keys.
    pub accounts: Arc<dyn AccountBook>,
    /// Keys by their ids.
    pub keys: Arc<dyn KeyBook>,
    /// Accounts whose addresses are proven by mail.
    pub mail: Arc<dyn MailBook>,
    /// The outbox of mails.
    pub mail_outbox: Arc<dyn MailOutbox>,
    /// How accounts share the network.
    pub shares: Arc<dyn ShareBook>,
    /// The archive's index.
    pub index: Arc<dyn ArchiveIndex>,
    /// Deleting what is archived.
    pub pruning: Arc<dyn Pruning>,
    /// Ordering erasures.
    pub erasures: Arc<dyn ErasureOrders>,
    /// Carrying out erasures.
    pub erasing: Arc<dyn Erasing>,
    /// The eraser's record of what changes in the archive.
    pub segments: Arc<dyn SegmentChanges>,
}

impl Halves {
    /// Makes the halves of a ledger that implements all of them.
    pub fn of<L>(ledger: &Arc<L>) -> Self
    where
        L: JobIntake
            + JobBatches
            + JobLists
            + JobReader
            + JobOwner
            + Standing
            + Sweeping
            + Feeding
            + NetworkBook
            + NodeBook
            + NodeRoster
            + NodeReader
            + NodeGroupBook
            + AccountBook
            + KeyBook
            + MailBook
            + MailOutbox
            + ShareBook
            + ArchiveIndex
            + Pruning
            + ErasureOrders
            + Erasing
            + SegmentChanges
            + 'static,
    {
        Self {
            intake: Arc::clone(ledger) as Arc<dyn JobIntake>,
            batches: Arc::clone(ledger) as Arc<dyn JobBatches>,
            lists: Arc::clone(ledger) as Arc<dyn JobLists>,
            reader: Arc::clone(ledger) as Arc<dyn JobReader>,
            owner: Arc::clone(ledger) as Arc<dyn JobOwner>,
            standing: Arc::clone(ledger) as Arc<dyn Standing>,
            sweeping: Arc::clone(ledger) as Arc<dyn Sweeping>,
            feeding: Arc::clone(ledger) as Arc<dyn Feeding>,
            network: Arc::clone(ledger) as Arc<dyn NetworkBook>,
            nodes: Arc::clone(ledger) as Arc<dyn NodeBook>,
            roster: Arc::clone(ledger) as Arc<dyn NodeRoster>,
            node_reader: Arc::clone(ledger) as Arc<dyn NodeReader>,
            groups: Arc::clone(ledger) as Arc<dyn NodeGroupBook>,
            accounts: Arc::clone(ledger) as Arc<dyn AccountBook>,
            keys: Arc::clone(ledger) as Arc<dyn KeyBook>,
            mail: Arc::clone(ledger) as Arc<dyn MailBook>,
            mail_outbox: Arc::clone(ledger) as Arc<dyn MailOutbox>,
            shares: Arc::clone(ledger) as Arc<dyn ShareBook>,
            index: Arc::clone(ledger) as Arc<dyn ArchiveIndex>,
            pruning: Arc::clone(ledger) as Arc<dyn Pruning>,
            erasures: Arc::clone(ledger) as Arc<dyn ErasureOrders>,
            erasing: Arc::clone(ledger) as Arc<dyn Erasing>,
            segments: Arc::clone(ledger) as Arc<dyn SegmentChanges>,
        }
    }
}

/// Returns the value of a call that must succeed.
#[expect(clippy::panic, reason = "a check fails by panicking")]
#[track_caller]
pub(super) fn must<T>(outcome: Result<T, LedgerError>) -> T {
    match outcome {
        Ok(value) => value,
        Err(error) => panic!("the ledger failed: {error}"),
    }
}

/// Checks that a call is refused as its row's own fault.
#[track_caller]
pub(super) fn refused<T: Debug>(outcome: &Result<T, LedgerError>) {
    assert!(matches!(outcome, Err(LedgerError::Row(_))), "not refused: {outcome:?}");
}

/// Returns the moment that is this many milliseconds into the check.
pub(super) fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000).after(Duration::from_millis(milliseconds))
}
