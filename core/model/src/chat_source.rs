//! The seam by which a running program gets the text side of a model that it was not started with.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use infera_types::ids::{Digest, ModelName};

use crate::chat::ChatModel;

/// A place that can't be searched now, as one sentence. Another try may find what is looked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ChatSourceError(pub String);

/// Finds tokenizers and templates. The promises, which the tests of the model store check:
///
/// * What is found has the digest that was asked for ([`ChatModel::tokenizer_digest`]).
/// * A place with damaged files, or that is away, keeps no other from being searched; if nothing is found, the error names it.
/// * Each wait has a bound, and so has what is read of a place that others fill.
#[async_trait]
pub trait ChatSource: Send + Sync + fmt::Debug {
    /// Returns the text side whose files have the digest `tokenizer`, wherever it lies; none if all places were searched and none
    /// has it. `model` is the name under which an archive may have it.
    ///
    /// # Errors
    /// [`ChatSourceError`]; a retry is safe.
    async fn find(
        &self,
        model: &ModelName,
        tokenizer: Digest,
    ) -> Result<Option<Arc<ChatModel>>, ChatSourceError>;
}
