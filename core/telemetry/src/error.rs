//! Why logs or traces could not be started.

/// Why logs could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter is wrong; the operator has to correct it.
    #[error("log filter {filter:?}: {problem}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Logs were already started in this process, which is our fault.
    #[error("logs were already started in this process")]
    Started,
    /// The settings of traces are wrong; the operator has to correct them.
    #[error("{0}")]
    Traces(String),
}
