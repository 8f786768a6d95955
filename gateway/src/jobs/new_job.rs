//! Makes the row of a new job from what was asked for, with the terms of this gateway.

use infera_ledger::{Charge, Keeping, KeyPrivacy, NewJob, Standby};
use infera_types::choice::Choice;
use infera_types::ids::JobId;
use infera_types::job::JobRequest;
use infera_types::time::Timestamp;

use super::handle::{Jobs, Terms};
use super::pricing::{TokensMax, affordable, charge};
use crate::access::Caller;
use crate::api::chat_request::ChatRequest;
use crate::api::error::ApiError;

/// The rows of a request's jobs: that of the first, and what sets the further ones apart.
#[derive(Debug)]
pub(super) struct NewJobs {
    /// The first job.
    pub(super) first: NewJob,
    /// What each further one may cost: an answer without the prompt.
    pub(super) further_charge: Option<Charge>,
}

impl NewJobs {
    /// Returns a row for each of these ids. The first alone has the idempotency key.
    pub(super) fn with_ids(self, ids: &[JobId]) -> Vec<NewJob> {
        let count = u32::try_from(ids.len()).unwrap_or(1);
        let Self { first, further_charge } = self;
        let row = |(index, id): (u32, &JobId)| NewJob {
            id: *id,
            choice: Choice { index, count },
            idempotency: first.idempotency.filter(|_| index == 0),
            charge: if index == 0 { first.charge } else { further_charge },
            ..first.clone()
        };
        (0..).zip(ids).map(row).collect()
    }
}

/// Makes the rows of jobs that no client waits for, with the terms of this gateway and at the model's present price. The caller
/// sets their ids, times and epoch.
///
/// # Errors
/// [`ApiError::PriceAboveMax`], [`ApiError::Internal`].
pub(super) fn new_jobs(
    jobs: &Jobs,
    caller: &Caller,
    ask: ChatRequest,
    context_max: u32,
    standby: Standby,
) -> Result<NewJobs, ApiError> {
    let ChatRequest { mut request, shows_tokens, policy, metadata, store, max_price, .. } = ask;
    // An answer can't be longer than the context, and a smaller number lets nodes reserve less.
    request.max_tokens = request.max_tokens.min(context_max);
    request.knobs.min_tokens = request.knobs.min_tokens.min(request.max_tokens);
    let tokens = TokensMax {
        prompt: TokensMax::of_prompt(&request.messages),
        completion: request.max_tokens.into(),
        context: context_max.into(),
    };
    let price = affordable(jobs.catalogue.price(&request.model), max_price)?;
    let first = NewJob {
        id: JobId::new(),
        choice: Choice::ONLY,
        shows_tokens,
        account: caller.account.clone(),
        key: Some(caller.id.clone()),
        request: stored(&request)?,
        model: request.model,
        policy,
        gateway: jobs.gateway.clone(),
        synchronous: false,
        accepted_ms: Timestamp::default(),
        deadline_ms: Timestamp::default(),
        epoch: 0,
        idempotency: None,
        waiting_max: jobs.terms.waiting_max,
        room: jobs.terms.room,
        standby,
        metadata,
        keeping: keeping(store, caller.privacy, &jobs.terms),
        charge: price.map(|price| charge(price, tokens)),
    };
    let further_charge = price.map(|price| charge(price, TokensMax { prompt: 0, ..tokens }));
    Ok(NewJobs { first, further_charge })
}

/// Returns how long a job's text is kept: what its request says of storing it goes before what its key says.
pub(super) fn keeping(store: Option<bool>, privacy: KeyPrivacy, terms: &Terms) -> Keeping {
    let is_stored = store.unwrap_or(privacy.stores);
    Keeping {
        erase_after: (!is_stored).then_some(terms.unstored),
        retention_days: privacy.retention_days.map(|days| days.min(terms.retention_days_max)),
    }
}

fn stored(request: &JobRequest) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(request).map_err(|error| {
        tracing::error!(%error, "a checked request could not be written as JSON");
        ApiError::Internal
    })
}
