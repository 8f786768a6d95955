//! What lies in the folders of models, without reading large files.

use infera_model::folder as model_folder;
use infera_types::time::Timestamp;
use serde::Serialize;

use crate::folder::{FolderProblem, ModelFolder, Store};
use crate::names::PARTIAL;

/// A model that lies in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: String,
    /// The repository that it was fetched from; none if it wasn't.
    pub repository: Option<String>,
    /// The repository's commit.
    pub revision: Option<String>,
    /// The variants whose ONNX files are there.
    pub variants: Vec<String>,
    /// The bytes of its files.
    pub bytes: u64,
    /// The pinned bytes that aren't there.
    pub missing_bytes: u64,
    /// When all pinned files were last seen with their digests.
    pub verified_ms: Option<Timestamp>,
    /// What is wrong with its pins.
    pub problem: Option<String>,
}

/// Lists the models of a store.
///
/// # Errors
/// [`FolderProblem::Io`]: the folder of models can't be read.
pub fn held(store: &Store) -> Result<Vec<Held>, FolderProblem> {
    let held = store.folders()?.iter().map(of).collect::<Vec<_>>();
    // A fetch that was refused leaves a folder with nothing but its lock.
    Ok(held
        .into_iter()
        .filter(|held| held.bytes > 0 || held.repository.is_some() || held.problem.is_some())
        .collect())
}

fn of(folder: &ModelFolder) -> Held {
    let (pins, problem) = match folder.pins() {
        Ok(pins) => (pins, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let length = |path: &str| folder.path().join(path).metadata().map_or(0, |metadata| metadata.len());
    let missing = |pins: &crate::pins::Pins| {
        let lacks = |(path, pin): (&String, &crate::pins::Pin)| {
            let partial = length(&format!("{path}{PARTIAL}"));
            pin.bytes.saturating_sub(length(path).max(partial))
        };
        pins.files.iter().map(lacks).fold(0, u64::saturating_add)
    };
    let variants = model_folder::onnx_files(folder.path());
    Held {
        name: folder.name().to_owned(),
        folder: folder.path().display().to_string(),
        repository: pins.as_ref().map(|pins| pins.repository.clone()),
        revision: pins.as_ref().map(|pins| pins.revision.clone()),
        variants: variants.iter().map(|file| model_folder::variant_of(file)).collect(),
        bytes: bytes_in(folder.path(), DEPTH_MAX),
        missing_bytes: pins.as_ref().map_or(0, missing),
        verified_ms: folder.verified().map(|verified| verified.at_ms),
        problem,
    }
}

/// How deeply folders are looked into; a repository's files lie two deep.
const DEPTH_MAX: usize = 4;

/// Returns the bytes of all files; links are not followed.
fn bytes_in(folder: &std::path::Path, depth: usize) -> u64 {
    let Some(depth) = depth.checked_sub(1) else { return 0 };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path(), depth),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.fold(0, u64::saturating_add)
}
