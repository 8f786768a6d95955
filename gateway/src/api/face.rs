//! The API's two shapes, told apart by the path.

/// Is one of the API's two shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// The network's own, as FastAPI would print it.
    Seed,
    /// OpenAI's.
    OpenAi,
}

/// Returns the shape that a path speaks, whether or not the path is known.
#[must_use]
pub(crate) fn face(path: &str) -> Face {
    if path.starts_with("/v1/") { Face::OpenAi } else { Face::Seed }
}
