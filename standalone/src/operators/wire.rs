//! What both ends agree on.

use hyper::StatusCode;
use infera_types::ids::JobId;

/// The path before a job's id.
pub(super) const ARCHIVE: &str = "/archive/";

/// Answers of this status may be otherwise later without an operator's doing.
pub(super) const LATER: [StatusCode; 2] = [StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE];

/// The path of a job's record.
pub(super) fn path(job: JobId) -> String {
    format!("{ARCHIVE}{job}")
}
