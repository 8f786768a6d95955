//! Holds the tasks that serve no single job. Each does one thing again and again until its tenure ends, and five of them do it
//! under a lease that verifiers share, so that one verifier at a time does it. None of them begins a job or speaks with a node.
//!
//! `feeder` offers held jobs in fair order, `sweeper` recovers orphaned work, `projector` folds postings, `archiver` moves settled jobs into the archive and has `eraser` erase texts, `warden`
//! closes nodes' connections; `chat_keeper` finds tokenizers of added models, `capacity` tells gateways what there is room for, and `cancellations` learns which jobs
//! were ended elsewhere.

mod archiver;
mod cancellations;
mod capacity;
mod chat_keeper;
mod eraser;
mod feeder;
mod projector;
pub(crate) mod sweeper;
mod warden;

pub(crate) use archiver::Archiver;
pub(crate) use cancellations::Cancellations;
pub(crate) use capacity::Capacity;
pub(crate) use chat_keeper::ChatKeeper;
pub(crate) use feeder::Feeder;
pub(crate) use projector::Projector;
pub(crate) use warden::Warden;
