//! The three families of headers that tell a client its limits: OpenAI's `x-ratelimit-…`, the IETF draft's `RateLimit` and
//! `RateLimit-Policy`, and, with a refusal, `Retry-After` (`http/layers/trace`). The draft has no unit for tokens, so those
//! are in the first family alone.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderValue};

/// What is left of a limit over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// The limit.
    pub(super) limit: u64,
    /// What is left.
    pub(super) left: u64,
    /// When all of it is back.
    pub(super) reset: Duration,
}

/// What is left of all limits of a caller; none where there is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AllLeft {
    /// Requests.
    pub(super) requests: Option<Left>,
    /// Tokens.
    pub(super) tokens: Option<Left>,
    /// Looks and cancels.
    pub(super) looks: Option<Left>,
    /// Further requests that may be in flight, and their bound.
    pub(super) in_flight: Option<(u32, u32)>,
}

/// Writes the headers. `window` is the one over which limits count.
pub(super) fn write(all: &AllLeft, window: Duration, headers: &mut HeaderMap) {
    let (mut policies, mut states) = (Vec::new(), Vec::new());
    let window_s = window.as_secs().max(1);
    for (name, left) in [("rpm", all.requests), ("looks", all.looks)] {
        if let Some(Left { limit, left, reset }) = left {
            policies.push(format!("\"{name}\";q={limit};w={window_s}"));
            states.push(format!("\"{name}\";r={left};t={}", reset.as_millis().div_ceil(1_000)));
        }
    }
    if let Some((left, max)) = all.in_flight {
        policies.push(format!("\"inflight\";q={max};qu=\"concurrent-requests\""));
        states.push(format!("\"inflight\";r={left}"));
    }
    if !policies.is_empty() {
        put(headers, "ratelimit-policy", &policies.join(", "));
        put(headers, "ratelimit", &states.join(", "));
    }
    if let Some(left) = all.requests {
        write_requests(left, headers);
    }
    if let Some(left) = all.tokens {
        headers.insert("x-ratelimit-limit-tokens", HeaderValue::from(left.limit));
        headers.insert("x-ratelimit-remaining-tokens", HeaderValue::from(left.left));
        put(headers, "x-ratelimit-reset-tokens", &duration(left.reset));
    }
}

/// Writes the headers of an address that is counted under `name`, as `write` does those of a key: what it may do are its
/// requests on these paths.
pub(super) fn write_address(name: &str, left: Left, window: Duration, headers: &mut HeaderMap) {
    let Left { limit, left: remaining, reset } = left;
    let (window_s, reset_s) = (window.as_secs().max(1), reset.as_millis().div_ceil(1_000));
    put(headers, "ratelimit-policy", &format!("\"{name}\";q={limit};w={window_s}"));
    put(headers, "ratelimit", &format!("\"{name}\";r={remaining};t={reset_s}"));
    write_requests(left, headers);
}

fn write_requests(left: Left, headers: &mut HeaderMap) {
    headers.insert("x-ratelimit-limit-requests", HeaderValue::from(left.limit));
    headers.insert("x-ratelimit-remaining-requests", HeaderValue::from(left.left));
    put(headers, "x-ratelimit-reset-requests", &duration(left.reset));
}

/// Writes a duration as Go does and OpenAI's clients read it: `0s`, `120ms`, `1.5s`, `6m0s`. Parts of a millisecond are
/// rounded up.
fn duration(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, part) = (millis / 1_000 % 60, millis % 1_000);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    text.push_str(&seconds.to_string());
    if part > 0 {
        text.push_str(format!(".{part:03}").trim_end_matches('0'));
    }
    text.push('s');
    text
}

fn put(headers: &mut HeaderMap, name: &'static str, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (micros, expected) in [
            (0, "0s"),
            (1, "1ms"),
            (12_000, "12ms"),
            (999_001, "1s"),
            (1_500_000, "1.5s"),
            (1_050_000, "1.05s"),
            (60_000_000, "1m0s"),
            (360_000_000, "6m0s"),
            (90_250_000, "1m30.25s"),
            (3_600_000_000, "1h0m0s"),
            (3_661_001_000, "1h1m1.001s"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn each_limit_is_in_the_families_that_know_it() {
        let left = |limit, left, millis| Some(Left { limit, left, reset: Duration::from_millis(millis) });
        let all = AllLeft {
            requests: left(600, 599, 100),
            tokens: left(200_000, 199_976, 9),
            looks: left(6_000, 6_000, 0),
            in_flight: Some((31, 32)),
        };
        let mut headers = HeaderMap::new();
        write(&all, Duration::from_secs(60), &mut headers);
        for (name, expected) in [
            (
                "ratelimit-policy",
                "\"rpm\";q=600;w=60, \"looks\";q=6000;w=60, \"inflight\";q=32;qu=\"concurrent-requests\"",
            ),
            ("ratelimit", "\"rpm\";r=599;t=1, \"looks\";r=6000;t=0, \"inflight\";r=31"),
            ("x-ratelimit-limit-requests", "600"),
            ("x-ratelimit-remaining-requests", "599"),
            ("x-ratelimit-reset-requests", "100ms"),
            ("x-ratelimit-limit-tokens", "200000"),
            ("x-ratelimit-remaining-tokens", "199976"),
            ("x-ratelimit-reset-tokens", "9ms"),
        ] {
            assert_eq!(headers[name], expected, "{name}");
        }
        let mut none = HeaderMap::new();
        write(&AllLeft::default(), Duration::from_secs(60), &mut none);
        assert!(none.is_empty());
    }
}
