//! Every metric's name, kind and meaning, in one place: roles count under these constants, and dashboards and alerts
//! are checked against them. How metrics are collected is decided elsewhere (the `metrics` facade, `operations`).
//!
//! Names follow Prometheus' conventions: one prefix, base units, `_total` for what only grows. Labels are bounded by
//! words that we chose: routes' templates, models of the catalogue, words of our own enumerations. An account's,
//! node's or job's id is never a label, because each would become a time series that never ends.

/// The kind of a metric. It is written as Prometheus spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// A number that only grows, from the process's start.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What it counts, and by which labels.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($kind:ident $constant:ident = $name:literal: $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: &str = $name;
        )*

        /// All metrics.
        pub const ALL: &[Metric] = &[$(Metric { name: $name, kind: Kind::$kind, help: $help },)*];
    };
}

metrics! {
    Gauge BUILD_INFO = "infera_build_info": "1, by version of the program.";
    Gauge READY = "infera_ready": "1 while /readyz reports ready, as of the last scrape.";
    Counter BROKER_PUBLISHES = "infera_broker_publishes_total": "Messages published, by kind and outcome (confirmed, full, unroutable, refused, unknown).";
    Histogram BROKER_PUBLISH = "infera_broker_publish_seconds": "From publishing to its outcome.";
    Counter BROKER_FLEETING = "infera_broker_fleeting_messages_total": "Fleeting messages, by kind and outcome (handed_on, dropped: the broker was slow or away).";
    Counter BROKER_FLEETING_LOST = "infera_broker_fleeting_lost_total": "Fleeting messages that this process dropped after they were handed on, by place (sending: the broker was slow or away; reading: the reader was slow).";
    Gauge BROKER_BLOCKED = "infera_broker_blocked": "1 while the broker accepts no publishes (its memory or disk alarm is raised).";

    Counter GATEWAY_REQUESTS = "infera_gateway_requests_total": "HTTP requests answered, by route and status.";
    Histogram GATEWAY_REQUEST = "infera_gateway_request_seconds": "From a request's head to its reply, by route; a synchronous chat's includes its job.";
    Counter GATEWAY_REFUSALS = "infera_gateway_refusals_total": "Requests answered with an error, by the error's code.";
    Counter GATEWAY_ACCEPTED = "infera_gateway_jobs_accepted_total": "Jobs committed to the ledger, by model.";
    Histogram GATEWAY_COMMIT = "infera_gateway_ledger_commit_seconds": "The commit that accepts a job.";
    Gauge GATEWAY_OUTBOX = "infera_gateway_outbox_notices": "Accepted jobs whose notice the broker does not have yet.";
    Gauge GATEWAY_OUTBOX_MAX = "infera_gateway_outbox_notices_max": "How many notices the outbox can hold.";
    Counter GATEWAY_OUTBOX_FULL = "infera_gateway_jobs_refused_outbox_full_total": "Jobs not accepted because the outbox was full.";
    Counter GATEWAY_NOTICES_LEFT = "infera_gateway_notices_left_total": "Notices left to the sweeper because their queue did not accept them, or at shutdown.";
    Counter GATEWAY_MAILS = "infera_gateway_mails_total": "Tries to hand mails to the mail server, by outcome (sent, later: it was away, given_up).";
    Gauge GATEWAY_CONNECTIONS = "infera_gateway_connections": "Open connections of clients.";
    Gauge GATEWAY_CONNECTIONS_MAX = "infera_gateway_connections_max": "How many connections there may be.";
    Counter GATEWAY_CONNECTIONS_CLOSED = "infera_gateway_connections_closed_total": "Idle connections closed for new ones, by what was taken (all: every place; share: that of the address).";
    Counter GATEWAY_CONNECTIONS_REFUSED = "infera_gateway_connections_refused_total": "Connections refused, by reason (share: the address's are all busy; proxy: a trusted one sent no proper PROXY header).";
    Gauge GATEWAY_WAITERS = "infera_gateway_waiters": "Clients that are waiting for their job's end.";

    Counter VERIFIER_TAKEN = "infera_verifier_jobs_taken_total": "Jobs taken.";
    Counter VERIFIER_RELEASED = "infera_verifier_jobs_released_total": "Jobs released without having been dispatched.";
    Counter VERIFIER_SETTLED = "infera_verifier_jobs_settled_total": "Jobs settled here, by end (succeeded, failed, cancelled, expired), a failure's reason and a success's rung.";
    Histogram VERIFIER_JOB = "infera_verifier_job_seconds": "From acceptance to settlement of jobs that succeeded, by model.";
    Histogram VERIFIER_COMMIT = "infera_verifier_settle_commit_seconds": "The commit that settles a job.";
    Gauge VERIFIER_IN_FLIGHT = "infera_verifier_jobs_in_flight": "Jobs that this verifier owns.";
    Counter VERIFIER_ASSIGNMENTS = "infera_verifier_assignments_total": "Assignments sent.";
    Counter VERIFIER_BACKSTOPS = "infera_verifier_backstop_assignments_total": "Assignments sent to backstop nodes of the network, because others could not fill a group.";
    Counter VERIFIER_REPLICAS = "infera_verifier_replicas_total": "Replicas and refusals from nodes, by what they were (answer, unknown, impostor, stray).";
    Counter VERIFIER_FRAMES = "infera_verifier_frames_total": "Frames of answers in progress, by what became of them (read, too_fast; broken: assignments whose frames contradict each other; cut_off: nodes that were cut off because they went on framing too fast).";
    Counter VERIFIER_HEARTBEATS_REFUSED = "infera_verifier_heartbeats_refused_total": "Heartbeats refused: without a valid sender, or naming another node's queue.";
    Counter VERIFIER_MESSAGES_REFUSED = "infera_verifier_messages_refused_total": "Messages that could not be used, by what became of them (dropped, parked, unparked: unknown, and dropped because the parking queue was full).";
    Counter VERIFIER_VERDICTS = "infera_verifier_verdicts_total": "Verdicts on nodes' replicas, by model and verdict.";
    Counter VERIFIER_DISPUTES = "infera_verifier_disputes_total": "Answers that a later replica contradicted.";
    Counter VERIFIER_GROUPS_CLOSED = "infera_verifier_groups_closed_total": "Replica groups scored and closed.";
    Histogram VERIFIER_CLOSE_LAG = "infera_verifier_group_close_lag_seconds": "From a job's settlement to its group's close, when points are posted.";
    Counter VERIFIER_HANDOUTS = "infera_verifier_handouts_total": "Notices published again by the sweeper for orphaned jobs.";
    Counter VERIFIER_DEAD_LETTERS = "infera_verifier_dead_letters_total": "Notices that the broker gave up because they were returned too often.";
    Counter VERIFIER_QUEUES_REPAIRED = "infera_verifier_queues_repaired_total": "Stuck queues of jobs that were deleted and recreated.";
    Counter VERIFIER_SWEEPS = "infera_verifier_sweeps_total": "Sweeps, by outcome (done, failed, elsewhere: another verifier holds the lease).";
    Gauge VERIFIER_WAITING = "infera_verifier_waiting_jobs": "Jobs of the whole network that wait for a verifier, by model and lane, as the ledger counts them; told by the verifier that feeds, 0 by others.";
    Counter VERIFIER_ARCHIVED = "infera_verifier_archived_records_total": "Records written to the archive.";
    Histogram VERIFIER_ARCHIVE_LAG = "infera_verifier_archive_lag_seconds": "From a job's settlement to the archiving of its record.";
    Counter VERIFIER_ARCHIVE_FAILURES = "infera_verifier_archive_failures_total": "Failed attempts to archive; each is retried.";
    Counter VERIFIER_ARCHIVE_LOST = "infera_verifier_archive_lost_segments_total": "Segments whose object in the archive was gone or damaged when it was checked before pruning; the ledger keeps its records.";
    Counter VERIFIER_ERASED = "infera_verifier_erased_jobs_total": "Jobs whose text was erased from the ledger.";
    Counter VERIFIER_REWRITTEN = "infera_verifier_rewritten_segments_total": "Segments that were rewritten in the archive without the text of erased jobs.";
    Counter VERIFIER_EXPIRED = "infera_verifier_expired_segments_total": "Segments that were deleted from the archive because their retention was over.";
    Counter VERIFIER_ERASURES_STUCK = "infera_verifier_stuck_erasures_total": "Segments with text to erase whose object is gone, damaged or refused; each is tried again after verifier.rewrite_retry_ms.";
    Counter VERIFIER_PRUNED = "infera_verifier_pruned_jobs_total": "Jobs whose body was deleted from the ledger: archived and past retention.";
    Counter VERIFIER_PRUNINGS_STUCK = "infera_verifier_stuck_prunings_total": "Checks of archived segments past retention that failed until an operator mends what is wrong. The ledger keeps their bodies; each is checked again, later each time, daily at least.";
    Counter VERIFIER_PANICS = "infera_verifier_panics_total": "Tasks of jobs and of the verifier that panicked.";
    Counter VERIFIER_LEASES_LOST = "infera_verifier_leases_lost_total": "Times that the verifier lost its lease, and with it all jobs that it owned.";
    Counter VERIFIER_CONNECTIONS_CLOSED = "infera_verifier_connections_closed_total": "Nodes' connections to the broker that were closed: revoked, token expired, or too many.";
    Gauge VERIFIER_LEASE = "infera_verifier_lease_held": "1 while the verifier holds its lease.";
    Gauge VERIFIER_NODES = "infera_verifier_nodes": "Live nodes that serve a model and are not ejected, by model.";
    Gauge VERIFIER_OWNERS = "infera_verifier_owners": "Different owners of these nodes, by model; below three no group can be drawn.";
    Gauge VERIFIER_FREE_SLOTS = "infera_verifier_free_slots": "Free slots of these nodes, by model.";
    Gauge VERIFIER_UNREAD_MODELS = "infera_verifier_unread_models": "Models of the catalogue whose tokenizer this verifier can't find: it takes no jobs of them, which wait. The log names each once.";
    Gauge VERIFIER_THRESHOLDS = "infera_verifier_thresholds_info": "1, by version of the thresholds that judge.";

    Counter WORKER_DELIVERIES = "infera_worker_deliveries_total": "Deliveries taken.";
    Counter WORKER_ASSIGNMENTS = "infera_worker_assignments_total": "Assignments, by what became of them (run, cached, joined, refused).";
    Counter WORKER_RUNS_ALONE = "infera_worker_runs_alone_total": "Runs of redelivered assignments, alone in the engine.";
    Counter WORKER_REPLICAS = "infera_worker_replicas_total": "Replicas, by what became of them (confirmed, ownerless: their verifier was gone, unpublished).";
    Counter WORKER_MESSAGES_REFUSED = "infera_worker_messages_refused_total": "Messages that could not be used, by what became of them (dropped, parked).";
    Histogram WORKER_BATCH = "infera_worker_batch_sequences": "Sequences in one call of an engine, by model and step (prefill, decode).";
    Histogram WORKER_QUEUE_WAIT = "infera_worker_queue_wait_seconds": "From an assignment's receipt to the beginning of its prefill, by model.";
    Histogram WORKER_DECODE = "infera_worker_decode_seconds": "From prefill to the last token of an answer, by model.";
    Counter WORKER_TOKENS = "infera_worker_tokens_total": "Tokens of complete answers, by model.";
    Counter WORKER_ENGINE_FAILURES = "infera_worker_engine_failures_total": "Calls of an engine that failed, by model.";
    Gauge WORKER_SLOTS = "infera_worker_slots": "Assignments taken at once, by model; 0 once the node serves it no more.";
    Gauge WORKER_SLOTS_FREE = "infera_worker_slots_free": "Slots that are free, by model.";
}

/// Tells this process's recorder what each metric means. Call it once, after the recorder is installed.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_keep_prometheus_conventions() {
        let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name twice");
        for Metric { name, kind, help } in ALL {
            let words = name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
            assert!(name.starts_with("infera_") && words, "{name}");
            assert!(help.ends_with('.') && help.len() <= 200, "{name}: {help}");
            // A name must not contain what Prometheus itself appends, and only counters are totals.
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name} is a {kind}");
            for suffix in ["_sum", "_count", "_bucket", "_ms", "_milliseconds"] {
                assert!(!name.ends_with(suffix), "{name}");
            }
            if *kind == Kind::Histogram {
                assert!(name.ends_with("_seconds") || name.ends_with("_sequences"), "{name} has no unit");
            }
        }
    }
}
