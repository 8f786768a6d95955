//! Says how a job leaves its group.

use infera_types::job::{End, Settlement};

/// How a job leaves its group.
pub(super) enum Outcome {
    /// The job ends like this, unless it was ended before.
    End(End),
    /// The job was ended elsewhere.
    Elsewhere(Box<Settlement>),
    /// The job goes back: no node was asked.
    Release,
}
