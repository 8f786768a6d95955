//! Whole paths: a client's HTTP request through gateway, ledger, broker, workers with real engines, verifier and
//! back. Each test has its own data folder and port 0. Altered nodes are honest workers behind a seam that lies.

#![expect(clippy::expect_used, reason = "a test that can't set its stage has failed")]

mod altered;
mod client;
mod stage;

mod altered_nodes;
mod answers;
mod damage;
mod erasing;
mod fairness;
mod hanging_up;
mod honest_differences;
mod lifetimes;
mod models;
mod own_nodes;
mod records;
mod refused;
mod streaming;
mod two_models;
mod upgrade;
mod volume;
