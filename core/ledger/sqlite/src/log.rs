//! Reads the write-ahead log (`-wal`) as bytes to find out which file it continues. This happens before SQLite opens
//! either of them, because SQLite takes any log of the right page size for the file's own and copies its pages into
//! the file.
//!
//! Each life of a log begins with a new generation: a random number in the file's header (`user_version`), with the
//! previous generation beside it (`application_id`). `commits` says when it is written. The format is that of
//! <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The first word of a log whose checksums read it as little-endian words; plus one for big-endian.
const LITTLE_ENDIAN_MAGIC: u32 = 0x377f_0682;
const BIG_ENDIAN_MAGIC: u32 = 0x377f_0683;

/// The place of the generation, and of the previous one, in a page's first bytes, if the page is the file's first.
const GENERATION_AT: usize = 60;
const FOLLOWED_AT: usize = 68;

/// Returns the generation in the first 100 bytes of a file or page. Zero: from before generations were written.
pub(super) fn generation(header: &[u8; 100]) -> u32 {
    word(header, GENERATION_AT)
}

/// Returns whether the log at `log` continues a file of this generation. A log without a whole commit continues every
/// file.
pub(super) fn continues(log: &Path, generation: u32) -> io::Result<bool> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(log)?);
    let Some(mut frames) = Frames::begin(&mut reader)? else { return Ok(true) };
    let mut named: Vec<u32> = Vec::new();
    let (mut committed, mut has_commit) = (0, false);
    while let Some(frame) = frames.next(&mut reader)? {
        if frame.page_number == 1 {
            if named.is_empty() {
                named.push(word(&frames.page, FOLLOWED_AT));
            }
            named.push(word(&frames.page, GENERATION_AT));
        }
        if frame.commits {
            (committed, has_commit) = (named.len(), true);
        }
    }
    let named = &named[..committed];
    // A checkpoint may have copied any of the log's pages, so the file may be of any generation that occurs in the
    // log. A log that names none is from before generations were written, and so must its file be.
    Ok(!has_commit || named.contains(&generation) || named.is_empty() && generation == 0)
}

/// One valid frame of the log.
struct Frame {
    page_number: u32,
    commits: bool,
}

/// The frames of a log, up to the first whose checksums don't match, as SQLite's own recovery reads them.
struct Frames {
    page: Vec<u8>,
    is_big_endian: bool,
    salts: [u8; 8],
    sums: [u32; 2],
}

impl Frames {
    /// Begins to read; none if there is no log that SQLite would read.
    fn begin(reader: &mut impl Read) -> io::Result<Option<Self>> {
        let mut header = [0; LOG_HEADER_BYTES];
        if !fill(reader, &mut header)? {
            return Ok(None);
        }
        let is_big_endian = match word(&header, 0) {
            LITTLE_ENDIAN_MAGIC => false,
            BIG_ENDIAN_MAGIC => true,
            _ => return Ok(None),
        };
        let page_bytes = word(&header, 8);
        if !page_bytes.is_power_of_two() || !(512..=65_536).contains(&page_bytes) {
            return Ok(None);
        }
        let sums = add(is_big_endian, [0, 0], &header[..24]);
        let mut salts = [0; 8];
        salts.copy_from_slice(&header[16..24]);
        let page = vec![0; usize::try_from(page_bytes).unwrap_or(0)];
        let is_whole = sums == [word(&header, 24), word(&header, 28)];
        Ok(is_whole.then_some(Self { page, is_big_endian, salts, sums }))
    }

    fn next(&mut self, reader: &mut impl Read) -> io::Result<Option<Frame>> {
        let mut header = [0; FRAME_HEADER_BYTES];
        if !fill(reader, &mut header)? || !fill(reader, &mut self.page)? {
            return Ok(None);
        }
        let sums = add(self.is_big_endian, self.sums, &header[..8]);
        self.sums = add(self.is_big_endian, sums, &self.page);
        let is_ours = header[8..16] == self.salts && self.sums == [word(&header, 16), word(&header, 20)];
        let frame = Frame { page_number: word(&header, 0), commits: word(&header, 4) != 0 };
        Ok((is_ours && frame.page_number != 0).then_some(frame))
    }
}

/// Returns the big-endian word at `offset`.
fn word(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Adds bytes, a multiple of eight, to a log's running checksum.
fn add(is_big_endian: bool, [mut first, mut second]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let read = if is_big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(read([pair[0], pair[1], pair[2], pair[3]])).wrapping_add(second);
        second = second.wrapping_add(read([pair[4], pair[5], pair[6], pair[7]])).wrapping_add(first);
    }
    [first, second]
}

/// Fills the buffer; returns false if the file ends before that.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
