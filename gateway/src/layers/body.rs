//! Bodies: each is collected into one buffer, within a size and a time, and understood where that holds up no other request.
//!
//! hyper gives a body out as frames. A frame is a view into the buffer that was read from the socket, so keeping frames of one
//! byte would keep hundreds of bytes for each; here every frame is copied and dropped.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as Frames, Incoming};
use hyper::http::request::Parts;
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::layers::limits;
use crate::room::{Held, Room};

/// The first buffer: most bodies fit.
const FIRST_BYTES: usize = 1024;

/// Bodies up to this size are understood where they were read: the most hostile takes half a millisecond, an ordinary one a
/// hundredth, which is what handing it to another thread would cost.
const AT_ONCE_MAX_BYTES: usize = 8 * 1024;

/// Bodies beyond this size have desks of their own. The most hostile of half a megabyte takes some thirty milliseconds, and a
/// conversation of some pages shouldn't wait behind several of them.
const MIDDLING_MAX_BYTES: usize = 64 * 1024;

/// What a body may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Larger ones are refused.
    pub max_bytes: usize,
    /// Slower ones, too.
    pub within: Duration,
}

/// A whole body, and its share of the room for large ones.
#[derive(Debug, Default)]
pub struct Body {
    bytes: Bytes,
    held: Option<Held>,
}

impl Body {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its share of the room, for what was made of it: that is of about the same size.
    #[must_use]
    pub fn into_held(self) -> Option<Held> {
        self.held
    }
}

/// Why there is no whole body.
enum Stop {
    TooLarge,
    NoRoom,
    Broken,
}

/// The whole body.
///
/// # Errors
/// The client's fault: [`ApiError::TooLarge`], [`ApiError::SlowBody`], [`ApiError::BadRequest`]. Ours:
/// [`ApiError::Overloaded`], where too many large bodies are in hand.
pub async fn read(head: &Parts, mut body: Incoming, bounds: Bounds, room: &Room) -> Result<Body, ApiError> {
    let whole = collect(&mut body, bounds.max_bytes, room);
    let stop = match tokio::time::timeout(bounds.within, whole).await {
        Ok(Ok(body)) => return Ok(body),
        Ok(Err(stop)) => stop,
        Err(_) => return Err(ApiError::SlowBody),
    };
    let error = match stop {
        Stop::Broken => return Err(ApiError::BadRequest("The body is broken off or badly framed.")),
        Stop::TooLarge => ApiError::TooLarge(bounds.max_bytes),
        Stop::NoRoom => ApiError::Overloaded,
    };
    limits::discard(head, &mut body).await;
    Err(error)
}

async fn collect<B>(body: &mut B, max_bytes: usize, room: &Room) -> Result<Body, Stop>
where
    B: Frames<Data = Bytes> + Unpin,
{
    let (mut whole, mut held) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Stop::Broken)?.into_data() else { continue };
        let needed = whole.len() + data.len();
        if needed > max_bytes {
            return Err(Stop::TooLarge);
        }
        if needed > whole.capacity() {
            let capacity = needed.next_power_of_two().max(FIRST_BYTES).min(max_bytes);
            if !room.grow(&mut held, capacity) {
                return Err(Stop::NoRoom);
            }
            whole.reserve_exact(capacity - whole.len());
        }
        whole.extend_from_slice(&data);
    }
    Ok(Body { bytes: whole.into(), held })
}

/// Threads beside the async ones for what takes long: few at a time, first come, first served. Memory is bounded with them: a
/// value read from JSON takes up to thirty times the bytes that it was read from.
#[derive(Debug)]
pub struct Desks {
    middling: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for Desks {
    /// Half of the processors for each kind: one alone leaves the others to all other requests.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let desks = || Arc::new(Semaphore::new((processors / 2).max(1)));
        Self { middling: desks(), large: desks() }
    }
}

impl Desks {
    /// Does `work` on a body of `bytes` bytes: at once if it is short, else when a desk is free.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if the work panicked, which is a mistake of ours.
    pub async fn work<T>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
    {
        if bytes <= AT_ONCE_MAX_BYTES {
            return Ok(work());
        }
        let desks = if bytes <= MIDDLING_MAX_BYTES { &self.middling } else { &self.large };
        // They are never closed. Work goes on when its client goes away, and so does its use of the desk.
        let desk = Arc::clone(desks).acquire_owned().await.map_err(|_| ApiError::Internal)?;
        let working = tokio::task::spawn_blocking(move || {
            let _desk = desk;
            work()
        });
        working.await.map_err(|error| {
            tracing::error!(%error, "a body could not be understood for a mistake of ours");
            ApiError::Internal
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// A frame's buffer that is counted while it is there.
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
        let Ok(whole) = collect(&mut body, 512 * 1024, &Room::new(0)).await else { panic!() };
        assert_eq!(whole.bytes().len(), 50_000);
        assert_eq!(whole.bytes()[1_000], 1_000_u32.to_le_bytes()[0]);
        assert!(most.load(Ordering::Relaxed) <= 1, "{most:?} frames at once");
    }

    #[tokio::test]
    async fn a_body_is_bounded_by_its_size_and_by_the_room() {
        async fn length(sizes: &[usize], max_bytes: usize, room: &Room) -> Result<usize, Stop> {
            let frames: Vec<_> = sizes
                .iter()
                .map(|size| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![b'x'; *size]))))
                .collect();
            let body = collect(&mut StreamBody::new(stream::iter(frames)), max_bytes, room).await?;
            Ok(body.bytes().len())
        }
        let room = Room::new(100_000);
        assert!(matches!(length(&[], 10, &room).await, Ok(0)));
        assert!(matches!(length(&[4, 0, 6], 10, &room).await, Ok(10)));
        assert!(matches!(length(&[4, 7], 10, &room).await, Err(Stop::TooLarge)));
        assert!(matches!(length(&[60_000, 60_000], 200_000, &room).await, Err(Stop::NoRoom)));
        assert!(matches!(length(&[60_000], 200_000, &room).await, Ok(60_000)), "what was held came back");
    }

    #[tokio::test]
    async fn few_large_bodies_are_understood_at_a_time() {
        let (desks, busy, most) =
            (Desks::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let free = desks.large.available_permits();
        let all = (0..4 * free).map(|_| {
            let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
            desks.work(500_000, move || {
                most.fetch_max(busy.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
                busy.fetch_sub(1, Ordering::Relaxed);
            })
        });
        let all = futures::future::join_all(all).await;
        assert!(all.iter().all(Result::is_ok));
        assert!(most.load(Ordering::Relaxed) <= free, "{most:?} at once, of {free}");
    }

    #[tokio::test]
    async fn work_that_panics_is_a_mistake_of_ours() {
        let done = Desks::default().work(500_000, || panic!("a mistake")).await;
        assert_eq!(done, Err::<(), _>(ApiError::Internal));
    }
}
