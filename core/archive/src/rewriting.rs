//! Rewrites a segment without the text of some of its jobs. The lines of all others stay byte for byte, so that their hashes
//! do.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use infera_ledger::without_text::bare_record;
use infera_ledger::{ErasedJob, RecordPlace, RewritableSegment, Salt, SettledRecord};
use infera_types::ids::JobId;
use infera_types::time::Timestamp;
use infera_types::unreadable::unreadable;

use crate::segment::{self, SegmentBytes, SegmentError, SegmentWriter};
use crate::{ArchiveError, ArchiveReader};

/// What all objects of segments end with.
const SUFFIX: &str = ".ndjson.zst";

/// Returns the key of a segment's object after it was rewritten `rewrites` times, from that of any of its objects. Each
/// rewriting has a key of its own, so that the old object stays whole until the ledger names the new one; the same
/// rewriting, tried again, has the same key.
#[must_use]
pub fn key(of_any: &str, rewrites: u32) -> String {
    format!("{}.r{rewrites}{SUFFIX}", stem(of_any))
}

/// Returns all keys that a segment's objects can have that was rewritten `rewrites` times, from any of them: the first, one for each
/// rewriting, and that of a rewriting which was cut off.
pub fn keys(of_any: &str, rewrites: u32) -> impl Iterator<Item = String> {
    let stem = stem(of_any);
    let rewritten = (1..=rewrites.saturating_add(1)).map(move |number| format!("{stem}.r{number}{SUFFIX}"));
    std::iter::once(format!("{stem}{SUFFIX}")).chain(rewritten)
}

/// Returns what the keys of a segment's objects begin with.
fn stem(of_any: &str) -> &str {
    let stem = of_any.strip_suffix(SUFFIX).unwrap_or(of_any);
    match stem.rsplit_once(".r") {
        Some((before, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => before,
        _ => stem,
    }
}

/// A segment that was read and has lines without text in place of some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The new object; none if no record had text that is to be erased.
    pub bytes: Option<SegmentBytes>,
    /// The jobs that were to be erased and are found in the object without text.
    pub erased: Vec<JobId>,
}

/// Reads a segment, by one ranged read a frame, and builds it again without the text of its erased jobs. A line of another job whose
/// hash differs from the ledger's is kept as it is. All of its frames are in memory, compressed, beside the new object: some tens of
/// megabytes at most, because a segment is bounded in bytes.
///
/// # Errors
/// [`SegmentError`]; it is [a loss](SegmentError::is_loss) if a frame, or a line of a job that is to be erased, can't be read.
pub async fn rewrite(
    archive: &dyn ArchiveReader,
    segment: &RewritableSegment,
) -> Result<Rewritten, SegmentError> {
    let RewritableSegment { key: of_object, rewrites, places, erased, .. } = segment;
    let size = archive.size(of_object).await?.ok_or_else(|| ArchiveError::NotFound(of_object.clone()))?;
    let mut frames = Vec::new();
    for frame in places.chunk_by(|one, next| one.frame_offset == next.frame_offset) {
        let Some(RecordPlace { job, frame_offset, frame_length, .. }) = frame.first().copied() else {
            continue;
        };
        let end = frame_offset.checked_add(frame_length).filter(|end| *end <= size);
        let end = end.ok_or_else(|| SegmentError::Damaged {
            job,
            key: of_object.clone(),
            problem: format!("the object has {size} bytes"),
        })?;
        frames.push((archive.get(of_object, frame_offset..end).await?, frame.to_vec()));
    }
    let erased: HashMap<JobId, (Salt, Timestamp)> =
        erased.iter().map(|ErasedJob { job, salt, erased_ms }| (*job, (*salt, *erased_ms))).collect();
    let (old_key, new_key) = (of_object.clone(), key(of_object, rewrites.saturating_add(1)));
    // Decompressing and compressing some MiB takes tens of milliseconds, too long for a thread on which jobs run.
    let built = tokio::task::spawn_blocking(move || rebuild(&frames, &erased, (&old_key, new_key))).await;
    built.map_err(|_| SegmentError::CutOff)?
}

fn rebuild(
    frames: &[(Bytes, Vec<RecordPlace>)],
    erased: &HashMap<JobId, (Salt, Timestamp)>,
    (old_key, new_key): (&str, String),
) -> Result<Rewritten, SegmentError> {
    let damaged = |job, problem| SegmentError::Damaged { job, key: old_key.to_owned(), problem };
    let mut writer = SegmentWriter::default();
    let (mut found, mut changed) = (Vec::new(), HashSet::new());
    for (bytes, places) in frames {
        let first = places.first().map_or(JobId::from_bytes([0; 16]), |place| place.job);
        let text = segment::text_of(bytes)
            .map_err(|error| damaged(first, format!("its frame can't be decompressed: {error}")))?;
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        for place in places {
            let index = usize::try_from(place.index).unwrap_or(usize::MAX);
            let line = lines.get(index).copied();
            let line = line.ok_or_else(|| damaged(place.job, "its frame has fewer lines".to_owned()))?;
            let bare = match erased.get(&place.job) {
                Some(terms) => {
                    found.push(place.job);
                    bare_line(line, place, *terms).map_err(|problem| damaged(place.job, problem))?
                }
                None => None,
            };
            changed.extend(bare.is_some().then_some(place.job));
            writer.add(place.job, |text| {
                text.extend_from_slice(bare.as_deref().unwrap_or(line));
                Ok(())
            })?;
        }
    }
    if changed.is_empty() {
        return Ok(Rewritten { bytes: None, erased: found });
    }
    let mut bytes = writer.finish(new_key)?;
    // A line that was damaged before must not pass for whole.
    let before = frames.iter().flat_map(|(_, places)| places);
    for (place, before) in bytes.places.iter_mut().zip(before) {
        if !changed.contains(&place.job) {
            place.hash = before.hash;
        }
    }
    Ok(Rewritten { bytes: Some(bytes), erased: found })
}

/// Returns the line of a record without its text; none if it has none.
fn bare_line(line: &[u8], place: &RecordPlace, terms: (Salt, Timestamp)) -> Result<Option<Vec<u8>>, String> {
    segment::check_hash(line, place)?;
    let text = std::str::from_utf8(line).map_err(|error| format!("its line isn't text: {error}"))?;
    let record: SettledRecord = serde_json::from_str(text)
        .map_err(|error| format!("its line isn't a settled record: {}", unreadable(&error)))?;
    let Some(bare) = bare_record(&record, text, terms) else { return Ok(None) };
    serde_json::to_vec(&bare).map(Some).map_err(|error| format!("it can't be written without text: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rewriting_has_a_key_of_its_own() {
        let first = "jobs/2026/11/30/04/seg_0a.ndjson.zst";
        assert_eq!(key(first, 1), "jobs/2026/11/30/04/seg_0a.r1.ndjson.zst");
        assert_eq!(key(&key(first, 1), 2), "jobs/2026/11/30/04/seg_0a.r2.ndjson.zst");
        assert_eq!(key(&key(first, 9), 10), "jobs/2026/11/30/04/seg_0a.r10.ndjson.zst");
        assert_eq!(key(first, 3), key(&key(first, 7), 3));
    }

    #[test]
    fn all_keys_of_a_segment_follow_from_any_of_them() {
        let first = "jobs/2026/11/30/04/seg_0a.ndjson.zst";
        for (rewrites, of_any) in
            [(0, first.to_owned()), (2, first.to_owned()), (2, key(first, 2)), (2, key(first, 1))]
        {
            let expected: Vec<String> = [first.to_owned()]
                .into_iter()
                .chain((1..=rewrites + 1).map(|number| key(first, number)))
                .collect();
            assert_eq!(keys(&of_any, rewrites).collect::<Vec<_>>(), expected, "{rewrites} {of_any}");
        }
    }
}
