//! The JSON objects that show a job: OpenAI's `chat.completion` for an answer (on both faces, because the seed's own
//! schema is empty), an error for any other end, and the job object of `GET /v1/jobs/{id}`. This file only shapes
//! values.

use infera_ledger::{JobState, JobView, ListedJob, NumberedEnd};
use infera_types::ids::ModelName;
use infera_types::job::{Answer, End, FinishReason, Settlement, Verification, VerificationStatus};
use infera_types::money::cost_text;
use serde_json::{Value, json};

use crate::api::error::ApiError;

/// Returns the answer of a job that ended with `settlement`, or the reason why there is none.
///
/// # Errors
/// The error that the client gets instead of an answer.
pub(crate) fn of_end(view: &JobView, settlement: &Settlement) -> Result<Value, ApiError> {
    if view.kept.erased_ms.is_some() {
        return Err(ApiError::Erased);
    }
    match &settlement.end {
        End::Succeeded { answer, verification } => {
            Ok(chat_completion(view, &settlement.model, answer, &shown(verification, view.dispute)))
        }
        End::Failed { reason, message } => Err(ApiError::Failed(*reason, message.clone())),
        End::Cancelled => Err(ApiError::Cancelled),
        End::Expired => Err(ApiError::Expired),
    }
}

/// Returns the verification with the status that was found after the settlement, if one was.
fn shown(verification: &Verification, dispute: Option<VerificationStatus>) -> Verification {
    Verification { status: dispute.unwrap_or(verification.status), ..verification.clone() }
}

fn chat_completion(view: &JobView, model: &ModelName, answer: &Answer, verification: &Verification) -> Value {
    let finish_reason = match answer.finish_reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    };
    let digits = view.id.to_string();
    let digits = digits.trim_start_matches("job_");
    let mut completion = json!({
        "id": format!("chatcmpl-{digits}"),
        "object": "chat.completion",
        "created": view.accepted_ms.as_secs(),
        "model": model,
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": answer.text, "refusal": null },
            "logprobs": null,
            "finish_reason": finish_reason,
        }],
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.tokens.len(),
            "total_tokens": u64::from(answer.prompt_tokens) + answer.tokens.len() as u64,
            "prompt_tokens_details": { "cached_tokens": answer.cached_tokens, "audio_tokens": 0 },
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": view.tier,
        "store": view.kept.is_stored,
        "verification": verification,
        "job_id": view.id,
    });
    if let Some(price) = view.price {
        let tokens = u64::try_from(answer.tokens.len()).unwrap_or(u64::MAX);
        completion["usage"]["cost"] = cost_text(price.cost(answer.prompt_tokens.into(), tokens)).into();
    }
    // Another digest means other model files, which may give other tokens for the same seed. OpenAI's schema allows
    // no null here.
    if let Some(model) = answer.model {
        completion["system_fingerprint"] = format!("fp_{:.16}", model.to_string()).into();
    }
    completion
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
    if let Some(erased) = view.kept.erased_ms {
        object["erased"] = json!(erased.as_secs());
    }
    if let Some(settlement) = &view.settlement {
        object["ended"] = json!(settlement.settled_ms.as_secs());
        if let End::Succeeded { verification, .. } = &settlement.end {
            object["verification"] = json!(shown(verification, view.dispute));
        }
        match of_end(view, settlement) {
            Ok(result) => object["result"] = result,
            Err(error) => object["error"] = error.object(),
        }
    }
    object
}
