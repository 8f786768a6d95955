//! Runs many works, some at the same time.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, Stream, StreamExt as _};

/// Bounds the queues that are asked or written to, the publishes to one of them, and the jobs that are ended or closed, at
/// the same time.
pub(super) const AT_ONCE: usize = 32;

/// Runs [`AT_ONCE`] works at the same time, and returns what comes of each as it comes.
pub(super) fn several<'a, T: 'a>(
    works: impl Iterator<Item = impl Future<Output = T> + Send + 'a>,
) -> impl Stream<Item = T> + Send + Unpin + 'a {
    let works: Vec<BoxFuture<'a, T>> = works.map(|work| work.boxed()).collect();
    stream::iter(works).buffer_unordered(AT_ONCE)
}
