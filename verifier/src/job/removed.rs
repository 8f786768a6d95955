//! The end of a job whose model was removed before its turn came.

use infera_types::ids::ModelName;
use infera_types::job::{End, FailureReason};

/// Returns the end of a job for a model that was removed and that no live node serves. A failed job costs nothing.
pub(crate) fn model_removed(model: &ModelName) -> End {
    let message = format!(
        "The model '{model}' is no longer served: it was removed from this network before the job's turn came, and no node \
         has it any more. Nothing is charged."
    );
    End::Failed { reason: FailureReason::ModelRemoved, message }
}
