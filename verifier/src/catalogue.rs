//! Reads the offered models from their folders and writes them to the ledger's catalogue, where
//! gateways and verifiers find them. Nodes don't change it; operators do (`orders`).

pub mod orders;
pub mod reference;

use std::path::{Path, PathBuf};

use infera_ledger::{CatalogueEntry, LedgerError, NetworkBook};
use infera_model::chat::ChatModel;
use infera_model::folder::{self, FolderError, GraphFacts, model_digest, onnx_file};
use infera_types::ids::{Digest, ModelName};
use infera_types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One model on offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The model's folder, as the Hub lays it out. The folder's name is the model's name.
    pub folder: PathBuf,
    /// Its ONNX files that nodes may answer with: `model`, or `q4` for `model_q4.onnx` and the like. Their honest
    /// answers must lie within the thresholds of each other, so a quantised one is another model.
    pub variants: Vec<String>,
    /// Digests of further ONNX files that don't lie in the folder.
    pub digests: Vec<Digest>,
    /// Microseconds that a token takes on the reference machine: what the time for an answer is reckoned by, and points for the
    /// model are scaled by. Without it, what the bytes of the first variant's weights come to ([`reference::of_weights`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_token_us: Option<u64>,
}

impl Default for ModelConfig {
    /// The bundled model.
    fn default() -> Self {
        Self {
            folder: PathBuf::from("models/infera-tiny"),
            // The usual export, and the one in standard operators only, whose pairs the thresholds were measured on.
            variants: vec!["model".to_owned(), "plain".to_owned()],
            digests: Vec::new(),
            // By its weights: a constant of one model would be taken for another whose entry leaves it out.
            reference_token_us: None,
        }
    }
}

impl ModelConfig {
    /// Makes the model's entry in the catalogue. Reads its files whole.
    ///
    /// # Errors
    /// [`FolderError`] names the file.
    pub fn entry(&self, chat: &ChatModel) -> Result<CatalogueEntry, FolderError> {
        let digest = |variant: &String| model_digest(&self.folder, &onnx_file(&self.folder, variant)?);
        let mut digests = self.variants.iter().map(digest).collect::<Result<Vec<_>, _>>()?;
        digests.extend(&self.digests);
        let quantization = self.variants.first().and_then(|variant| quantization(variant)).map(str::to_owned);
        let bytes = self.variants.first().map(|variant| weights_bytes(&self.folder, variant)).transpose()?;
        let reference_token_us = self.reference_token_us.or(bytes.map(reference::of_weights));
        let unsaid = || {
            let problem =
                "no variant of it is named, so nothing says how long a token takes: set reference_token_us";
            FolderError::unusable(&self.folder, problem)
        };
        let entry = entry(&self.folder, digests, reference_token_us.ok_or_else(unsaid)?, chat);
        Ok(CatalogueEntry { quantization, bytes, ..entry })
    }
}

/// Returns the bytes of a variant's ONNX file and of the files beside it in which it keeps weights.
///
/// # Errors
/// [`FolderError`] names the file.
pub fn weights_bytes(folder: &Path, variant: &str) -> Result<u64, FolderError> {
    let onnx = onnx_file(folder, variant)?;
    let facts = GraphFacts::read(&folder::read(&onnx)?)
        .map_err(|_| FolderError::unusable(&onnx, "it is no ONNX file, or it is damaged"))?;
    let files = folder::data_files(&onnx, &facts)?.into_iter().chain([onnx]);
    // Each was read just now.
    Ok(files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum())
}

/// Returns how an ONNX file's weights are stored, by the words that the Hub gives its exports' names; none for a name
/// that says nothing.
fn quantization(variant: &str) -> Option<&'static str> {
    match variant {
        "model" => Some("fp32"),
        "fp16" => Some("fp16"),
        "int8" | "uint8" | "quantized" => Some("int8"),
        "q4" | "q4f16" | "bnb4" => Some("int4"),
        _ => None,
    }
}

/// Makes the catalogue's entry of the model in `folder` that answers under these digests.
#[must_use]
pub fn entry(
    folder: &Path,
    digests: Vec<Digest>,
    reference_token_us: u64,
    chat: &ChatModel,
) -> CatalogueEntry {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    CatalogueEntry {
        name: ModelName::new(name),
        digests,
        tokenizer: chat.tokenizer_digest(),
        context_max: u32::try_from(chat.context_max()).unwrap_or(u32::MAX),
        said_bytes_per_token: chat.said_bytes_per_token(),
        quantization: None,
        end_tokens: chat.end_tokens().to_vec(),
        reference_token_us,
        bytes: None,
        created_ms: Timestamp::now(),
        removed_ms: None,
    }
}

/// Lists a model, unless the catalogue says the same already. The time of its first listing is kept, and so is the time of its
/// removal: an operator's word outlasts the settings of a program that starts again.
///
/// # Errors
/// [`LedgerError`]; a retry is safe.
pub async fn list(book: &dyn NetworkBook, entry: CatalogueEntry) -> Result<ModelName, LedgerError> {
    let before = listed(book, &entry.name).await?;
    let entry = CatalogueEntry {
        created_ms: before.as_ref().map_or(entry.created_ms, |before| before.created_ms),
        removed_ms: before.as_ref().and_then(|before| before.removed_ms),
        ..entry
    };
    if entry.is_removed() {
        tracing::warn!(
            model = %entry.name,
            "was removed from the catalogue, and isn't served; `infera-verifier model add` brings it back"
        );
    }
    if before.as_ref() != Some(&entry) {
        if before.is_some() {
            tracing::warn!(model = %entry.name, "the catalogue said something else of this model; replaced");
        }
        book.list_model(&entry).await?;
    }
    Ok(entry.name)
}

async fn listed(book: &dyn NetworkBook, name: &ModelName) -> Result<Option<CatalogueEntry>, LedgerError> {
    Ok(book.catalogue().await?.into_iter().find(|listed| listed.name == *name))
}
