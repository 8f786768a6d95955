//! Decides what becomes of a notice whose publish ended: it is tried again, or left to the sweeper. One model's queue that
//! takes nothing rests: only a probe goes to it now and then. Pure: each question brings its `now`.

use std::collections::HashMap;
use std::time::Duration;

use infera_broker::Published;
use infera_types::ids::ModelName;
use tokio::time::Instant;

/// Separates two tries to publish what a broker that is away did not confirm. Its own timeout comes on top.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Separates two probes of a queue that took nothing. The sweeper comes as often.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// Says what becomes of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The broker has it.
    Confirmed,
    /// It is published again after [`RETRY_AFTER`].
    Again,
    /// It is left to the sweeper, and its queue rests if the queue is at fault.
    Left {
        /// Whether the queue rests.
        queue_rests: bool,
    },
}

/// Decides by how a publish ended. `is_tried` says that it isn't the first without an outcome, `others_confirmed` that the
/// broker confirmed other notices since it began.
pub(super) const fn next(outcome: Published, is_tried: bool, others_confirmed: bool) -> Next {
    match outcome {
        Published::Confirmed => Next::Confirmed,
        // The broker took others meanwhile, and not for the first time: so it is the queue.
        Published::Unknown if is_tried && others_confirmed => Next::Left { queue_rests: true },
        Published::Unknown => Next::Again,
        // One model's queue, not the broker: it must not hold back the jobs of the others.
        Published::Full | Published::Refused => Next::Left { queue_rests: true },
        // The broker says so at once, so trying the next costs no time.
        Published::Unroutable => Next::Left { queue_rests: false },
    }
}

/// Holds the models whose queue took nothing, and when the next probe may go. Only models of jobs that were accepted get here,
/// so the catalogue bounds it.
#[derive(Debug, Default)]
pub(super) struct Resting(HashMap<ModelName, Instant>);

impl Resting {
    /// Returns whether a notice may go out now. One may go to a resting queue, and then none for a while.
    pub(super) fn may_go(&mut self, model: &ModelName, now: Instant) -> bool {
        match self.0.get_mut(model) {
            None => true,
            Some(next) if *next <= now => {
                *next = now + PROBE_EVERY;
                true
            }
            Some(_) => false,
        }
    }

    /// Lets the model's queue rest from now on.
    pub(super) fn rests(&mut self, model: &ModelName, now: Instant) {
        if self.0.insert(model.clone(), now + PROBE_EVERY).is_none() {
            tracing::warn!(%model, "the jobs' queue takes nothing; its notices are left to the sweeper for now");
        }
    }

    /// Ends the rest of a queue that took a notice.
    pub(super) fn wakes(&mut self, model: &ModelName) {
        if self.0.remove(model).is_some() {
            tracing::info!(%model, "the jobs' queue takes notices again");
        }
    }
}

#[cfg(test)]
mod tests {
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
        let (stuck, other) = (ModelName::new("stuck"), ModelName::new("other"));
        let mut now = Instant::now();
        assert!(resting.may_go(&stuck, now));
        resting.rests(&stuck, now);
        assert!(!resting.may_go(&stuck, now) && resting.may_go(&other, now));
        now += PROBE_EVERY;
        assert!(resting.may_go(&stuck, now), "the probe");
        assert!(!resting.may_go(&stuck, now), "one is enough");
        resting.rests(&stuck, now);
        assert!(!resting.may_go(&stuck, now + PROBE_EVERY / 2));
        resting.wakes(&stuck);
        assert!(resting.may_go(&stuck, now));
    }
}
