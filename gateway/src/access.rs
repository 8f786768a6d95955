//! Who may ask for what: API keys and their callers (`keys`, `auth`), how much each may ask (`rate_limit`), what counts as one
//! client without a key (`client_network`), and how nodes come in from outside (`admission`).
//!
//! The room knows nothing of jobs, routes and connections.

pub mod admission;
mod auth;
mod client_network;
mod keys;
mod rate_limit;

pub use admission::{Admission, BrokerAddress, Claims, SigningError, TokenSigner};
pub(crate) use auth::{caller, caller_if_any};
pub(crate) use client_network::ClientNetwork;
pub use keys::{ApiKey, NoRandomness};
pub(crate) use keys::{Caller, KeyCache};
pub(crate) use rate_limit::{Limits, Turn};
