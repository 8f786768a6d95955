//! The text side of a model folder: turns a conversation into the prompt's tokens, and an answer's tokens into its
//! text. Every honest node of a model must get the same tokens, so nothing here depends on the machine: the time that
//! the template sees as the present is passed in, in UTC.
//!
//! Not here: weights and logits (`engine`), the choice of tokens (`sampling`). Templates are told that there are no tools
//! and no documents, because the network's messages do not carry them yet.

mod calendar;
mod forgery;
mod json;
mod template;
mod text_stream;
mod token_bytes;

use std::collections::BTreeMap;
use std::path::Path;

use forgery::{Reach, Spelled, Spellings};
use serde::Deserialize;
use template::{Template, Unrendered};
use tokenizers::Tokenizer;

pub use text_stream::{TextStream, Undecodable};

use crate::folder::{
    self as model_folder, CHAT_TEMPLATE, CONFIG, FolderError, GENERATION_CONFIG, ModelConfig, TOKENIZER,
    TOKENIZER_CONFIG, read_json,
};
use infera_types::ids::Digest;
use infera_types::job::ChatMessage;
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

/// One token id or several; files use either form.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenIds {
    One(TokenId),
    Several(Vec<TokenId>),
}

impl TokenIds {
    fn into_vec(self) -> Vec<TokenId> {
        match self {
            Self::One(token) => vec![token],
            Self::Several(tokens) => tokens,
        }
    }
}

/// The parts of `tokenizer_config.json` that are needed.
#[derive(Deserialize)]
struct TokenizerConfig {
    chat_template: Option<Templates>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

/// One template, or several by name; `default` is the one for chats.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl Templates {
    fn into_default(self) -> Option<String> {
        match self {
            Self::One(template) => Some(template),
            Self::Named(named) => named.into_iter().find(|one| one.name == "default").map(|one| one.template),
        }
    }
}

#[derive(Default, Deserialize)]
struct GenerationConfig {
    eos_token_id: Option<TokenIds>,
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
    tokenizer: Tokenizer,
    template: Template,
    spellings: Spellings,
    spelled: text_stream::Decoding,
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
            spelled: text_stream::Decoding::of(&tokenizer),
            token_bytes_max: token_bytes::text_bytes_max(&tokenizer),
            keeps_what_is_said: template.keeps_what_is_said(),
            tokenizer,
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
        let (text, forged) = self.render_forged(messages, now)?;
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
        if let Some(message) = messages.iter().find(|message| !ROLES.contains(&message.role.as_str())) {
            let role: String = message.role.chars().take(50).collect();
            return Err(ChatError::Refused(format!("{role:?} is no role.")));
        }
        // Asking for one byte more than the context can hold shows whether the text fits.
        let bytes_max =
            self.token_bytes_max.map_or(usize::MAX, |bytes| bytes.saturating_mul(self.context_max));
        self.template.render(messages, now, bytes_max).map_err(|unrendered| match unrendered {
            Unrendered::Refused(sentence) => ChatError::Refused(sentence),
            Unrendered::TooMuch => {
                ChatError::Refused("The conversation is too long to be rendered.".to_owned())
            }
            Unrendered::TooLong => {
                ChatError::TooLong { tokens_min: self.context_max + 1, context_max: self.context_max }
            }
            Unrendered::Failed(reason) => ChatError::Template(reason),
        })
    }

    /// Renders the prompt's text, and finds the special tokens in it that the client spelled.
    fn render_forged(
        &self,
        messages: &[ChatMessage],
        now: Timestamp,
    ) -> Result<(String, Vec<Spelled>), ChatError> {
        let plain = self.render_text(messages, now)?;
        if !self.spellings.could_be_in(messages) {
            return Ok((plain, Vec::new()));
        }
        let Some(stand_ins) = self.spellings.stand_ins(messages) else {
            return Err(ChatError::Refused("The conversation has every private character.".to_owned()));
        };
        let with_stand_ins = |reach| {
            let masked = self.render_text(&self.spellings.mask(messages, &stand_ins, reach), now)?;
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
    pub fn text_stream(&self) -> TextStream<'_> {
        TextStream::new(&self.tokenizer, &self.spelled)
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

fn load_tokenizer(folder: &Path) -> Result<Tokenizer, FolderError> {
    let path = folder.join(TOKENIZER);
    let bytes = model_folder::read(&path).map_err(|error| without_tokenizer(folder, error))?;
    let unusable = |error: tokenizers::Error| FolderError::unusable(&path, error);
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(unusable)?;
    // Truncation and padding that training left in the file must not change prompts.
    tokenizer.with_truncation(None).map_err(unusable)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// Says what to do if the folder has another form of tokenizer only.
fn without_tokenizer(folder: &Path, error: FolderError) -> FolderError {
    let other = ["tokenizer.model", "vocab.json", "vocab.txt", "tekken.json"].into_iter();
    let other = other.into_iter().find(|name| folder.join(name).is_file());
    match (error, other) {
        (FolderError::Missing(path), Some(other)) => FolderError::unusable(
            &path,
            format!(
                "it is missing, and {other} can't be read here; Hugging Face's AutoTokenizer writes it: load the folder and save it again"
            ),
        ),
        (error, _) => error,
    }
}

/// Returns `bos_token` and the like, which are strings or objects that hold one as `content`.
fn special_tokens(settings: &BTreeMap<String, serde_json::Value>) -> BTreeMap<String, String> {
    let token = |value: &serde_json::Value| {
        value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
    };
    let named = settings.iter().filter(|(name, _)| name.ends_with("_token"));
    named.filter_map(|(name, value)| Some((name.clone(), token(value)?))).collect()
}

/// Returns the tokens that end an answer: those that the model's makers name, and the tokenizer's own end token,
/// because chat templates end turns with it even where the makers' settings name another.
fn end_tokens(
    folder: &Path,
    in_config: Vec<TokenId>,
    tokenizer: &Tokenizer,
    eos_token: Option<&String>,
) -> Result<Vec<TokenId>, FolderError> {
    let generation = match read_json(folder, GENERATION_CONFIG) {
        Err(FolderError::Missing(_)) => GenerationConfig::default(),
        read => read?,
    };
    let mut tokens = generation.eos_token_id.map_or(in_config, TokenIds::into_vec);
    tokens.extend(eos_token.and_then(|text| tokenizer.token_to_id(text)));
    tokens.sort_unstable();
    tokens.dedup();
    if tokens.is_empty() {
        let reason = "neither it nor generation_config.json says which eos_token_id ends an answer";
        return Err(FolderError::unusable(&folder.join(CONFIG), reason));
    }
    Ok(tokens)
}

fn source(folder: &Path, in_config: Option<Templates>) -> Result<String, FolderError> {
    let path = folder.join(CHAT_TEMPLATE);
    match model_folder::read(&path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|error| FolderError::unusable(&path, error)),
        Err(FolderError::Missing(_)) => in_config.and_then(Templates::into_default).ok_or_else(|| {
            let reason = format!(
                "it has no chat_template, and there is no {CHAT_TEMPLATE}; only chat models can be served"
            );
            FolderError::unusable(&folder.join(TOKENIZER_CONFIG), reason)
        }),
        Err(error) => Err(error),
    }
}
