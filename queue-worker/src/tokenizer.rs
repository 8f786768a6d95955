//! Turns text into tokens and back: short texts at once, longer ones on the runtime's blocking pool, a few prompts at
//! a time. It knows the model folder's chat template and nothing of engines.

use std::sync::Arc;

use infera_model::chat::{AnswerText, ChatError, ChatModel};
use infera_types::byte_budget::ByteBudget;
use infera_types::knobs::Knobs;
use infera_types::time::Timestamp;
use infera_types::{job::ChatMessage, numbers::TokenId};
use tokio::sync::Semaphore;

/// The largest conversation that is rendered on the calling thread, in bytes. It takes a tenth of a millisecond, and
/// so does handing it to another thread and back.
const SHORT_BYTES: usize = 1_024;

/// The approximate size of what a template puts around each message, in bytes. With it, many empty messages don't
/// count as a short conversation.
const MESSAGE_BYTES: usize = 32;

/// The largest answer that is turned into text on the calling thread, in tokens, for the same reason.
const SHORT_TOKENS: usize = 256;

/// Bounds the texts in work, of all models together: what turning text into tokens takes in memory doesn't depend on the number
/// of models.
#[derive(Clone, Debug)]
pub(crate) struct TextBounds {
    /// One permit for each prompt in work. Callers hold slots, so the number of those that wait here is bounded too.
    permits: Arc<Semaphore>,
    /// The bytes of prompts in work.
    work: ByteBudget,
}

impl TextBounds {
    /// Allows at most `threads` prompts in work at a time, of at most `bytes_max` bytes together.
    pub(crate) fn new(threads: usize, bytes_max: u32) -> Self {
        Self { permits: Arc::new(Semaphore::new(threads)), work: ByteBudget::new(bytes_max) }
    }
}

/// Turns text into tokens and back for one model.
pub(crate) struct Tokenizer {
    chat: Arc<ChatModel>,
    bounds: TextBounds,
}

/// The reason why there are no tokens or no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenizerError {
    /// The conversation doesn't fit the template, or the tokens aren't in the tokenizer's vocabulary.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The thread ended: the tokenizer or the template has a bug, or the runtime is shutting down.
    #[error("the tokenizer's thread ended: {0}")]
    Ended(String),
}

impl Tokenizer {
    /// Makes a tokenizer within `bounds`.
    pub(crate) const fn new(chat: Arc<ChatModel>, bounds: TextBounds) -> Self {
        Self { chat, bounds }
    }

    /// Renders a conversation as the model's prompt.
    pub(crate) async fn render(
        &self,
        messages: Vec<ChatMessage>,
        now: Timestamp,
    ) -> Result<Vec<TokenId>, TokenizerError> {
        let length = |message: &ChatMessage| MESSAGE_BYTES + message.role.len() + message.content.len();
        let bytes = messages.iter().map(length).sum::<usize>();
        if bytes <= SHORT_BYTES {
            return Ok(self.chat.render(&messages, now)?);
        }
        self.on_a_thread(bytes, move |chat| chat.render(&messages, now)).await
    }

    /// Returns the text of an answer, up to the first of the knobs' stop strings.
    pub(crate) async fn answer_text(
        &self,
        tokens: Vec<TokenId>,
        knobs: &Knobs,
    ) -> Result<String, TokenizerError> {
        if tokens.len() <= SHORT_TOKENS {
            return Ok(self.chat.answer_text(&tokens, knobs)?.text);
        }
        let knobs = knobs.clone();
        let stopped =
            self.on_a_thread(size_of_val(&tokens[..]), move |chat| chat.answer_text(&tokens, &knobs));
        Ok(stopped.await?.text)
    }

    /// Starts to turn an answer's tokens into the same text as they come.
    pub(crate) fn answer_stream(&self, knobs: &Knobs) -> AnswerText {
        self.chat.answer_stream(knobs)
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce(&ChatModel) -> Result<T, ChatError> + Send + 'static,
    ) -> Result<T, TokenizerError> {
        let ended = |why: String| TokenizerError::Ended(why);
        let _permit = self.bounds.permits.acquire().await.map_err(|error| ended(error.to_string()))?;
        let _held = self.bounds.work.hold(bytes).await;
        let chat = Arc::clone(&self.chat);
        let done = tokio::task::spawn_blocking(move || job(&chat)).await;
        Ok(done.map_err(|error| ended(error.to_string()))??)
    }
}
