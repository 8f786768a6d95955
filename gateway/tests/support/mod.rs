//! The shared parts of the gateway's tests: a gateway on port 0 over the embedded seams, a task in place of a
//! verifier, and an HTTP client that sends bytes as they are.

pub(crate) mod client;
mod feeding;
pub(crate) mod rig;
pub(crate) mod told;
