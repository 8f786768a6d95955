//! Reserves the tokens that a conversation may take, before it becomes a job, and settles them by what became of it.

use std::sync::Arc;

use infera_ledger::{CatalogueEntry, JobView};
use infera_types::ids::JobId;
use infera_types::job::{JobRequest, Settlement};

use crate::access::{Attempt, Caller, Limits, Reserved, Used, Wanted};
use crate::api::chat_request::ChatRequest;
use crate::api::failure::Failure;
use crate::jobs::Jobs;
use crate::jobs::accept::{Outcome, Receipt};
use crate::jobs::following::Followed;
use crate::jobs::prompt::prompt_tokens;

/// Reserves the tokens of a caller's request, which is to become the jobs of these ids: an estimate of its prompt, and the longest
/// answers that it may get.
///
/// # Errors
/// The client ran into its limit.
pub(super) fn reserve(
    limits: &Arc<Limits>,
    jobs: &Jobs,
    (caller, ask, ids): (&Arc<Caller>, &ChatRequest, &[JobId]),
    attempt: Attempt,
) -> Result<Reserved, Failure> {
    let request = &ask.request;
    let model = jobs.catalogue.model(request.model.as_str());
    let first = estimate(request, model.as_deref());
    let answer = model.map_or(request.max_tokens, |model| request.max_tokens.min(model.context_max));
    Ok(limits.reserve(caller, ids, Wanted { first, further: answer.into() }, attempt)?)
}

/// Returns an estimate of a request's tokens: its prompt's, and the longest answer's, within the model's context.
#[must_use]
pub(super) fn estimate(request: &JobRequest, model: Option<&CatalogueEntry>) -> u64 {
    let whole = prompt_tokens(&request.messages, model).saturating_add(u64::from(request.max_tokens));
    model.map_or(whole, |model| whole.min(u64::from(model.context_max)))
}

/// Settles the tokens of a conversation that was answered or failed while its client waited.
pub(super) fn settle(reserved: Reserved, outcome: &Result<Outcome, Failure>) {
    match outcome {
        Ok(outcome) if outcome.replayed => reserved.give_back(),
        Ok(outcome) => by_ends(reserved, &outcome.views),
        Err(failure) => until_ends(reserved, failure),
    }
}

/// Settles the tokens of a conversation whose client hung up, by the ends of its jobs that are known. One that joined the jobs of an
/// earlier request made none of its own.
pub(super) fn settle_parted(reserved: Reserved, is_joined: bool, ends: &[Settlement]) {
    if is_joined && ends.is_empty() {
        return reserved.give_back();
    }
    reserved.settle(&ends.iter().map(|end| (end.job_id, Used::of(end))).collect::<Vec<_>>());
}

/// Settles the tokens of a request whose jobs were followed for a while: by the ends that are known.
pub(super) fn settle_followed(reserved: Reserved, followed: &Result<Followed, Failure>) {
    match followed {
        Ok(followed) if followed.replayed => reserved.give_back(),
        Ok(followed) => by_ends(reserved, &followed.views),
        Err(failure) => until_ends(reserved, failure),
    }
}

/// Leaves the tokens of a request reserved whose jobs were accepted just now, and gives those of another one back.
pub(super) fn settle_submitted(reserved: Reserved, submitted: &Result<Receipt, Failure>) {
    match submitted {
        Ok(receipt) if receipt.accepted_ms.is_some() => {}
        // An earlier job has its tokens counted already.
        Ok(_) => reserved.give_back(),
        Err(failure) => until_ends(reserved, failure),
    }
}

/// Settles by the jobs that have ended. Of a request that failed, those count that were answered before, as they do in the ledger.
fn by_ends(reserved: Reserved, views: &[JobView]) {
    let end = |view: &JobView| Some((view.id, Used::of(view.settlement.as_ref()?)));
    reserved.settle(&views.iter().filter_map(end).collect::<Vec<_>>());
}

/// Leaves the tokens reserved if the failure concerns jobs of this request, which may still be answered, or else gives them back.
fn until_ends(reserved: Reserved, failure: &Failure) {
    if !failure.job.is_some_and(|job| reserved.is_for(job)) {
        reserved.give_back();
    }
}

#[cfg(test)]
mod tests {
    use infera_types::ids::ModelName;
    use infera_types::job::ChatMessage;
    use infera_types::knobs::Knobs;

    use super::*;
    use crate::jobs::prompt::tests::entry;

    #[test]
    fn an_estimate_stays_within_the_context() {
        let request = |bytes: usize, max_tokens| JobRequest {
            model: ModelName::new("m"),
            messages: vec![ChatMessage { role: "user".to_owned(), content: "x".repeat(bytes) }],
            max_tokens,
            temperature: 0.0,
            seed: None,
            knobs: Knobs::default(),
            top_logprobs: None,
            stream: None,
        };
        let model = |context_max| CatalogueEntry { context_max, ..entry(None) };
        for (bytes, max_tokens, context_max, expected) in
            [(0, 16, None, 20), (400, 16, None, 120), (401, 16, Some(512), 121), (4_000, 16, Some(512), 512)]
        {
            assert_eq!(
                estimate(&request(bytes, max_tokens), context_max.map(model).as_ref()),
                expected,
                "{bytes} {max_tokens}"
            );
        }
    }
}
