//! Reads how a client wants to be answered: `Prefer: respond-async` and `Prefer: wait=N` (RFC 7240), and `Cancel-After`,
//! after which its job may end. Preferences that are unknown or can't be read are ignored, as the RFC says; a deadline
//! is not, because ignoring it would cost the client an answer that it no longer wants.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::api::error::ApiError;
use crate::config::REQUEST_TIMEOUT_S;

/// How a client wants to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preferences {
    respond_async: bool,
    wait: Option<Duration>,
}

impl Preferences {
    /// Reads the preferences from all `Prefer` headers. Of one that is given twice, the first counts.
    #[must_use]
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let mut preferences = Self::default();
        let given = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        for preference in given.flat_map(|text| split(text, ',')) {
            // What follows a semicolon are parameters, of which these two preferences have none.
            let preference = split(preference, ';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            match (name.trim().to_ascii_lowercase().as_str(), value.trim().trim_matches('"')) {
                ("respond-async", _) => preferences.respond_async = true,
                ("wait", seconds) if preferences.wait.is_none() => {
                    let longest = *REQUEST_TIMEOUT_S.end();
                    let seconds = seconds.parse::<u64>().ok();
                    preferences.wait = seconds.map(|seconds| Duration::from_secs(seconds.min(longest)));
                }
                _ => {}
            }
        }
        preferences
    }

    /// Returns how long the client waits before it is told of its job instead of its answer; none if it waits for the
    /// answer.
    #[must_use]
    pub(crate) fn patience(self) -> Option<Duration> {
        self.wait.or_else(|| self.respond_async.then_some(Duration::ZERO))
    }

    /// Returns whether the client wants to be told of its job, even if that has ended already.
    #[must_use]
    pub(crate) const fn is_async_only(self) -> bool {
        self.respond_async && self.wait.is_none()
    }

    /// Returns `Preference-Applied`, if there is a preference.
    #[must_use]
    pub(crate) fn applied(self) -> Option<(HeaderName, HeaderValue)> {
        let mut words = Vec::new();
        if self.respond_async {
            words.push("respond-async".to_owned());
        }
        words.extend(self.wait.map(|wait| format!("wait={}", wait.as_secs())));
        let value = HeaderValue::from_str(&words.join(", ")).ok().filter(|value| !value.is_empty())?;
        Some((HeaderName::from_static("preference-applied"), value))
    }
}

/// Splits a header's text, but not within quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |character| {
        is_quoted ^= character == '"';
        character == separator && !is_quoted
    })
}

/// Reads `Cancel-After`: the time after which the job ends as expired, at most `longest`.
///
/// # Errors
/// [`ApiError::BadRequest`] if it is given and is not such a number of seconds.
pub(crate) fn cancel_after(headers: &HeaderMap, longest: Duration) -> Result<Option<Duration>, ApiError> {
    const WRONG: ApiError = ApiError::BadRequest(
        "Cancel-After must be one whole number of seconds, from 1 to the longest time that a submitted job may take: an hour, \
         unless the operator has set another.",
    );
    let mut values = headers.get_all("cancel-after").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(WRONG);
    }
    let text = value.to_str().map_err(|_| WRONG)?.trim();
    let seconds: u64 = text.strip_suffix('s').unwrap_or(text).parse().map_err(|_| WRONG)?;
    let after = Duration::from_secs(seconds);
    if seconds == 0 || after > longest { Err(WRONG) } else { Ok(Some(after)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn preferences_are_read_as_the_rfc_writes_them() {
        let none: (Option<u64>, Option<&str>) = (None, None);
        for (values, (patience, applied)) in [
            (&[][..], none),
            (&["respond-async"], (Some(0), Some("respond-async"))),
            (&["Respond-Async"], (Some(0), Some("respond-async"))),
            (&["wait=10"], (Some(10), Some("wait=10"))),
            (&["respond-async, wait=10"], (Some(10), Some("respond-async, wait=10"))),
            (&["respond-async", "wait=\"10\""], (Some(10), Some("respond-async, wait=10"))),
            (&["wait = 10 ; foo=\"a;b\" , priority=5"], (Some(10), Some("wait=10"))),
            (&["foo; bar=\"respond-async, wait=3\", wait=4"], (Some(4), Some("wait=4"))),
            (&["wait=1, wait=2"], (Some(1), Some("wait=1"))),
            (&["wait=0"], (Some(0), Some("wait=0"))),
            (&["wait=99999999999"], (Some(600), Some("wait=600"))),
            (&["wait=soon, wait", "return=minimal"], none),
            (&["wait=-1"], none),
            (&["", ",;,\"", "=", "\u{e9}"], none),
        ] {
            let preferences = Preferences::read(&headers("prefer", values));
            let told = preferences.applied().map(|(_, value)| value.to_str().unwrap().to_owned());
            let found = (preferences.patience().map(|wait| wait.as_secs()), told.as_deref());
            assert_eq!(found, (patience, applied), "{values:?}");
        }
    }

    #[test]
    fn a_deadline_is_a_number_of_seconds() {
        let hour = Duration::from_secs(3_600);
        for (values, expected) in [
            (&[][..], Some(None)),
            (&["1"], Some(Some(1))),
            (&["90s"], Some(Some(90))),
            (&["3600"], Some(Some(3_600))),
            (&["0"], None),
            (&["3601"], None),
            (&["1.5"], None),
            (&["-1"], None),
            (&[""], None),
            (&["1", "2"], None),
            (&["99999999999999999999999"], None),
        ] {
            let found = cancel_after(&headers("cancel-after", values), hour).ok();
            let expected = expected.map(|seconds| seconds.map(Duration::from_secs));
            assert_eq!(found, expected, "{values:?}");
        }
    }
}
