//! `infera up`: gateway, verifier and a few nodes in one process, on the embedded seams. It is the only crate that
//! imports roles, and has no logic of its own: it opens, registers, starts, and ends in the right order.
//!
//! In reading order: the settings (`config`), the models that the command line knows (`known_models`), the data folder
//! (`data_folder`), what is opened (`seams`), what is registered (`residents`), how one node runs (`node`), how an archived
//! record is found (`records`), what commands order of the ledger (`ledger_orders`), how commands beside a running network are answered (`operators`), which models its nodes serve
//! (`started_models` by its settings, `added_models` and `served` by later orders), the whole network (`network`), how tolerances
//! are measured (`calibrate`), the command line (`cli`), and what its shorter commands do (`commands`, `models`).

pub mod added_models;
pub mod config;
pub mod data_folder;
pub mod known_models;
pub mod seams;

pub mod ledger_orders;
pub mod node;
pub mod records;
pub mod residents;

pub mod operators;

pub mod keys;
pub mod network;
mod served;
mod started_models;

pub mod calibrate;

pub mod cli;
pub mod commands;
pub mod groups;
pub mod models;
