//! Reads a client's address from the headers that trusted proxies write. The headers of a stranger are ignored,
//! because they could name any address.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName};

use crate::config::{ClientAddress, TrustedProxies};

/// Returns the address of the client whose request came over a connection from the trusted `proxy`. The header is
/// read from the right, where the last proxy wrote, up to the first address that is not a trusted proxy's. If an
/// element can't be read, the result is the address of the proxy that wrote it.
#[must_use]
pub(crate) fn client_address(
    trusted: &TrustedProxies,
    proxy: IpAddr,
    from: ClientAddress,
    headers: &HeaderMap,
) -> IpAddr {
    let (name, read): (HeaderName, fn(&str) -> Option<IpAddr>) = match from {
        ClientAddress::XForwardedFor => (HeaderName::from_static("x-forwarded-for"), node),
        ClientAddress::Forwarded => (FORWARDED, forwarded_for),
        ClientAddress::ProxyProtocol => return proxy,
    };
    let mut last = proxy;
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    for line in lines.into_iter().rev() {
        let Ok(line) = line.to_str() else { return last };
        for element in line.rsplit(',') {
            let Some(address) = read(element.trim()) else { return last };
            last = address.to_canonical();
            if !trusted.contains(last) {
                return last;
            }
        }
    }
    last
}

/// Reads `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:80`.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

/// Reads the address of `for=` in one element, such as `for="[2001:db8::1]:80";proto=https`. A quoted comma would
/// split an element into two unreadable ones, but no address contains a comma.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut values = element.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    });
    let value = values.next().filter(|_| values.next().is_none())?;
    node(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(from: ClientAddress, lines: &[&str]) -> String {
        let name = if from == ClientAddress::Forwarded { "forwarded" } else { "x-forwarded-for" };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        let proxies = serde_json::json!(["10.0.0.0/8", "2001:db8:ffff::/48"]);
        let proxies: TrustedProxies = serde_json::from_value(proxies).unwrap();
        client_address(&proxies, "10.0.0.1".parse().unwrap(), from, &headers).to_string()
    }

    #[test]
    fn the_first_address_from_the_right_that_is_no_proxy_is_the_client() {
        let table: [(&[&str], &str); 13] = [
            (&[], "10.0.0.1"),
            (&["203.0.113.7"], "203.0.113.7"),
            // A header that the client wrote itself stands further to the left.
            (&["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
            (&["203.0.113.7, 10.0.0.2,10.0.0.3"], "203.0.113.7"),
            (&["198.51.100.1", "203.0.113.7, 10.0.0.2"], "203.0.113.7"),
            (&["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
            (&["203.0.113.7:4711"], "203.0.113.7"),
            (&["[2001:db8::1]:80"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["2001:db8::1, 2001:db8:ffff::2"], "2001:db8::1"),
            (&["203.0.113.7, unknown"], "10.0.0.1"),
            (&["203.0.113.7, , 10.0.0.2"], "10.0.0.2"),
            (&["203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7"),
        ];
        for (lines, expected) in table {
            assert_eq!(client(ClientAddress::XForwardedFor, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_standard_header_is_read_alike() {
        let table: [(&[&str], &str); 8] = [
            (&["for=203.0.113.7"], "203.0.113.7"),
            (&["For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1"], "2001:db8::1"),
            (&["for=198.51.100.1, proto=https;for=203.0.113.7, for=10.0.0.2"], "203.0.113.7"),
            (&["for=198.51.100.1", "for=203.0.113.7"], "203.0.113.7"),
            (&["for=203.0.113.7, for=_hidden"], "10.0.0.1"),
            (&["for=203.0.113.7, by=10.0.0.2"], "10.0.0.1"),
            (&["for=203.0.113.7;for=198.51.100.1"], "10.0.0.1"),
            (&["for=203.0.113.7, for=\"a,b\""], "10.0.0.1"),
        ];
        for (lines, expected) in table {
            assert_eq!(client(ClientAddress::Forwarded, lines), expected, "{lines:?}");
        }
    }
}
