//! What the benchmarks of one machine (`make bench`), of a cluster (`make bench-cluster`), of the edge beside its
//! peers (`make bench-edge`) and of engines beside theirs (`make bench-models`) share: the smallest HTTP client, hyper alone, programs as processes, jobs as large as
//! real ones, and the table. It also holds those parts of one benchmark that can be tested by themselves: processes'
//! time and memory, arrivals at a rate, counted PUTs, `Server-Timing`. It measures nothing itself.

pub mod bare;
pub mod client;
pub mod crowd;
pub mod fixtures;
pub mod machine;
pub mod measure;
pub mod ours;
pub mod process;
pub mod puts;
pub mod report;
pub mod schedule;
pub mod server_timing;

use std::error::Error;
use std::path::{Path, PathBuf};

/// An error, which ends a run: a table with holes would be read as a complete one.
pub type Fault = Box<dyn Error + Send + Sync>;

/// Returns the repository's root. Cargo starts benchmarks in their package's folder.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}
