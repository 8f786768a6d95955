//! The API's two shapes, told apart by the path.

/// One of the API's two shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// The network's own shape, as FastAPI prints it.
    Seed,
    /// OpenAI's shape.
    OpenAi,
}

/// Returns the shape of the replies on a path, whether or not the path exists.
#[must_use]
pub(crate) fn face(path: &str) -> Face {
    if path == "/v1" || path.starts_with("/v1/") { Face::OpenAi } else { Face::Seed }
}
