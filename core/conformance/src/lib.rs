//! One suite for each seam, which checks what its trait's contract promises, promise by promise. An implementation
//! runs its seam's suite in its own `tests/` and needs no other proof. No program links this crate.
//!
//! Like tests, the suites fail by panicking.

pub mod archive;
pub mod broker;
pub mod engine;
pub mod hub;
pub mod ledger;
