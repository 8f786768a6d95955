//! One suite for each seam: what its trait's contract promises, tried promise by promise. An implementation runs its
//! seam's suite in its own `tests/`, and nothing else is needed to be one. In no program.
//!
//! A test fails by panicking, and so do the suites.

pub mod archive;
pub mod broker;
pub mod engine;
pub mod ledger;
