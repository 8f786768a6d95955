//! What `config.json` says that serving a model needs. Makers call the same fact by several names, and models that see
//! pictures keep the text's facts in a table of their own.

use std::path::Path;

use serde_json::{Map, Value};

use super::{CONFIG, FolderError, read_json};
use infera_types::numbers::TokenId;

/// The names of the most tokens that prompt and answer may have together.
const CONTEXT: [&str; 5] =
    ["max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length"];
/// The table in which models that see pictures keep the text's facts.
const TEXT: &str = "text_config";

/// The facts of a model's `config.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// The most tokens that prompt and answer may have together.
    pub context_max: usize,
    /// The tokens that end an answer; empty if the file doesn't say.
    pub end_tokens: Vec<TokenId>,
    /// The token that rows are padded with, if the file names one.
    pub pad_token: Option<TokenId>,
}

impl ModelConfig {
    /// Reads the facts.
    ///
    /// # Errors
    /// The file is missing or unreadable, or doesn't say how long a context may be.
    pub fn read(folder: &Path) -> Result<Self, FolderError> {
        let whole: Map<String, Value> = read_json(folder, CONFIG)?;
        let unusable = |reason: String| FolderError::unusable(&folder.join(CONFIG), reason);
        let fact = |name: &str| {
            let inner = whole.get(TEXT).and_then(|text| text.get(name));
            whole.get(name).or(inner).filter(|value| !value.is_null())
        };
        let context = CONTEXT.iter().find_map(|name| Some((*name, fact(name)?)));
        let (name, context) = context.ok_or_else(|| {
            unusable(format!(
                "it has no {}, so the longest context isn't known; add it: the most tokens that prompt and answer may have together",
                CONTEXT[0]
            ))
        })?;
        let context_max = context
            .as_u64()
            .and_then(|most| usize::try_from(most).ok())
            .filter(|&most| most > 0)
            .ok_or_else(|| unusable(format!("its {name} is {context}; it must be a whole number above 0")))?;
        let end_tokens = fact("eos_token_id").map_or(Ok(Vec::new()), |value| {
            token_ids(value).ok_or_else(|| unusable(format!("its eos_token_id is {value}, and no token")))
        })?;
        // Any token would do, because padding is masked; some files say -1.
        let pad_token = fact("pad_token_id").and_then(token_ids).and_then(|tokens| tokens.first().copied());
        Ok(Self { context_max, end_tokens, pad_token })
    }
}

/// Returns one token id or several; files use either form.
pub(crate) fn token_ids(value: &Value) -> Option<Vec<TokenId>> {
    let one = |value: &Value| value.as_u64().and_then(|token| TokenId::try_from(token).ok());
    match value {
        Value::Array(several) => several.iter().map(one).collect(),
        value => Some(vec![one(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: &Value) -> Result<ModelConfig, String> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(CONFIG), config.to_string()).expect("written");
        ModelConfig::read(folder.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn facts_are_found_under_every_name() {
        for name in CONTEXT {
            assert_eq!(read(&json!({ name: 77 })).expect("sound").context_max, 77, "{name}");
        }
        let inner = json!({ "text_config": { "max_position_embeddings": 5, "eos_token_id": [1, 106] } });
        let inner = read(&inner).expect("sound");
        assert_eq!((inner.context_max, inner.end_tokens), (5, vec![1, 106]));
        let ids = |eos: Value, pad: Value| {
            let config = json!({ "n_positions": 9, "eos_token_id": eos, "pad_token_id": pad });
            read(&config).map(|config| (config.end_tokens, config.pad_token))
        };
        assert_eq!(ids(json!(2), json!(3)), Ok((vec![2], Some(3))));
        assert_eq!(ids(json!([2, 4]), json!([3])), Ok((vec![2, 4], Some(3))));
        assert_eq!(ids(Value::Null, json!(-1)), Ok((vec![], None)));
    }

    #[test]
    fn a_missing_or_wrong_fact_is_named() {
        for (config, named) in [
            (json!({}), "max_position_embeddings"),
            (json!({ "n_positions": 0 }), "n_positions is 0"),
            (json!({ "n_positions": "many" }), "n_positions is \"many\""),
            (json!({ "n_positions": 9, "eos_token_id": "</s>" }), "eos_token_id is \"</s>\""),
        ] {
            let error = read(&config).expect_err(named);
            assert!(error.contains(named) && error.contains(CONFIG), "{error}");
        }
    }
}
