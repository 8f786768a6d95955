//! The address on which a server listens, as an operator writes it: an IP address or a host name, with a port.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, lookup_host};

/// An address to listen on: `127.0.0.1:8710`, `[::1]:8710`, or a name such as `localhost:8710`, which is resolved
/// when the server starts. The server listens on one of a name's addresses, the first IPv4 address if there is any,
/// because clients that use the name try that first or second. The log says which address it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenAddress {
    /// The host, without the brackets of IPv6.
    host: String,
    port: u16,
}

/// The error for a text that is not an address to listen on; the operator has to correct it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address to listen on; write an address and a port such as 127.0.0.1:8710 or [::1]:8710, a name and a \
     port such as localhost:8710, or 0.0.0.0:8710 for every network of this machine"
)]
pub struct NoListenAddress(String);

impl ListenAddress {
    /// Listens on the address.
    ///
    /// # Errors
    /// The name cannot be resolved, or the operating system refuses the address.
    pub async fn bind(&self) -> io::Result<TcpListener> {
        let found: Vec<SocketAddr> = lookup_host((self.host.as_str(), self.port)).await?.collect();
        let chosen = found.iter().find(|address| address.is_ipv4()).or_else(|| found.first());
        let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        TcpListener::bind(chosen.ok_or_else(none)?).await
    }
}

impl FromStr for ListenAddress {
    type Err = NoListenAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let wrong = || NoListenAddress(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        // Digits and dots alone are a mistyped address, which some resolvers would interpret in their own way.
        let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            && host.bytes().any(|byte| byte.is_ascii_alphabetic());
        match port.parse() {
            Ok(port) if is_name => Ok(Self { host: host.to_owned(), port }),
            _ => Err(wrong()),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        // Formatted by the address itself, so that the zone of IPv6 is kept.
        let text = address.to_string();
        let host = text.rsplit_once(':').map_or("", |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self { host, port: address.port() }
    }
}

impl From<([u8; 4], u16)> for ListenAddress {
    fn from(address: ([u8; 4], u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = NoListenAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}")
        } else {
            write!(formatter, "{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_taken_and_written_as_they_came() {
        for text in
            ["127.0.0.1:8710", "0.0.0.0:0", "[::1]:8710", "[::]:80", "localhost:8710", "a-b.example:65535"]
        {
            assert_eq!(text.parse::<ListenAddress>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(ListenAddress::from(([127, 0, 0, 1], 8710)).to_string(), "127.0.0.1:8710");
    }

    #[test]
    fn what_is_neither_is_told_with_an_example() {
        for text in [
            "",
            "8710",
            ":8710",
            "localhost",
            "localhost:",
            "localhost:x",
            "localhost:70000",
            "127.0.0:80",
            "256.0.0.1:80",
            "::1:80",
            "[::1]",
            "http://localhost:80",
            "local host:80",
            "localhost:80/",
            "a:-1",
        ] {
            let error = text.parse::<ListenAddress>().expect_err(text).to_string();
            assert!(error.contains(&format!("{text:?}")) && error.contains("localhost:8710"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_when_it_is_bound() {
        let address: ListenAddress = "localhost:0".parse().unwrap();
        assert!(address.bind().await.unwrap().local_addr().unwrap().ip().is_loopback());
        let unknown: ListenAddress = "no-such-host.invalid:0".parse().unwrap();
        assert!(unknown.bind().await.is_err());
        // The server listens on the first address, even if another address of the name would be free.
        let taken = address.bind().await.unwrap().local_addr().unwrap();
        let holder = TcpListener::bind(taken).await.unwrap();
        let again: ListenAddress = format!("localhost:{}", taken.port()).parse().unwrap();
        assert_eq!(again.bind().await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(holder);
    }
}
