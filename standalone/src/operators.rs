//! What commands on this machine ask of an `infera up` that runs, since it locks its data folder: HTTP on a loopback port of
//! its own, under the key for local use. The gateway's port may be opened to a network, and any account's key opens it; this
//! one may not and is not. It shows records, and takes orders about models and of the ledger.

mod client;
mod server;
mod wire;

pub use client::{AskError, ask, order, order_of_ledger};
pub use server::OperatorServer;
pub use wire::{Addition, ModelOrder, NotDone, Ordered};
