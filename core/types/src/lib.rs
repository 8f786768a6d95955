//! The words that all of Infera shares, and the few tools that every program needs without a seam. No vendor or role.
//!
//! Read in this order: names of things (`ids`, `time`, `day`), amounts of money (`money`), what answers are compared by (`numbers`, and `columns` as their bytes), what a client may
//! ask (`request`, `knobs`) and what a settled job is (`job`, with what a client had that hung up in `delivered`), how jobs share the network (`service`), what an engine can do (`features`), what
//! crosses the broker (`messages`, `frames`, made
//! bytes by `wire`, in an `envelope`), then what every long-lived part is given or does (`shutdown`, `retry`, `secret`,
//! `causes`, `unreadable`, `byte_budget`), the words by which a node is let in (`admission`) and by which operators order groups of nodes
//! (`group_task`), and files that only their owner can read
//! (`private_files`).

pub mod day;
pub mod ids;
pub mod time;

pub mod choice;
pub mod columns;
pub mod delivered;
pub mod envelope;
pub mod features;
pub mod frames;
pub mod job;
pub mod knobs;
pub mod messages;
pub mod money;
pub mod numbers;
pub mod request;
pub mod service;
pub mod wire;

pub mod admission;
pub mod byte_budget;
pub mod causes;
pub mod group_task;
pub mod private_files;
pub mod retry;
pub mod secret;
pub mod shutdown;
pub mod spending;
pub mod unreadable;
