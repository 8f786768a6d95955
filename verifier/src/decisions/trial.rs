//! Decides how a job goes on that was in hand when verifiers died: it may be what ended them.

/// A job that counts more lost handouts than this is failed: something in it may end the process (rule 3).
const LOST_HANDOUTS_MAX: u32 = 5;

/// Beside what a taken job is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Beside others.
    Together,
    /// While nothing else is tried.
    Alone,
    /// Not at all: the job ends as poison.
    Nowhere,
}

/// Returns where a job belongs that counts this many lost handouts.
pub(crate) const fn place(lost_handouts: u32) -> Place {
    match lost_handouts {
        0 => Place::Together,
        1..=LOST_HANDOUTS_MAX => Place::Alone,
        _ => Place::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use infera_ledger::LOST_ALONE;

    use super::*;

    #[test]
    fn what_was_in_hand_at_a_death_is_tried_alone_until_it_is_poison() {
        for (lost_handouts, expected) in [
            (0, Place::Together),
            (1, Place::Alone),
            (5, Place::Alone),
            (6, Place::Nowhere),
            (u32::MAX, Place::Nowhere),
        ] {
            assert_eq!(place(lost_handouts), expected, "{lost_handouts}");
        }
        // One death beside others and one alone may be an accident, one more alone isn't.
        assert_eq!(place(1 + LOST_ALONE), Place::Alone);
        assert_eq!(place(1 + 2 * LOST_ALONE), Place::Nowhere);
    }
}
