//! Finds tokenizers and templates by their digest: in the folders of models, whatever these are called, and in the archive, under
//! the model's name.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use futures::stream::StreamExt as _;
use infera_archive::ArchiveReader;
use infera_model::chat::ChatModel;
use infera_model::chat_source::{ChatSource, ChatSourceError};
use infera_model::folder::{CHAT_TEMPLATE, SETTINGS, TOKENIZER, TOKENIZER_CONFIG, tokenizer_digest};
use infera_types::ids::{Digest, ModelName};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use crate::archived::ArchivedSource;
use crate::folder::Store;
use crate::needs::SETTINGS_MAX_BYTES;
use crate::pins::{Pin, Published};
use crate::source::{Source as _, SourceError, Waits, Wanted};

/// The length and the time of the last change of each file that enters the digest; none for one that is missing.
type Stamp = [Option<(u64, SystemTime)>; 3];

/// The digests of folders by the stamps of their files, so that folders are not read again at each search.
type Known = HashMap<PathBuf, (Stamp, Digest)>;

/// Searches folders first, and then the archive.
#[derive(Debug)]
pub struct ChatFinder {
    folders: Vec<PathBuf>,
    store: Store,
    archive: Option<Arc<dyn ArchiveReader>>,
    waits: Waits,
    known: Arc<Mutex<Known>>,
}

impl ChatFinder {
    /// Makes a finder that searches these single folders and all folders of the store.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>, store: Store) -> Self {
        Self { folders, store, archive: None, waits: Waits::default(), known: Arc::default() }
    }

    /// Makes it search the archive too, where `infera model publish` puts models.
    #[must_use]
    pub fn with_archive(self, archive: Arc<dyn ArchiveReader>, waits: Waits) -> Self {
        Self { archive: Some(archive), waits, ..self }
    }

    /// Returns the folders in the order in which they are searched: the one of the model's name is most often it.
    fn places(&self, model: &ModelName) -> Result<Vec<PathBuf>, ChatSourceError> {
        let stored = self.store.folders().map_err(|error| ChatSourceError(error.to_string()))?;
        let (named, others): (Vec<_>, Vec<_>) =
            stored.into_iter().partition(|folder| folder.name() == model.as_str());
        let stored = named.into_iter().chain(others).map(|folder| folder.path().to_owned());
        let mut places: Vec<PathBuf> = Vec::new();
        for place in self.folders.iter().cloned().chain(stored) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Ok(places)
    }
}

#[async_trait]
impl ChatSource for ChatFinder {
    async fn find(
        &self,
        model: &ModelName,
        tokenizer: Digest,
    ) -> Result<Option<Arc<ChatModel>>, ChatSourceError> {
        let mut problems = Vec::new();
        match self.places(model) {
            Ok(places) => {
                let known = Arc::clone(&self.known);
                let searched = spawn_blocking(move || in_folders(&places, &tokenizer, &known)).await;
                let (found, problem) = searched.map_err(|error| ChatSourceError(error.to_string()))?;
                if found.is_some() {
                    return Ok(found);
                }
                problems.extend(problem);
            }
            Err(error) => problems.push(error.0),
        }
        if let Some(archive) = &self.archive {
            match in_archive(archive, model, &tokenizer, self.waits).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(None) } else { Err(ChatSourceError(problems.join("; "))) }
    }
}

/// Searches folders; returns what was found, or what is wrong with the folder that should have had it.
fn in_folders(
    places: &[PathBuf],
    wanted: &Digest,
    known: &Mutex<Known>,
) -> (Option<Arc<ChatModel>>, Option<String>) {
    known.lock().unwrap_or_else(PoisonError::into_inner).retain(|folder, _| places.contains(folder));
    let mut problem = None;
    for folder in places.iter().filter(|folder| digest_of(folder, known).as_ref() == Some(wanted)) {
        match ChatModel::load(folder) {
            // The files may have changed between the two readings.
            Ok(chat) if chat.tokenizer_digest() == *wanted => return (Some(Arc::new(chat)), None),
            Ok(_) => {}
            Err(error) => problem = Some(error.to_string()),
        }
    }
    (None, problem)
}

/// Returns the digest of a folder's text side; none where files are missing or can't be read.
fn digest_of(folder: &Path, known: &Mutex<Known>) -> Option<Digest> {
    let stamp = [CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG].map(|name| {
        let metadata = fs::metadata(folder.join(name)).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    });
    if stamp[1].is_none() || stamp.iter().flatten().any(|(bytes, _)| *bytes > SETTINGS_MAX_BYTES) {
        return None;
    }
    let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((before, digest)) = lock().get(folder)
        && *before == stamp
    {
        return Some(*digest);
    }
    let digest = tokenizer_digest(folder).ok()?;
    lock().insert(folder.to_owned(), (stamp, digest));
    Some(digest)
}

/// Searches the archive for the model of this name; none if it has no such model, or one with another text side.
async fn in_archive(
    archive: &Arc<dyn ArchiveReader>,
    model: &ModelName,
    wanted: &Digest,
    waits: Waits,
) -> Result<Option<Arc<ChatModel>>, String> {
    // A name that can't be a folder's is in no archive.
    let Ok(source) = ArchivedSource::new(Arc::clone(archive), model.as_str(), waits) else { return Ok(None) };
    let pins = match source.pins().await {
        Ok(pins) => pins,
        Err(SourceError::NoRepository { .. }) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut files = Vec::new();
    for name in SETTINGS {
        if let Some(pin) = pins.files.get(name) {
            let wanted = Wanted { revision: &pins.revision, path: name, pin: *pin, from: 0, tag: None };
            files.push((name, whole(&source, &wanted).await?));
        }
    }
    let (model, wanted) = (model.clone(), *wanted);
    let loaded = spawn_blocking(move || load(&files)).await.map_err(|error| error.to_string())?;
    let chat = loaded.map_err(|problem| format!("the archive's model {model}: {problem}"))?;
    Ok((chat.tokenizer_digest() == wanted).then(|| Arc::new(chat)))
}

/// Reads a file whole and checks it against its pin.
async fn whole(source: &ArchivedSource, wanted: &Wanted<'_>) -> Result<Vec<u8>, String> {
    let Pin { bytes, digest } = wanted.pin;
    let unusable = |problem: &str| format!("{}: {} {problem}", source.place(), wanted.path);
    if bytes > SETTINGS_MAX_BYTES {
        return Err(unusable(&format!("has {bytes} bytes, more than can be used")));
    }
    let mut content = source.open(wanted).await.map_err(|error| error.to_string())?.chunks;
    let mut read = Vec::new();
    while let Some(chunk) = content.next().await {
        let chunk = chunk.map_err(|error| error.to_string())?;
        if read.len() as u64 + chunk.len() as u64 > bytes {
            return Err(unusable("is longer than it was pinned"));
        }
        read.extend_from_slice(&chunk);
    }
    let found = Published::Sha256(Digest::from_bytes(Sha256::digest(&read).into()));
    if found == digest { Ok(read) } else { Err(unusable("isn't as it was pinned")) }
}

/// Loads a text side from the contents of its files, by way of a folder that is deleted again.
fn load(files: &[(&str, Vec<u8>)]) -> Result<ChatModel, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for temporary files: {error}"))?;
    for (name, content) in files {
        fs::write(folder.path().join(name), content).map_err(|error| format!("{name}: {error}"))?;
    }
    ChatModel::load(folder.path()).map_err(|error| error.to_string())
}
