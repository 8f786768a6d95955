//! Why a calibration writes no file.

use std::path::PathBuf;

use infera_engine::EngineError;
use infera_model::chat::ChatError;
use infera_verifier::decisions::thresholds::ThresholdsError;
use infera_verifier::decisions::thresholds::calibration::CalibrationError;

use super::kept;

/// Why no file was written.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The options name no model, or no export of it.
    #[error("{0}")]
    Model(String),
    /// The model's folder cannot be used.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// An engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What was computed before can't be used, or not be kept.
    #[error(transparent)]
    Kept(#[from] kept::KeptError),
    /// The thresholds that are there cannot be used.
    #[error(transparent)]
    Thresholds(#[from] ThresholdsError),
    /// There were too few pairs.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// The file could not be written.
    #[error("{path}: {source}")]
    Output {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}
