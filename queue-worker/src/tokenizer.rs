//! Turns text into tokens and back: a short text at once, a longer one on the runtime's blocking pool, a few prompts at a
//! time. It knows the model folder's chat template and nothing of engines.

use std::sync::Arc;

use infera_model::chat::{ChatError, ChatModel};
use infera_types::byte_budget::ByteBudget;
use infera_types::time::Timestamp;
use infera_types::{job::ChatMessage, numbers::TokenId};
use tokio::sync::Semaphore;

/// Conversations up to this length are rendered where they are: it takes a tenth of a millisecond, and a thread to hand
/// them to and back costs as much.
const SHORT_BYTES: usize = 1_024;

/// What a template puts around each message, roughly: many empty messages make no short conversation.
const MESSAGE_BYTES: usize = 32;

/// Answers up to this many tokens are turned into text where they are, for the same reason.
const SHORT_TOKENS: usize = 256;

/// See the module.
pub(crate) struct Tokenizer {
    chat: Arc<ChatModel>,
    /// One permit per prompt in work. Callers hold slots, so those that wait here are bounded too.
    permits: Semaphore,
    /// Bytes of prompts in work.
    work: ByteBudget,
}

/// Why there are no tokens, or no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenizerError {
    /// The conversation doesn't fit the template, or the tokens aren't the tokenizer's.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// A bug in the tokenizer or the template, or the runtime is going down.
    #[error("the tokenizer's thread ended: {0}")]
    Ended(String),
}

impl Tokenizer {
    /// Makes a tokenizer that has at most `threads` prompts in work, and `bytes_max` bytes of them.
    pub(crate) fn new(chat: Arc<ChatModel>, threads: usize, bytes_max: u32) -> Self {
        Self { chat, permits: Semaphore::new(threads), work: ByteBudget::new(bytes_max) }
    }

    /// Renders the conversation as the model's prompt.
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

    /// Returns the text of an answer.
    pub(crate) async fn decode(&self, tokens: Vec<TokenId>) -> Result<String, TokenizerError> {
        if tokens.len() <= SHORT_TOKENS {
            return Ok(self.chat.decode(&tokens)?);
        }
        self.on_a_thread(size_of_val(&tokens[..]), move |chat| chat.decode(&tokens)).await
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce(&ChatModel) -> Result<T, ChatError> + Send + 'static,
    ) -> Result<T, TokenizerError> {
        let ended = |why: String| TokenizerError::Ended(why);
        let _permit = self.permits.acquire().await.map_err(|error| ended(error.to_string()))?;
        let _held = self.work.hold(bytes).await;
        let chat = Arc::clone(&self.chat);
        let done = tokio::task::spawn_blocking(move || job(&chat)).await;
        Ok(done.map_err(|error| ended(error.to_string()))??)
    }
}
