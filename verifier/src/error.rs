//! Says why a verifier can't be made.

use crate::config::ConfigError;
use crate::decisions::thresholds::ThresholdsError;

/// Why a verifier can't be made. A retry is of no use: settings or the build are wrong.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// The operator's settings are wrong; all mistakes at once.
    #[error("{}", list(.0))]
    Config(Vec<ConfigError>),
    /// The thresholds that the program carries are wrong, which is a mistake of the build.
    #[error(transparent)]
    Thresholds(#[from] ThresholdsError),
}

fn list(mistakes: &[ConfigError]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
