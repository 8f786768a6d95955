//! Estimates how many tokens a prompt has before any tokenizer reads it.

use infera_ledger::CatalogueEntry;
use infera_types::job::ChatMessage;

/// The bytes of text that one token stands for on the average, in English. Other languages have fewer; whatever is charged or
/// counted by the estimate is settled by the count.
const BYTES_PER_TOKEN: usize = 4;

/// The tokens that a template puts around one message.
const AROUND_MESSAGE: usize = 4;

/// Returns an estimate of the tokens of these messages' prompt: by their length, and at least what the model's tokenizer can
/// make of them, if the model is known.
#[must_use]
pub(crate) fn prompt_tokens(messages: &[ChatMessage], model: Option<&CatalogueEntry>) -> u64 {
    let of = |message: &ChatMessage| message.content.len().div_ceil(BYTES_PER_TOKEN) + AROUND_MESSAGE;
    let by_length = u64::try_from(messages.iter().map(of).sum::<usize>()).unwrap_or(u64::MAX);
    by_length.max(model.map_or(0, |model| model.tokens_min(messages)))
}

#[cfg(test)]
mod tests {
    use infera_types::ids::{Digest, ModelName};
    use infera_types::time::Timestamp;

    use super::*;

    fn entry(said_bytes_per_token: Option<u32>) -> CatalogueEntry {
        CatalogueEntry {
            name: ModelName::new("m"),
            digests: Vec::new(),
            tokenizer: Digest::of(b""),
            context_max: 512,
            said_bytes_per_token,
            quantization: None,
            end_tokens: Vec::new(),
            reference_token_us: 1,
            bytes: None,
            created_ms: Timestamp::from_millis(0),
            removed_ms: None,
        }
    }

    #[test]
    fn prompts_are_estimated_by_their_bytes_or_better() {
        for (contents, said_bytes_per_token, tokens) in [
            (&[""][..], None, 4),
            (&["aaaaaaaaa"], None, 7),
            (&["aaaaaaaaa", "a"], None, 12),
            (&["aaaaaaaaa"], Some(1), 9),
            (&["aaaaaaaaa"], Some(13), 7),
        ] {
            let message =
                |content: &&str| ChatMessage { role: "user".to_owned(), content: (*content).to_owned() };
            let messages: Vec<ChatMessage> = contents.iter().map(message).collect();
            let found = prompt_tokens(&messages, Some(&entry(said_bytes_per_token)));
            assert_eq!(found, tokens, "{contents:?} {said_bytes_per_token:?}");
        }
        assert_eq!(prompt_tokens(&[], None), 0);
    }
}
