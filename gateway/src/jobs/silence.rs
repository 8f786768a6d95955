//! When a gateway asks verifiers for what comes next of an answer, of which nothing has come for a while. Pure.
//!
//! After the first delta a second of silence may be a loss, or the end of the verifier that owned the job. Before it the job
//! may simply wait for its turn: that is asked less and less often, so that the jobs of a long queue cost their gateway and all
//! verifiers a few asks a minute each.

use std::time::Duration;

use tokio::time::Instant;

/// The longest silence of an answer that has begun. A verifier that took the job over waits for two seconds to be told what
/// was shown.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// The first and the longest silence of an answer that hasn't begun.
const ASK_FIRST_AFTER: Duration = Duration::from_secs(5);
const ASK_LAST_AFTER: Duration = Duration::from_secs(30);

/// The silence of one job's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    since: Instant,
    patience: Duration,
}

impl Silence {
    /// Begins with a job that is made now, whose owner tells this gateway by itself.
    pub(super) const fn of_new_job(now: Instant) -> Self {
        Self { since: now, patience: ASK_FIRST_AFTER }
    }

    /// Begins with a job whose owner may not know that this gateway follows it.
    pub(super) const fn of_earlier_job(now: Instant) -> Self {
        Self { since: now, patience: Duration::ZERO }
    }

    /// Notes that something was heard, or is asked for.
    pub(super) const fn ended(&mut self, now: Instant) {
        (self.since, self.patience) = (now, ASK_AFTER);
    }

    /// Returns whether the owner is to be asked now. The next silence begins with that.
    pub(super) fn is_due(&mut self, now: Instant, has_begun: bool) -> bool {
        if now.saturating_duration_since(self.since) < self.patience {
            return false;
        }
        let next =
            if has_begun { ASK_AFTER } else { (self.patience * 2).clamp(ASK_FIRST_AFTER, ASK_LAST_AFTER) };
        (self.since, self.patience) = (now, next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the seconds at which is asked, of ninety.
    fn asked(mut silence: Silence, began: Instant, begins_at: u64) -> Vec<u64> {
        let is_due = |second: &u64| {
            let now = began + Duration::from_secs(*second);
            if *second == begins_at {
                silence.ended(now);
            }
            silence.is_due(now, *second >= begins_at)
        };
        (0..90).filter(is_due).collect()
    }

    #[test]
    fn a_job_that_waits_is_asked_for_less_and_less_often_and_one_that_has_begun_each_second() {
        let now = Instant::now();
        assert_eq!(asked(Silence::of_new_job(now), now, 99), [5, 15, 35, 65]);
        assert_eq!(asked(Silence::of_earlier_job(now), now, 99), [0, 5, 15, 35, 65]);
        let begun: Vec<u64> = [5, 15].into_iter().chain(21..90).collect();
        assert_eq!(asked(Silence::of_new_job(now), now, 20), begun);
    }
}
