//! Reserves the tokens that a conversation may take, before it becomes a job.

use std::sync::Arc;

use infera_ledger::{CatalogueEntry, JobView};
use infera_types::ids::JobId;
use infera_types::job::{JobRequest, Settlement};

use crate::access::{Attempt, Caller, Limits, Reserved, Used, Wanted};
use crate::api::chat_request::ChatRequest;
use crate::api::failure::Failure;
use crate::jobs::Jobs;
use crate::jobs::accept::Outcome;
use crate::jobs::ends::has_ended;
use crate::jobs::following::Followed;
use crate::jobs::prompt::prompt_tokens;

/// Reserves the tokens of a caller's request: an estimate of its prompt, and the longest answers that it may get.
///
/// # Errors
/// The client ran into its limit.
pub(super) fn reserve(
    limits: &Arc<Limits>,
    jobs: &Jobs,
    (caller, ask): (&Arc<Caller>, &ChatRequest),
    attempt: Attempt,
) -> Result<Reserved, Failure> {
    let request = &ask.request;
    let model = jobs.catalogue.model(request.model.as_str());
    let first = estimate(request, model.as_deref());
    let answer = model.map_or(request.max_tokens, |model| request.max_tokens.min(model.context_max));
    let wanted = Wanted { first, further: answer.into(), choices: ask.choices };
    Ok(limits.reserve(caller, wanted, attempt)?)
}

/// Returns an estimate of a request's tokens: its prompt's, and the longest answer's, within the model's context.
#[must_use]
pub(super) fn estimate(request: &JobRequest, model: Option<&CatalogueEntry>) -> u64 {
    let whole = prompt_tokens(&request.messages, model).saturating_add(u64::from(request.max_tokens));
    model.map_or(whole, |model| whole.min(u64::from(model.context_max)))
}

/// Settles the tokens of a conversation that was answered or failed while its client waited. Where its job may still run, all
/// of them count as used.
pub(super) fn settle(reserved: Reserved, outcome: &Result<Outcome, Failure>) {
    match outcome {
        Ok(outcome) if outcome.replayed => reserved.used(0),
        Ok(outcome) => reserved.used(used_by(&outcome.views)),
        Err(failure) => until_ends(reserved, failure),
    }
}

/// Settles the tokens of a conversation whose client hung up, by the ends of its jobs; `jobs` are all of them in the order of the
/// answers. One without an end was cancelled, which costs nothing.
pub(super) fn settle_parted(reserved: Reserved, jobs: &[JobId], ends: &[Settlement]) {
    let used = |end: &Settlement| Used::of(end).by_choice(jobs.first() != Some(&end.job_id));
    reserved.used(ends.iter().map(used).sum());
}

/// Returns the tokens that a request's answers used, the prompt once.
fn used_by(views: &[JobView]) -> u64 {
    let used = |view: &JobView| {
        let used = view.settlement.as_ref().map(Used::of).unwrap_or_default();
        used.by_choice(view.choice.index > 0)
    };
    views.iter().map(used).sum()
}

/// Holds the tokens until the ends of the jobs of a failure are known, or gives them back if there are none.
fn until_ends(reserved: Reserved, failure: &Failure) {
    match failure.job {
        Some(job) => reserved.until_ends_of_request(job),
        None => reserved.used(0),
    }
}

/// Settles the tokens of a job that was followed for a while: by its end, or when that is known.
pub(super) fn settle_followed(reserved: Reserved, followed: &Result<Followed, Failure>) {
    match followed {
        Ok(followed) if followed.replayed => reserved.used(0),
        Ok(followed) if has_ended(&followed.views) => reserved.used(used_by(&followed.views)),
        Ok(followed) => reserved.until_ends_of_request(followed.job()),
        Err(failure) => until_ends(reserved, failure),
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
