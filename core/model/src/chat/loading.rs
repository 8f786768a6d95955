//! Reads from a folder's files what the text side is made of: tokenizer, special tokens, the tokens that end an answer, and the
//! template's source.

use std::collections::BTreeMap;
use std::path::Path;

use infera_types::numbers::TokenId;
use serde::Deserialize;
use tokenizers::Tokenizer;

use crate::folder::{
    self as model_folder, CHAT_TEMPLATE, CONFIG, FolderError, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG,
    read_json,
};

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
pub(super) struct TokenizerConfig {
    pub(super) chat_template: Option<Templates>,
    #[serde(flatten)]
    pub(super) rest: BTreeMap<String, serde_json::Value>,
}

/// One template, or several by name; `default` is the one for chats.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
pub(super) struct NamedTemplate {
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

pub(super) fn load_tokenizer(folder: &Path) -> Result<Tokenizer, FolderError> {
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
pub(super) fn special_tokens(settings: &BTreeMap<String, serde_json::Value>) -> BTreeMap<String, String> {
    let token = |value: &serde_json::Value| {
        value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
    };
    let named = settings.iter().filter(|(name, _)| name.ends_with("_token"));
    named.filter_map(|(name, value)| Some((name.clone(), token(value)?))).collect()
}

/// Returns the tokens that end an answer: those that the model's makers name, and the tokenizer's own end token,
/// because chat templates end turns with it even where the makers' settings name another.
pub(super) fn end_tokens(
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

pub(super) fn source(folder: &Path, in_config: Option<Templates>) -> Result<String, FolderError> {
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
