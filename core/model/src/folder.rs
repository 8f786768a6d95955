//! A model as a folder laid out like one of the Hugging Face Hub: which files it consists of, what its configuration
//! says, and the digest that names it in the network. Both the text side (tokenizer and template) and the engine side
//! (ONNX files) use it.
//!
//! Nothing is fetched here: if a folder or one of its files is missing, the error names it.

mod config;
mod graph;
mod port;
mod protobuf;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

pub use config::ModelConfig;
pub use graph::GraphFacts;
pub use port::{ElementType, Port};
pub use protobuf::Malformed;

use infera_types::ids::Digest;

/// The model's shape; every folder has one.
pub const CONFIG: &str = "config.json";
/// The generation settings that the model's makers recommend; optional.
pub const GENERATION_CONFIG: &str = "generation_config.json";
/// The tokenizer; every folder has one.
pub const TOKENIZER: &str = "tokenizer.json";
/// The special tokens and usually the chat template; every folder has one.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The chat template as a file of its own; it takes precedence over the template in the tokenizer's settings.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// All settings files, in the order in which they enter the digest.
pub const SETTINGS: [&str; 5] = [CHAT_TEMPLATE, CONFIG, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG];

/// The settings files that a folder may lack.
pub const OPTIONAL: [&str; 2] = [CHAT_TEMPLATE, GENERATION_CONFIG];

/// Separates this digest from others; changes with its definition.
const DIGEST_LABEL: &[u8] = b"infera/model/v1";

/// What is wrong with a folder. It is the operator's fault; a retry helps only after the folder is mended.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file is missing.
    #[error("{} is missing; a model folder holds {CONFIG}, {TOKENIZER}, {TOKENIZER_CONFIG} and onnx/model.onnx", .0.display())]
    Missing(PathBuf),
    /// No ONNX file has that name.
    #[error("no ONNX file for {variant:?} in {}; there are: {present}", .folder.display())]
    NoVariant {
        /// The variant that was asked for.
        variant: String,
        /// The folder that was searched.
        folder: PathBuf,
        /// The variants that are there.
        present: String,
    },
    /// A file of weights is missing.
    #[error("{} is missing: {} keeps weights in it", .data.display(), .onnx.display())]
    MissingData {
        /// The file that is missing.
        data: PathBuf,
        /// The ONNX file that names it.
        onnx: PathBuf,
    },
    /// A file cannot be read.
    #[error("{} can't be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} is not usable: {reason}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl FolderError {
    /// Makes the error for a file that does not hold what it should.
    pub fn unusable(path: &Path, reason: impl ToString) -> Self {
        Self::Unusable { path: path.to_owned(), reason: reason.to_string() }
    }

    fn reading(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            Self::Missing(path.to_owned())
        } else {
            Self::Unreadable { path: path.to_owned(), source }
        }
    }
}

/// Reads and parses one of the folder's JSON files.
///
/// # Errors
/// The file is missing, unreadable, or lacks what `T` needs.
pub fn read_json<T: for<'de> Deserialize<'de>>(folder: &Path, name: &str) -> Result<T, FolderError> {
    let path = folder.join(name);
    let bytes = read(&path)?;
    serde_json::from_slice(&bytes).map_err(|error| FolderError::unusable(&path, error))
}

/// Reads a whole file.
///
/// # Errors
/// The file is missing or unreadable.
pub fn read(path: &Path) -> Result<Vec<u8>, FolderError> {
    fs::read(path).map_err(|error| FolderError::reading(path, error))
}

/// Returns the ONNX file of a variant: `q4` and `model_q4` name `onnx/model_q4.onnx` or `model_q4.onnx`; `model` and
/// the empty word name the plain `model.onnx`.
///
/// # Errors
/// [`FolderError::NoVariant`], which lists the variants that are there.
pub fn onnx_file(folder: &Path, variant: &str) -> Result<PathBuf, FolderError> {
    let mut candidates = onnx_paths(variant).into_iter().map(|path| folder.join(path));
    candidates.find(|candidate| candidate.is_file()).ok_or_else(|| {
        let places = [folder.join("onnx"), folder.to_owned()];
        let mut present: Vec<String> = places.iter().flat_map(|place| onnx_names(place)).collect();
        present.sort();
        let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
        FolderError::NoVariant { variant: word_of(variant).to_owned(), folder: folder.to_owned(), present }
    })
}

/// Returns the paths within a folder at which a variant's ONNX file may lie; the first that is there is it.
#[must_use]
pub fn onnx_paths(variant: &str) -> [String; 4] {
    let word = word_of(variant);
    [
        format!("onnx/{word}.onnx"),
        format!("{word}.onnx"),
        format!("onnx/model_{word}.onnx"),
        format!("model_{word}.onnx"),
    ]
}

fn word_of(variant: &str) -> &str {
    if variant.is_empty() { "model" } else { variant }
}

fn onnx_names(place: &Path) -> Vec<String> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".onnx")).collect()
}

/// Returns all ONNX files of a folder, in the order of their names.
#[must_use]
pub fn onnx_files(folder: &Path) -> Vec<PathBuf> {
    let places = [folder.join("onnx"), folder.to_owned()];
    let mut files: Vec<PathBuf> =
        places.iter().flat_map(|place| onnx_names(place).into_iter().map(|name| place.join(name))).collect();
    files.sort();
    files
}

/// Returns the word for an ONNX file that [`onnx_file`] finds it by: `q4` for `model_q4.onnx`, `model` for
/// `model.onnx`.
#[must_use]
pub fn variant_of(onnx_file: &Path) -> String {
    let stem = onnx_file.file_stem().unwrap_or_default().to_string_lossy();
    stem.strip_prefix("model_").unwrap_or(&stem).to_owned()
}

/// Returns the files beside an ONNX file in which it keeps weights.
///
/// # Errors
/// One of them is missing, or lies outside of the ONNX file's own folder.
pub fn data_files(onnx_file: &Path, facts: &GraphFacts) -> Result<Vec<PathBuf>, FolderError> {
    let beside = onnx_file.parent().unwrap_or(Path::new(""));
    let is_within = |name: &str| {
        Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    };
    let mut files = Vec::new();
    for name in &facts.data_files {
        if !is_within(name) {
            let reason = format!("it names data outside of its folder: {name:?}");
            return Err(FolderError::unusable(onnx_file, reason));
        }
        let data = beside.join(name);
        if !data.is_file() {
            return Err(FolderError::MissingData { data, onnx: onnx_file.to_owned() });
        }
        files.push(data);
    }
    Ok(files)
}

/// Computes the digest that names a model in the network. It covers all files that an answer depends on: the folder's
/// settings, the ONNX file, and the data files that the ONNX file names.
///
/// It is the SHA-256 of the label and, for each file in the order of its name relative to the folder, of the name's
/// length (u64, little-endian), the name (with `/`), the content's length (likewise) and the content's SHA-256.
///
/// # Errors
/// A file is missing or unreadable, or the ONNX file names data outside of its own folder.
pub fn model_digest(folder: &Path, onnx_file: &Path) -> Result<Digest, FolderError> {
    let graph = read(onnx_file)?;
    let facts = GraphFacts::read(&graph)
        .map_err(|_| FolderError::unusable(onnx_file, "it is no ONNX file, or it is damaged"))?;
    drop(graph);
    let mut files = settings_files(folder, &SETTINGS)?;
    files.push(onnx_file.to_owned());
    files.extend(data_files(onnx_file, &facts)?);
    files_digest(folder, files)
}

/// Computes in the same way the digest of the files that decide how text becomes tokens and back.
///
/// # Errors
/// A file is missing or unreadable.
pub fn tokenizer_digest(folder: &Path) -> Result<Digest, FolderError> {
    files_digest(folder, settings_files(folder, &[CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG])?)
}

/// Returns those of `names` that exist; a required file that is missing is reported when it is read.
fn settings_files(folder: &Path, names: &[&str]) -> Result<Vec<PathBuf>, FolderError> {
    let mut files = Vec::new();
    for name in names {
        let path = folder.join(name);
        let exists = path.try_exists().map_err(|error| FolderError::reading(&path, error))?;
        if exists || !OPTIONAL.contains(name) {
            files.push(path);
        }
    }
    Ok(files)
}

fn files_digest(folder: &Path, files: Vec<PathBuf>) -> Result<Digest, FolderError> {
    let relative = |path: &PathBuf| {
        let inner = path.strip_prefix(folder).unwrap_or(path);
        inner
            .iter()
            .map(|part| part.to_string_lossy())
            .filter(|part| part != ".")
            .collect::<Vec<_>>()
            .join("/")
    };
    let mut named: Vec<(String, PathBuf)> = files.into_iter().map(|path| (relative(&path), path)).collect();
    named.sort();
    named.dedup();
    let mut hasher = Sha256::new_with_prefix(DIGEST_LABEL);
    for (name, path) in named {
        let (length, content) = content_digest(&path).map_err(|error| FolderError::reading(&path, error))?;
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update(length.to_le_bytes());
        hasher.update(content);
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// Returns a file's length and SHA-256, reading it in pieces because weights may be larger than memory.
fn content_digest(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let (mut piece, mut length) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((length, hasher.finalize().into())),
            read => {
                hasher.update(&piece[..read]);
                length += read as u64;
            }
        }
    }
}
