//! A model as a folder: the files that it consists of and the digest that names it (`folder`), and its text side
//! (`chat`). Worker and verifier share this crate because both must get the same tokens.

pub mod chat;
pub mod folder;
