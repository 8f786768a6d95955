//! The archive as a bucket of an S3-compatible store (MinIO, Amazon's, another). An object is one `PUT`: stores
//! answer once the object is kept, and show the old object or the new one, never a part, so nothing here needs
//! multipart uploads, conditional writes or versions. The store promises to keep what it confirmed through a loss of
//! power.
//!
//! This module checks that an answer is the range that was asked for. Whether its bytes are those that were written
//! is checked one layer up, against the ledger's SHA-256 (`segment`).

mod client;

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use bytes::{Bytes, BytesMut};

use infera_archive::{Archive, ArchiveError, ArchiveReader, key};

pub use client::S3Config;

/// The largest object: no store keeps larger ones (Amazon's limit), and many cannot read a range with larger numbers.
const OBJECT_MAX_BYTES: u64 = 5 * 1024 * 1024 * 1024 * 1024;

/// A bucket of objects.
#[derive(Clone)]
pub struct S3Archive {
    client: Client,
    endpoint: String,
    region: String,
    bucket: String,
    operation: Duration,
}

impl fmt::Debug for S3Archive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("S3Archive")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl S3Archive {
    /// Makes the archive in `config.bucket`, which must exist; the store is not contacted yet.
    ///
    /// # Errors
    /// [`ArchiveError::Refused`] for an endpoint or a CA file that cannot be used.
    pub fn new(config: &S3Config) -> Result<Arc<Self>, ArchiveError> {
        Ok(Arc::new(Self {
            client: client::client(config)?,
            endpoint: config.endpoint.clone(),
            region: config.region.clone(),
            bucket: config.bucket.clone(),
            operation: Duration::from_millis(config.operation_ms),
        }))
    }

    /// Works like [`S3Archive::new`], and also asks the store for the bucket, which it creates if it does not exist.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`] if the store is away; [`ArchiveError::Refused`] if it refuses these credentials
    /// or the bucket belongs to somebody else, and the errors of [`S3Archive::new`].
    pub async fn open(config: &S3Config) -> Result<Arc<Self>, ArchiveError> {
        let archive = Self::new(config)?;
        if !archive.has_bucket().await? {
            archive.make_bucket().await?;
        }
        Ok(archive)
    }

    async fn has_bucket(&self) -> Result<bool, ArchiveError> {
        match self.client.head_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => Ok(false),
            Err(error) => Err(self.kept_out("bucket", &error)),
        }
    }

    async fn make_bucket(&self) -> Result<(), ArchiveError> {
        let elsewhere = (self.region != client::DEFAULT_REGION).then(|| {
            let region = BucketLocationConstraint::from(self.region.as_str());
            CreateBucketConfiguration::builder().location_constraint(region).build()
        });
        let made =
            self.client.create_bucket().bucket(&self.bucket).set_create_bucket_configuration(elsewhere);
        match made.send().await {
            Ok(_) => Ok(()),
            // Another verifier created it first.
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_bucket_already_owned_by_you()) =>
            {
                Ok(())
            }
            Err(error) => Err(self.kept_out("making the bucket", &error)),
        }
    }

    /// Reads a non-empty range of an object that may not exist.
    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        let wanted = format!("bytes={}-{}", range.start, range.end - 1);
        let answer = self.client.get_object().bucket(&self.bucket).key(key).range(wanted).send().await;
        match answer {
            Ok(answer) => self.body(key, range, answer).await,
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => {
                Err(ArchiveError::NotFound(key.to_owned()))
            }
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 416) => {
                Err(ArchiveError::OutOfRange { key: key.to_owned(), range })
            }
            Err(error) => Err(self.unavailable(key, &error)),
        }
    }

    /// Returns the answer's bytes, after checking that they are the range that was asked for.
    async fn body(
        &self,
        key: &str,
        range: Range<u64>,
        answer: GetObjectOutput,
    ) -> Result<Bytes, ArchiveError> {
        let given = answer.content_range().and_then(content_range);
        match given {
            Some(given) if given == range => {}
            // The object ends before the end of the range.
            Some(given) if given.start == range.start && given.end < range.end => {
                return Err(ArchiveError::OutOfRange { key: key.to_owned(), range });
            }
            given => {
                return Err(self.refused(key, &format!("it answered {given:?} to a request for {range:?}")));
            }
        }
        let length = range.end - range.start;
        let mut bytes = BytesMut::new();
        let mut body = answer.body;
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| self.refused(key, &chain(&error)))?;
            if (bytes.len() + part.len()) as u64 > length {
                return Err(self.refused(key, "its answer is longer than announced"));
            }
            bytes.extend_from_slice(&part);
        }
        if bytes.len() as u64 != length {
            return Err(self.refused(key, "its answer ended early"));
        }
        Ok(bytes.freeze())
    }

    /// Makes the error for a call about the bucket itself: a refusal by the store is final, anything else is worth a
    /// retry.
    fn kept_out<E>(&self, what: &str, error: &SdkError<E>) -> ArchiveError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        match status {
            Some(408 | 429) | None | Some(500..) => self.unavailable(what, error),
            Some(_) => {
                let Self { endpoint, bucket, .. } = self;
                let words = words(error);
                ArchiveError::Refused(format!(
                    "{endpoint}, bucket {bucket}, {what}: {words}; check the bucket's name and region and the credentials"
                ))
            }
        }
    }

    fn unavailable<E>(&self, what: &str, error: &SdkError<E>) -> ArchiveError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        self.refused(what, &words(error))
    }

    fn refused(&self, what: &str, problem: &str) -> ArchiveError {
        let Self { endpoint, bucket, .. } = self;
        ArchiveError::Unavailable(format!("{endpoint}, bucket {bucket}, {what}: {problem}"))
    }
}

/// Returns the range of bytes that `Content-Range` names (RFC 9110, section 14.4); none if it names none.
fn content_range(text: &str) -> Option<Range<u64>> {
    let (range, _) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse::<u64>().ok()?);
    (first <= last).then_some(first..last.checked_add(1)?)
}

/// Returns the error of the store, or of the connection to it, in one line. Neither knows our secret.
fn words<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(refusal) => {
            let status = refusal.raw().status().as_u16();
            let code = refusal.err().code().unwrap_or("no code");
            let message = refusal.err().message().unwrap_or("no message");
            format!("HTTP {status} {code}: {message}")
        }
        error => chain(error),
    }
}

/// Returns an error with its causes; the SDK's own text has only the outermost.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[async_trait]
impl ArchiveReader for S3Archive {
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        key::check(key)?;
        if range.is_empty() || range.end > OBJECT_MAX_BYTES {
            // An empty range cannot be asked for; the object's size tells whether it is within the object.
            return match self.size(key).await? {
                None => Err(ArchiveError::NotFound(key.to_owned())),
                Some(size) if range.start == range.end && range.end <= size => Ok(Bytes::new()),
                Some(_) => Err(ArchiveError::OutOfRange { key: key.to_owned(), range }),
            };
        }
        // The SDK's limits end at the answer's head.
        let read = tokio::time::timeout(self.operation, self.read(key, range)).await;
        read.unwrap_or_else(|_| Err(self.refused(key, "it did not answer in time")))
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, ArchiveError> {
        key::check(key)?;
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(answer) => {
                let size = answer.content_length().and_then(|length| u64::try_from(length).ok());
                size.map(Some).ok_or_else(|| self.refused(key, "it does not report the object's length"))
            }
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => {
                // A missing bucket yields the same bare answer, and then nothing is known about the object.
                if self.has_bucket().await? {
                    Ok(None)
                } else {
                    Err(self.refused(key, "there is no such bucket"))
                }
            }
            Err(error) => Err(self.unavailable(key, &error)),
        }
    }
}

#[async_trait]
impl Archive for S3Archive {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ArchiveError> {
        key::check(key)?;
        let put = self.client.put_object().bucket(&self.bucket).key(key).body(ByteStream::from(bytes));
        put.send().await.map(drop).map_err(|error| self.unavailable(key, &error))
    }

    /// Stores answer the same whether the object existed or not. A bucket that keeps versions keeps the object under a
    /// marker, so that its operator has to let old versions expire.
    async fn remove(&self, key: &str) -> Result<(), ArchiveError> {
        key::check(key)?;
        let removed = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
        removed.map(drop).map_err(|error| self.unavailable(key, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_as_they_stand() {
        let cases = [
            ("bytes 0-0/1", Some(0..1)),
            ("bytes 3-6/10", Some(3..7)),
            ("bytes 3-6/*", Some(3..7)),
            ("bytes */10", None),
            ("bytes 6-3/10", None),
            ("bytes 3-6", None),
            ("bytes -6/10", None),
            ("items 3-6/10", None),
            ("bytes 3-18446744073709551615/*", None),
            ("", None),
        ];
        for (text, range) in cases {
            assert_eq!(content_range(text), range, "{text:?}");
        }
    }
}
