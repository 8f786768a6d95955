//! `infera up`: gateway, verifier and a few nodes in one process, on the embedded seams. It is the only crate that
//! imports roles, and has no logic of its own: it opens, registers, starts, and ends in the right order.
//!
//! In reading order: the settings (`config`), the data folder (`data_folder`), what is opened (`seams`), what is
//! registered (`residents`), how one node runs (`node`), the whole network (`network`), how tolerances are measured
//! (`calibrate`), and the command line (`cli`).

pub mod config;
pub mod data_folder;
pub mod seams;

pub mod node;
pub mod residents;

pub mod network;

pub mod calibrate;

pub mod cli;
