//! Keeps the leases of one tenure: its own, which says that it lives, and those that verifiers share. Each is asked for here
//! and by its [`LeaseName`], so that none is forgotten when they are given back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_ledger::{LedgerError, Sweeping};
use infera_types::ids::VerifierId;
use infera_types::time::Timestamp;

/// What a lease is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeaseName {
    /// Says that the verifier lives and may go on with the jobs that it took. Each verifier has one of its own.
    Verifier,
    /// Shared: its holder sweeps.
    Sweeper,
    /// Shared: its holder offers held jobs.
    Feeder,
    /// Shared: its holder folds postings.
    Projector,
    /// Shared: its holder writes segments.
    Archiver,
    /// Shared: its holder closes nodes' connections.
    Warden,
}

impl LeaseName {
    /// Returns the lease's name in the ledger.
    fn as_str(self, verifier: &VerifierId) -> &str {
        match self {
            Self::Verifier => verifier.as_str(),
            Self::Sweeper => "sweeper",
            Self::Feeder => "feeder",
            Self::Projector => "projector",
            Self::Archiver => "archiver",
            Self::Warden => "warden",
        }
    }
}

/// What becomes of a lease when the tenure ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtEnd {
    GivenBack,
    RunsOut,
}

/// Takes and renews the leases of one verifier id.
#[derive(Debug)]
pub(crate) struct Leases {
    sweeping: Arc<dyn Sweeping>,
    holder: VerifierId,
    asked_for: Mutex<BTreeMap<LeaseName, AtEnd>>,
}

impl Leases {
    /// Begins without any lease.
    pub(crate) fn new(sweeping: Arc<dyn Sweeping>, holder: VerifierId) -> Self {
        Self { sweeping, holder, asked_for: Mutex::default() }
    }

    fn asked_for(&self) -> MutexGuard<'_, BTreeMap<LeaseName, AtEnd>> {
        self.asked_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes or renews a lease for `ttl` from now; false if another verifier has it.
    ///
    /// # Errors
    /// [`LedgerError`]; the lease may have been taken.
    pub(crate) async fn hold(&self, name: LeaseName, ttl: Duration) -> Result<bool, LedgerError> {
        // Noted before the ledger is asked: an answer that doesn't arrive may have been a yes.
        self.asked_for().entry(name).or_insert(AtEnd::GivenBack);
        self.lease(name, ttl).await
    }

    /// Leaves this lease to run out by itself at the tenure's end, from now on: its holder has begun what another verifier must
    /// not do meanwhile, even if it is cut off.
    pub(crate) fn run_out_at_end(&self, name: LeaseName) {
        self.asked_for().insert(name, AtEnd::RunsOut);
    }

    /// Gives this lease back at the tenure's end, from now on, as all but those of [`Leases::run_out_at_end`].
    pub(crate) fn give_back_at_end(&self, name: LeaseName) {
        self.asked_for().insert(name, AtEnd::GivenBack);
    }

    /// Gives back all leases that this tenure asked for, so that no verifier has to wait for them to run out. Those that
    /// another verifier holds stay with it.
    pub(crate) async fn give_back(&self) {
        let asked_for = self.asked_for().clone();
        for (name, at_end) in asked_for {
            if at_end == AtEnd::RunsOut {
                tracing::warn!(lease = ?name, "work under a lease was cut off; other verifiers wait until it has run out");
            } else if let Err(error) = self.lease(name, Duration::ZERO).await {
                return tracing::warn!(%error, "leases are not given back; they run out by themselves");
            }
        }
    }

    async fn lease(&self, name: LeaseName, ttl: Duration) -> Result<bool, LedgerError> {
        self.sweeping.lease(name.as_str(&self.holder), &self.holder, Timestamp::now(), ttl).await
    }
}
