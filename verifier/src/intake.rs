//! Reads the broker's queues: jobs, which begin their lives here, and what nodes say, which is brought to the job
//! that asked. Nothing here decides how a job ends or sends anything to a node.
//!
//! `jobs` reads notices, `lanes` counts those that are held, `prefetch` bounds them, `taking` takes them in the ledger, and `suspects` tries those
//! alone that may have ended a verifier. `replicas` reads this verifier's own queue and `strays` the one that all verifiers
//! share; `routing` is what both do with a message. `frames` reads what is fleeting.

pub(crate) mod frames;
pub(crate) mod jobs;
mod lanes;
mod prefetch;
pub(crate) mod replicas;
mod routing;
pub(crate) mod strays;
pub(crate) mod suspects;
mod taking;
