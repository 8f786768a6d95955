//! Who may ask for what. `keys` and `auth` find the caller by its API key, `rate_limit` bounds how much one caller
//! may ask, `client_network` says which addresses count as one client where there is no key or no proof, and `admission` lets in
//! nodes from outside.
//!
//! This room knows nothing of jobs, routes or connections.

pub mod admission;
mod auth;
mod client_network;
mod keys;
mod rate_limit;
pub mod share_orders;

pub use admission::{Admission, BrokerAddress, Claims, SigningError, TokenSigner};
pub(crate) use auth::{caller, caller_if_any};
pub(crate) use client_network::{ClientNetwork, RentedNetwork};
pub use keys::{ApiKey, NoRandomness, RevokeKeyError, revoke_key};
pub(crate) use keys::{Caller, KeyCache};
pub(crate) use rate_limit::{Limits, Turn};
