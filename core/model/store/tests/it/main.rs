//! The store against a Hub of our own that cuts, stalls and lies, and against an archive.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod chats;
mod faults;
mod listings;
mod pinning;
mod sources;
mod support;
