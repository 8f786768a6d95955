//! What clients send and get, as values: the conversations they ask for, replies, and errors in both shapes. This
//! room reads no socket and asks no ledger.

pub(crate) mod amounts;
pub(crate) mod chat_form;
pub(crate) mod chat_request;
pub(crate) mod codes;
mod completion_shapes;
pub(crate) mod denied;
pub(crate) mod error;
mod error_body;
mod error_text;
mod evidence;
pub(crate) mod face;
pub(crate) mod failure;
pub(crate) mod group_objects;
pub(crate) mod group_refusal;
pub(crate) mod jobs_request;
pub(crate) mod key_objects;
mod knob_fields;
mod knobs;
mod logprobs;
pub(crate) mod metadata;
pub(crate) mod needs;
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
pub(crate) mod too_many_requests;
mod unfit;
pub(crate) mod waits;
