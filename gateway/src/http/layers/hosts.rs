//! Decides under which host names the gateway answers. A web page can have its own name resolve to this machine's
//! loopback address (DNS rebinding), and its visitor's browser then takes a program that listens there for a part of
//! that site. Such requests can be told from others by the host name that they carry.

use std::net::{IpAddr, Ipv6Addr};

use hyper::header::{HOST, HeaderMap};
use hyper::http::uri::Uri;

use crate::api::error::ApiError;
use crate::config::HostName;

/// Refuses a request for a host name that the gateway doesn't answer for. It always answers for loopback's own names
/// and for those in `listed`. On an address other than loopback (`is_loopback` is false), it answers for all names if
/// none is listed. An HTTP/1.0 request may name no host; browsers don't send such requests.
///
/// # Errors
/// [`ApiError::WrongHost`].
pub(crate) fn check(
    uri: &Uri,
    headers: &HeaderMap,
    is_loopback: bool,
    listed: &[HostName],
) -> Result<(), ApiError> {
    if !is_loopback && listed.is_empty() {
        return Ok(());
    }
    let from_header = headers.get(HOST).map(|value| value.as_bytes());
    let from_target = uri.authority().map(|authority| authority.as_str().as_bytes());
    for host in [from_target, from_header].into_iter().flatten() {
        let host = String::from_utf8_lossy(host).to_ascii_lowercase();
        let name = HostName::bare(&host);
        if !is_loopback_name(name) && !listed.iter().any(|one| one.is(name)) {
            return Err(ApiError::WrongHost(name.to_owned()));
        }
    }
    Ok(())
}

fn is_loopback_name(name: &str) -> bool {
    let in_brackets = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match in_brackets {
        Some(address) => {
            address.parse().is_ok_and(|address: Ipv6Addr| IpAddr::V6(address).to_canonical().is_loopback())
        }
        None => {
            name == "localhost" || name.parse().is_ok_and(|address: std::net::Ipv4Addr| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn loopback_answers_to_its_own_names_and_to_those_listed() {
        let listed = [name("Infera.example"), name("[2001:db8::1]")];
        let table = [
            ("localhost", true),
            ("LOCALHOST:8710", true),
            ("localhost.:8710", true),
            ("127.0.0.1", true),
            ("127.0.0.1:8710", true),
            ("127.255.255.254:1", true),
            ("[::1]", true),
            ("[::1]:8710", true),
            ("[::ffff:127.0.0.1]:8710", true),
            ("infera.example:443", true),
            ("infera.example", true),
            ("[2001:db8::1]:80", true),
            ("evil.example", false),
            ("evil.example:8710", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example@localhost", false),
            ("localhost:8710:1", false),
            ("192.168.1.1:8710", false),
            ("::1", false),
            ("[::2]", false),
            ("0.0.0.0:8710", false),
            ("", false),
        ];
        for (host, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            let outcome = check(&Uri::from_static("/healthz"), &headers, true, &listed);
            assert_eq!(outcome.is_ok(), expected, "{host:?}: {outcome:?}");
            assert_eq!(check(&Uri::from_static("/"), &headers, false, &listed).is_ok(), expected, "{host:?}");
            assert!(check(&Uri::from_static("/"), &headers, false, &[]).is_ok(), "{host:?}");
        }
        assert!(check(&Uri::from_static("/"), &HeaderMap::new(), true, &[]).is_ok(), "HTTP/1.0");
    }

    #[test]
    fn a_target_that_names_a_host_must_name_one_of_them_too() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "localhost".parse().unwrap());
        for (target, expected) in [("http://localhost:1/x", true), ("http://evil.example/x", false)] {
            assert_eq!(check(&target.parse().unwrap(), &headers, true, &[]).is_ok(), expected, "{target}");
        }
    }
}
