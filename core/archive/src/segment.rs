//! Segments: many settled records in one object. A segment is newline-delimited JSON in independent zstd frames, so
//! that any zstd reads the whole file and one ranged read fetches one record. The ledger knows which records belong
//! to which segment, and where they are.

use std::io::Read as _;

use crate::{ArchiveError, ArchiveReader};
use infera_ledger::{ArchivedRecord, ArchivedSegment, RecordPlace, SettledRecord};
use infera_types::ids::{Digest, JobId, SegmentId};
use infera_types::time::Timestamp;
use infera_types::unreadable::unreadable;

/// The most records in a frame: more would compress better, but would cost every reader of one record more.
pub const FRAME_RECORDS_MAX: usize = 64;

/// A frame with this much text takes no further record, because a reader of one record holds the whole frame in
/// memory.
const FRAME_TEXT_BYTES: usize = 4 * 1024 * 1024;

/// The most text that a frame may decompress to, so that a damaged frame cannot fill the memory. Frames have at most
/// one record of a few MiB more than the bound above (a message's size bounds a request and its replicas); earlier
/// versions wrote larger ones, but stayed far below this.
const FRAME_TEXT_MAX_BYTES: u64 = 512 * 1024 * 1024;

/// zstd's own default: beyond it, time grows faster than size shrinks.
const COMPRESSION_LEVEL: i32 = 3;

/// A segment's failure.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The store failed; retry if its error says so.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// There are no records to put into it; our fault.
    #[error("a segment needs at least one record")]
    Empty,
    /// A record could not be written as one line; our fault. The other records are fine.
    #[error("record of {job} cannot be written: {problem}")]
    Unwritable {
        /// The record's job.
        job: JobId,
        /// What is wrong with it.
        problem: String,
    },
    /// The stored record differs from what was recorded. A retry won't help; an operator must look.
    #[error("record of {job} in {key} is damaged: {problem}")]
    Damaged {
        /// The record's job.
        job: JobId,
        /// The object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The check was cut off by the program's end; retry.
    #[error("the check of a segment was cut off by the program's end")]
    CutOff,
}

impl SegmentError {
    /// Returns whether the record is lost from the archive, which no retry changes.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Archive(ArchiveError::NotFound(_) | ArchiveError::OutOfRange { .. })
        )
    }
}

/// A segment that is ready to be put into the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentBytes {
    /// The object's key.
    pub key: String,
    /// The object.
    pub bytes: Vec<u8>,
    /// The place of each record in the object, in the order of the records.
    pub places: Vec<RecordPlace>,
}

/// Returns the key of a segment whose first record was settled at `settled`: `jobs/{year}/{month}/{day}/{hour}/…`,
/// UTC.
#[must_use]
pub fn key(segment: SegmentId, settled: Timestamp) -> String {
    let hours = settled.as_secs() / 3600;
    let (year, month, day) = date(hours / 24);
    format!("jobs/{year:04}/{month:02}/{day:02}/{:02}/{segment}.ndjson.zst", hours % 24)
}

/// Returns year, month and day of the day `days` after 1970-01-01, in the Gregorian calendar. Years are counted from
/// March, so that the leap day comes last (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `civil_from_days`). These are ten lines instead of a dependency for the one date that is formatted here.
const fn date(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097; // 400 years
    const MARCH_0000_TO_1970: u64 = 719_468;
    let shifted = days + MARCH_0000_TO_1970;
    let day_of_era = shifted % ERA_DAYS;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = shifted / ERA_DAYS * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// Builds the segment of these records. The key follows from the earliest settlement, so that building the same
/// records again yields the same key.
///
/// # Errors
/// [`SegmentError::Empty`] and [`SegmentError::Unwritable`].
pub fn build(segment: SegmentId, records: &[SettledRecord]) -> Result<SegmentBytes, SegmentError> {
    let earliest =
        records.iter().map(|record| record.settlement.settled_ms).min().ok_or(SegmentError::Empty)?;
    let mut writer = SegmentWriter::default();
    for record in records {
        writer.add(record.job_id, |text| {
            serde_json::to_writer(text, record)
                .map_err(|error| SegmentError::Unwritable { job: record.job_id, problem: error.to_string() })
        })?;
    }
    writer.finish(key(segment, earliest))
}

/// Writes lines into frames, each as full as it may be.
#[derive(Debug, Default)]
pub(crate) struct SegmentWriter {
    bytes: Vec<u8>,
    places: Vec<RecordPlace>,
    /// The text of the frame that is being filled, and the jobs and hashes of its lines.
    text: Vec<u8>,
    lines: Vec<(JobId, Digest)>,
}

impl SegmentWriter {
    /// Adds the line of a job, which `write` writes without its newline.
    pub(crate) fn add(
        &mut self,
        job: JobId,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), SegmentError>,
    ) -> Result<(), SegmentError> {
        if self.lines.len() >= FRAME_RECORDS_MAX || self.text.len() >= FRAME_TEXT_BYTES {
            self.end_frame()?;
        }
        let begin = self.text.len();
        write(&mut self.text)?;
        self.lines.push((job, Digest::of(&self.text[begin..])));
        self.text.push(b'\n');
        Ok(())
    }

    fn end_frame(&mut self) -> Result<(), SegmentError> {
        let Some((first, _)) = self.lines.first() else { return Ok(()) };
        let frame = zstd::bulk::compress(&self.text, COMPRESSION_LEVEL)
            .map_err(|error| SegmentError::Unwritable { job: *first, problem: error.to_string() })?;
        let (frame_offset, frame_length) = (self.bytes.len() as u64, frame.len() as u64);
        let place = |(index, (job, hash))| RecordPlace { job, frame_offset, frame_length, index, hash };
        self.places.extend((0..).zip(self.lines.drain(..)).map(place));
        self.bytes.extend_from_slice(&frame);
        self.text.clear();
        Ok(())
    }

    /// Returns the segment with the key of its object.
    pub(crate) fn finish(mut self, key: String) -> Result<SegmentBytes, SegmentError> {
        self.end_frame()?;
        Ok(SegmentBytes { key, bytes: self.bytes, places: self.places })
    }
}

/// Reads the record at the place that `archived` names, by one ranged read, and checks its hash against the ledger's.
///
/// # Errors
/// [`SegmentError::Damaged`] if the hash differs or the record cannot be read; otherwise the store's error.
pub async fn read(
    archive: &dyn ArchiveReader,
    archived: &ArchivedRecord,
) -> Result<SettledRecord, SegmentError> {
    let line = read_line(archive, archived).await?;
    serde_json::from_str(&line).map_err(|error| {
        damaged(archived, format!("its line isn't a settled record: {}", unreadable(&error)))
    })
}

/// Returns the line that lies where `archived` says, without its newline, by one ranged read. Its hash is the one that the
/// ledger has.
///
/// # Errors
/// As [`read`].
pub async fn read_line(
    archive: &dyn ArchiveReader,
    archived: &ArchivedRecord,
) -> Result<String, SegmentError> {
    let RecordPlace { frame_offset, frame_length, .. } = archived.place;
    let end = frame_offset
        .checked_add(frame_length)
        .ok_or_else(|| damaged(archived, "its place has no end".to_owned()))?;
    let frame = archive.get(&archived.key, frame_offset..end).await?;
    line_in(&frame, &archived.place).map_err(|problem| damaged(archived, problem))
}

fn damaged(archived: &ArchivedRecord, problem: String) -> SegmentError {
    SegmentError::Damaged { job: archived.place.job, key: archived.key.clone(), problem }
}

/// Checks that the archive holds the whole segment: its object has its length, and every record in it has the hash
/// that the ledger holds. The segment is read whole, a frame at a time, because only that shows what the store would
/// return.
///
/// # Errors
/// [`SegmentError`]: either [a loss](SegmentError::is_loss), or the store is away.
pub async fn verify(archive: &dyn ArchiveReader, archived: &ArchivedSegment) -> Result<(), SegmentError> {
    let ArchivedSegment { key, places, .. } = archived;
    let lacking = || ArchiveError::NotFound(key.clone());
    let size = archive.size(key).await?.ok_or_else(lacking)?;
    for frame in places.chunk_by(|one, next| one.frame_offset == next.frame_offset) {
        let Some(RecordPlace { job, frame_offset, frame_length, .. }) = frame.first().copied() else {
            continue;
        };
        let damaged = |(job, problem)| SegmentError::Damaged { job, key: key.clone(), problem };
        let end = frame_offset.checked_add(frame_length).filter(|end| *end <= size);
        let end = end.ok_or_else(|| damaged((job, format!("the object has {size} bytes"))))?;
        let (bytes, frame) = (archive.get(key, frame_offset..end).await?, frame.to_vec());
        // Decompressing and hashing some MiB takes milliseconds, too long for a thread on which jobs run.
        let checked = tokio::task::spawn_blocking(move || check_frame(&bytes, &frame)).await;
        checked.map_err(|_| SegmentError::CutOff)?.map_err(damaged)?;
    }
    Ok(())
}

/// Checks the hash of every record of a frame; the error names the record that fails.
fn check_frame(frame: &[u8], places: &[RecordPlace]) -> Result<(), (JobId, String)> {
    let first = places.first().map(|place| place.job);
    let text = text_of(frame).map_err(|error| {
        (first.unwrap_or(JobId::from_bytes([0; 16])), format!("its frame can't be decompressed: {error}"))
    })?;
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    for place in places {
        let index = usize::try_from(place.index).unwrap_or(usize::MAX);
        let line = lines.get(index).ok_or((place.job, "its frame has fewer lines".to_owned()))?;
        check_hash(line, place).map_err(|problem| (place.job, problem))?;
    }
    Ok(())
}

/// Returns the line at `place` of a frame's bytes, or what is wrong with it.
fn line_in(frame: &[u8], place: &RecordPlace) -> Result<String, String> {
    let text = text_of(frame).map_err(|error| format!("its frame can't be decompressed: {error}"))?;
    let index = usize::try_from(place.index).unwrap_or(usize::MAX);
    let line = text.split(|byte| *byte == b'\n').nth(index).ok_or("its frame has fewer lines")?;
    check_hash(line, place)?;
    String::from_utf8(line.to_vec()).map_err(|error| format!("its line isn't text: {error}"))
}

/// Checks a line against the hash that the ledger has.
pub(crate) fn check_hash(line: &[u8], place: &RecordPlace) -> Result<(), String> {
    let hash = Digest::of(line);
    if hash == place.hash { Ok(()) } else { Err(format!("its hash is {hash}, not {}", place.hash)) }
}

/// Returns the text of a frame.
pub(crate) fn text_of(frame: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    zstd::stream::read::Decoder::with_buffer(frame)?.take(FRAME_TEXT_MAX_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_the_hour() {
        let segment = SegmentId::from_bytes([7; 16]);
        let cases = [
            (0, "1970/01/01/00"),
            (3_599_999, "1970/01/01/00"),
            (3_600_000, "1970/01/01/01"),
            (68_169_599_999, "1972/02/28/23"),
            (68_169_600_000, "1972/02/29/00"),
            (951_827_696_789, "2000/02/29/12"),
            (1_709_164_800_000, "2024/02/29/00"),
            (1_709_251_200_000, "2024/03/01/00"),
            (1_735_689_599_999, "2024/12/31/23"),
            (1_795_354_200_000, "2026/11/22/13"),
            (4_107_542_400_000, "2100/03/01/00"),
        ];
        for (millis, hour) in cases {
            let expected = format!("jobs/{hour}/seg_07070707070707070707070707070707.ndjson.zst");
            assert_eq!(key(segment, Timestamp::from_millis(millis)), expected);
        }
    }

    #[test]
    fn days_follow_each_other() {
        let length = |year: u64, month: u64| match month {
            2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..200_000 {
            assert_eq!(date(days), (year, month, day));
            day += 1;
            if day > length(year, month) {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn nothing_makes_no_segment() {
        assert!(matches!(build(SegmentId::new(), &[]), Err(SegmentError::Empty)));
    }
}
