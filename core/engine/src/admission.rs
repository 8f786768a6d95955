//! The checks that every engine must make, by the trait's contract, before it changes anything. They are pure; the
//! engine keeps the list of sequences.

use std::collections::BTreeSet;

use super::{EngineDescription, EngineError, Progress, Prompt, Scoring, SequenceId};
use infera_types::numbers::TokenId;

/// How far a sequence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How many tokens are computed or were cached.
    pub tokens: usize,
    /// How many tokens its prompt has.
    pub prompt_tokens: usize,
    /// How many of the prompt's tokens were cached.
    pub cached_tokens: usize,
}

impl Extent {
    /// Returns a sequence of which nothing is computed yet.
    #[must_use]
    pub const fn new(prompt_tokens: usize) -> Self {
        Self { tokens: 0, prompt_tokens, cached_tokens: 0 }
    }

    /// Returns whether tokens of the prompt are left.
    #[must_use]
    pub const fn is_prefilling(self) -> bool {
        self.tokens < self.prompt_tokens
    }

    /// Returns how far the prompt is.
    #[must_use]
    pub const fn progress(self) -> Progress {
        Progress {
            tokens_left: self.prompt_tokens.saturating_sub(self.tokens),
            cached_tokens: self.cached_tokens,
        }
    }

    /// Returns the places of the next chunk's tokens in the prompt.
    #[must_use]
    pub fn next_chunk(self, chunk_tokens: usize) -> std::ops::Range<usize> {
        self.tokens..self.prompt_tokens.min(self.tokens.saturating_add(chunk_tokens.max(1)))
    }
}

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

/// Checks whether `prompts` may start or go on beside `running` sequences; `extent` tells how far a known one is.
///
/// # Errors
/// [`EngineError::Misuse`], which says which promise was broken.
pub fn check_prefill(
    description: &EngineDescription,
    prompts: &[Prompt<'_>],
    running: usize,
    extent: impl Fn(SequenceId) -> Option<Extent>,
) -> Result<(), EngineError> {
    let joining = prompts.iter().filter(|prompt| extent(prompt.sequence).is_none()).count();
    if running + joining > description.sequences_max {
        let most = description.sequences_max;
        return misuse(format!("{joining} sequences beside {running} are more than {most}"));
    }
    let mut named = BTreeSet::new();
    for prompt in prompts {
        let name = prompt.sequence;
        if !named.insert(name) {
            return misuse(format!("sequence {} is named twice", name.0));
        }
        match extent(name) {
            Some(known) if !known.is_prefilling() => {
                return misuse(format!("sequence {} runs already", name.0));
            }
            Some(known) if known.prompt_tokens != prompt.tokens.len() => {
                return misuse(format!("sequence {} began with another prompt", name.0));
            }
            _ => check_prompt(description, prompt.tokens)?,
        }
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

/// Checks whether `steps` may be taken; `extent` tells how far a known sequence is.
///
/// # Errors
/// As [`check_prefill`].
pub fn check_decode(
    description: &EngineDescription,
    steps: &[(SequenceId, TokenId)],
    extent: impl Fn(SequenceId) -> Option<Extent>,
) -> Result<(), EngineError> {
    let mut named = BTreeSet::new();
    for &(name, token) in steps {
        match extent(name) {
            None => return misuse(format!("sequence {} isn't running", name.0)),
            Some(known) if known.is_prefilling() => {
                return misuse(format!("sequence {}'s prompt is not complete", name.0));
            }
            Some(known) if known.tokens >= description.context_max => {
                return misuse(format!(
                    "sequence {} is at the context's end, {} tokens",
                    name.0, known.tokens
                ));
            }
            Some(_) if !named.insert(name) => return misuse(format!("sequence {} is named twice", name.0)),
            Some(_) => check_tokens(description, &[token])?,
        }
    }
    Ok(())
}

/// Checks whether an answer may be scored, and returns prompt and answer as one sequence. `scored` is the score that is
/// not complete; `is_running` tells which names are taken.
///
/// # Errors
/// As [`check_prefill`].
pub fn check_score(
    description: &EngineDescription,
    scoring: &Scoring<'_>,
    scored: Option<(SequenceId, Extent)>,
    is_running: impl Fn(SequenceId) -> bool,
) -> Result<Vec<TokenId>, EngineError> {
    let name = scoring.sequence;
    check_prompt(description, scoring.prompt)?;
    let tokens = [scoring.prompt, scoring.answer].concat();
    check_prompt(description, &tokens)?;
    let refused = match scored {
        Some((other, _)) if other != name => Some(format!("the score {} is not complete", other.0)),
        Some((_, extent)) if extent.prompt_tokens != tokens.len() => {
            Some(format!("the score {} began with other tokens", name.0))
        }
        None if is_running(name) => Some(format!("sequence {} runs already", name.0)),
        _ => None,
    };
    match refused {
        Some(text) => Err(EngineError::Misuse(text)),
        None => Ok(tokens),
    }
}
