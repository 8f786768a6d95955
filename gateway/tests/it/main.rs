//! The gateway from outside: real sockets, the SQLite ledger, the broker in memory, and a task in place of a
//! verifier.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod attaching;
mod auth;
mod bodies;
mod choices;
mod choices_counted;
mod connections;
mod damage;
mod description;
mod edge;
mod erasing;
mod fairness;
mod faults;
mod framing;
mod full_disk;
mod half_close;
mod hanging_up;
mod head_requests;
mod hosts;
mod idempotency;
mod input;
mod keys;
mod knobs;
mod limits;
mod limits_by_key;
mod limits_shared;
mod lives;
mod losing;
mod mail_faults;
mod money;
mod node_groups;
mod node_owners;
mod node_points;
mod one_process;
mod outbox;
mod poison;
mod preferring;
mod proxies;
mod queues;
mod raw;
mod routes;
mod seeds;
mod streams;
mod timing;
mod unanswerable;
mod volume;
mod volume_lists;
mod volume_mistakes;
mod waits;
