//! What is known of an answer that a node is still writing, from its frames. A frame may be lost, come twice or come late; within
//! one attempt an honest node never says two different tokens at one position.

use infera_types::frames::{AnswerTokens, Attempt};
use infera_types::numbers::TokenId;

/// How many times a node may begin an assignment again: after a crash the broker gives it out once more, alone, and a second crash
/// is refused.
pub const RERUNS_MAX: u32 = 2;

/// What a frame came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// There are more tokens than before.
    Grown,
    /// Nothing is new.
    Nothing,
    /// Tokens before it are missing; the next frame that begins at 0 brings them.
    Gap,
    /// The node began the assignment again: a miss, once for each time.
    Rerun,
    /// Contradicts what the node said before in the same attempt, says more than was asked for, or begins again too often: a
    /// fault of the node. Nothing that it frames counts any more.
    Fault,
}

/// The tokens that one assignment's frames have told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    attempt: Option<Attempt>,
    tokens: Vec<TokenId>,
    tokens_max: usize,
    reruns: u32,
    is_broken: bool,
}

impl Slot {
    /// Begins with nothing told of an answer of at most `tokens_max` tokens.
    #[must_use]
    pub const fn new(tokens_max: usize) -> Self {
        Self { attempt: None, tokens: Vec::new(), tokens_max, reruns: 0, is_broken: false }
    }

    /// Returns the tokens of the latest attempt; none of a node whose frames don't count any more.
    #[must_use]
    pub fn tokens(&self) -> &[TokenId] {
        if self.is_broken { &[] } else { &self.tokens }
    }

    /// Returns whether the node's frames don't count any more.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Takes in what a frame tells of this assignment.
    pub fn take(&mut self, told: &AnswerTokens) -> Taken {
        if self.is_broken {
            return Taken::Nothing;
        }
        let is_rerun = match self.attempt {
            Some(attempt) if told.attempt < attempt => return Taken::Nothing,
            Some(attempt) => told.attempt > attempt,
            None => false,
        };
        if is_rerun {
            self.reruns += 1;
            if self.reruns > RERUNS_MAX {
                return self.broken();
            }
            self.tokens.clear();
        }
        self.attempt = Some(told.attempt);
        let grown = self.extend(usize::try_from(told.from).unwrap_or(usize::MAX), &told.tokens);
        if is_rerun && grown != Taken::Fault { Taken::Rerun } else { grown }
    }

    /// Takes in the whole answer, once its replica has come, which is the last word of its attempt. Returns whether it agrees
    /// with what that attempt's frames told; an answer of an older attempt says nothing about a later one's frames.
    pub fn complete(&mut self, attempt: Attempt, answer: &[TokenId]) -> bool {
        if self.is_broken {
            return false;
        }
        if self.attempt == Some(attempt) && !answer.starts_with(&self.tokens) {
            self.broken();
            return false;
        }
        self.attempt = Some(attempt);
        self.tokens = answer.to_vec();
        true
    }

    /// Has nothing of it count any more, because the answer itself is unsound.
    pub fn silence(&mut self) {
        let _ = self.broken();
    }

    fn extend(&mut self, from: usize, tokens: &[TokenId]) -> Taken {
        if from > self.tokens.len() {
            // A frame that reaches too far is a fault even if what lies before it is missing.
            return if self.is_too_long(from, tokens) { self.broken() } else { Taken::Gap };
        }
        let known = &self.tokens[from..];
        let shared = known.len().min(tokens.len());
        if known[..shared] != tokens[..shared] || self.is_too_long(from, tokens) {
            return self.broken();
        }
        if shared == tokens.len() {
            return Taken::Nothing;
        }
        self.tokens.extend_from_slice(&tokens[shared..]);
        Taken::Grown
    }

    fn is_too_long(&self, from: usize, tokens: &[TokenId]) -> bool {
        from.saturating_add(tokens.len()) > self.tokens_max
    }

    fn broken(&mut self) -> Taken {
        self.is_broken = true;
        self.tokens = Vec::new();
        Taken::Fault
    }
}
