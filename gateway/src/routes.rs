//! The work behind each path, with one file per resource. A handler is given its call (`call`) and the parts that it
//! works with, and returns a reply or a failure. The layers do beforehand what all requests have in common, and
//! decide afterwards what a failure looks like. The table of paths (`http/router`) says which parts each handler is
//! given. `order` reads the conversations for the routes that take some.
//!
//! This room knows nothing of connections and layers.

pub(crate) mod account;
pub(crate) mod accounts;
mod call;
mod charging;
pub(crate) mod chat;
pub(crate) mod documents;
pub(crate) mod erasures;
pub(crate) mod health;
pub(crate) mod job_batches;
pub(crate) mod job_events;
pub(crate) mod job_lists;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod mapping;
pub(crate) mod models;
pub(crate) mod node_groups;
mod node_names;
pub(crate) mod nodes;
mod order;
mod parsing_pool;
pub(crate) mod ping;
pub(crate) mod points;
mod preferring;
pub(crate) mod signup;
pub(crate) mod statistics;
mod streaming;
pub(crate) mod submit;
pub(crate) mod usage;
pub(crate) mod worker;

pub(crate) use call::{Body, Call};
pub(crate) use documents::Documents;
pub(crate) use keys::Blocking;
pub(crate) use mapping::NodeModels;
pub(crate) use models::Terms as ModelTerms;
pub(crate) use node_names::Runners;
pub(crate) use nodes::{Door, Nodes};
pub(crate) use order::Conversations;
#[cfg(feature = "fuzzing")]
pub(crate) use order::idempotency_key;
pub(crate) use statistics::NetworkCounts;
