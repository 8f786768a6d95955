//! HTTP, from a listening socket to the handler of a path. `server` accepts connections, bounds and drains them (`places`,
//! `connection`); `gate` examines each head before hyper reads it; `timeouts` is a connection's clock; `layers` are what every
//! request passes; `router` is the table of all paths. `acceptor` is the seam to TLS.
//!
//! The room knows nothing of what a request means: it hands out the parts of the state and shows what the handlers return.

mod acceptor;
mod client_address;
mod gate;
mod layers;
mod router;
mod server;
mod timeouts;

pub use acceptor::{Acceptor, Wire};
pub(crate) use router::templates;
pub use server::Listener;
pub(crate) use server::serve;
