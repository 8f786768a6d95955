//! Orders the jobs that wait for room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use infera_types::ids::ModelName;

/// A fair lock: jobs get it in the order in which they began to wait.
pub(crate) type Turn = Arc<tokio::sync::Mutex<()>>;

/// One turn per model, for the jobs that wait for room on its nodes.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<ModelName, Turn>>);

impl Turns {
    /// Returns the turn that jobs of `model` wait for.
    pub(crate) fn of_model(&self, model: &ModelName) -> Turn {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(model.clone()).or_default())
    }
}
