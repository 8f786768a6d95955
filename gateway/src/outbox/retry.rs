//! Decides what happens to a notice whose publish has ended: it is done, tried again, or left to the sweeper. A queue
//! that accepts nothing rests, with only an occasional probe. Pure: each call brings its own `now`.

use std::collections::HashMap;
use std::time::Duration;

use infera_broker::Published;
use tokio::time::Instant;

use super::notice::JobsQueue;

/// The time between two tries while the broker is away, in addition to a publish's own timeout.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(250);

/// The time between two probes of a resting queue. The sweeper runs as often.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// What happens to a notice next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The broker has it.
    Confirmed,
    /// It is published again after [`RETRY_AFTER`].
    Again,
    /// It is left to the sweeper. If its queue is at fault, the queue rests.
    Left {
        /// Whether the queue rests.
        queue_rests: bool,
    },
}

/// Decides by the outcome of a publish. `is_tried` means that an earlier publish of the same notice had no outcome,
/// `others_confirmed` that the broker has confirmed other notices since this publish began.
pub(super) const fn next(outcome: Published, is_tried: bool, others_confirmed: bool) -> Next {
    match outcome {
        Published::Confirmed => Next::Confirmed,
        // It is the second time, and the broker accepted others meanwhile, so the queue is at fault.
        Published::Unknown if is_tried && others_confirmed => Next::Left { queue_rests: true },
        Published::Unknown => Next::Again,
        // The queue is at fault and not the broker. It must not hold back the jobs of other models.
        Published::Full | Published::Refused => Next::Left { queue_rests: true },
        // The broker reports this at once, so trying the next notice costs no time.
        Published::Unroutable => Next::Left { queue_rests: false },
    }
}

/// The queues that accepted nothing, each with the time of the next probe. Only models of accepted jobs get here, so the
/// catalogue bounds their number.
#[derive(Debug, Default)]
pub(super) struct Resting(HashMap<JobsQueue, Instant>);

impl Resting {
    /// Returns whether a notice may be published now. To a resting queue one notice may go as a probe, and then none
    /// for a while.
    pub(super) fn may_go(&mut self, queue: &JobsQueue, now: Instant) -> bool {
        match self.0.get_mut(queue) {
            None => true,
            Some(next) if *next <= now => {
                *next = now + PROBE_EVERY;
                true
            }
            Some(_) => false,
        }
    }

    /// Makes a queue rest from now on.
    pub(super) fn rests(&mut self, queue: &JobsQueue, now: Instant) {
        if self.0.insert(queue.clone(), now + PROBE_EVERY).is_none() {
            tracing::warn!(model = %queue.model, lane = queue.lane.word(), "the jobs queue accepts nothing; its notices are left to the sweeper for now");
        }
    }

    /// Ends the rest of a queue that accepted a notice.
    pub(super) fn wakes(&mut self, queue: &JobsQueue) {
        if self.0.remove(queue).is_some() {
            tracing::info!(model = %queue.model, lane = queue.lane.word(), "the jobs queue accepts notices again");
        }
    }
}

#[cfg(test)]
mod tests {
    use infera_types::ids::ModelName;
    use infera_types::service::Lane;

    use super::*;

    #[test]
    fn what_the_broker_did_not_take_is_tried_again_or_left() {
        let (left, rested) = (Next::Left { queue_rests: false }, Next::Left { queue_rests: true });
        for (outcome, is_tried, others_confirmed, expected) in [
            (Published::Confirmed, true, true, Next::Confirmed),
            (Published::Unknown, false, false, Next::Again),
            (Published::Unknown, false, true, Next::Again),
            (Published::Unknown, true, false, Next::Again),
            (Published::Unknown, true, true, rested),
            (Published::Full, false, false, rested),
            (Published::Refused, false, false, rested),
            (Published::Unroutable, true, true, left),
        ] {
            assert_eq!(next(outcome, is_tried, others_confirmed), expected, "{outcome:?}");
        }
    }

    #[test]
    fn of_a_resting_queue_one_probe_goes_at_a_time() {
        let mut resting = Resting::default();
        let queue = |model, lane| JobsQueue { model: ModelName::new(model), lane };
        let (stuck, other) = (queue("stuck", Lane::Own), queue("other", Lane::First));
        let mut now = Instant::now();
        assert!(resting.may_go(&stuck, now));
        resting.rests(&stuck, now);
        assert!(!resting.may_go(&stuck, now) && resting.may_go(&other, now));
        assert!(resting.may_go(&queue("stuck", Lane::First), now), "the model's other queue");
        now += PROBE_EVERY;
        assert!(resting.may_go(&stuck, now), "the probe");
        assert!(!resting.may_go(&stuck, now), "one is enough");
        resting.rests(&stuck, now);
        assert!(!resting.may_go(&stuck, now + PROBE_EVERY / 2));
        resting.wakes(&stuck);
        assert!(resting.may_go(&stuck, now));
    }
}
