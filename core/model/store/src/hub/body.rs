//! A body as a stream that stalls, falls short or goes too far only to end with an error.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use infera_types::causes::causes;
use tokio::time::{Instant, timeout_at};

use crate::source::{STALL_BYTES, SourceError};

/// A body that is being read.
struct Reading {
    body: Incoming,
    /// The bytes that have yet to come.
    left: u64,
    /// The time by which `window` bytes have to have come.
    until: Instant,
    window: u64,
    stall: Duration,
}

/// Returns the bytes of a body of which `left` bytes are expected.
pub(super) fn chunks(
    body: Incoming,
    left: u64,
    stall: Duration,
) -> BoxStream<'static, Result<Bytes, SourceError>> {
    let reading = Reading { body, left, until: Instant::now() + stall, window: STALL_BYTES, stall };
    let steps = stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    steps.boxed()
}

impl Reading {
    /// Returns the next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            let next = timeout_at(self.until, self.body.frame()).await;
            let seconds = self.stall.as_secs_f32();
            let next =
                next.map_err(|_| SourceError::away(format!("hardly anything has come for {seconds} s")))?;
            let frame = match next {
                None if self.left == 0 => return Ok(None),
                None => {
                    return Err(SourceError::away(format!("the connection ended {} bytes early", self.left)));
                }
                Some(Err(error)) => return Err(SourceError::away(causes(&error))),
                Some(Ok(frame)) => frame,
            };
            // Trailers are no bytes of the file.
            let Ok(bytes) = frame.into_data() else { continue };
            let came = bytes.len() as u64;
            self.left = self.left.checked_sub(came).ok_or_else(|| SourceError::Unresumable {
                said: "more bytes came than the file has".to_owned(),
            })?;
            self.window = self.window.saturating_sub(came);
            if self.window == 0 {
                (self.until, self.window) = (Instant::now() + self.stall, STALL_BYTES);
            }
            if came > 0 {
                return Ok(Some(bytes));
            }
        }
    }
}
