//! `infera up`: gateway, verifier and a few nodes in one process, on the embedded seams. The only crate that imports
//! roles, and without logic of its own: it opens, registers, starts, and ends in the right order.
//!
//! In reading order: what may be set (`config`), where things lie (`data_folder`), what is opened (`seams`), who is
//! registered (`residents`), how one node runs (`node`), all of it together (`network`), how
//! tolerances are measured (`calibrate`), and the command line (`cli`).

pub mod config;
pub mod data_folder;
pub mod seams;

pub mod node;
pub mod residents;

pub mod network;

pub mod calibrate;

pub mod cli;
