//! Says of a folder whose chosen ONNX file can't be served which of the others can.

use std::path::Path;

use crate::ports::Ports;
use infera_model::folder::{self as model_folder, GraphFacts};

/// The largest file that is read for this. Larger ones hold their weights; what they say isn't worth the time.
const READ_MAX_BYTES: u64 = 256 << 20;

/// Returns a sentence about the folder's variants other than `file`.
pub(super) fn others(folder: &Path, file: &Path) -> String {
    let paths = model_folder::onnx_files(folder);
    let others: Vec<String> = paths
        .iter()
        .filter(|path| path.as_path() != file && can_be_served(path))
        .map(|path| model_folder::variant_of(path))
        .collect();
    match others.len() {
        0 if paths.len() < 2 => "there is no other variant in this folder".to_owned(),
        0 => "no other variant in this folder can be served either".to_owned(),
        _ => format!("these variants in this folder can be served: {}", others.join(", ")),
    }
}

fn can_be_served(path: &Path) -> bool {
    let is_small = path.metadata().is_ok_and(|metadata| metadata.len() <= READ_MAX_BYTES);
    let facts = || GraphFacts::read(&model_folder::read(path).ok()?).ok();
    is_small
        && facts().is_some_and(|facts| {
            Ports::check(&facts).is_ok() && model_folder::data_files(path, &facts).is_ok()
        })
}
