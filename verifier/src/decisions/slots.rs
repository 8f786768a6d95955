//! What is known of an answer that a node is still writing, from its frames. A frame may be lost, come twice or come late; within
//! one attempt an honest node never says two different tokens at one position.

use infera_types::frames::{AnswerTokens, Attempt};
use infera_types::numbers::TokenId;

/// How many times a node may begin an assignment again: after a crash the broker gives it out once more, alone, and a second crash
/// is refused.
pub const RERUNS_MAX: usize = 2;

/// What an assignment is to its job's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its node is at work: its frames count.
    Writing,
    /// Its whole answer is in and counts. It is the node's last word, so that frames which come after it say nothing.
    Answered,
    /// No answer of it is waited for any more, whether or not that is its node's fault: nothing that it told counts.
    GivenUp,
    /// Its frames or its answer were unsound, which is its node's fault: nothing that it told counts.
    Faulty,
}

impl Standing {
    /// Returns whether what the assignment told counts.
    #[must_use]
    pub const fn has_voice(self) -> bool {
        matches!(self, Self::Writing | Self::Answered)
    }
}

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

/// What a whole answer came to, beside the frames before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    /// It begins with what was framed, or nothing was.
    AsFramed,
    /// It is of another attempt than the latest that was framed: of a later one, whose frames were lost or are still on their
    /// way, or of an earlier one, after which the node began again all the same. It says nothing about the frames of that attempt,
    /// and takes their place. The node began again, which is counted once for each time, however it became known.
    OfAnotherAttempt,
    /// It isn't what its attempt's frames told, or its node began again too often: a fault of the node.
    Fault,
}

/// The tokens that one assignment's frames have told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    standing: Standing,
    /// The attempts that were heard of, the latest that was framed last: at most one more than [`RERUNS_MAX`], and the one that
    /// was too many.
    attempts: Vec<Attempt>,
    tokens: Vec<TokenId>,
    tokens_max: usize,
}

impl Slot {
    /// Begins with nothing told of an answer of at most `tokens_max` tokens.
    #[must_use]
    pub const fn new(tokens_max: usize) -> Self {
        Self { standing: Standing::Writing, attempts: Vec::new(), tokens: Vec::new(), tokens_max }
    }

    /// Returns the tokens of the latest attempt, or of the answer; none of an assignment that has no voice any more.
    #[must_use]
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Returns what the assignment is to its job's stream.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// Returns how many times the node began the assignment again, as far as its frames and its answer tell.
    #[must_use]
    pub const fn reruns(&self) -> usize {
        self.attempts.len().saturating_sub(1)
    }

    /// Takes in what a frame tells of this assignment.
    pub fn take(&mut self, told: &AnswerTokens) -> Taken {
        if self.standing != Standing::Writing {
            return Taken::Nothing;
        }
        let is_rerun = match self.attempts.last() {
            Some(latest) if told.attempt < *latest => return Taken::Nothing,
            Some(latest) => told.attempt > *latest,
            None => false,
        };
        if self.begin(told.attempt) == Begun::TooOften {
            return self.faulty();
        }
        let grown = self.extend(usize::try_from(told.from).unwrap_or(usize::MAX), &told.tokens);
        if is_rerun && grown != Taken::Fault { Taken::Rerun } else { grown }
    }

    /// Takes in the whole answer, once its replica has come: the assignment's last word. An answer that names no attempt, as older
    /// nodes send it, is of the latest one that was framed.
    pub fn complete(&mut self, attempt: Option<Attempt>, answer: &[TokenId]) -> Completed {
        match self.standing {
            Standing::Writing | Standing::Answered => {}
            // It isn't waited for any more, so that it isn't judged.
            Standing::GivenUp => return Completed::AsFramed,
            Standing::Faulty => return Completed::Fault,
        }
        let latest = self.attempts.last().copied();
        let is_of_latest = latest.is_none() || attempt.is_none() || attempt == latest;
        let contradicts = is_of_latest && !answer.starts_with(&self.tokens);
        if contradicts || attempt.is_some_and(|attempt| self.begin(attempt) == Begun::TooOften) {
            self.faulty();
            return Completed::Fault;
        }
        self.standing = Standing::Answered;
        self.tokens = answer.to_vec();
        if is_of_latest { Completed::AsFramed } else { Completed::OfAnotherAttempt }
    }

    /// Has nothing of it count any more, because the answer itself is unsound.
    pub fn silence(&mut self) {
        let _ = self.faulty();
    }

    /// Has nothing of it count any more, because no answer of it is waited for; what has come of it stays. Returns whether that
    /// took a voice away.
    pub fn give_up(&mut self) -> bool {
        let was_writing = self.standing == Standing::Writing;
        if was_writing {
            self.standing = Standing::GivenUp;
            self.tokens = Vec::new();
        }
        was_writing
    }

    /// Notes an attempt, with nothing told of it if it is a new one.
    fn begin(&mut self, attempt: Attempt) -> Begun {
        if self.attempts.contains(&attempt) {
            return Begun::Before;
        }
        self.attempts.push(attempt);
        self.tokens.clear();
        if self.reruns() > RERUNS_MAX { Begun::TooOften } else { Begun::Now }
    }

    fn extend(&mut self, from: usize, tokens: &[TokenId]) -> Taken {
        if from > self.tokens.len() {
            // A frame that reaches too far is a fault even if what lies before it is missing.
            return if self.is_too_long(from, tokens) { self.faulty() } else { Taken::Gap };
        }
        let known = &self.tokens[from..];
        let shared = known.len().min(tokens.len());
        if known[..shared] != tokens[..shared] || self.is_too_long(from, tokens) {
            return self.faulty();
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

    fn faulty(&mut self) -> Taken {
        self.standing = Standing::Faulty;
        self.tokens = Vec::new();
        Taken::Fault
    }
}

/// Whether a node has begun an assignment before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// Known attempt.
    Before,
    /// New attempt.
    Now,
    /// New attempt, one more than a node may make.
    TooOften,
}
