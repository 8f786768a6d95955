//! A hostile node at the real broker: it holds what a gateway gives a node, a token for itself, and tries everything
//! else. One test per try, each with the end that is expected: refused by the broker, or dropped by whoever reads.
//! Nothing is read that isn't its own, and nothing is credited to another.
//!
//! What RabbitMQ lets pass, a warden ends; that is tried beside the warden. `make services` starts the broker;
//! `data/services.env` says where it is and which key signs tokens.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a check fails by panicking")]

#[path = "hostile_node/flooding.rs"]
mod flooding;
#[path = "hostile_node/queues.rs"]
mod queues;
#[path = "hostile_node/signing.rs"]
mod signing;
#[path = "hostile_node/speaking.rs"]
mod speaking;
#[path = "hostile_node/stage.rs"]
mod stage;
#[path = "hostile_node/tokens.rs"]
mod tokens;
