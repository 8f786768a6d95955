//! The pairs that clients attach to their jobs.

use std::collections::BTreeMap;

/// The pairs that a client attaches to a job, to find it again. The gateway bounds their number and length.
pub type Metadata = BTreeMap<String, String>;
