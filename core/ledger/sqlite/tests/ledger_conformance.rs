//! Tests every promise of the ledger's seam on SQLite.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::ops::Deref;

use infera_conformance::ledger::Halves;
use infera_ledger_sqlite::SqliteLedger;

/// A ledger in a temporary folder, which is removed with it.
struct Temporary {
    halves: Halves,
    _folder: tempfile::TempDir,
}

impl Deref for Temporary {
    type Target = Halves;

    fn deref(&self) -> &Halves {
        &self.halves
    }
}

async fn temporary() -> Temporary {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).expect("a ledger");
    Temporary { halves: Halves::of(&ledger), _folder: folder }
}

infera_conformance::ledger_conformance!(temporary());
