//! One answer of a stream in progress: how much of it the client was shown.

use infera_types::frames::Watched;
use infera_types::ids::JobId;

use crate::api::chunks::GoesOn;
use crate::api::event_stream::PIECE_MAX_BYTES;
use crate::api::job_events::EventId;
use crate::jobs::{Following, Mark, Overturned, Passing};

/// One answer of a stream in progress.
pub(super) struct Answering {
    pub(super) index: usize,
    pub(super) job: JobId,
    /// What is released of it; none if nothing is before the end.
    pub(super) following: Option<Following>,
    pub(super) mark: Mark,
    pub(super) has_role: bool,
}

impl Answering {
    /// Returns from where a client goes on without this stream.
    pub(super) fn goes_on(&self) -> GoesOn {
        let (bytes, hash) = self.mark.place();
        GoesOn { index: self.index, job: self.job, shown: EventId { status: "running", bytes, hash } }
    }

    /// Returns what the client has of it.
    pub(super) fn had(&self) -> Watched {
        match &self.following {
            Some(following) => following.had(&self.mark),
            None => Watched { job: self.job, passed_on: Passing::default().passed_on(), stop: false },
        }
    }

    /// Returns the next piece of text that may be shown.
    pub(super) fn next(&mut self) -> Result<Option<String>, Overturned> {
        match &self.following {
            Some(following) => following.next(&mut self.mark, PIECE_MAX_BYTES),
            None => Ok(None),
        }
    }
}
