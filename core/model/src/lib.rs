//! A model as a folder: the files that it consists of and the digest that names it (`folder`), and its text side
//! (`chat`), which may have to be looked for (`chat_source`). Worker and verifier share this crate because both must get the
//! same tokens.

pub mod chat;
pub mod chat_source;
pub mod folder;
