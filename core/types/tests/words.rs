//! The words of our enumerations. They are stored, sent and counted, so a variant that is renamed keeps its word.

use infera_types::ids::NodeId;
use infera_types::job::{
    Answer, End, FailureReason, FinishReason, ReplicaCounts, Rung, Verification, VerificationStatus,
};
use infera_types::messages::RefusalReason;
use serde::Serialize;
use serde_json::Value;
use strum::VariantArray as _;

/// Returns the words of all variants, which columns, logs and metrics use, after checking that JSON has the same.
fn words<T: Copy + Serialize>(variants: &[T], word: fn(T) -> &'static str) -> Vec<&'static str> {
    for variant in variants {
        assert_eq!(serde_json::to_value(variant).ok(), Some(Value::from(word(*variant))));
    }
    variants.iter().copied().map(word).collect()
}

#[test]
fn reasons_and_rungs_keep_their_words() {
    assert_eq!(
        words(FailureReason::ALL, FailureReason::word),
        [
            "poison",
            "no_consensus",
            "too_many_misses",
            "insufficient_nodes",
            "context_length",
            "invalid_messages",
            "unprocessable",
            "model_removed",
        ]
    );
    assert_eq!(words(Rung::VARIANTS, Rung::word), ["identical", "benign", "text", "referee"]);
    assert_eq!(
        words(RefusalReason::VARIANTS, RefusalReason::word),
        ["busy", "draining", "crashed", "expired", "unsupported", "broken"]
    );
}

#[test]
fn ends_have_the_same_word_in_json() {
    let answer = Answer {
        text: String::new(),
        tokens: Vec::new(),
        finish_reason: FinishReason::Stop,
        prompt_tokens: 0,
        cached_tokens: 0,
        numbers: Vec::new(),
        spelled: Vec::new(),
        node: NodeId::fresh(),
        model: None,
    };
    let verification = Verification {
        status: VerificationStatus::Unverified,
        replicas: ReplicaCounts { asked: 1, answered: 1, agreed: 1 },
        rung: None,
        numbers: None,
        thresholds: String::new(),
        backstop: None,
    };
    let failed = End::Failed { reason: FailureReason::Poison, message: String::new() };
    for end in [End::Succeeded { answer, verification }, failed, End::cancelled(), End::Expired] {
        let json = serde_json::to_value(&end).ok();
        assert_eq!(json.as_ref().and_then(|end| end["status"].as_str()), Some(end.word()), "{json:?}");
    }
}
