//! Converts values to columns and back. No SQL.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Row};

use infera_ledger::KeyPrivacy;
use infera_ledger::stored::retention_of;
pub(super) use infera_ledger::stored::{from_json, millis, to_json, whole};
use infera_types::choice::Choice;
use infera_types::ids::{AssignmentId, CodeId, Digest, JobId, MailId, SegmentId};
use infera_types::time::Timestamp;

/// A text for a column. Text with U+0000 is refused: PostgreSQL cannot store it, and SQLite's functions stop at it.
pub(super) struct Word<'a>(pub(super) &'a str);

impl ToSql for Word<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        if self.0.contains('\0') {
            return Err(rusqlite::Error::ToSqlConversionFailure(
                "a text contains U+0000, which cannot be stored".into(),
            ));
        }
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0.as_bytes())))
    }
}

/// Compiles statements whose parameters are numbered as PostgreSQL writes them.
pub(super) trait Numbered {
    /// Returns the statement, which is compiled once per connection. To SQLite `$2` is a name, numbered by where it
    /// first occurs in the text; only `?2` is the second parameter. The text is rewritten, once per thread, so that it
    /// means the same to both databases.
    fn numbered(&self, sql: &'static str) -> rusqlite::Result<CachedStatement<'_>>;

    /// Returns the same for a text that was put together just now, which is rewritten each time.
    fn numbered_once(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>>;
}

thread_local! {
    /// The rewritten texts by where the program holds the original ones, which never move or change.
    static REWRITTEN: RefCell<HashMap<(*const u8, usize), Rc<str>>> = RefCell::default();
}

impl Numbered for Connection {
    fn numbered(&self, sql: &'static str) -> rusqlite::Result<CachedStatement<'_>> {
        let rewritten = REWRITTEN.with_borrow_mut(|texts| {
            let text = texts.entry((sql.as_ptr(), sql.len()));
            Rc::clone(text.or_insert_with(|| sql.replace('$', "?").into()))
        });
        self.prepare_cached(&rewritten)
    }

    fn numbered_once(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.prepare_cached(&sql.replace('$', "?"))
    }
}

/// A value that is stored as bytes.
pub(super) trait Blob {
    /// Returns the bytes.
    fn blob(&self) -> &[u8];
}

macro_rules! blob {
    ($($id:ty),*) => {
        $(impl Blob for $id {
            fn blob(&self) -> &[u8] {
                self.as_bytes()
            }
        })*
    };
}
blob!(JobId, SegmentId, AssignmentId, Digest, MailId, CodeId);

/// Reads a count from column `index`; negative counts are never written.
pub(super) fn count(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(index)?).unwrap_or(0))
}

/// Reads a small count from column `index`, cut at the type's limit.
pub(super) fn small(row: &Row<'_>, index: usize) -> rusqlite::Result<u32> {
    Ok(u32::try_from(count(row, index)?).unwrap_or(u32::MAX))
}

/// Reads which of its request's answers a job is from column `index` (its number) and the next one (how many there are).
pub(super) fn choice(row: &Row<'_>, index: usize) -> rusqlite::Result<Choice> {
    Ok(Choice { index: small(row, index)?, count: small(row, index + 1)? })
}

/// Reads a time from column `index`.
pub(super) fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp::from_millis(count(row, index)?))
}

/// Reads a time from column `index`, if the row has one.
pub(super) fn optional_time(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Timestamp>> {
    let stored = row.get::<_, Option<i64>>(index)?;
    Ok(stored.map(|millis| Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))))
}

/// Reads a job's id from column `index`.
pub(super) fn job_id(row: &Row<'_>, index: usize) -> rusqlite::Result<JobId> {
    Ok(JobId::from_bytes(row.get(index)?))
}

/// Reads a hash from column `index`.
pub(super) fn digest(row: &Row<'_>, index: usize) -> rusqlite::Result<Digest> {
    Ok(Digest::from_bytes(row.get(index)?))
}

/// Reads a hash from column `index`, if the row has one.
pub(super) fn optional_digest(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Digest>> {
    Ok(row.get::<_, Option<[u8; 32]>>(index)?.map(Digest::from_bytes))
}

/// Reads what a key says of its jobs' text, from column `first` and the next.
pub(super) fn privacy(row: &Row<'_>, first: usize) -> rusqlite::Result<KeyPrivacy> {
    let stores = row.get::<_, i64>(first)? != 0;
    Ok(KeyPrivacy { stores, retention_days: retention_of(row.get(first + 1)?) })
}
