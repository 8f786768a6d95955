//! What an operator orders of the catalogue: models come and go while gateways, verifiers and nodes run. Each order changes one
//! entry; gateways and verifiers read it within a second or two.

use infera_ledger::{CatalogueEntry, LedgerError, NetworkBook};
use infera_types::ids::{Digest, ModelName};
use infera_types::time::Timestamp;

use super::listed;

/// Why an order isn't carried out.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueOrderError {
    /// The name stands for other files; trying again changes nothing.
    #[error(
        "the catalogue has {name} with other files: {was} there, {now} now. Add it under another name, or say --replace: nodes \
         with the files of before are not asked any more, and jobs that wait are answered by the new ones"
    )]
    OtherFiles {
        /// The model.
        name: ModelName,
        /// The digests in the catalogue.
        was: String,
        /// The digests that were to be added.
        now: String,
    },
    /// There is no such model; trying again changes nothing.
    #[error("the catalogue has no model {0}")]
    Unknown(ModelName),
    /// The ledger is at fault.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The outcome of adding a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The name is new.
    New,
    /// The catalogue says the same already.
    Same,
    /// The same files, of which something else is said now, such as how long a token takes.
    Changed,
    /// The model had been removed.
    Back,
    /// The name stands for other files than before.
    Replaced,
}

impl Added {
    /// Returns a sentence about it.
    #[must_use]
    pub fn sentence(self, name: &ModelName) -> String {
        match self {
            Self::New => format!("{name} is in the catalogue"),
            Self::Same => format!("{name} was in the catalogue already, with the same files"),
            Self::Changed => {
                format!("{name} was in the catalogue already; what is said of its files was changed")
            }
            Self::Back => format!("{name} is in the catalogue again"),
            Self::Replaced => format!("{name} stands for other files now"),
        }
    }
}

/// Enters a model in the catalogue, or brings a removed one back. A name that stands for other files is refused unless the order
/// `replaces` them. The time of the first listing is kept.
///
/// # Errors
/// [`CatalogueOrderError`].
pub async fn add(
    book: &dyn NetworkBook,
    entry: CatalogueEntry,
    replaces: bool,
) -> Result<Added, CatalogueOrderError> {
    let Some(before) = listed(book, &entry.name).await? else {
        book.list_model(&entry).await?;
        return Ok(Added::New);
    };
    let has_same_files = before.digests == entry.digests && before.tokenizer == entry.tokenizer;
    if !has_same_files && !replaces {
        return Err(CatalogueOrderError::OtherFiles {
            name: entry.name,
            was: shown(&before.digests),
            now: shown(&entry.digests),
        });
    }
    let entry = CatalogueEntry { created_ms: before.created_ms, removed_ms: None, ..entry };
    let added = match (has_same_files, before.is_removed()) {
        (false, _) => Added::Replaced,
        (true, true) => Added::Back,
        (true, false) if before == entry => return Ok(Added::Same),
        (true, false) => Added::Changed,
    };
    book.list_model(&entry).await?;
    Ok(added)
}

/// Removes a model: its entry stays with the time of its removal, by which gateways accept no more jobs of it, and verifiers answer
/// those that were accepted before for as long as nodes serve it. Returns when that was: `now`, or an earlier time.
///
/// # Errors
/// [`CatalogueOrderError`].
pub async fn remove(
    book: &dyn NetworkBook,
    name: &ModelName,
    now: Timestamp,
) -> Result<Timestamp, CatalogueOrderError> {
    let entry = listed(book, name).await?.ok_or_else(|| CatalogueOrderError::Unknown(name.clone()))?;
    if let Some(before) = entry.removed_ms {
        return Ok(before);
    }
    book.list_model(&CatalogueEntry { removed_ms: Some(now), ..entry }).await?;
    Ok(now)
}

fn shown(digests: &[Digest]) -> String {
    let words: Vec<String> =
        digests.iter().map(|digest| digest.to_string().chars().take(12).collect()).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}
