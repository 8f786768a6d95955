//! The JSON objects that show a job: OpenAI's `chat.completion` for an answer (on both faces, because the seed's own
//! schema is empty), an error for any other end, and the job object of `GET /v1/jobs/{id}`. This file only shapes
//! values.

use infera_ledger::{JobState, JobView};
use infera_types::ids::ModelName;
use infera_types::job::{Answer, End, FinishReason, Settlement, Verification, VerificationStatus};
use serde_json::{Value, json};

use crate::api::error::ApiError;

/// Returns the answer of a job that ended with `settlement`, or the reason why there is none.
///
/// # Errors
/// The error that the client gets instead of an answer.
pub(crate) fn of_end(view: &JobView, settlement: &Settlement) -> Result<Value, ApiError> {
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
            "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": view.tier,
        "verification": verification,
        "job_id": view.id,
    });
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
    });
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
