//! Decides how many jobs of a model may lie in one of its queues, offered and not yet taken.

/// The nodes that an ordinary job is computed on.
const REPLICAS: u32 = 3;

/// Returns how many jobs may lie in one queue of a model whose live nodes have `free_slots` of `slots`.
///
/// What lies there has had its turn: who comes later stands behind it, so it should be little. But no verifier should find
/// the queue empty before the feeder has looked again. On an idle network that takes twice the free slots. On a busy one
/// there are none, and by them alone the queue would stand empty at each end of a job: there, as many jobs may wait as
/// run at once, a slot for each replica. One job is always offered, so that a network without nodes still decides about it.
pub(crate) fn offered_max(free_slots: u32, slots: u32) -> u32 {
    free_slots.saturating_mul(2).max(slots / REPLICAS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_network_is_offered_what_it_runs_at_once() {
        for (free_slots, slots, expected) in [
            (0, 0, 1),
            (0, 2, 1),
            (0, 24, 8),
            (1, 24, 8),
            (4, 24, 8),
            (5, 24, 10),
            (24, 24, 48),
            (u32::MAX, u32::MAX, u32::MAX),
        ] {
            assert_eq!(offered_max(free_slots, slots), expected, "{free_slots} of {slots}");
        }
    }
}
