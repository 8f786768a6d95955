//! Counts what happens, for operators and tests. No decision depends on these counts.

use infera_telemetry::metrics::{
    VERIFIER_ASSIGNMENTS, VERIFIER_BACKSTOPS, VERIFIER_CONNECTIONS_CLOSED, VERIFIER_DEAD_LETTERS,
    VERIFIER_DISPUTES, VERIFIER_FRAMES, VERIFIER_GROUPS_CLOSED, VERIFIER_HEARTBEATS_REFUSED,
    VERIFIER_LEASES_LOST, VERIFIER_MESSAGES_REFUSED, VERIFIER_PANICS, VERIFIER_QUEUES_REPAIRED,
    VERIFIER_RELEASED, VERIFIER_REPLICAS, VERIFIER_TAKEN,
};

infera_telemetry::counts! {
    /// Counts what a verifier does and hears, since its start.
    pub struct Counters {
        /// Jobs taken.
        taken => VERIFIER_TAKEN,
        /// Jobs given back before a node was asked.
        released => VERIFIER_RELEASED,
        /// Assignments sent.
        assignments => VERIFIER_ASSIGNMENTS,
        /// Assignments to backstops of the network, where others could not fill a group.
        backstops => VERIFIER_BACKSTOPS,
        /// Replicas that came in for open assignments.
        replicas => VERIFIER_REPLICAS, "outcome" => "answer",
        /// Replicas and refusals for no open assignment.
        replicas_unknown => VERIFIER_REPLICAS, "outcome" => "unknown",
        /// Replicas and refusals from another node than the assignment's.
        replicas_impostor => VERIFIER_REPLICAS, "outcome" => "impostor",
        /// Replicas and refusals whose verifier was gone.
        replicas_stray => VERIFIER_REPLICAS, "outcome" => "stray",
        /// Frames of tokens that were read.
        frames => VERIFIER_FRAMES, "outcome" => "read",
        /// Frames that came faster than a node may send them.
        frames_too_fast => VERIFIER_FRAMES, "outcome" => "too_fast",
        /// Nodes that were cut off, because they went on framing faster than they may.
        nodes_cut_off => VERIFIER_FRAMES, "outcome" => "cut_off",
        /// Assignments whose frames contradict each other, or say more than was asked for.
        frames_broken => VERIFIER_FRAMES, "outcome" => "broken",
        /// Heartbeats from no proper node or with a foreign queue.
        heartbeats_refused => VERIFIER_HEARTBEATS_REFUSED,
        /// Messages dropped because they weren't what their kind promises.
        messages_malformed => VERIFIER_MESSAGES_REFUSED, "outcome" => "dropped",
        /// Messages of unknown kinds or versions, parked.
        messages_parked => VERIFIER_MESSAGES_REFUSED, "outcome" => "parked",
        /// Messages of unknown kinds or versions that could not be parked, or not as fast as they came.
        messages_unparked => VERIFIER_MESSAGES_REFUSED, "outcome" => "unparked",
        /// Groups scored and closed.
        groups_closed => VERIFIER_GROUPS_CLOSED,
        /// Disputes opened.
        disputes => VERIFIER_DISPUTES,
        /// Notices that the broker gave up because they came back too often.
        dead_letters => VERIFIER_DEAD_LETTERS,
        /// Stuck queues of jobs that were deleted and declared again.
        queues_repaired => VERIFIER_QUEUES_REPAIRED,
        /// Tasks of jobs and of the verifier that panicked.
        panics => VERIFIER_PANICS,
        /// Times that this verifier lost its lease.
        leases_lost => VERIFIER_LEASES_LOST,
        /// Connections of nodes closed at the broker.
        connections_closed => VERIFIER_CONNECTIONS_CLOSED,
    }
}
