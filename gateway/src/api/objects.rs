//! The JSON objects that show a job: OpenAI's `chat.completion` for an answer (on both faces, because the seed's own
//! schema is empty), an error for any other end, and the job object of `GET /v1/jobs/{id}`. This file only shapes
//! values.

use infera_ledger::{JobState, JobView, ListedJob, NumberedEnd};
use infera_types::ids::JobId;
use infera_types::job::{Answer, End, FinishReason, Settlement, Verification, VerificationStatus};
use infera_types::money::cost_text;
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::logprobs;

/// Returns the answers of a request whose jobs have ended, in their order, or the reason why there are none: one job that failed
/// fails the request. Of several that did, one that wasn't cancelled for another's sake tells why.
///
/// # Errors
/// The error that the client gets instead of an answer.
pub(crate) fn of_ends(views: &[JobView]) -> Result<Value, ApiError> {
    if views.iter().any(|view| view.kept.erased_ms.is_some()) {
        return Err(ApiError::Erased);
    }
    let ends = || views.iter().filter_map(|view| view.settlement.as_ref()).map(|settlement| &settlement.end);
    let failed = |end: &&End| !matches!(end, End::Succeeded { .. });
    let cause = ends()
        .filter(failed)
        .find(|end| !matches!(end, End::Cancelled { .. }))
        .or_else(|| ends().find(failed));
    match cause {
        Some(End::Failed { reason, message }) => return Err(ApiError::Failed(*reason, message.clone())),
        Some(End::Cancelled { .. }) => return Err(ApiError::Cancelled),
        Some(End::Expired) => return Err(ApiError::Expired),
        Some(End::Succeeded { .. }) | None => {}
    }
    let answers: Vec<Answered<'_>> = views.iter().filter_map(Answered::of).collect();
    match answers.first() {
        Some(first) if answers.len() == views.len() => Ok(chat_completion(first, &answers)),
        _ => Err(ApiError::Internal),
    }
}

/// A job that ended with an answer.
struct Answered<'a> {
    view: &'a JobView,
    settlement: &'a Settlement,
    answer: &'a Answer,
    verification: Verification,
}

impl<'a> Answered<'a> {
    fn of(view: &'a JobView) -> Option<Self> {
        let settlement = view.settlement.as_ref()?;
        let End::Succeeded { answer, verification } = &settlement.end else { return None };
        Some(Self { view, settlement, answer, verification: shown(verification, view.dispute) })
    }

    /// Returns the tokens of prompt and answer that count for it: the prompt counts with the first answer of its request.
    fn counted(&self) -> (u64, u64) {
        let (prompt, answer) = self.settlement.end.owed().unwrap_or_default();
        (if self.view.choice.index == 0 { prompt } else { 0 }, answer)
    }

    fn choice(&self, is_one_of_several: bool) -> Value {
        let Self { view, answer, .. } = self;
        let finish_reason = match answer.finish_reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        };
        let mut choice = json!({
            "index": view.choice.index,
            "message": { "role": "assistant", "content": answer.text, "refusal": null },
            "logprobs": logprobs::of(answer),
            "finish_reason": finish_reason,
        });
        if view.shows_tokens {
            choice["token_ids"] = json!(answer.tokens);
        }
        if is_one_of_several {
            choice["job_id"] = json!(view.id);
            choice["verification"] = json!(self.verification);
        }
        choice
    }
}

/// Orders what is known of answers from the best to the worst.
const fn doubt(status: VerificationStatus) -> u8 {
    match status {
        VerificationStatus::Verified => 0,
        VerificationStatus::Upheld => 1,
        VerificationStatus::Unverified => 2,
        VerificationStatus::Disputed => 3,
        VerificationStatus::Overturned => 4,
    }
}

/// Returns the verification with the status that was found after the settlement, if one was.
fn shown(verification: &Verification, dispute: Option<VerificationStatus>) -> Verification {
    Verification { status: dispute.unwrap_or(verification.status), ..verification.clone() }
}

/// Returns the id of the completion that a request's first job names.
#[must_use]
pub(crate) fn completion_id(first: JobId) -> String {
    let digits = first.to_string();
    format!("chatcmpl-{}", digits.trim_start_matches("job_"))
}

/// Makes the completion of a request's answers. What is known of all is what is known of the most doubtful.
fn chat_completion(first: &Answered<'_>, answers: &[Answered<'_>]) -> Value {
    let Answered { view, settlement, answer, .. } = first;
    let counted = answers.iter().map(Answered::counted);
    let (prompt, completion) =
        counted.fold((0_u64, 0_u64), |sum, one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)));
    let worst = answers.iter().max_by_key(|answer| doubt(answer.verification.status)).unwrap_or(first);
    let choices: Vec<Value> = answers.iter().map(|answer| answer.choice(answers.len() > 1)).collect();
    let mut object = json!({
        "id": completion_id(view.choice.first(view.id)),
        "object": "chat.completion",
        "created": view.accepted_ms.as_secs(),
        "model": settlement.model,
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt.saturating_add(completion),
            "prompt_tokens_details": {
                "cached_tokens": u64::from(answer.cached_tokens).min(prompt), "audio_tokens": 0,
            },
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": view.tier,
        "store": view.kept.is_stored,
        "verification": worst.verification,
        "job_id": view.id,
    });
    if let Some(price) = view.price {
        // Each job is charged by itself.
        let costs = answers.iter().map(Answered::counted).map(|(prompt, tokens)| price.cost(prompt, tokens));
        object["usage"]["cost"] = cost_text(costs.sum()).into();
    }
    // Another digest means other model files, which may give other tokens for the same seed. OpenAI's schema allows
    // no null here.
    if let Some(model) = answer.model {
        object["system_fingerprint"] = format!("fp_{:.16}", model.to_string()).into();
    }
    object
}

/// Returns what a client owes that hung up, for the part of the answer that it had; none if it owes nothing.
fn usage_of_part(view: &JobView, end: &End) -> Option<Value> {
    let (prompt, tokens) = end.owed()?;
    let prompt = if view.choice.index == 0 { prompt } else { 0 };
    let mut usage = json!({
        "prompt_tokens": prompt,
        "completion_tokens": tokens,
        "total_tokens": prompt.saturating_add(tokens),
    });
    if let Some(price) = view.price {
        usage["cost"] = cost_text(price.cost(prompt, tokens)).into();
    }
    Some(usage)
}

/// Returns the job's status: `queued`, `running`, or the word of its end.
#[must_use]
pub(crate) const fn status(view: &JobView) -> &'static str {
    match (&view.settlement, view.state) {
        (Some(settlement), _) => settlement.end.word(),
        (None, JobState::Queued) => "queued",
        (None, JobState::Running) => "running",
        // This can't happen: the settlement is read in the same statement as the state.
        (None, JobState::Ended) => "unknown",
    }
}

/// Makes the object of a job in a list, which has no answer.
#[must_use]
pub(crate) fn listed(job: &ListedJob) -> Value {
    let mut object = json!({
        "id": job.id,
        "object": "job",
        "job_id": job.id,
        "status": listed_status(job),
        "model": job.model,
        "created": job.accepted_ms.as_secs(),
        "expires": job.deadline_ms.as_secs(),
        "metadata": job.metadata,
        "store": job.kept.is_stored,
    });
    if let Some(erased) = job.kept.erased_ms {
        object["erased"] = json!(erased.as_secs());
    }
    if let Some(settled) = job.settled_ms {
        object["ended"] = json!(settled.as_secs());
    }
    object
}

/// Returns the status of a job in a list.
#[must_use]
pub(crate) fn listed_status(job: &ListedJob) -> &'static str {
    match (job.end, job.state) {
        (Some(end), _) => end.word(),
        (None, JobState::Queued) => "queued",
        (None, JobState::Running) => "running",
        // This can't happen: a job's end is written together with its state.
        (None, JobState::Ended) => "unknown",
    }
}

/// Makes one line of the results: the job object with the cursor behind it.
#[must_use]
pub(crate) fn result_line(end: &NumberedEnd) -> Value {
    let mut line = match &end.view {
        Some(view) => job(view),
        None => json!({
            "id": end.job,
            "object": "job",
            "job_id": end.job,
            "status": "unknown",
            "error": ApiError::Damaged.object(),
        }),
    };
    line["cursor"] = json!(end_cursor(end.number));
    line
}

/// Returns the cursor behind the end of this number. Its form is not promised to clients.
#[must_use]
pub(crate) fn end_cursor(number: u64) -> String {
    format!("end_{number}")
}

/// Reads a cursor that [`end_cursor`] made.
#[must_use]
pub(crate) fn end_number(cursor: &str) -> Option<u64> {
    let digits = cursor.strip_prefix("end_")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Makes the job object: its status and, once the job has ended, the answer or the reason.
#[must_use]
pub(crate) fn job(view: &JobView) -> Value {
    let mut object = json!({
        "id": view.id,
        "object": "job",
        "job_id": view.id,
        "status": status(view),
        "model": view.model,
        "service_tier": view.tier,
        "created": view.accepted_ms.as_secs(),
        "expires": view.deadline_ms.as_secs(),
        "metadata": view.metadata,
        "store": view.kept.is_stored,
    });
    if !view.choice.is_only() {
        object["choice"] = json!({ "index": view.choice.index, "job_ids": view.choice.all(view.id) });
    }
    if let Some(erased) = view.kept.erased_ms {
        object["erased"] = json!(erased.as_secs());
    }
    if let Some(settlement) = &view.settlement {
        object["ended"] = json!(settlement.settled_ms.as_secs());
        if let End::Succeeded { verification, .. } = &settlement.end {
            object["verification"] = json!(shown(verification, view.dispute));
        }
        if let End::Cancelled { .. } = &settlement.end
            && let Some(usage) = usage_of_part(view, &settlement.end)
        {
            object["usage"] = usage;
        }
        match of_ends(std::slice::from_ref(view)) {
            Ok(result) => object["result"] = result,
            Err(error) => object["error"] = error.object(),
        }
    }
    object
}
