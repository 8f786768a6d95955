//! The words that all of Infera shares: values and the little that follows from them alone. No seam, no vendor, no role.
//!
//! Read in this order: what things are called (`ids`, `time`), what an answer is compared by (`numbers`), what a client
//! may ask and what a settled job is (`job`), what an engine can do (`features`), what crosses the broker (`messages`, made bytes
//! by `wire`, in an `envelope`), and last what every
//! long-lived part is given or does (`shutdown`, `retry`, `secret`, `causes`), and files that only their owner reads
//! (`private_files`).

pub mod ids;
pub mod time;

pub mod envelope;
pub mod features;
pub mod job;
pub mod messages;
pub mod numbers;
pub mod wire;

pub mod admission;
pub mod byte_budget;
pub mod causes;
pub mod private_files;
pub mod retry;
pub mod secret;
pub mod shutdown;
