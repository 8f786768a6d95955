//! Why there are no logs, or no traces.

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The operator's to mend.
    #[error("log filter {filter:?}: {problem}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Logs were started before in this process; ours to mend.
    #[error("logs were started before")]
    Started,
    /// The operator's to mend: where traces go, or how many.
    #[error("{0}")]
    Traces(String),
}
