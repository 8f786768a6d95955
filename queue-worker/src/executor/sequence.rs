//! Holds one answer in progress: its tokens and numbers so far, and the caller that waits for it. It knows nothing of
//! the engine.

use std::sync::Arc;
use std::time::Instant;

use infera_engine::{EngineDescription, Prompt, Row, SequenceId};
use infera_sampling::{Choice, Noise, Rules, Said, Terms};
use infera_types::job::FinishReason;
use infera_types::numbers::{TokenId, TokenNumbers};
use tokio::sync::oneshot;

use super::work::{Decoded, ExecutorError, Watcher, Work};

/// Whether a sequence goes on after another row of logits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More tokens follow.
    Running,
    /// The last token was chosen.
    Complete(FinishReason),
    /// The watcher failed, for this reason.
    Failed(String),
}

/// One answer in progress.
pub(super) struct Sequence {
    work: Work,
    end_tokens: Arc<[TokenId]>,
    rules: Rules,
    noise: Noise,
    watcher: Option<Watcher>,
    reply: oneshot::Sender<Result<Decoded, ExecutorError>>,
    started: Instant,
    tokens: Vec<TokenId>,
    said: Said,
    numbers: Vec<TokenNumbers>,
    cached_tokens: usize,
}

impl Sequence {
    /// Makes an answer without tokens. Any of `end_tokens` ends it.
    pub(super) fn new(
        work: Work,
        watcher: Option<Watcher>,
        end_tokens: Arc<[TokenId]>,
        reply: oneshot::Sender<Result<Decoded, ExecutorError>>,
    ) -> Self {
        let rules = Rules::new(&Terms {
            temperature: work.temperature,
            knobs: &work.knobs,
            top_logprobs: work.top_logprobs,
            end_tokens: &end_tokens,
            prompt: &work.prompt,
        });
        Self {
            noise: Noise::new(&work.sample_key, work.choice),
            work,
            end_tokens,
            rules,
            watcher,
            reply,
            started: Instant::now(),
            tokens: Vec::new(),
            said: Said::default(),
            numbers: Vec::new(),
            cached_tokens: 0,
        }
    }

    /// Checks that this engine can do the work at all. The error says why it can't.
    pub(super) fn check(&self, engine: &EngineDescription) -> Result<(), String> {
        let work = &self.work;
        if work.prompt.is_empty() || work.answer_tokens_max == 0 {
            return Err("an empty prompt or no token of answer".to_owned());
        }
        if work.prompt.len().saturating_add(work.answer_tokens_max) > engine.context_max {
            return Err(format!("prompt and answer are over the context of {} tokens", engine.context_max));
        }
        let known = |token: &TokenId| usize::try_from(*token).is_ok_and(|token| token < engine.vocabulary);
        if !work.prompt.iter().all(known) {
            return Err(format!("the prompt has tokens beyond the vocabulary of {}", engine.vocabulary));
        }
        Ok(())
    }

    /// Returns the length of the prompt, in tokens.
    pub(super) fn prompt_tokens(&self) -> usize {
        self.work.prompt.len()
    }

    /// Returns whether no other sequence may be in the engine meanwhile.
    pub(super) const fn runs_alone(&self) -> bool {
        self.work.alone
    }

    /// Notes that the engine begins with the prompt.
    pub(super) fn start(&mut self, now: Instant) {
        self.started = now;
    }

    /// Notes how many of the prompt's tokens were cached.
    pub(super) fn found_cached(&mut self, cached_tokens: usize) {
        self.cached_tokens = cached_tokens;
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    pub(super) fn prompt(&self, sequence: SequenceId) -> Prompt<'_> {
        Prompt { sequence, tokens: &self.work.prompt, scope: self.work.cache_scope }
    }

    pub(super) fn last_token(&self) -> Option<TokenId> {
        self.tokens.last().copied()
    }

    /// Chooses the next token from a row of raw logits, where it lies in the engine's memory.
    pub(super) fn choose(&self, row: Row<'_>) -> Choice {
        self.rules.choose(row, &self.said, &self.noise)
    }

    /// Takes a chosen token as the next one.
    pub(super) fn advance(&mut self, choice: Choice) -> Progress {
        self.numbers.push(choice.numbers);
        if self.end_tokens.contains(&choice.token) {
            return Progress::Complete(FinishReason::Stop);
        }
        self.tokens.push(choice.token);
        self.said.push(choice.token);
        match self.watcher.as_mut().map(|watcher| watcher(choice.token)) {
            Some(Err(why)) => return Progress::Failed(why),
            Some(Ok(true)) => return Progress::Complete(FinishReason::Stop),
            Some(Ok(false)) | None => {}
        }
        if self.tokens.len() == self.work.answer_tokens_max {
            return Progress::Complete(FinishReason::Length);
        }
        Progress::Running
    }

    /// Returns the number of tokens that the answer has so far.
    pub(super) fn tokens_count(&self) -> u64 {
        self.tokens.len() as u64
    }

    /// Sends the answer to the caller. If the caller has stopped waiting, the answer is dropped.
    pub(super) fn complete(self, finish_reason: FinishReason) {
        let decoded = Decoded {
            tokens: self.tokens,
            numbers: self.numbers,
            finish_reason,
            cached_tokens: self.cached_tokens,
            started: self.started,
            ended: Instant::now(),
        };
        let _ = self.reply.send(Ok(decoded));
    }

    /// Tells the caller that no answer will come, and why.
    pub(super) fn fail(self, error: ExecutorError) {
        let _ = self.reply.send(Err(error));
    }
}
