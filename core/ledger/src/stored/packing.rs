//! The packed form of what is stored of a job: bytes that begin with a version, where JSON begins with a brace. Rows of both
//! forms are read. `group` and `settlement` say what is in it, `posting` has a form of its own.
//!
//! A packed row is its version, the length of its content, and the content as one zstd frame that was made with a
//! dictionary: a text as such contents are, so that the words of JSON cost next to nothing. A dictionary is part of its
//! version and never changes.

pub mod group;
pub mod posting;
pub mod settlement;
mod text;

use std::cell::RefCell;

use infera_types::columns::{MalformedColumns, read_whole, write_whole};
use zstd::bulk::{Compressor, Decompressor};

use crate::LedgerError;

/// The version of packed rows, their first byte.
const VERSION: u8 = 1;

/// The text of a group and of a settlement as their contents are, as plain text: other languages' readers use the same
/// file.
const DICTIONARY: &[u8] = include_bytes!("packing/dictionary.1.txt");

/// The level of zstd's compression: its own default, at which a group takes some 30 microseconds.
const LEVEL: i32 = 3;

/// The largest content of a row: far above a group of nine replicas that each came in a message of a MiB. A row that
/// announces more is damaged.
const CONTENT_MAX_BYTES: u64 = 256 * 1024 * 1024;

thread_local! {
    /// A dictionary is read once per thread; reading it takes longer than compressing a row.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Packs a content.
///
/// # Errors
/// [`LedgerError::Row`]: zstd failed, which it does for want of memory alone.
fn pack(content: &[u8]) -> Result<Vec<u8>, LedgerError> {
    let frame = COMPRESSOR.with_borrow_mut(|known| {
        if known.is_none() {
            *known = Some(Compressor::with_dictionary(LEVEL, DICTIONARY)?);
        }
        known.as_mut().map_or_else(|| Ok(Vec::new()), |compressor| compressor.compress(content))
    });
    let frame = frame.map_err(|error| LedgerError::Row(format!("a row can't be compressed: {error}")))?;
    let mut bytes = vec![VERSION];
    write_whole(u64::try_from(content.len()).unwrap_or(u64::MAX), &mut bytes);
    bytes.extend(frame);
    Ok(bytes)
}

/// Returns whether stored bytes are packed.
#[must_use]
pub fn is_packed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&VERSION)
}

/// Returns the length of the content of a packed row of which the first bytes are known, eleven of them or all; none if it
/// isn't packed.
#[must_use]
pub fn content_bytes(mut first: &[u8]) -> Option<u64> {
    if !is_packed(first) {
        return None;
    }
    first = first.get(1..)?;
    read_whole(&mut first).ok()
}

/// Returns the content of packed bytes.
///
/// # Errors
/// [`LedgerError::Row`]: they are not what [`pack`] made.
fn unpack(what: &str, bytes: &[u8]) -> Result<Vec<u8>, LedgerError> {
    let unreadable =
        |problem: String| LedgerError::Row(format!("stored {what} can't be unpacked: {problem}"));
    let mut rest = match bytes.split_first() {
        Some((&VERSION, rest)) => rest,
        Some((version, _)) => {
            return Err(unreadable(format!("it is of form {version}, which this program doesn't know")));
        }
        None => return Err(unreadable("it is empty".to_owned())),
    };
    let length = read_whole(&mut rest).map_err(|error| unreadable(error.to_string()))?;
    let length = if length <= CONTENT_MAX_BYTES { usize::try_from(length).ok() } else { None };
    let length = length.ok_or_else(|| unreadable("it announces too many bytes".to_owned()))?;
    let content = DECOMPRESSOR.with_borrow_mut(|known| {
        if known.is_none() {
            *known = Some(Decompressor::with_dictionary(DICTIONARY)?);
        }
        known.as_mut().map_or_else(|| Ok(Vec::new()), |decompressor| decompressor.decompress(rest, length))
    });
    let content = content.map_err(|error| unreadable(error.to_string()))?;
    if content.len() == length { Ok(content) } else { Err(unreadable("it is cut off".to_owned())) }
}

/// Converts what is wrong with columns.
fn malformed(what: &str, error: MalformedColumns) -> LedgerError {
    LedgerError::Row(format!("stored {what} can't be read: {error}"))
}

/// Appends bytes with their length before them.
fn write_counted(counted: &[u8], bytes: &mut Vec<u8>) {
    write_whole(u64::try_from(counted.len()).unwrap_or(u64::MAX), bytes);
    bytes.extend(counted);
}

/// Reads bytes with their length before them.
fn read_counted<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], MalformedColumns> {
    let count = usize::try_from(read_whole(bytes)?).map_err(|_| MalformedColumns::TooLarge)?;
    infera_types::columns::read_bytes(count, bytes)
}
