//! One file: attempts that each go on where the last one ended, until it is whole.

use std::path::PathBuf;

use futures::StreamExt as _;
use infera_types::ids::Digest;
use tokio::task::spawn_blocking;

use super::way::{Event, FetchError, Way, pause};
use crate::folder::FolderProblem;
use crate::part::Part;
use crate::pins::Pin;
use crate::source::{PROGRESS_BYTES, PROGRESS_SHARE, SourceError, Wanted};

/// How much is written at once: what a kill costs.
const WRITE_BYTES: usize = 256 << 10;

/// A file that isn't there yet.
#[derive(Clone, Copy)]
pub(super) struct Download<'a> {
    pub(super) way: Way<'a>,
    pub(super) revision: &'a str,
    pub(super) path: &'a str,
    pub(super) pin: Pin,
}

/// The end of an attempt.
struct Attempted {
    part: Part,
    /// Whether all that is there came in this attempt.
    is_one_piece: bool,
    failed: Option<SourceError>,
}

impl Download<'_> {
    /// Fetches the file, puts it in its place and returns its SHA-256.
    pub(super) async fn run(self, target: PathBuf) -> Result<Digest, FetchError> {
        let (place, pin) = (target.clone(), self.pin);
        let mut part = self.on_disk(&target, move || Part::open(&place, pin)).await?;
        let begins = Event::Begins { path: self.path, bytes: pin.bytes, from: part.length() };
        (self.way.report)(begins);
        // What was there before may have lost its end with the machine's power.
        let (mut is_one_piece, mut failures) = (part.length() == 0, 0);
        loop {
            while part.length() < pin.bytes {
                let before = part.length();
                let attempted = self.attempt(part, &target).await?;
                part = attempted.part;
                is_one_piece &= attempted.is_one_piece;
                let Some(error) = attempted.failed else { continue };
                if matches!(error, SourceError::Unresumable { .. }) && part.length() > 0 {
                    part = self.restart(part, &target).await?;
                    is_one_piece = true;
                }
                // Hardly any progress is an outage; a connection that is cut each time, but gets on, is none.
                if part.length() >= before + PROGRESS_BYTES.min(pin.bytes / PROGRESS_SHARE).max(1) {
                    failures = 0;
                }
                failures = pause(self.way, self.path, error, failures).await?;
            }
            let hashes = part.hashes();
            if hashes.are(&pin.digest) {
                self.on_disk(&target, move || part.finish()).await?;
                return Ok(hashes.sha256);
            }
            if is_one_piece {
                self.on_disk(&target, move || part.discard()).await?;
                return Err(FetchError::WrongDigest {
                    path: self.path.to_owned(),
                    place: self.way.source.place().to_owned(),
                    is: hashes.like(&pin.digest),
                    wanted: pin.digest,
                });
            }
            // Pieces of different tries may not belong together; once from the first byte on shows whose fault it is.
            part = self.restart(part, &target).await?;
            is_one_piece = true;
        }
    }

    async fn restart(&self, part: Part, target: &std::path::Path) -> Result<Part, FetchError> {
        (self.way.report)(Event::Restarts { path: self.path });
        self.on_disk(target, move || part.begin(None)).await
    }

    /// Has the source send what is missing. Only what can't be written is an error.
    async fn attempt(&self, part: Part, target: &std::path::Path) -> Result<Attempted, FetchError> {
        let from = part.length();
        let tag = part.tag().map(str::to_owned);
        let wanted =
            Wanted { revision: self.revision, path: self.path, pin: self.pin, from, tag: tag.as_deref() };
        let mut content = match self.way.source.open(&wanted).await {
            Ok(content) => content,
            Err(error) => return Ok(Attempted { part, is_one_piece: from == 0, failed: Some(error) }),
        };
        let mut part = part;
        if content.from != from || from == 0 {
            if from > 0 {
                (self.way.report)(Event::Restarts { path: self.path });
            }
            let tag = content.tag.take();
            part = self.on_disk(target, move || part.begin(tag)).await?;
        }
        let is_one_piece = part.length() == 0;
        let (mut left, mut failed) = (self.pin.bytes - part.length(), None);
        let mut waiting = Vec::new();
        while let Some(next) = content.chunks.next().await {
            let bytes = match next {
                Ok(bytes) => bytes,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            if bytes.len() as u64 > left {
                failed =
                    Some(SourceError::Unresumable { said: "more bytes came than the file has".to_owned() });
                break;
            }
            left -= bytes.len() as u64;
            waiting.extend_from_slice(&bytes);
            (self.way.report)(Event::Came(bytes.len() as u64));
            if waiting.len() >= WRITE_BYTES {
                let piece = std::mem::take(&mut waiting);
                part = self.on_disk(target, move || part.append(&piece)).await?;
            }
        }
        if !waiting.is_empty() {
            part = self.on_disk(target, move || part.append(&waiting)).await?;
        }
        if failed.is_none() && left > 0 {
            failed = Some(SourceError::away(format!("{left} bytes are missing at its end")));
        }
        Ok(Attempted { part, is_one_piece, failed })
    }

    /// Works with the file on a thread where that may take time.
    async fn on_disk<T: Send + 'static>(
        &self,
        target: &std::path::Path,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, FetchError> {
        let worked = spawn_blocking(work).await?;
        worked.map_err(|error| FolderProblem::of(target, error).into())
    }
}
