//! Where models lie: their folders, and the archive of a data folder.

use std::sync::Arc;

use infera_archive::local::LocalArchive;
use infera_model_store::folder::{FolderProblem, ModelFolder, Store};
use infera_program::Failure;

use crate::config::Config;
use crate::data_folder::DataFolder;

/// Opens the archive of a data folder that nothing runs on; the folder is held with it.
pub(super) fn archive(config: &Config) -> Result<(DataFolder, Arc<LocalArchive>), Failure> {
    let folder = DataFolder::open_filled(&config.data).map_err(Failure::refused)?;
    let archive = LocalArchive::open(folder.archive())?;
    Ok((folder, archive))
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
