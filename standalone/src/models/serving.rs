//! Whether a folder's variant would be served: what the loader asks of it, without loading it.

use std::path::Path;

use infera_engine_onnx::footprint::Shape;
use infera_model::chat::ChatModel;
use infera_model::folder::{self as model_folder, FolderError};

/// The largest ONNX file that is read for a list; larger ones hold their weights, and take seconds.
const LISTED_MAX_BYTES: u64 = 256 << 20;

/// Returns the fact that is missing, if one is; reads the tokenizer whole.
pub(super) fn problem(folder: &Path, variant: &str) -> Option<String> {
    let shape = Shape::read(folder, variant).map_err(|error| error.to_string());
    let chat = || ChatModel::load(folder).map_err(|error| error.to_string());
    shape.and_then(|_| chat()).err()
}

/// Returns the fact that is missing, as far as a list is worth the time.
pub(super) fn listed_problem(folder: &Path, variant: &str) -> Option<String> {
    for name in [model_folder::TOKENIZER, model_folder::TOKENIZER_CONFIG] {
        if !folder.join(name).is_file() {
            return Some(FolderError::Missing(folder.join(name)).to_string());
        }
    }
    let file = match model_folder::onnx_file(folder, variant) {
        Ok(file) => file,
        Err(error) => return Some(error.to_string()),
    };
    if file.metadata().is_ok_and(|metadata| metadata.len() > LISTED_MAX_BYTES) {
        return None;
    }
    Shape::read(folder, variant).err().map(|error| error.to_string())
}
