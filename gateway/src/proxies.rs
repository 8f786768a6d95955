//! Names the proxies that are believed when they tell their clients' addresses, and reads what they tell. A stranger's
//! headers are not read: they could name any address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Lists the networks of proxies that are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrustedProxies(Vec<Proxy>);

/// Is one address, or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Proxy(IpNet);

/// Says how trusted proxies tell their clients' addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAddress {
    /// They write the header `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// They write the header `Forwarded` (RFC 7239).
    Forwarded,
    /// They begin each connection with a header of the PROXY protocol, version 1 or 2.
    ProxyProtocol,
}

impl TryFrom<String> for Proxy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse().map(|address: IpAddr| IpNet::from(address)));
        network.map(Self).map_err(|_| {
            format!("{text:?} is neither an address nor a network, such as 192.0.2.1 or 10.0.0.0/8")
        })
    }
}

impl From<Proxy> for String {
    fn from(proxy: Proxy) -> Self {
        proxy.0.to_string()
    }
}

impl fmt::Display for ClientAddress {
    /// Writes it as settings have it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::ProxyProtocol => "proxy-protocol",
        })
    }
}

impl TrustedProxies {
    /// Returns whether the address is one of theirs.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|proxy| proxy.0.contains(&address))
    }

    /// Returns whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the client's address of a request that came over a connection of the trusted `proxy`: the first that isn't
    /// a trusted proxy's, read from the right, where the last proxy wrote. An element that can't be read ends the search
    /// with the address of the proxy that wrote it.
    #[must_use]
    pub fn client(&self, proxy: IpAddr, from: ClientAddress, headers: &HeaderMap) -> IpAddr {
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
                if !self.contains(last) {
                    return last;
                }
            }
        }
        last
    }
}

/// Reads `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:80`.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

/// Reads the address of `for=` in one element, such as `for="[2001:db8::1]:80";proto=https`. A quoted comma splits an
/// element in two that can't be read; no address has one.
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

    fn trusted(networks: &[&str]) -> TrustedProxies {
        let read = |text: &&str| Proxy::try_from((*text).to_owned()).unwrap();
        TrustedProxies(networks.iter().map(read).collect())
    }

    fn client(from: ClientAddress, lines: &[&str]) -> String {
        let name = if from == ClientAddress::Forwarded { "forwarded" } else { "x-forwarded-for" };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        let proxies = trusted(&["10.0.0.0/8", "2001:db8:ffff::/48"]);
        proxies.client("10.0.0.1".parse().unwrap(), from, &headers).to_string()
    }

    #[test]
    fn networks_and_single_addresses_are_known() {
        let proxies = trusted(&["10.0.0.5/8", "192.0.2.1", "2001:db8::/32"]);
        for (address, expected) in [
            ("10.255.0.1", true),
            ("::ffff:10.1.2.3", true),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(proxies.contains(address.parse().unwrap()), expected, "{address}");
        }
        for text in ["", "10.0.0.0/33", "proxy.example", "10.0.0"] {
            assert!(Proxy::try_from(text.to_owned()).unwrap_err().contains("10.0.0.0/8"), "{text}");
        }
    }

    #[test]
    fn the_first_address_from_the_right_that_is_no_proxy_is_the_client() {
        let table: [(&[&str], &str); 13] = [
            (&[], "10.0.0.1"),
            (&["203.0.113.7"], "203.0.113.7"),
            // What a client wrote itself stands further to the left.
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
