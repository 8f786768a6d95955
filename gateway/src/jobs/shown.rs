//! What a client that waited is shown of its jobs, from what is known of them without reading them.

use infera_ledger::{JobState, JobView, Kept, Metadata};
use infera_types::choice::Choice;
use infera_types::ids::{JobId, ModelName};
use infera_types::job::Settlement;
use infera_types::money::Price;
use infera_types::service::ServiceTier;
use infera_types::time::Timestamp;

use super::order::Order;

/// What is shown of the jobs of a request without reading them.
pub(super) struct Shown {
    model: ModelName,
    tier: ServiceTier,
    shows_tokens: bool,
    is_stored: bool,
    /// When they were accepted.
    pub(super) accepted_ms: Timestamp,
    /// When they expire, or would have expired.
    pub(super) deadline_ms: Timestamp,
    /// The price at which they were accepted; none if their model is free.
    pub(super) price: Option<Price>,
}

impl Shown {
    /// Returns what is known before the request is accepted.
    pub(super) fn of(order: &Order) -> Self {
        Self {
            model: order.ask.request.model.clone(),
            tier: order.ask.tier,
            shows_tokens: order.ask.shows_tokens,
            is_stored: order.ask.store.unwrap_or(order.caller.privacy.stores),
            accepted_ms: Timestamp::default(),
            deadline_ms: Timestamp::default(),
            price: None,
        }
    }

    /// Returns the jobs with these ends, in the order of the answers.
    pub(super) fn views(&self, ids: &[JobId], ends: Vec<Settlement>) -> Vec<JobView> {
        let count = u32::try_from(ids.len()).unwrap_or(1);
        let view = |settlement: Settlement| JobView {
            id: settlement.job_id,
            choice: Choice {
                index: (0..).zip(ids).find(|(_, id)| **id == settlement.job_id).map_or(0, |(index, _)| index),
                count,
            },
            shows_tokens: self.shows_tokens,
            model: self.model.clone(),
            tier: self.tier,
            state: JobState::Ended,
            accepted_ms: self.accepted_ms,
            deadline_ms: self.deadline_ms,
            settlement: Some(settlement),
            dispute: None,
            metadata: Metadata::new(),
            kept: Kept { is_stored: self.is_stored, erased_ms: None },
            price: self.price,
        };
        let mut views: Vec<JobView> = ends.into_iter().map(view).collect();
        views.sort_unstable_by_key(|view| view.choice.index);
        views
    }
}
