//! Lists what a verifier touches outside of itself, as traits: it can do nothing that these don't offer.

use std::sync::Arc;

use infera_archive::Archive;
use infera_broker::Broker;
use infera_broker::connections::Connections;
use infera_ledger::{
    ArchiveIndex, Erasing, Feeding, JobOwner, JobReader, NetworkBook, NodeBook, NodeReader, Pruning,
    SegmentChanges, Standing, Sweeping,
};

/// The ledger's parts, the archive and the broker.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Takes, settles, posts.
    pub owner: Arc<dyn JobOwner>,
    /// Reads ends of jobs.
    pub reader: Arc<dyn JobReader>,
    /// Folds postings.
    pub standing: Arc<dyn Standing>,
    /// Keeps leases, and finds orphaned work.
    pub sweeping: Arc<dyn Sweeping>,
    /// Finds held jobs, and offers them.
    pub feeding: Arc<dyn Feeding>,
    /// Holds the catalogue, nodes and epochs.
    pub network: Arc<dyn NetworkBook>,
    /// Reads what owners want of their nodes.
    pub nodes: Arc<dyn NodeReader>,
    /// Records which settled job lies in which segment.
    pub index: Arc<dyn ArchiveIndex>,
    /// Removes the bodies of archived jobs.
    pub pruning: Arc<dyn Pruning>,
    /// Erases the text of jobs.
    pub erasing: Arc<dyn Erasing>,
    /// Records what erasing changes in the archive.
    pub segments: Arc<dyn SegmentChanges>,
    /// Stores segments of settled jobs.
    pub archive: Arc<dyn Archive>,
    /// Carries messages.
    pub broker: Arc<dyn Broker>,
}

/// What a verifier needs beside [`Seams`] to look after nodes' connections to the broker.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Lists the open connections and closes them.
    pub connections: Arc<dyn Connections>,
    /// Tells which nodes are admitted.
    pub book: Arc<dyn NodeBook>,
}
