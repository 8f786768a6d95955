//! Where models lie: their folders, and the archive of a data folder.

use std::sync::Arc;

use infera_archive::local::LocalArchive;
use infera_model_store::folder::{FolderProblem, ModelFolder, Store};
use infera_program::Failure;

use crate::config::Config;
use crate::data_folder::DataFolder;
use crate::known_models;

/// Opens the archive of a data folder that nothing runs on; the folder is held with it.
pub(super) fn archive(config: &Config) -> Result<(DataFolder, Arc<LocalArchive>), Failure> {
    let folder = DataFolder::open_filled(&config.data).map_err(Failure::refused)?;
    let archive = LocalArchive::open(folder.archive())?;
    Ok((folder, archive))
}

/// Returns the folder that a word of the command line stands for: a known model's, that of a name, or a folder, written with a
/// slash. That of a name need not exist.
pub(super) fn folder_of_word(config: &Config, word: &str) -> Result<ModelFolder, Failure> {
    let is_known = known_models::KNOWN.iter().any(|known| known.word == word);
    if !is_known && !word.contains(['/', '\\']) {
        return folder(config, word);
    }
    let path = known_models::choose_in(word, &config.models).map_err(Failure::settings)?.folder;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Failure::settings(format!("{word} is no model's folder")));
    };
    Store::new(parent).folder(&name.to_string_lossy()).map_err(Failure::settings)
}

/// Returns the folder of a model's name.
pub(super) fn folder(config: &Config, model: &str) -> Result<ModelFolder, Failure> {
    Store::new(&config.models).folder(model).map_err(Failure::settings)
}

/// Maps a folder's problem to the exit code of whose fault it is.
pub(super) fn unusable(error: FolderProblem) -> Failure {
    match error {
        FolderProblem::Name(error) => Failure::settings(error),
        error => Failure::refused(error),
    }
}
