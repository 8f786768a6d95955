//! HTTP, from a listening socket to the handler of a path. `server` accepts, bounds and drains connections, `gate`
//! examines each head before hyper reads it, `timeouts` is a connection's clock, `layers` has what every request
//! passes, and `router` has the table of all paths, which `description` describes. `acceptor` is the seam to TLS.
//!
//! This room knows nothing of what a request means: it gives each handler the parts of the state that it needs and
//! turns what the handler returns into a response.

mod absent;
mod acceptor;
mod client_address;
mod description;
mod gate;
mod layers;
mod router;
mod server;
mod timeouts;

pub use acceptor::{Acceptor, Wire};
#[cfg(feature = "fuzzing")]
pub(crate) use client_address::client_address;
pub(crate) use description::openapi;
#[cfg(feature = "fuzzing")]
pub(crate) use gate::chunks::Chunks;
#[cfg(feature = "fuzzing")]
pub(crate) use gate::head::{Examined, examine};
#[cfg(feature = "fuzzing")]
pub(crate) use layers::fuzzed;
pub(crate) use router::templates;
pub use server::Listener;
pub(crate) use server::serve;
#[cfg(feature = "fuzzing")]
pub(crate) use server::{Outline, outline, proxied_client};
