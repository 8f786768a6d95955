//! The gateway: HTTP in, jobs accepted, ends handed back. It can't take, settle or post a job: it isn't given the parts of
//! the ledger that do, and it links no engine.
//!
//! Read it as a request goes, room by room:
//!
//! 1. `http` accepts the connection, examines the head, passes the layers and finds the handler in the table of all paths;
//! 2. `routes` has one file per resource, with the handler's work;
//! 3. `fastapi` checks what a body looks like, in FastAPI's words, and `api` what it asks for;
//! 4. `jobs` is the life of a job from here to its end; read `jobs/accept.rs` from top to bottom;
//! 5. `outbox` takes the job's notice to the broker in the background;
//! 6. `api` again: how the answer, or the error, looks.
//!
//! Beside that road: `access` (keys, limits, nodes from outside), `network` (what is known of models and capacity), `readiness`
//! and `metrics` (operators' eyes), `memory` (the budget of large bodies). `config` holds the settings, `seams` what comes from
//! outside, `state` what requests share, and `gateway` puts all of it together.
//!
//! A room imports only from those below it, in this order: `fastapi`, `config`, `seams`, `metrics`, `memory`, `api`, `access`,
//! `network`, `outbox`, `jobs`, `readiness`, `routes`, `state`, `http`, `gateway`.

pub mod access;
mod api;
pub mod config;
mod fastapi;
mod gateway;
pub mod http;
pub mod jobs;
mod memory;
mod metrics;
mod network;
mod outbox;
mod readiness;
mod routes;
mod seams;
mod state;

pub use config::{Config, ConfigMistakes};
pub use gateway::{Gateway, GatewayHandle};
pub use http::Listener;
pub use seams::Seams;
