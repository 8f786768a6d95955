//! What both ends agree on.

use hyper::StatusCode;
use infera_ledger::CatalogueEntry;
use infera_types::ids::{JobId, ModelName};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::added_models::AddedModel;

/// The path before a job's id.
pub(super) const ARCHIVE: &str = "/archive/";

/// The path before a model's name.
pub(super) const MODELS: &str = "/models/";

/// The path that takes orders of the ledger.
pub(super) const LEDGER: &str = "/ledger";

/// The most bytes of an order; an entry of the catalogue and a path take a few KiB.
pub(super) const ORDER_MAX_BYTES: usize = 256 * 1024;

/// Answers of this status may be otherwise later without an operator's doing.
pub(super) const LATER: [StatusCode; 2] = [StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE];

/// Answers of this status say what is wrong with what the operator typed. A request that the other end can't read, because it is
/// cut or of another version, has another one: there the command is at fault and not the operator.
pub(super) const MISTYPED: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// The path of a job's record.
pub(super) fn path(job: JobId) -> String {
    format!("{ARCHIVE}{job}")
}

/// The path of a model.
pub(super) fn path_of_model(name: &ModelName) -> String {
    format!("{MODELS}{name}")
}

/// A model that is to be added.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Addition {
    /// Its entry in the catalogue.
    pub entry: CatalogueEntry,
    /// What nodes run of it.
    pub model: AddedModel,
    /// Whether a name that stands for other files is replaced.
    pub replaces: bool,
}

/// What a command orders of the models.
#[derive(Clone, Debug)]
pub enum ModelOrder {
    /// Adds one.
    Add(Box<Addition>),
    /// Removes one.
    Remove(ModelName),
}

/// Why an order isn't carried out, for the person who gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotDone {
    /// One sentence.
    pub sentence: String,
    /// Whether that may be otherwise later without an operator's doing.
    pub may_pass: bool,
}

/// An order on its way to those who carry it out.
#[derive(Debug)]
pub struct Ordered {
    /// The order.
    pub order: ModelOrder,
    /// Takes the answer: what was done, as one sentence.
    pub answer: oneshot::Sender<Result<String, NotDone>>,
}
