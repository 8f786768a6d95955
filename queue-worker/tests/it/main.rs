//! The worker from outside: assignments go into a broker, and replicas and refusals come out of it. It runs with the
//! stub engine and the bundled model's tokenizer, and with the bundled model itself where that matters. All of it is
//! one binary, so that it is linked once.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test that called them; clippy knows only the tests themselves"
)]

mod answering;
mod batch_invariance;
mod faults;
mod knobs;
mod models;
mod onnx;
mod redelivery;
mod shutdown;
mod support;
