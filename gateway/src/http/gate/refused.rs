//! Replaces a refused head: a plain head takes its place, and the reason is kept in a slot.

use std::sync::{Arc, Mutex, PoisonError};

use super::head;
use crate::api::error::ApiError;
use crate::api::face::{Face, face};

/// The reason why the last head was refused, until the request that takes its place fetches it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refused(Arc<Mutex<Option<ApiError>>>);

impl Refused {
    /// Takes the reason, if the request that hyper makes now replaces a refused one.
    pub(crate) fn take(&self) -> Option<ApiError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps the reason for the request that replaces the refused one.
    pub(crate) fn put(&self, error: ApiError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// Returns the head that hyper gets instead of the refused `bytes`: one on the same face, with `HEAD` if they had
/// that method.
pub(crate) fn substitute(bytes: &[u8]) -> &'static [u8] {
    let (method, target) = head::first_words(bytes);
    let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let face = face(&String::from_utf8_lossy(path));
    match (method == b"HEAD", face) {
        (false, Face::Seed) => b"GET /refused HTTP/1.1\r\nhost: localhost\r\n\r\n",
        (false, Face::OpenAi) => b"GET /v1/refused HTTP/1.1\r\nhost: localhost\r\n\r\n",
        (true, Face::Seed) => b"HEAD /refused HTTP/1.1\r\nhost: localhost\r\n\r\n",
        (true, Face::OpenAi) => b"HEAD /v1/refused HTTP/1.1\r\nhost: localhost\r\n\r\n",
    }
}
