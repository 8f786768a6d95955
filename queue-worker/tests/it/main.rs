//! The worker from outside: assignments into a broker, replicas and refusals out of it, with the stub engine and the
//! bundled model's tokenizer, and where it matters with the bundled model itself. One binary, so that it links once.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test that called them; clippy knows only the tests themselves"
)]

mod answering;
mod batch_invariance;
mod faults;
mod onnx;
mod redelivery;
mod shutdown;
mod support;
