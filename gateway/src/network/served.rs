//! Whether requests for a model of the catalogue are taken. Pure.

use std::time::Instant;

use infera_ledger::CatalogueEntry;

use super::capacity::Capacity;
use crate::api::error::ApiError;

/// Returns the reason why no request for a model is taken, however much room there is: an operator removed it, or none of the
/// live verifiers offers it. None if it is served, or while no verifier is heard.
#[must_use]
pub(crate) fn not_served(entry: &CatalogueEntry, capacity: &Capacity, now: Instant) -> Option<ApiError> {
    if entry.is_removed() {
        return Some(ApiError::ModelRemoved(entry.name.to_string()));
    }
    (capacity.offers(&entry.name, now) == Some(false)).then(|| ApiError::ModelGone(entry.name.to_string()))
}
