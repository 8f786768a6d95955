//! Reads each body into one buffer, within a size and a time.
//!
//! hyper yields a body as frames, each of which is a view into the buffer that was read from the socket. A frame of
//! one byte would thus keep hundreds of bytes in memory, so every frame is copied and dropped.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body as Frames, Incoming};
use hyper::http::request::Parts;

use super::limits::{self, Encoding};
use crate::api::error::ApiError;
use crate::memory::MemoryBudget;
use crate::routes::Body;

/// The size of the first buffer, in bytes. Most bodies fit.
const FIRST_BYTES: usize = 1024;

/// The bounds of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The largest size, in bytes.
    pub(crate) max_bytes: usize,
    /// The longest time that reading may take.
    pub(crate) within: Duration,
}

/// The reason why a body could not be read whole.
#[derive(Debug)]
pub(crate) enum Stop {
    TooLarge,
    NoMemory,
    Broken,
    NoGzip,
}

/// Reads the whole body.
///
/// The client's fault: [`ApiError::TooLarge`], [`ApiError::SlowBody`], [`ApiError::BadRequest`]. The gateway's:
/// [`ApiError::Overloaded`], if the memory budget is used up.
pub(super) async fn read(
    head: &Parts,
    mut body: Incoming,
    bounds: Bounds,
    memory: &MemoryBudget,
) -> Result<Body, ApiError> {
    let encoding = limits::encoding(head)?;
    let whole = collect(&mut body, bounds.max_bytes, memory);
    let stop = match tokio::time::timeout(bounds.within, whole).await {
        Ok(Ok(body)) if encoding == Encoding::Identity => return Ok(body),
        Ok(Ok(body)) => match inflated(body.bytes(), bounds.max_bytes, memory) {
            Ok(body) => return Ok(body),
            Err(stop) => stop,
        },
        Ok(Err(stop)) => stop,
        Err(_) => return Err(ApiError::SlowBody),
    };
    let error = match stop {
        Stop::NoGzip => {
            return Err(ApiError::BadRequest(
                "The body is no whole gzip stream, as its Content-Encoding says.",
            ));
        }
        Stop::Broken => return Err(ApiError::BadRequest("The body is broken off or badly framed.")),
        // A declared length was checked; the heads of bodies in chunks, or that gzip has packed, say none that counts.
        Stop::TooLarge => limits::too_large(head, bounds.max_bytes, None),
        Stop::NoMemory => ApiError::Overloaded,
    };
    limits::discard(head, &mut body).await;
    Err(error)
}

async fn collect<B>(body: &mut B, max_bytes: usize, memory: &MemoryBudget) -> Result<Body, Stop>
where
    B: Frames<Data = Bytes> + Unpin,
{
    let (mut whole, mut reservation) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Stop::Broken)?.into_data() else { continue };
        let needed = whole.len() + data.len();
        if needed > max_bytes {
            return Err(Stop::TooLarge);
        }
        if needed > whole.capacity() {
            let capacity = needed.next_power_of_two().max(FIRST_BYTES).min(max_bytes);
            if !memory.reserve(&mut reservation, capacity) {
                return Err(Stop::NoMemory);
            }
            whole.reserve_exact(capacity - whole.len());
        }
        whole.extend_from_slice(&data);
    }
    Ok(Body::new(whole.into(), reservation))
}

/// Returns a gzip-encoded body as it was before. Its size is bounded like that of any other body, whatever the encoded bytes
/// say: reading stops there, after two milliseconds at worst.
pub(crate) fn inflated(encoded: &[u8], max_bytes: usize, memory: &MemoryBudget) -> Result<Body, Stop> {
    let (mut whole, mut reservation) = (Vec::new(), None);
    let mut decoder = MultiGzDecoder::new(encoded);
    let mut part = [0; 8 * 1024];
    loop {
        let read = decoder.read(&mut part).map_err(|_| Stop::NoGzip)?;
        if read == 0 {
            return Ok(Body::new(whole.into(), reservation));
        }
        let needed = whole.len() + read;
        if needed > max_bytes {
            return Err(Stop::TooLarge);
        }
        if needed > whole.capacity() {
            let capacity = needed.next_power_of_two().max(FIRST_BYTES).min(max_bytes);
            if !memory.reserve(&mut reservation, capacity) {
                return Err(Stop::NoMemory);
            }
            whole.reserve_exact(capacity - whole.len());
        }
        whole.extend_from_slice(&part[..read]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// A frame's bytes. It is counted until it is dropped.
    struct Counted {
        bytes: Vec<u8>,
        alive: Arc<AtomicUsize>,
    }

    impl Counted {
        fn frame(bytes: &[u8], alive: &Arc<AtomicUsize>) -> Bytes {
            alive.fetch_add(1, Ordering::Relaxed);
            Bytes::from_owner(Self { bytes: bytes.to_vec(), alive: Arc::clone(alive) })
        }
    }

    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.alive.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn frames_of_one_byte_are_not_kept() {
        let (alive, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let frames = (0..50_000_u32).map(|index| {
            most.fetch_max(alive.load(Ordering::Relaxed), Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(Frame::data(Counted::frame(&index.to_le_bytes()[..1], &alive)))
        });
        let mut body = StreamBody::new(stream::iter(frames));
        let Ok(whole) = collect(&mut body, 512 * 1024, &MemoryBudget::new(0)).await else { panic!() };
        assert_eq!(whole.bytes().len(), 50_000);
        assert_eq!(whole.bytes()[1_000], 1_000_u32.to_le_bytes()[0]);
        assert!(most.load(Ordering::Relaxed) <= 1, "{most:?} frames at once");
    }

    #[test]
    fn a_gzip_body_is_bounded_by_what_it_becomes() {
        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut encoder, bytes).unwrap();
            encoder.finish().unwrap()
        };
        let memory = MemoryBudget::new(100_000);
        let text: Vec<u8> = (0..60_000_u32).map(|index| index.to_le_bytes()[0]).collect();
        let whole = inflated(&gzip(&text), 60_000, &memory);
        assert!(whole.is_ok_and(|whole| whole.bytes() == text));
        assert!(matches!(inflated(&gzip(&text), 59_999, &memory), Err(Stop::TooLarge)));
        assert!(matches!(inflated(&gzip(&[0; 200_000]), 200_000, &memory), Err(Stop::NoMemory)));
        let bomb = gzip(&vec![0; 64 * 1024 * 1024]);
        assert!(bomb.len() < 70_000, "{}", bomb.len());
        assert!(matches!(inflated(&bomb, 60_000, &memory), Err(Stop::TooLarge)));
        let mut broken = gzip(&text);
        broken.truncate(broken.len() - 1);
        for wrong in [&b""[..], b"{}", &broken] {
            assert!(matches!(inflated(wrong, 60_000, &memory), Err(Stop::NoGzip)), "{} bytes", wrong.len());
        }
        assert!(inflated(&gzip(b""), 10, &memory).is_ok_and(|whole| whole.bytes().is_empty()));
    }

    #[tokio::test]
    async fn a_body_is_bounded_by_its_size_and_by_the_budget() {
        async fn length(sizes: &[usize], max_bytes: usize, memory: &MemoryBudget) -> Result<usize, Stop> {
            let frames: Vec<_> = sizes
                .iter()
                .map(|size| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![b'x'; *size]))))
                .collect();
            let body = collect(&mut StreamBody::new(stream::iter(frames)), max_bytes, memory).await?;
            Ok(body.bytes().len())
        }
        let memory = MemoryBudget::new(100_000);
        assert!(matches!(length(&[], 10, &memory).await, Ok(0)));
        assert!(matches!(length(&[4, 0, 6], 10, &memory).await, Ok(10)));
        assert!(matches!(length(&[4, 7], 10, &memory).await, Err(Stop::TooLarge)));
        assert!(matches!(length(&[60_000, 60_000], 200_000, &memory).await, Err(Stop::NoMemory)));
        assert!(
            matches!(length(&[60_000], 200_000, &memory).await, Ok(60_000)),
            "what was reserved is released"
        );
    }
}
