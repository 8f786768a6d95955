//! The text side of a model folder: from a conversation to the prompt's tokens, and from an answer's tokens to its
//! text. Every honest node of a model must come to the same tokens, so nothing here depends on the machine: the
//! template's idea of now is passed in, in UTC.
//!
//! Not here: weights and logits (`engine`), the choice of tokens (`sampling`). Tools and documents aren't passed to
//! templates; the network has no words for them yet.

mod calendar;

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::{Environment, Error as TemplateError, ErrorKind, Value};
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use crate::folder::{
    self as model_folder, CHAT_TEMPLATE, CONFIG, FolderError, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG,
    read_json,
};
use infera_types::ids::Digest;
use infera_types::job::ChatMessage;
use infera_types::numbers::TokenId;
use infera_types::time::Timestamp;

/// What went wrong with a conversation or a model folder.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The folder isn't a usable model: the operator's fault.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The template refused the conversation (roles in the wrong order, say) or failed: the client's fault, as far
    /// as the folder's template is sound. The same conversation will fail again.
    #[error("the model's chat template refuses the conversation: {0}")]
    Template(String),
    /// The tokenizer failed on a text or on tokens that it doesn't have; will fail again.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
}

/// What we need of `config.json`.
#[derive(Deserialize)]
struct ModelConfig {
    /// GPT-2's kin calls it `n_positions`.
    #[serde(alias = "n_positions")]
    max_position_embeddings: usize,
    eos_token_id: Option<TokenIds>,
}

/// One token id or several, as both spellings occur.
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

/// What we need of `tokenizer_config.json`.
#[derive(Deserialize)]
struct TokenizerConfig {
    chat_template: Option<Templates>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

/// One template, or several by name, of which `default` is for chats.
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

/// What a template sees.
#[derive(Serialize)]
struct TemplateInput<'a> {
    messages: &'a [ChatMessage],
    add_generation_prompt: bool,
    #[serde(flatten)]
    special_tokens: &'a BTreeMap<String, String>,
    strftime_now: Value,
}

/// A model folder's tokenizer, chat template and limits; no ONNX.
pub struct ChatModel {
    tokenizer: Tokenizer,
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, String>,
    end_tokens: Vec<TokenId>,
    context_max: usize,
    tokenizer_digest: Digest,
}

/// The template's name in its environment; no suffix, so that nothing is escaped.
const TEMPLATE: &str = "chat";

impl ChatModel {
    /// Reads what a conversation needs from a model folder.
    ///
    /// # Errors
    /// [`ChatError::Folder`], which names the file and what is wrong with it.
    pub fn load(folder: &Path) -> Result<Self, ChatError> {
        let config: ModelConfig = read_json(folder, CONFIG)?;
        let tokenizer_config: TokenizerConfig = read_json(folder, TOKENIZER_CONFIG)?;
        let tokenizer = load_tokenizer(folder)?;
        let special_tokens = special_tokens(&tokenizer_config.rest);
        let end_tokens =
            end_tokens(folder, config.eos_token_id, &tokenizer, special_tokens.get("eos_token"))?;
        let environment = environment(template(folder, tokenizer_config.chat_template)?)
            .map_err(|error| FolderError::unusable(&folder.join(TOKENIZER_CONFIG), full(&error)))?;
        Ok(Self {
            tokenizer,
            environment,
            special_tokens,
            end_tokens,
            context_max: config.max_position_embeddings,
            tokenizer_digest: model_folder::tokenizer_digest(folder)?,
        })
    }

    /// The prompt's tokens: the conversation in the model's own form, up to where its answer begins. `now` is what
    /// the template takes for the present.
    ///
    /// # Errors
    /// [`ChatError::Template`] and [`ChatError::Tokenizer`].
    pub fn render(&self, messages: &[ChatMessage], now: Timestamp) -> Result<Vec<TokenId>, ChatError> {
        let text = self.render_text(messages, now)?;
        // The template writes the special tokens itself.
        let encoding = self.tokenizer.encode_fast(text, false);
        encoding
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|error| ChatError::Tokenizer(error.to_string()))
    }

    /// The prompt's text, before it becomes tokens.
    ///
    /// # Errors
    /// [`ChatError::Template`].
    pub fn render_text(&self, messages: &[ChatMessage], now: Timestamp) -> Result<String, ChatError> {
        let strftime_now = move |format: String| {
            calendar::strftime(now, &format)
                .map_err(|reason| TemplateError::new(ErrorKind::InvalidOperation, reason))
        };
        let input = TemplateInput {
            messages,
            add_generation_prompt: true,
            special_tokens: &self.special_tokens,
            strftime_now: Value::from_function(strftime_now),
        };
        let template = self.environment.get_template(TEMPLATE);
        template
            .and_then(|template| template.render(input))
            .map_err(|error| ChatError::Template(full(&error)))
    }

    /// The text of an answer's tokens, special ones left out.
    ///
    /// # Errors
    /// [`ChatError::Tokenizer`].
    pub fn decode(&self, tokens: &[TokenId]) -> Result<String, ChatError> {
        self.tokenizer.decode(tokens, true).map_err(|error| ChatError::Tokenizer(error.to_string()))
    }

    /// The tokens that end an answer, lowest first; at least one.
    #[must_use]
    pub fn end_tokens(&self) -> &[TokenId] {
        &self.end_tokens
    }

    /// Prompt and answer together, in tokens.
    #[must_use]
    pub const fn context_max(&self) -> usize {
        self.context_max
    }

    /// Digest of the files that decide how text becomes tokens: nodes that share it share prompts.
    #[must_use]
    pub const fn tokenizer_digest(&self) -> Digest {
        self.tokenizer_digest
    }
}

/// SHA-256 of a prompt's tokens as little-endian u32s.
#[must_use]
pub fn prompt_hash(tokens: &[TokenId]) -> Digest {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    Digest::of(&bytes)
}

/// See [`model_folder::model_digest`].
///
/// # Errors
/// [`ChatError::Folder`].
pub fn model_digest(folder: &Path, onnx_file: &Path) -> Result<Digest, ChatError> {
    Ok(model_folder::model_digest(folder, onnx_file)?)
}

fn load_tokenizer(folder: &Path) -> Result<Tokenizer, FolderError> {
    let path = folder.join(TOKENIZER);
    let bytes = model_folder::read(&path)?;
    let unusable = |error: tokenizers::Error| FolderError::unusable(&path, error);
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(unusable)?;
    // What training left in the file must not cut or fill prompts.
    tokenizer.with_truncation(None).map_err(unusable)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// `bos_token` and its kin: strings, or objects that hold one as `content`.
fn special_tokens(settings: &BTreeMap<String, serde_json::Value>) -> BTreeMap<String, String> {
    let token = |value: &serde_json::Value| {
        value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
    };
    let named = settings.iter().filter(|(name, _)| name.ends_with("_token"));
    named.filter_map(|(name, value)| Some((name.clone(), token(value)?))).collect()
}

/// What the model's makers say ends an answer, and the tokenizer's own end token: chat templates end turns with it
/// even where the makers' settings name another.
fn end_tokens(
    folder: &Path,
    in_config: Option<TokenIds>,
    tokenizer: &Tokenizer,
    eos_token: Option<&String>,
) -> Result<Vec<TokenId>, FolderError> {
    let generation = match read_json(folder, GENERATION_CONFIG) {
        Err(FolderError::Missing(_)) => GenerationConfig::default(),
        read => read?,
    };
    let said = generation.eos_token_id.or(in_config);
    let mut tokens = said.map_or_else(Vec::new, TokenIds::into_vec);
    tokens.extend(eos_token.and_then(|text| tokenizer.token_to_id(text)));
    tokens.sort_unstable();
    tokens.dedup();
    if tokens.is_empty() {
        let reason = "neither it nor generation_config.json says which eos_token_id ends an answer";
        return Err(FolderError::unusable(&folder.join(CONFIG), reason));
    }
    Ok(tokens)
}

fn template(folder: &Path, in_config: Option<Templates>) -> Result<String, FolderError> {
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

/// Templates as Python's loaders run them: block lines trimmed, methods of Python's types, `raise_exception`.
fn environment(template: String) -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |reason: String| -> Result<Value, TemplateError> {
        Err(TemplateError::new(ErrorKind::InvalidOperation, reason))
    });
    environment.add_template_owned(TEMPLATE, template)?;
    Ok(environment)
}

/// The error with its causes, in one line.
fn full(error: &TemplateError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
