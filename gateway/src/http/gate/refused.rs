//! Stands for a refused head: a plain one in its place, and the reason in a slot beside it.

use std::sync::{Arc, Mutex, PoisonError};

use super::head;
use crate::api::error::ApiError;
use crate::api::face::{Face, face};

/// Holds why the head that was replaced last was refused, until the request that stands for it takes the reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refused(Arc<Mutex<Option<ApiError>>>);

impl Refused {
    /// Takes the reason, if the request that hyper makes now stands for a refused one.
    pub(crate) fn take(&self) -> Option<ApiError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Leaves the reason for that request.
    pub(crate) fn put(&self, error: ApiError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// Returns what hyper gets instead of the refused `bytes`: a request on the same face, and by `HEAD` if they were.
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
