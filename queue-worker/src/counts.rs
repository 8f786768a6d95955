//! Counts how often what happened, for operators and tests. No decision depends on it.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counts {
            $(pub(crate) $name: Count,)*
        }

        /// The counts of all events since the worker was made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct CountsSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            pub(crate) fn snapshot(&self) -> CountsSnapshot {
                CountsSnapshot { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counts! {
    /// Deliveries taken.
    deliveries,
    /// Messages that were not what their kind promises; dropped.
    malformed,
    /// Messages of an unknown kind or version; parked.
    parked,
    /// Assignments answered from the result cache.
    from_cache,
    /// Assignments that joined a running job.
    joined,
    /// Jobs put into the batch.
    run,
    /// Jobs run alone because they had been redelivered.
    run_alone,
    /// Replicas that the broker confirmed, to the verifier that asked or to any.
    replicas,
    /// Replicas whose verifier was gone; published once for any verifier.
    ownerless,
    /// Replicas that could not be published in time; kept in the result cache only.
    unpublished,
    /// Assignments refused.
    refused,
}

/// One number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
