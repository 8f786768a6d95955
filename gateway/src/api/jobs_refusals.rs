//! Why jobs of a list can't be accepted. The client gets the code and the status that the first of them would get alone, and is
//! told of each at its place, such as `jobs[3].temperature`.

use crate::api::error::ApiError;
use crate::api::group_refusal::GroupRefusal;
use crate::fastapi::{Flaw, Json, Mistakes, Step};

/// The refusals of jobs of one list.
#[derive(Debug, Default)]
pub(crate) struct JobsRefusals {
    first: Option<ApiError>,
    all: Mistakes,
}

impl JobsRefusals {
    /// Adds the refusal of the job at this place.
    pub(crate) fn add(&mut self, place: usize, error: ApiError) {
        let mut location = vec![Step::name("jobs"), Step::Index(place)];
        location.extend(member(&error).into_iter().flat_map(|path| path.split('.')).map(Step::name));
        self.all.add(&location, Flaw::new(error.code(), error.message()), &Json::Null);
        self.first.get_or_insert(error);
    }

    /// Returns `fine` if no job is refused.
    ///
    /// # Errors
    /// [`ApiError::OfJobs`].
    pub(crate) fn none_or<T>(self, fine: T) -> Result<T, ApiError> {
        match self.first {
            None => Ok(fine),
            Some(first) => Err(ApiError::OfJobs { first: Box::new(first), all: self.all }),
        }
    }
}

/// Returns the member of a job that a refusal is about.
fn member(refusal: &ApiError) -> Option<&'static str> {
    match refusal {
        ApiError::KeyReused => Some("idempotency_key"),
        ApiError::Group(GroupRefusal::Unknown) => Some("verification.nodes"),
        error => error.member(),
    }
}
