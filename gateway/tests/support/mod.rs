//! What the gateway's tests share: a gateway on port 0 over the embedded seams, a verifier's part played by a task,
//! and an HTTP client that sends bytes as they are.

pub(crate) mod client;
pub(crate) mod rig;
