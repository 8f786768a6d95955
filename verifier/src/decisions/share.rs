//! Computes how much of the work is this verifier's.

/// Returns how many jobs may wait here for room: free slots over live verifiers, rounded up, so at least one while there is any
/// room (rule 4).
pub(crate) fn share(free_slots: u32, verifiers: u32) -> u32 {
    if free_slots == 0 { 0 } else { free_slots.div_ceil(verifiers.max(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (free, verifiers, expected) in [(0, 1, 0), (0, 5, 0), (1, 5, 1), (10, 3, 4), (9, 3, 3), (7, 0, 7)]
        {
            assert_eq!(share(free, verifiers), expected, "{free} over {verifiers}");
        }
    }
}
