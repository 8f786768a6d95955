//! The work behind each path, one file per resource. A handler is given its call (`call`) and the parts that it works with, and
//! gives a reply or a failure; what all requests have in common is done before, and how a failure looks is decided after.
//! Paths, and which parts go to which handler, are the table's (`http/router`). `order` reads the conversations of three
//! routes.
//!
//! The room knows nothing of connections and layers.

mod call;
pub(crate) mod chat;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod models;
pub(crate) mod nodes;
mod order;
mod parsing_pool;
pub(crate) mod ping;
pub(crate) mod signup;
pub(crate) mod statistics;
pub(crate) mod submit;

pub(crate) use call::{Body, Call};
pub(crate) use nodes::Nodes;
pub(crate) use order::Conversations;
pub(crate) use statistics::NetworkCounts;
