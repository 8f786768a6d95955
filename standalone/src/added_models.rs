//! The models that were added to a data folder (`infera model add`), with what its nodes run of them: kept in a file beside the
//! ledger, so that the next `infera up` serves them again. What their names mean is in the catalogue.

use std::path::PathBuf;

use infera_types::ids::ModelName;
use serde::{Deserialize, Serialize};

use crate::data_folder::{DataFolder, DataFolderError, write_private};

/// A model that was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedModel {
    /// Its name in the catalogue.
    pub name: ModelName,
    /// Its folder, as an absolute path: `infera up` may start elsewhere next time.
    pub folder: PathBuf,
    /// The ONNX file that the nodes run.
    pub variant: String,
}

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AddedModelsError {
    /// It can't be read, or isn't such a file.
    #[error("{path}: {problem}; move it away, and add the models again")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// It can't be written.
    #[error(transparent)]
    Unwritable(#[from] DataFolderError),
}

/// The file of one data folder, which the caller holds locked.
#[derive(Clone, Debug)]
pub struct AddedModels {
    path: PathBuf,
}

impl AddedModels {
    /// Names the file of a data folder.
    #[must_use]
    pub fn of(data: &DataFolder) -> Self {
        Self { path: data.added_models() }
    }

    /// Reads the models, in the order in which they were added; none if none was.
    ///
    /// # Errors
    /// [`AddedModelsError::Unreadable`].
    pub fn read(&self) -> Result<Vec<AddedModel>, AddedModelsError> {
        let unreadable = |problem: String| AddedModelsError::Unreadable { path: self.path.clone(), problem };
        match std::fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }

    /// Adds a model, or replaces the one of its name.
    ///
    /// # Errors
    /// [`AddedModelsError`].
    pub fn put(&self, model: &AddedModel) -> Result<(), AddedModelsError> {
        let mut models = self.read()?;
        match models.iter_mut().find(|other| other.name == model.name) {
            Some(other) => *other = model.clone(),
            None => models.push(model.clone()),
        }
        self.write(&models)
    }

    /// Removes the model of this name, if it is there.
    ///
    /// # Errors
    /// [`AddedModelsError`].
    pub fn remove(&self, name: &ModelName) -> Result<(), AddedModelsError> {
        let mut models = self.read()?;
        let before = models.len();
        models.retain(|model| model.name != *name);
        if models.len() == before { Ok(()) } else { self.write(&models) }
    }

    fn write(&self, models: &[AddedModel]) -> Result<(), AddedModelsError> {
        // Names and paths can always be written, but for a path that isn't Unicode.
        let text = serde_json::to_string_pretty(models).map_err(|error| AddedModelsError::Unreadable {
            path: self.path.clone(),
            problem: error.to_string(),
        })?;
        Ok(write_private(&self.path, &text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_kept_in_order_and_replaced_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let added = AddedModels::of(&data);
        assert_eq!(added.read().unwrap(), []);
        let model = |name: &str, variant: &str| AddedModel {
            name: ModelName::new(name),
            folder: PathBuf::from("/models").join(name),
            variant: variant.to_owned(),
        };
        for one in [model("b", "model"), model("a", "model"), model("b", "q4")] {
            added.put(&one).unwrap();
        }
        assert_eq!(added.read().unwrap(), [model("b", "q4"), model("a", "model")]);
        added.remove(&ModelName::new("b")).unwrap();
        added.remove(&ModelName::new("never-there")).unwrap();
        assert_eq!(added.read().unwrap(), [model("a", "model")]);
        std::fs::write(data.added_models(), "{").unwrap();
        let error = added.put(&model("c", "model")).unwrap_err().to_string();
        assert!(error.contains("models.json") && error.contains("move it away"), "{error}");
    }
}
