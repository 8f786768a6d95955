//! The archived records of one data folder: found by job, checked by the ledger's hash. Nothing here writes a job.

use std::sync::Arc;

use infera_archive::ArchiveReader;
use infera_archive::local::LocalArchive;
use infera_archive::record::{self, RecordError};
use infera_ledger::{ArchiveIndex, JobReader, LedgerError};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::JobId;

use crate::data_folder::DataFolder;
use crate::seams::{Seams, SeamsError};

/// What finds a record.
#[derive(Clone, Debug)]
pub struct Records {
    index: Arc<dyn ArchiveIndex>,
    reader: Arc<dyn JobReader>,
    archive: Arc<dyn ArchiveReader>,
}

impl Records {
    /// Opens the ledger and the archive of a folder that no `infera up` runs on. Both are checked and brought to the present
    /// version, as `infera up` does.
    ///
    /// # Errors
    /// [`SeamsError`]; a damaged ledger is named with its remedy and left alone.
    pub async fn open(data: &DataFolder) -> Result<Self, SeamsError> {
        let path = data.ledger();
        let opened = tokio::task::spawn_blocking(move || SqliteLedger::open(&path)).await;
        let ledger = opened.map_err(|panic| LedgerError::Unavailable(panic.to_string()))??;
        let archive = LocalArchive::open(data.archive())?;
        Ok(Self { index: ledger.clone(), reader: ledger, archive })
    }

    /// Those of a network that runs.
    #[must_use]
    pub fn of(seams: &Seams) -> Self {
        Self { index: seams.ledger.clone(), reader: seams.ledger.clone(), archive: seams.archive.clone() }
    }

    /// Returns the archived record of `job`: one line of JSON, without its newline, that has the ledger's hash.
    ///
    /// # Errors
    /// [`RecordError`].
    pub async fn find(&self, job: JobId) -> Result<String, RecordError> {
        record::find(&*self.index, &*self.reader, &*self.archive, job).await
    }
}
