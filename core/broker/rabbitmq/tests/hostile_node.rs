//! A hostile node at a real broker: it has what a gateway gives a node, a token for itself, and tries everything
//! else. Each test tries one thing and expects one end: the broker refuses it, or the reader drops it. The node can
//! read nothing but its own queue, and nothing that it sends counts for another node.
//!
//! Whatever RabbitMQ lets pass, the warden stops; that is tested with the warden. `make services` starts the broker;
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
