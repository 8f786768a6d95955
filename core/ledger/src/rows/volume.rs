//! The values of accounts with many jobs: jobs that are accepted or cancelled together, lists, and ends in the order in
//! which they are read.

use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};

use super::{Accepted, JobView, Kept, Metadata};
use crate::job_state::JobState;
use infera_types::ids::{AccountId, JobId, ModelName};
use infera_types::job::{End, Settlement};
use infera_types::time::Timestamp;

/// The largest number of jobs in one call, or of ends in one answer. A thousand rows share a commit of some tens of
/// milliseconds.
pub const MANY_MAX: u32 = 1_000;

/// How a job ended, in one word. Tables hold the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, VariantArray, IntoStaticStr, EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EndKind {
    /// With an answer.
    Succeeded = 1,
    /// Without one.
    Failed = 2,
    /// By its account.
    Cancelled = 3,
    /// By its deadline.
    Expired = 4,
}

impl EndKind {
    /// All kinds.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns the kind of an end.
    #[must_use]
    pub const fn of(end: &End) -> Self {
        match end {
            End::Succeeded { .. } => Self::Succeeded,
            End::Failed { .. } => Self::Failed,
            End::Cancelled { .. } => Self::Cancelled,
            End::Expired => Self::Expired,
        }
    }

    /// Returns the kind's word, the same as [`End::word`].
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// Returns the kind that a table holds as `number`, if there is one.
    #[must_use]
    pub fn of_number(number: i64) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| *kind as i64 == number)
    }
}

/// The outcome of accepting several jobs together: all of them, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchAccepted {
    /// Each job is [`Accepted::New`] or [`Accepted::Existing`], in the order in which they were given.
    Stored(Vec<Accepted>),
    /// Nothing was stored: other requests used the idempotency keys of the jobs at these places.
    KeysReused(Vec<usize>),
    /// Nothing was stored, because there is no place for all.
    NoPlace {
        /// The number of jobs, from the first on, for which there is a place.
        fitting: usize,
        /// The bound that the next one reaches, as for a single job.
        refusal: Accepted,
    },
}

/// The outcome of a cancellation for one of several jobs.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most of a collection are the large variant")]
pub enum BatchCancelled {
    /// The cancellation ended the job. The settlement is the row that was written.
    Now(Settlement),
    /// The job had ended before, in this way.
    Before(EndKind),
    /// The account has no such job.
    Unknown,
}

/// The jobs that a list shows. An empty filter shows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs in this state.
    pub state: Option<JobState>,
    /// Only jobs that ended in this way.
    pub end: Option<EndKind>,
    /// Only jobs for this model.
    pub model: Option<ModelName>,
    /// Only jobs that were accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Only jobs that were accepted before this time.
    pub until: Option<Timestamp>,
    /// Only jobs with all of these pairs.
    pub metadata: Metadata,
}

/// A question for some of an account's jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobsQuestion {
    /// The account.
    pub account: AccountId,
    /// Which of its jobs are wanted.
    pub filter: JobFilter,
    /// The job behind which the list begins; none for its beginning.
    pub after: Option<JobId>,
    /// Whether the list runs from the newest job to the oldest.
    pub newest_first: bool,
    /// The most jobs that are returned, at most [`MANY_MAX`].
    pub limit: u32,
}

/// A job in a list: what is known of it without its request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedJob {
    /// The job.
    pub id: JobId,
    /// The model that is asked.
    pub model: ModelName,
    /// The state.
    pub state: JobState,
    /// How it ended, if it did.
    pub end: Option<EndKind>,
    /// When it was accepted.
    pub accepted_ms: Timestamp,
    /// When it expires, or would have expired.
    pub deadline_ms: Timestamp,
    /// When it ended, if it did.
    pub settled_ms: Option<Timestamp>,
    /// The client's pairs.
    pub metadata: Metadata,
    /// What is kept of its text.
    pub kept: Kept,
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobPage {
    /// The jobs, in the list's order.
    pub jobs: Vec<ListedJob>,
    /// The job behind which the next page begins; none at the list's end. It need not be on this page, because a page
    /// ends too when many jobs were examined that the filter leaves out.
    pub next: Option<JobId>,
}

/// A question for the ends of an account's jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndsQuestion {
    /// The account.
    pub account: AccountId,
    /// The number of the end behind which the answer begins; 0 for the first.
    pub after: u64,
    /// The most ends that are returned, at most [`MANY_MAX`].
    pub limit: u32,
    /// The most bytes of stored ends that are returned, unless the first alone has more.
    pub bytes_max: u64,
}

/// The end of a job with its number.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberedEnd {
    /// Its number. Numbers rise in the order in which ends are read, with gaps.
    pub number: u64,
    /// The job.
    pub job: JobId,
    /// The job as its account sees it; none if what is stored of it cannot be read, which the log says.
    pub view: Option<JobView>,
}

/// A cursor in an account's ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndsCursor {
    /// The account.
    pub account: AccountId,
    /// The number of the last end that was read.
    pub after: u64,
}

/// What an account may read behind a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndsReady {
    /// The number of ends behind the cursor, counted up to [`MANY_MAX`].
    pub ends: u32,
    /// The number of the account's latest end that can be read; 0 if there is none.
    pub latest: u64,
    /// The number of the account's jobs whose end cannot be read yet, because they have not ended or were settled only
    /// now.
    pub live: u32,
}

#[cfg(test)]
mod tests {
    use infera_types::job::FailureReason;

    use super::*;

    #[test]
    fn kinds_of_ends_have_the_ends_words_and_are_read_back_from_their_numbers() {
        let failed = End::Failed { reason: FailureReason::Poison, message: String::new() };
        for end in [failed, End::cancelled(), End::Expired] {
            let kind = EndKind::of(&end);
            assert_eq!((kind.word(), kind.word().parse()), (end.word(), Ok(kind)));
        }
        for kind in EndKind::ALL {
            assert_eq!(EndKind::of_number(*kind as i64), Some(*kind));
        }
        assert_eq!(EndKind::Succeeded.word(), "succeeded");
        assert_eq!([0, 5].map(EndKind::of_number), [None, None]);
    }
}
