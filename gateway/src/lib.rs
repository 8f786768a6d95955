//! The gateway takes requests by HTTP, accepts jobs and returns their ends. It can't take, settle or post a job,
//! because it isn't given the parts of the ledger that do this, and it links no engine.
//!
//! Read the rooms in the order in which a request passes them:
//!
//! 1. `http` accepts the connection, examines the head, applies the layers and finds the handler in the table of all
//!    paths.
//! 2. `routes` has one file per resource, with the handler's work.
//! 3. `fastapi` checks the shape of a body, with FastAPI's messages, and `api` reads what the body asks for.
//! 4. `jobs` has the life of the job from here to its end; read `jobs/accept.rs` from top to bottom.
//! 5. `outbox` brings the job's notice to the broker in the background.
//! 6. `api` also shapes the answer or the error.
//!
//! Beside this path: `access` (keys, limits, nodes from outside), `mail` (proving addresses and lost keys), `network` (models and capacity), `readiness` and
//! `metrics` (for operators) and `memory` (the budget of large bodies). `config` has the settings, `seams` what the
//! gateway is given, `state` what requests share, and `gateway` assembles it all.
//!
//! A room imports only rooms that stand before it in this list: `fastapi`, `config`, `seams`, `metrics`, `memory`,
//! `api`, `access`, `mail`, `network`, `outbox`, `jobs`, `readiness`, `routes`, `state`, `http`, `gateway`, `fuzzing`.

pub mod access;
mod api;
pub mod config;
mod fastapi;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gateway;
pub mod http;
pub mod jobs;
mod mail;
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
pub use mail::Mail;
pub use seams::Seams;
