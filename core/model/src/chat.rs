//! The text side of a model folder: turns a conversation into the prompt's tokens, and an answer's tokens into its
//! text. Every honest node of a model must get the same tokens, so nothing here depends on the machine: the time that
//! the template sees as the present is passed in, in UTC.
//!
//! Not here: weights and logits (`engine`), the choice of tokens (`sampling`). Templates are told that there are no tools
//! and no documents, because the network's messages do not carry them yet.

mod answer_text;
mod calendar;
mod cutting;
mod forgery;
mod json;
mod loading;
mod template;
mod text_stream;
mod token_bytes;

use std::path::Path;
use std::sync::Arc;

use forgery::{Reach, Spelled, Spellings};
use loading::{TokenizerConfig, end_tokens, load_tokenizer, source, special_tokens};
use template::{Template, Unrendered};
use tokenizers::Tokenizer;

pub use answer_text::{AnswerText, StoppedText};
pub use cutting::{Cut, Cutter};
pub use text_stream::{TextStream, Undecodable};

use crate::folder::{self as model_folder, FolderError, ModelConfig, TOKENIZER, TOKENIZER_CONFIG, read_json};
use infera_types::ids::Digest;
use infera_types::job::ChatMessage;
use infera_types::knobs::Knobs;
use infera_types::numbers::TokenId;
use infera_types::time::Timestamp;

/// The version of the rendering from a conversation to tokens; it accompanies every prompt hash. Since version 2,
/// special tokens that a client spells out are read as ordinary text; in version 1 they became special tokens.
pub const RENDERING: u32 = 2;

/// The roles that a message can have. A template may turn a role's word into a special token, so no other word is
/// rendered.
pub const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// What is wrong with a conversation or a model folder.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The folder is not a usable model. This is the operator's fault.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The template refuses the conversation (roles in the wrong order, say) with this sentence. This is the client's
    /// fault, and the same conversation will be refused again.
    #[error("the model's chat template refuses the conversation: {0}")]
    Refused(String),
    /// The prompt's length in bytes already shows that it leaves no room for an answer. This is the client's fault.
    #[error("the prompt has at least {tokens_min} tokens, and the model's context {context_max}")]
    TooLong {
        /// The fewest tokens that the prompt can have.
        tokens_min: usize,
        /// The most tokens that prompt and answer may have together.
        context_max: usize,
    },
    /// The template failed, which is our fault or that of the model's makers. The same conversation will fail again.
    #[error("the model's chat template fails: {0}")]
    Template(String),
    /// The tokenizer failed on a text, or on tokens that it doesn't have. It will fail again.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
}

impl From<Undecodable> for ChatError {
    fn from(error: Undecodable) -> Self {
        Self::Tokenizer(error.0)
    }
}

/// A conversation rendered as a model's prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its tokens.
    pub tokens: Vec<TokenId>,
    /// The first version of rendering ([`RENDERING`]) that yields these tokens.
    pub since: u32,
}

/// A model folder's tokenizer, chat template and limits, without the ONNX side.
pub struct ChatModel {
    tokenizer: Arc<Tokenizer>,
    template: Template,
    spellings: Spellings,
    spelled: Arc<text_stream::Decoding>,
    token_bytes_max: Option<usize>,
    keeps_what_is_said: bool,
    end_tokens: Vec<TokenId>,
    context_max: usize,
    tokenizer_digest: Digest,
}

impl ChatModel {
    /// Reads from a model folder what rendering a conversation needs.
    ///
    /// # Errors
    /// [`ChatError::Folder`], which names the file and what is wrong with it.
    pub fn load(folder: &Path) -> Result<Self, ChatError> {
        let config = ModelConfig::read(folder)?;
        let tokenizer_config: TokenizerConfig = read_json(folder, TOKENIZER_CONFIG)?;
        let mut tokenizer = load_tokenizer(folder)?;
        let spellings = Spellings::of(&mut tokenizer)
            .map_err(|error| FolderError::unusable(&folder.join(TOKENIZER), error))?;
        let special_tokens = special_tokens(&tokenizer_config.rest);
        let end_tokens = end_tokens(folder, config.end_tokens, &tokenizer, special_tokens.get("eos_token"))?;
        let source = source(folder, tokenizer_config.chat_template)?;
        let template = Template::new(&source, special_tokens)
            .map_err(|error| FolderError::unusable(&folder.join(TOKENIZER_CONFIG), error))?;
        Ok(Self {
            spelled: Arc::new(text_stream::Decoding::of(&tokenizer)),
            token_bytes_max: token_bytes::text_bytes_max(&tokenizer),
            keeps_what_is_said: template.keeps_what_is_said(),
            tokenizer: Arc::new(tokenizer),
            template,
            spellings,
            end_tokens,
            context_max: config.context_max,
            tokenizer_digest: model_folder::tokenizer_digest(folder)?,
        })
    }

    /// Renders the conversation in the model's own form, up to where its answer begins, and returns the prompt's
    /// tokens. `now` is the time that the template sees as the present.
    ///
    /// # Errors
    /// Every [`ChatError`] but `Folder`.
    pub fn render(&self, messages: &[ChatMessage], now: Timestamp) -> Result<Vec<TokenId>, ChatError> {
        Ok(self.prompt(messages, now)?.tokens)
    }

    /// Renders like [`Self::render`], and also returns the version of rendering that the prompt needs.
    ///
    /// # Errors
    /// Every [`ChatError`] but `Folder`.
    pub fn prompt(&self, messages: &[ChatMessage], now: Timestamp) -> Result<Prompt, ChatError> {
        self.prompt_within(messages, now, self.context_max)
    }

    /// Renders like [`Self::prompt`] for a context of `context_max` tokens, as the catalogue has it: models that share the files
    /// that make tokens may differ in it.
    ///
    /// # Errors
    /// Every [`ChatError`] but `Folder`.
    pub fn prompt_within(
        &self,
        messages: &[ChatMessage],
        now: Timestamp,
        context_max: usize,
    ) -> Result<Prompt, ChatError> {
        let (text, forged) = self.render_forged(messages, now, context_max)?;
        let mut tokens = Vec::new();
        let mut at = 0;
        for Spelled { range, spelling } in &forged {
            self.encode(&text[at..range.start], &mut tokens)?;
            tokens.extend_from_slice(self.spellings.as_text(*spelling));
            at = range.end;
        }
        self.encode(&text[at..], &mut tokens)?;
        Ok(Prompt { tokens, since: if forged.is_empty() { 1 } else { RENDERING } })
    }

    /// Returns the prompt's text, before it becomes tokens.
    ///
    /// # Errors
    /// Every [`ChatError`] but `Folder` and `Tokenizer`.
    pub fn render_text(&self, messages: &[ChatMessage], now: Timestamp) -> Result<String, ChatError> {
        self.text_within(messages, now, self.context_max)
    }

    fn text_within(
        &self,
        messages: &[ChatMessage],
        now: Timestamp,
        context_max: usize,
    ) -> Result<String, ChatError> {
        if let Some(message) = messages.iter().find(|message| !ROLES.contains(&message.role.as_str())) {
            let role: String = message.role.chars().take(50).collect();
            return Err(ChatError::Refused(format!("{role:?} is no role.")));
        }
        // Asking for one byte more than the context can hold shows whether the text fits.
        let bytes_max = self.token_bytes_max.map_or(usize::MAX, |bytes| bytes.saturating_mul(context_max));
        self.template.render(messages, now, bytes_max).map_err(|unrendered| match unrendered {
            Unrendered::Refused(sentence) => ChatError::Refused(sentence),
            Unrendered::TooMuch => {
                ChatError::Refused("The conversation is too long to be rendered.".to_owned())
            }
            Unrendered::TooLong => {
                ChatError::TooLong { tokens_min: context_max.saturating_add(1), context_max }
            }
            Unrendered::Failed(reason) => ChatError::Template(reason),
        })
    }

    /// Renders the prompt's text, and finds the special tokens in it that the client spelled.
    fn render_forged(
        &self,
        messages: &[ChatMessage],
        now: Timestamp,
        context_max: usize,
    ) -> Result<(String, Vec<Spelled>), ChatError> {
        let plain = self.text_within(messages, now, context_max)?;
        if !self.spellings.could_be_in(messages) {
            return Ok((plain, Vec::new()));
        }
        let Some(stand_ins) = self.spellings.stand_ins(messages) else {
            return Err(ChatError::Refused("The conversation has every private character.".to_owned()));
        };
        let with_stand_ins = |reach| {
            let masked = self.spellings.mask(messages, &stand_ins, reach);
            let masked = self.text_within(&masked, now, context_max)?;
            Ok(self.spellings.forged(&masked, &stand_ins))
        };
        match with_stand_ins(Reach::Every) {
            Ok((text, forged)) if text == plain => Ok((text, forged)),
            // The template looks for such characters in the messages: only whole spellings get stand-ins, the rest
            // stays.
            Ok(_) | Err(ChatError::Refused(_) | ChatError::Template(_)) => with_stand_ins(Reach::Spelled),
            Err(error) => Err(error),
        }
    }

    /// Appends the tokens of a text in which special tokens count.
    fn encode(&self, text: &str, tokens: &mut Vec<TokenId>) -> Result<(), ChatError> {
        if text.is_empty() {
            return Ok(());
        }
        // The template itself writes the special tokens.
        let encoding = self.tokenizer.encode_fast(text, false);
        let encoding = encoding.map_err(|error| ChatError::Tokenizer(error.to_string()))?;
        tokens.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// Returns the text of an answer's tokens, without special ones. It is all that [`Self::text_stream`] yields.
    ///
    /// # Errors
    /// [`ChatError::Tokenizer`].
    pub fn decode(&self, tokens: &[TokenId]) -> Result<String, ChatError> {
        let (mut stream, mut text) = (self.text_stream(), String::new());
        for &token in tokens {
            text += &stream.push(token)?;
        }
        text += &stream.finish()?;
        Ok(text)
    }

    /// Starts to turn an answer's tokens into text as they come, in whole characters.
    #[must_use]
    pub fn text_stream(&self) -> TextStream {
        TextStream::new(Arc::clone(&self.tokenizer), Arc::clone(&self.spelled))
    }

    /// Starts to turn an answer's tokens into its text as they come, up to the first of the knobs' stop strings.
    #[must_use]
    pub fn answer_stream(&self, knobs: &Knobs) -> AnswerText {
        AnswerText::new(self.text_stream(), knobs)
    }

    /// Returns the text of an answer's tokens, up to the first of the knobs' stop strings: all that [`Self::answer_stream`]
    /// yields.
    ///
    /// # Errors
    /// [`ChatError::Tokenizer`].
    pub fn answer_text(&self, tokens: &[TokenId], knobs: &Knobs) -> Result<StoppedText, ChatError> {
        Ok(self.answer_stream(knobs).of(tokens)?)
    }

    /// Returns the bytes that a token stands for by itself: a part of a character, say. Special tokens stand for their names; none
    /// for a token that the tokenizer doesn't have.
    #[must_use]
    pub fn token_bytes(&self, token: TokenId) -> Option<Vec<u8>> {
        text_stream::bytes_of(&self.tokenizer, &self.spelled, token)
    }

    /// Returns the tokens that end an answer, lowest first; there is at least one.
    #[must_use]
    pub fn end_tokens(&self) -> &[TokenId] {
        &self.end_tokens
    }

    /// Returns the most tokens that prompt and answer may have together.
    #[must_use]
    pub const fn context_max(&self) -> usize {
        self.context_max
    }

    /// Returns the most bytes of the messages' texts (without the whitespace around each) that one token of a prompt
    /// can stand for. None if the tokenizer or the template may leave something out.
    #[must_use]
    pub fn said_bytes_per_token(&self) -> Option<u32> {
        let bytes = self.token_bytes_max.filter(|_| self.keeps_what_is_said)?;
        u32::try_from(bytes).ok()
    }

    /// Returns the digest of the files that decide how text becomes tokens: nodes that share it share prompts.
    #[must_use]
    pub const fn tokenizer_digest(&self) -> Digest {
        self.tokenizer_digest
    }
}

/// Returns the SHA-256 of a prompt's tokens as little-endian u32s.
#[must_use]
pub fn prompt_hash(tokens: &[TokenId]) -> Digest {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    Digest::of(&bytes)
}

/// Computes a model's digest: see [`model_folder::model_digest`].
///
/// # Errors
/// [`ChatError::Folder`].
pub fn model_digest(folder: &Path, onnx_file: &Path) -> Result<Digest, ChatError> {
    Ok(model_folder::model_digest(folder, onnx_file)?)
}
