//! A model as a folder: the files that it consists of and the digest that names it (`folder`), and the side of it that
//! deals with text (`chat`). Shared, because worker and verifier must come to the same tokens.

pub mod chat;
pub mod folder;
