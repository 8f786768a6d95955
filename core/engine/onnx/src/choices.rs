//! The list of models in an engine's settings, as an operator may write it: folders in one text with commas between them, or a
//! list of folders or tables.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// One model of several: its folder, and what it has of its own. What it lacks is the engine's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelChoice {
    /// The model's folder. Its name is the model's name.
    pub folder: PathBuf,
    /// The folder's ONNX file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Threads within its engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Sequences that its engine holds at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequences_max: Option<usize>,
    /// The bytes that the cached beginnings of its prompts may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_cache_bytes: Option<usize>,
}

/// The models, in the order in which they were named. Empty where `folder` alone names the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ModelChoices(pub Vec<ModelChoice>);

impl ModelChoices {
    /// Returns whether none is named.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for ModelChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneModel)
    }
}

struct OneModel;

impl<'de> Visitor<'de> for OneModel {
    type Value = ModelChoice;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a model's folder, or a table with `folder`")
    }

    fn visit_str<E: Error>(self, folder: &str) -> Result<ModelChoice, E> {
        if folder.trim().is_empty() {
            return Err(E::custom("a model's folder is empty"));
        }
        Ok(ModelChoice { folder: PathBuf::from(folder.trim()), ..ModelChoice::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ModelChoice, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            folder: PathBuf,
            variant: Option<String>,
            threads: Option<usize>,
            sequences_max: Option<usize>,
            prefix_cache_bytes: Option<usize>,
        }
        let Table { folder, variant, threads, sequences_max, prefix_cache_bytes } =
            Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(ModelChoice { folder, variant, threads, sequences_max, prefix_cache_bytes })
    }
}

impl<'de> Deserialize<'de> for ModelChoices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AllModels)
    }
}

struct AllModels;

impl<'de> Visitor<'de> for AllModels {
    type Value = ModelChoices;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("models' folders with commas between them, or a list of folders or tables")
    }

    fn visit_str<E: Error>(self, folders: &str) -> Result<ModelChoices, E> {
        folders
            .split(',')
            .map(|folder| OneModel.visit_str(folder))
            .collect::<Result<_, _>>()
            .map(ModelChoices)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ModelChoices, A::Error> {
        let mut models = Vec::new();
        while let Some(model) = list.next_element()? {
            models.push(model);
        }
        Ok(ModelChoices(models))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ModelChoices, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_is_a_text_or_folders_or_tables() {
        let of = |folder: &str| ModelChoice { folder: PathBuf::from(folder), ..ModelChoice::default() };
        let both = ModelChoices(vec![of("/m/a"), of("/m/b")]);
        assert_eq!(read(r#""/m/a, /m/b""#), Ok(both.clone()));
        assert_eq!(read(r#"["/m/a", {"folder": "/m/b"}]"#), Ok(both.clone()));
        let quantised = ModelChoice { variant: Some("q4".to_owned()), threads: Some(2), ..of("/m/a") };
        let table = r#"[{"folder": "/m/a", "variant": "q4", "threads": 2}]"#;
        assert_eq!(read(table), Ok(ModelChoices(vec![quantised.clone()])));
        // What is printed can be read again.
        let printed = serde_json::to_string(&ModelChoices(vec![quantised.clone(), of("/m/b")])).unwrap();
        assert_eq!(read(&printed), Ok(ModelChoices(vec![quantised, of("/m/b")])));
    }

    #[test]
    fn what_is_no_list_of_models_is_refused_in_words() {
        for (json, word) in [
            (r#""/m/a,,/m/b""#, "empty"),
            (r#"[{"variant": "q4"}]"#, "folder"),
            (r#"[{"folder": "/m/a", "device": "cuda"}]"#, "device"),
            ("7", "commas"),
            ("[7]", "folder"),
        ] {
            let told = read(json).expect_err(json);
            assert!(told.contains(word), "{json}: {told}");
        }
    }
}
