//! The proxies that are trusted, and the way in which they tell their clients' addresses.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The networks of the proxies that are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrustedProxies(Vec<Proxy>);

/// One address or network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Proxy(IpNet);

/// The way in which trusted proxies tell their clients' addresses.
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
    /// Writes the name that settings use.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::ProxyProtocol => "proxy-protocol",
        })
    }
}

impl TrustedProxies {
    /// Returns whether the address belongs to a trusted proxy.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|proxy| proxy.0.contains(&address))
    }

    /// Returns whether no proxy is trusted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(networks: &[&str]) -> TrustedProxies {
        let read = |text: &&str| Proxy::try_from((*text).to_owned()).unwrap();
        TrustedProxies(networks.iter().map(read).collect())
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
}
