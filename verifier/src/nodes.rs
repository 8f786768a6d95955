//! Knows the nodes: which are alive and have room, how they stand in the ledger, and where their messages go.
//! Nothing here asks a node or waits for one, and nothing knows of a job's life.
//!
//! `table` holds the live nodes by their heartbeats, `ledger_view` what the ledger says of them, `pools` which jobs they are for, `profile` what their records are worth;
//! `fleet` joins them into candidates for a draw, and `room` into numbers for gateways. `routes` brings an answer to the job
//! that asked, and `hearing` tells whether nodes could be heard at all.

mod fleet;
mod hearing;
mod ledger_view;
mod pools;
mod profile;
pub(crate) mod room;
mod routes;
mod table;

pub(crate) use fleet::{Fleet, fleet};
pub(crate) use hearing::Hearing;
pub(crate) use ledger_view::LedgerView;
pub(crate) use routes::{Arrival, Arrived, OpenRoute, Routed, Routes};
pub(crate) use table::{NodeTable, NodeView, Slot};
