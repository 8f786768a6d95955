//! A model as a folder, the way the Hugging Face Hub lays one out: which files it consists of, what its
//! configuration says, and the digest that names it in the network. Used by the chat side (tokenizer and template)
//! and the engine side (ONNX files) alike.
//!
//! Nothing is fetched here: a folder is there or it isn't, and what it lacks is named.

mod graph;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

pub use graph::{GraphFacts, Malformed};

use infera_types::ids::Digest;

/// The model's shape; every folder has one.
pub const CONFIG: &str = "config.json";
/// How the model's makers generate with it; optional.
pub const GENERATION_CONFIG: &str = "generation_config.json";
/// The tokenizer; every folder has one.
pub const TOKENIZER: &str = "tokenizer.json";
/// Special tokens and, mostly, the chat template; every folder has one.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The chat template where it has a file of its own; it then counts, and not the one in the tokenizer's settings.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// All of those, in the order in which they enter the digest.
const SETTINGS: [&str; 5] = [CHAT_TEMPLATE, CONFIG, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG];

/// Separates this digest from others; changes with its definition.
const DIGEST_LABEL: &[u8] = b"infera/model/v1";

/// What is wrong with a folder. The operator's fault; trying again helps only after mending it.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file isn't there.
    #[error("{} is missing; a model folder holds {CONFIG}, {TOKENIZER}, {TOKENIZER_CONFIG} and onnx/model.onnx", .0.display())]
    Missing(PathBuf),
    /// No ONNX file goes by that name.
    #[error("no ONNX file for {variant:?} in {}; there are: {present}", .folder.display())]
    NoVariant {
        /// What was asked for.
        variant: String,
        /// Where.
        folder: PathBuf,
        /// What would have been found.
        present: String,
    },
    /// A file can't be read.
    #[error("{} can't be read: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{} is not usable: {reason}", .path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl FolderError {
    /// A file that holds something else than it should, and why.
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
/// It is missing, unreadable, or not what `T` needs.
pub fn read_json<T: for<'de> Deserialize<'de>>(folder: &Path, name: &str) -> Result<T, FolderError> {
    let path = folder.join(name);
    let bytes = read(&path)?;
    serde_json::from_slice(&bytes).map_err(|error| FolderError::unusable(&path, error))
}

/// Reads a file whole.
///
/// # Errors
/// It is missing or unreadable.
pub fn read(path: &Path) -> Result<Vec<u8>, FolderError> {
    fs::read(path).map_err(|error| FolderError::reading(path, error))
}

/// The ONNX file of a variant: `q4` and `model_q4` are `onnx/model_q4.onnx` or `model_q4.onnx`; `model` and the
/// empty word are the plain `model.onnx`.
///
/// # Errors
/// [`FolderError::NoVariant`] lists what is there instead.
pub fn onnx_file(folder: &Path, variant: &str) -> Result<PathBuf, FolderError> {
    let word = if variant.is_empty() { "model" } else { variant };
    let names = [format!("{word}.onnx"), format!("model_{word}.onnx")];
    let places = [folder.join("onnx"), folder.to_owned()];
    let mut candidates = names.iter().flat_map(|name| places.iter().map(move |place| place.join(name)));
    candidates.find(|candidate| candidate.is_file()).ok_or_else(|| {
        let mut present: Vec<String> = places.iter().flat_map(|place| onnx_names(place)).collect();
        present.sort();
        let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
        FolderError::NoVariant { variant: word.to_owned(), folder: folder.to_owned(), present }
    })
}

fn onnx_names(place: &Path) -> Vec<String> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".onnx")).collect()
}

/// The digest that names a model in the network: over all files that an answer depends on, which are the folder's
/// settings, the ONNX file, and the data files that it names.
///
/// SHA-256 of the label, and for each file in the order of its name relative to the folder: the name's length (u64,
/// little-endian), the name (with `/`), the content's length (likewise) and the content's SHA-256.
///
/// # Errors
/// If a file is missing or unreadable, or the ONNX file names data outside of its own folder.
pub fn model_digest(folder: &Path, onnx_file: &Path) -> Result<Digest, FolderError> {
    let graph = read(onnx_file)?;
    let facts = GraphFacts::read(&graph)
        .map_err(|_| FolderError::unusable(onnx_file, "it is no ONNX file, or it is damaged"))?;
    drop(graph);
    let mut files = settings_files(folder, &SETTINGS)?;
    files.push(onnx_file.to_owned());
    let beside = onnx_file.parent().unwrap_or(folder);
    for name in facts.data_files {
        if !Path::new(&name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        {
            return Err(FolderError::unusable(
                onnx_file,
                format!("it names data outside of its folder: {name:?}"),
            ));
        }
        files.push(beside.join(name));
    }
    files_digest(folder, files)
}

/// The digest, made the same way, of the files that decide how text becomes tokens and back.
///
/// # Errors
/// If one is missing or unreadable.
pub fn tokenizer_digest(folder: &Path) -> Result<Digest, FolderError> {
    files_digest(folder, settings_files(folder, &[CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG])?)
}

/// Those of `names` that are there; what must be there is missed when it is read.
fn settings_files(folder: &Path, names: &[&str]) -> Result<Vec<PathBuf>, FolderError> {
    let optional = [CHAT_TEMPLATE, GENERATION_CONFIG];
    let mut files = Vec::new();
    for name in names {
        let path = folder.join(name);
        let exists = path.try_exists().map_err(|error| FolderError::reading(&path, error))?;
        if exists || !optional.contains(name) {
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

/// A file's length and SHA-256, read in pieces: weights may be larger than memory.
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
