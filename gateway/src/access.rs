//! Who may ask for what. `keys` and `auth` find the caller by its API key, `rate_limit` bounds how much one caller
//! may ask, `client_network` says which addresses count as one client where there is no key or no proof, `job_share` says what jobs are counted
//! under, and `admission` lets in
//! nodes from outside.
//!
//! This room knows nothing of jobs, routes or connections.

mod account_name;
pub mod admission;
mod allowance;
mod auth;
mod by_address;
mod client_network;
mod elsewhere;
pub mod erasure_orders;
pub mod group_orders;
mod job_share;
pub mod key_orders;
mod keys;
mod limit_headers;
pub mod money_orders;
mod rate_limit;
mod reserved;
pub mod share_orders;
mod spent;
mod telling;
mod turns;

pub use admission::{Admission, BrokerAddress, Claims, SigningError, TokenSigner};
pub(crate) use allowance::Attempt;
#[cfg(feature = "fuzzing")]
pub(crate) use auth::credential;
pub(crate) use auth::{caller, caller_if_any};
pub(crate) use client_network::{ClientNetwork, RentedNetwork};
pub(crate) use job_share::JobShare;
pub use keys::{ApiKey, NoRandomness, RevokeKeyError, revoke_key};
pub(crate) use keys::{Caller, KeyCache};
pub(crate) use rate_limit::{Limits, Work, attempt};
pub(crate) use reserved::{Reserved, Used, Wanted};
pub(crate) use turns::Turn;
