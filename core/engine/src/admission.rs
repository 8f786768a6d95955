//! The checks that every engine must make, by the trait's contract, before it changes anything. They are pure; the
//! engine keeps the list of sequences.

use std::collections::BTreeSet;

use super::{EngineDescription, EngineError, Prompt, SequenceId};
use infera_types::numbers::TokenId;

fn misuse(text: String) -> Result<(), EngineError> {
    Err(EngineError::Misuse(text))
}

fn check_tokens(description: &EngineDescription, tokens: &[TokenId]) -> Result<(), EngineError> {
    match tokens.iter().find(|&&token| token as usize >= description.vocabulary) {
        Some(token) => {
            misuse(format!("token {token} is outside the vocabulary of {}", description.vocabulary))
        }
        None => Ok(()),
    }
}

/// Checks whether `prompts` may start beside `running` sequences; `is_running` tells which names are taken.
///
/// # Errors
/// [`EngineError::Misuse`], which says which promise was broken.
pub fn check_prefill(
    description: &EngineDescription,
    prompts: &[Prompt<'_>],
    running: usize,
    is_running: impl Fn(SequenceId) -> bool,
) -> Result<(), EngineError> {
    if running + prompts.len() > description.sequences_max {
        let (joining, most) = (prompts.len(), description.sequences_max);
        return misuse(format!("{joining} sequences beside {running} are more than {most}"));
    }
    let mut named = BTreeSet::new();
    for prompt in prompts {
        let name = prompt.sequence;
        if is_running(name) || !named.insert(name) {
            return misuse(format!("sequence {} runs already", name.0));
        }
        check_prompt(description, prompt.tokens)?;
    }
    Ok(())
}

fn check_prompt(description: &EngineDescription, tokens: &[TokenId]) -> Result<(), EngineError> {
    if tokens.is_empty() {
        return misuse("an empty prompt".to_owned());
    }
    if tokens.len() > description.context_max {
        return misuse(format!(
            "{} tokens are over the context of {}",
            tokens.len(),
            description.context_max
        ));
    }
    check_tokens(description, tokens)
}

/// Checks whether `steps` may be taken; `length` returns how many tokens a running sequence has.
///
/// # Errors
/// As [`check_prefill`].
pub fn check_decode(
    description: &EngineDescription,
    steps: &[(SequenceId, TokenId)],
    length: impl Fn(SequenceId) -> Option<usize>,
) -> Result<(), EngineError> {
    let mut named = BTreeSet::new();
    for &(name, token) in steps {
        match length(name) {
            None => return misuse(format!("sequence {} isn't running", name.0)),
            Some(tokens) if tokens >= description.context_max => {
                return misuse(format!("sequence {} is at the context's end, {tokens} tokens", name.0));
            }
            Some(_) if !named.insert(name) => return misuse(format!("sequence {} is named twice", name.0)),
            Some(_) => check_tokens(description, &[token])?,
        }
    }
    Ok(())
}

/// Checks whether `answer` may be scored after `prompt`, and returns the two as one sequence.
///
/// # Errors
/// As [`check_prefill`].
pub fn check_score(
    description: &EngineDescription,
    prompt: &[TokenId],
    answer: &[TokenId],
) -> Result<Vec<TokenId>, EngineError> {
    check_prompt(description, prompt)?;
    let tokens = [prompt, answer].concat();
    check_prompt(description, &tokens)?;
    Ok(tokens)
}
