//! The worker's event counters and the metric that shows each. No decision depends on them.

use infera_telemetry::metrics::{
    WORKER_ASSIGNMENTS, WORKER_DELIVERIES, WORKER_MESSAGES_REFUSED, WORKER_REPLICAS, WORKER_RUNS_ALONE,
};

infera_telemetry::counts! {
    /// The number of times that each event happened since the worker was made.
    pub struct Counts {
        /// Deliveries taken.
        deliveries => WORKER_DELIVERIES,
        /// Messages that were not what their kind promises; dropped.
        malformed => WORKER_MESSAGES_REFUSED, "outcome" => "dropped",
        /// Messages of an unknown kind or version; parked.
        parked => WORKER_MESSAGES_REFUSED, "outcome" => "parked",
        /// Assignments answered from the result cache.
        from_cache => WORKER_ASSIGNMENTS, "outcome" => "cached",
        /// Assignments that joined a running job.
        joined => WORKER_ASSIGNMENTS, "outcome" => "joined",
        /// Jobs put into the batch.
        run => WORKER_ASSIGNMENTS, "outcome" => "run",
        /// Jobs run alone because they had been redelivered.
        run_alone => WORKER_RUNS_ALONE,
        /// Replicas that the broker confirmed, to whichever verifier they went.
        replicas => WORKER_REPLICAS, "outcome" => "confirmed",
        /// Replicas whose verifier was gone; published once for any verifier.
        ownerless => WORKER_REPLICAS, "outcome" => "ownerless",
        /// Replicas that could not be published in time; kept in the result cache only.
        unpublished => WORKER_REPLICAS, "outcome" => "unpublished",
        /// Assignments refused.
        refused => WORKER_ASSIGNMENTS, "outcome" => "refused",
    }
}
