//! The sums over all jobs that implementations with tables keep by name.

use crate::rows::Statistics;

/// Enters the sum of this name into the statistics. Jobs that ended are summed under the word of their end
/// ([`infera_types::job::End::word`]). Sums that are no statistics, such as the bytes of all bodies, are passed over.
pub fn enter(statistics: &mut Statistics, name: &str, value: u64) {
    match name {
        "accepted" => statistics.accepted = value,
        "succeeded" => statistics.succeeded = value,
        "failed" => statistics.failed = value,
        "cancelled" => statistics.cancelled = value,
        "expired" => statistics.expired = value,
        "prompt_tokens" => statistics.prompt_tokens = value,
        "completion_tokens" => statistics.completion_tokens = value,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use infera_types::job::{End, FailureReason};

    use super::*;

    #[test]
    fn ends_are_entered_under_their_words() {
        let none = Statistics::default();
        let failed = End::Failed { reason: FailureReason::Poison, message: String::new() };
        for (end, entered) in [
            (failed, Statistics { failed: 7, ..none }),
            (End::cancelled(), Statistics { cancelled: 7, ..none }),
            (End::Expired, Statistics { expired: 7, ..none }),
        ] {
            let mut statistics = none;
            enter(&mut statistics, end.word(), 7);
            assert_eq!(statistics, entered);
        }
        let mut statistics = none;
        enter(&mut statistics, "body_bytes", 7);
        assert_eq!(statistics, none);
    }
}
