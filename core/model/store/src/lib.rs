//! The model store: folders of models as the Hub lays them out, fetched from a Hub or the archive, each file pinned by its
//! digest, resumed where a download was cut, and verified.
//!
//! In reading order: which names are taken (`names`), how many bytes and which digest a file must have (`pins`), where files
//! come from (`source`, the seam; `hub` and `archived` implement it), which files a variant needs (`needs`), a file that is
//! being written (`part`), a model's folder (`folder`), and the whole (`fetching`, `verifying`, `inventory`). `chats` finds the
//! text side of a model by its digest, wherever it lies.

pub mod names;
pub mod pins;

pub mod source;

pub mod archived;
pub mod hub;

pub mod needs;

mod part;
mod space;

pub mod folder;

pub mod chats;
pub mod fetching;
pub mod inventory;
pub mod verifying;
