//! Why events end before the last one.

use crate::api::error::ApiError;
use crate::api::event_stream::Unsent;
use crate::jobs::Overturned;

/// Why a stream ends before its last event.
pub(in crate::routes) enum Ended {
    /// The client is gone.
    Client,
    /// The client is told why.
    Early(ApiError),
}

impl From<Unsent> for Ended {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Gone => Self::Client,
            Unsent::TooSlow => Self::Early(ApiError::SlowReader),
        }
    }
}

impl From<Overturned> for Ended {
    fn from(_: Overturned) -> Self {
        Self::Early(ApiError::StreamOverturned)
    }
}

impl From<ApiError> for Ended {
    fn from(error: ApiError) -> Self {
        Self::Early(error)
    }
}
