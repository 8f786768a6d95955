//! The gateway: HTTP in, jobs accepted, ends handed back. It can't take, settle or post a job: it isn't given the
//! halves of the ledger that do, and it links no engine.
//!
//! Read it as a request goes: `server` (connections) ▸ `layers` (what every request passes) ▸ `router` (every path) ▸
//! `routes` (one file per resource) ▸ `validation` and `ask` (what a body means) ▸ `accept` (the life of a request) ▸
//! `waiters` and `completions` (its end) ▸ `completion` and `error` (how that looks).

mod abandonment;
pub mod accept;
pub mod ask;
pub mod capacity;
pub mod catalogue;
pub mod commit;
pub mod completion;
pub mod completions;
pub mod config;
mod courier;
pub mod error;
pub mod gateway;
pub mod keys;
pub mod layers;
pub mod memory;
pub mod meters;
mod network;
pub mod nodes;
pub mod outbox;
mod patience;
pub mod proxies;
mod queues;
pub mod readiness;
pub mod replay;
pub mod reply;
pub mod router;
pub mod routes;
pub mod server;
pub mod state;
pub mod validation;
pub mod waiters;

pub use config::{Config, ConfigMistake};
pub use gateway::{Gateway, GatewayHandle};
pub use server::Door;
pub use state::Seams;
