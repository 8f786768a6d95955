//! What the benchmarks of one machine (`make bench`) and of a cluster (`make bench-cluster`) share: the smallest HTTP
//! client, hyper alone, jobs as large as real ones, and the table; and what the cluster's needs that can be tested by
//! itself: processes' time and memory, arrivals at a rate, counted PUTs. It measures nothing by itself.

pub mod bare;
pub mod client;
pub mod fixtures;
pub mod machine;
pub mod measure;
pub mod puts;
pub mod report;
pub mod schedule;

use std::error::Error;

/// Whatever goes wrong ends a run: a table with holes would be read as a whole one.
pub type Fault = Box<dyn Error + Send + Sync>;
