//! Takes the text out of what is stored of a job, the same for every implementation and for the archive. Pure.

use super::stored::{EndForms, SettlementRow, request_json};
use super::{ErasedText, LedgerError, Salt, SettledRecord};
use infera_types::ids::Digest;
use infera_types::job::{End, Settlement};
use infera_types::time::Timestamp;

/// Returns a settlement without the answer's text, tokens and numbers, the failure's sentence, the replicas' tokens and numbers,
/// and what the group has of the prompt and of the request's texts.
/// The nodes that were asked, the times and the kind of the end stay.
#[must_use]
pub fn without_text(settlement: &Settlement) -> Settlement {
    let mut bare = settlement.clone();
    match &mut bare.end {
        End::Succeeded { answer, .. } => {
            answer.text.clear();
            answer.tokens.clear();
            // They name the tokens too.
            answer.numbers.clear();
            answer.spelled.clear();
        }
        // A template's sentence may quote the conversation.
        End::Failed { message, .. } => message.clear(),
        End::Cancelled { .. } | End::Expired => {}
    }
    if let Some(group) = &mut bare.group {
        // The tokens of the prompt, and texts and tokens that the client gave; other knobs name no text.
        group.prompt_tokens.clear();
        group.knobs.stop.clear();
        group.knobs.logit_bias.clear();
    }
    for assignment in bare.group.iter_mut().flat_map(|group| &mut group.assignments) {
        if let Some(replica) = &mut assignment.replica {
            replica.tokens.clear();
            replica.numbers.clear();
        }
    }
    bare
}

/// What the ledger stores of a job once its text is erased.
pub struct BareRows {
    /// The settlement's JSON, its hash and the group without text. None if the stored settlement can't be read: it is
    /// overwritten, because it may have text.
    pub settlement: Option<SettlementRow>,
    /// The salted hash of the request.
    pub request: Option<Digest>,
    /// The salted hash of the answer.
    pub answer: Option<Digest>,
}

impl BareRows {
    /// Makes the rows that take the place of those with text.
    ///
    /// # Errors
    /// [`LedgerError::Row`]: they can't be written as JSON.
    pub fn of(
        request: Option<&[u8]>,
        settlement: Option<&Settlement>,
        (salt, forms): (Salt, EndForms),
    ) -> Result<Self, LedgerError> {
        Ok(Self {
            settlement: settlement
                .map(|settlement| SettlementRow::of(&without_text(settlement), forms))
                .transpose()?,
            request: request.map(|body| request_hash(&request_json(body), salt)),
            answer: settlement.and_then(|settlement| answer_hash(&settlement.end, salt)),
        })
    }
}

/// Returns an archived record without text, with the salted hashes of what it had. `line` is the record as it was archived.
/// None if it has no text already.
#[must_use]
pub fn bare_record(
    record: &SettledRecord,
    line: &str,
    (salt, erased_ms): (Salt, Timestamp),
) -> Option<SettledRecord> {
    if record.erased.is_some() {
        return None;
    }
    let erased = ErasedText {
        erased_ms,
        request: record.request.as_ref().map(|request| request_hash(request, salt)),
        answer: answer_hash(&record.settlement.end, salt),
        record: Some(salt.hash(line.as_bytes())),
    };
    Some(SettledRecord {
        job_id: record.job_id,
        accepted_ms: record.accepted_ms,
        tier: record.tier,
        request: None,
        settlement: without_text(&record.settlement),
        postings: record.postings.clone(),
        erased: Some(erased),
    })
}

/// Hashes a request as the archive shows it, so that ledger and archive have the same hash.
fn request_hash(request: &serde_json::Value, salt: Salt) -> Digest {
    salt.hash(request.to_string().as_bytes())
}

fn answer_hash(end: &End, salt: Salt) -> Option<Digest> {
    if let End::Succeeded { answer, .. } = end { Some(salt.hash(answer.text.as_bytes())) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::settlement_of;
    use infera_types::ids::JobId;
    use infera_types::numbers::TokenNumbers;

    /// What is wrong with a settlement that is overwritten is logged.
    #[test]
    fn an_unreadable_settlement_is_told_without_its_text() {
        for json in
            [r#"{"end": "my secret"}"#, r#"{"job_id": 7, "end": {"my secret": 1}}"#, r#"["my secret"]"#]
        {
            let error =
                settlement_of(JobId::new(), json.as_bytes(), None).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("line 1, column ") && !error.contains("secret"), "{error}");
        }
    }
    /// Numbers name tokens, and a group has tokens of the prompt and texts of the request.
    #[test]
    fn nothing_that_names_tokens_is_left() {
        let numbers = [TokenNumbers {
            top: vec![(987_654, 1.0)],
            log_sum_exp: 1.0,
            logit_max: None,
            likeliest: vec![(987_654, 1.0)],
        }];
        let text: Settlement = serde_json::from_value(serde_json::json!({
            "job_id": JobId::new(), "account": "a", "model": "m", "gateway": "g", "settled_ms": 1,
            "end": { "status": "succeeded", "verification": {
                "status": "verified", "replicas": { "asked": 1, "answered": 1, "agreed": 1 }, "thresholds": "1",
            }, "answer": {
                "text": "a secret", "tokens": [987_654], "finish_reason": "stop", "prompt_tokens": 1, "node": "n",
                "numbers": numbers,
            } },
            "group": {
                "verifier": "v", "assignments": [], "deadline_ms": 1, "temperature": 0.5,
                "sample_key": Digest::of(b"key"), "prompt_tokens": [987_654],
                "knobs": { "stop": ["a secret"], "logit_bias": { "987654": 1.0 }, "top_k": 3 },
            },
        }))
        .unwrap();
        let bare = serde_json::to_string(&without_text(&text)).unwrap();
        assert!(!bare.contains("secret") && !bare.contains("987654"), "{bare}");
        assert!(bare.contains("top_k"), "what names no text stays: {bare}");
    }
}
