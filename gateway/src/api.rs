//! What clients send and get, as values: the conversations they ask for, replies, and errors in both shapes. This
//! room reads no socket and asks no ledger.

pub(crate) mod amounts;
pub(crate) mod chat_form;
pub(crate) mod chat_request;
pub(crate) mod chunks;
pub(crate) mod codes;
pub(crate) mod denied;
pub(crate) mod error;
mod error_body;
mod error_text;
pub(crate) mod event_stream;
pub(crate) mod face;
pub(crate) mod failure;
pub(crate) mod group_objects;
pub(crate) mod group_refusal;
pub(crate) mod jobs_request;
pub(crate) mod key_objects;
pub(crate) mod metadata;
pub(crate) mod node_objects;
pub(crate) mod nodes_wanted;
pub(crate) mod objects;
pub(crate) mod operation;
pub(crate) mod preferences;
pub(crate) mod query;
pub(crate) mod recognition;
pub(crate) mod refusal;
pub(crate) mod reply;
pub(crate) mod schema;
pub(crate) mod shapes;
pub(crate) mod stream_form;
pub(crate) mod too_many_requests;
mod unfit;
pub(crate) mod waits;
