//! The states of a job, and the numbers by which tables hold them.

use serde::{Deserialize, Serialize};

/// Returns the number of a job's state in the tables: `queued`, `running` or `ended`. Numbers rise along a job's life,
/// so `state < ended` holds for every job that has not ended.
///
/// It is a literal, so that `concat!` makes a constant statement of it. Planners use a partial index
/// (`WHERE state = 0`) for statements that say the same number; a plan that PostgreSQL keeps for every value of a
/// parameter cannot use one. The numbers never change: migrations that have run wrote them into indexes, and ledgers
/// hold them in rows.
#[macro_export]
macro_rules! job_state {
    (queued) => {
        0
    };
    (running) => {
        1
    };
    (ended) => {
        2
    };
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for a verifier.
    Queued = job_state!(queued),
    /// A verifier owns it.
    Running = job_state!(running),
    /// It has ended; see its settlement.
    Ended = job_state!(ended),
}

impl JobState {
    /// Returns the state that a table holds as `number`. A number that no program writes counts as ended: such a job is
    /// handed to no verifier, and reading it fails for want of a settlement.
    #[must_use]
    pub const fn of_number(number: i64) -> Self {
        match number {
            job_state!(queued) => Self::Queued,
            job_state!(running) => Self::Running,
            _ => Self::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_back_from_the_number_that_statements_say() {
        for (state, said) in [
            (JobState::Queued, concat!(job_state!(queued))),
            (JobState::Running, concat!(job_state!(running))),
            (JobState::Ended, concat!(job_state!(ended))),
        ] {
            let number = state as i64;
            assert_eq!((said, JobState::of_number(number)), (number.to_string().as_str(), state));
        }
        assert_eq!([-1, 3].map(JobState::of_number), [JobState::Ended; 2]);
    }
}
