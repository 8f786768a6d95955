//! A repository at any endpoint that speaks as the Hugging Face Hub does: `/api/models/{repository}/tree/{revision}` lists
//! files, `/{repository}/resolve/{revision}/{file}` sends them.

mod answers;
mod body;
mod client;
mod endpoint;
mod listing;

use async_trait::async_trait;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap};

use self::answers::{About, Place};
use self::client::{Client, Ranged};
pub use self::endpoint::{ENDPOINT, Endpoint, EndpointError};
use crate::names::{check_repository, check_revision, shown};
use crate::source::{Content, Listing, Source, SourceError, Waits, Wanted};

/// The revision if none is named.
const REVISION: &str = "main";

/// A repository at an endpoint.
#[derive(Debug)]
pub struct HubSource {
    client: Client,
    place: Place,
}

impl HubSource {
    /// Makes the source; nothing is asked yet.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn new(endpoint: &Endpoint, repository: &str, waits: Waits) -> Result<Self, EndpointError> {
        check_repository(repository)?;
        let client = Client::new(endpoint, waits)?;
        let name = format!("{}/{repository}", endpoint.address());
        Ok(Self { client, place: Place { name, repository: repository.to_owned() } })
    }
}

#[async_trait]
impl Source for HubSource {
    fn place(&self) -> &str {
        &self.place.name
    }

    async fn list(&self, revision: Option<&str>) -> Result<Listing, SourceError> {
        let revision = revision.unwrap_or(REVISION);
        check_revision(revision).map_err(|error| self.place.refused(error))?;
        listing::read(&self.client, &self.place, revision).await
    }

    async fn open(&self, wanted: &Wanted<'_>) -> Result<Content, SourceError> {
        let words = ["resolve", wanted.revision].into_iter().chain(wanted.path.split('/'));
        let url = self.client.url(self.place.repository.split('/').chain(words));
        let range = (wanted.from > 0).then_some(Ranged { from: wanted.from, tag: wanted.tag });
        let answer = self.client.get(url, range, &self.place).await?;
        let about = About::File { revision: wanted.revision, path: wanted.path };
        if !answer.status().is_success() {
            return Err(answers::refusal(answer, &self.place, &about).await);
        }
        let (from, tag) = begins(answer.status(), answer.headers(), wanted)
            .map_err(|problem| problem.into_error(&self.place, wanted.path))?;
        let chunks = body::chunks(answer.into_body(), wanted.pin.bytes - from, self.client.waits.stall);
        Ok(Content { from, tag, chunks })
    }
}

/// What is wrong with the head of a file's answer.
#[derive(Debug, PartialEq, Eq)]
enum HeadProblem {
    /// It is another content than the listing's.
    Other(String),
    /// It doesn't go on where it should.
    Unresumable(String),
}

impl HeadProblem {
    fn into_error(self, place: &Place, path: &str) -> SourceError {
        match self {
            Self::Other(problem) => place.refused(format!("{path} {problem}")),
            Self::Unresumable(problem) => SourceError::Unresumable { said: format!("{path} {problem}") },
        }
    }
}

/// Returns the first byte that an answer sends, and its tag, if it is the content that was wanted.
fn begins(
    status: StatusCode,
    headers: &HeaderMap,
    wanted: &Wanted<'_>,
) -> Result<(u64, Option<String>), HeadProblem> {
    let text = |name| headers.get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok());
    if let Some(encoding) = text(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(HeadProblem::Other(format!(
            "comes in the encoding {:?}, which wasn't asked for",
            shown(encoding)
        )));
    }
    // Only strong tags say that every byte is the same.
    let tag = text(ETAG).filter(|tag| tag.starts_with('"')).map(str::to_owned);
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let bytes = wanted.pin.bytes;
    match status {
        StatusCode::PARTIAL_CONTENT if wanted.from > 0 => {
            let range = text(CONTENT_RANGE).unwrap_or_default();
            if !is_range(range, wanted.from, bytes) {
                let (from, range) = (wanted.from, shown(range));
                return Err(HeadProblem::Unresumable(format!(
                    "was wanted from byte {from} of {bytes} on, and {range:?} came"
                )));
            }
            if wanted.tag.is_some() && tag.as_deref() != wanted.tag {
                return Err(HeadProblem::Unresumable("has changed meanwhile".to_owned()));
            }
            Ok((wanted.from, tag))
        }
        StatusCode::OK => match length {
            Some(length) if length != bytes => Err(HeadProblem::Other(format!(
                "has {length} bytes there, and {bytes} in the listing: the two differ"
            ))),
            _ => Ok((0, tag)),
        },
        status => Err(HeadProblem::Other(format!("was answered with {status}"))),
    }
}

/// Returns whether a `Content-Range` begins at `from` and is of a whole of `bytes`. It may end before the end.
fn is_range(range: &str, from: u64, bytes: u64) -> bool {
    let Some((span, whole)) = range.strip_prefix("bytes ").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let Some((first, last)) = span.split_once('-') else { return false };
    let number = |text: &str| text.parse::<u64>().ok();
    number(first) == Some(from)
        && number(last).is_some_and(|last| (from..bytes).contains(&last))
        && (whole == "*" || number(whole) == Some(bytes))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use infera_types::ids::Digest;

    use super::*;
    use crate::pins::{Pin, Published};

    #[test]
    fn an_answer_goes_on_where_it_should_or_is_refused() {
        let pin = Pin { bytes: 100, digest: Published::Sha256(Digest::of(b"")) };
        let head = |status: u16, pairs: &[(&'static str, &str)], from: u64| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_str(value).expect("a value"));
            }
            let wanted = Wanted { revision: "r", path: "p", pin, from, tag: Some("\"t\"") };
            begins(StatusCode::from_u16(status).expect("a status"), &headers, &wanted)
        };
        let tag = ("etag", "\"t\"");
        assert_eq!(head(200, &[tag], 0), Ok((0, Some("\"t\"".to_owned()))));
        assert_eq!(head(200, &[("content-length", "100")], 50), Ok((0, None)), "from the first byte on");
        assert_eq!(head(200, &[("etag", "W/\"t\"")], 0), Ok((0, None)), "a weak tag is none");
        assert_eq!(head(206, &[tag, ("content-range", "bytes 50-99/100")], 50).map(|is| is.0), Ok(50));
        assert_eq!(head(206, &[tag, ("content-range", "bytes 50-60/*")], 50).map(|is| is.0), Ok(50));
        for range in
            ["bytes 0-99/100", "bytes 51-99/100", "bytes 50-99/101", "bytes 50-100/100", "50-99/100", ""]
        {
            let problem = head(206, &[tag, ("content-range", range)], 50);
            assert!(matches!(problem, Err(HeadProblem::Unresumable(_))), "{range}: {problem:?}");
        }
        let changed = head(206, &[("etag", "\"u\""), ("content-range", "bytes 50-99/100")], 50);
        assert!(matches!(changed, Err(HeadProblem::Unresumable(_))));
        for (status, pairs) in [
            (200, &[("content-length", "99")][..]),
            (200, &[("content-encoding", "gzip")]),
            (206, &[("content-range", "bytes 0-99/100")]),
            (204, &[]),
        ] {
            assert!(matches!(head(status, pairs, 0), Err(HeadProblem::Other(_))), "{status}");
        }
    }
}
