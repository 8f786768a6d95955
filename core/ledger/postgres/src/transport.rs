//! Decides how bytes get to the database: in plain text, or over TLS with the server's certificate checked. The
//! decision is a pure function of the URL and the settings; there is no third way that encrypts without checking the
//! server.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use infera_ledger::LedgerError;

/// How connections are made, and over which transport. Cheap to clone.
#[derive(Clone)]
pub(super) struct Transport {
    pub(super) connections: tokio_postgres::Config,
    /// The TLS connector; none for plain text.
    pub(super) connector: Option<MakeRustlsConnect>,
}

impl fmt::Debug for Transport {
    /// Leaves out the settings, because they hold a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Transport").field("is_tls", &self.connector.is_some()).finish_non_exhaustive()
    }
}

/// Replaces the word `verify-full` in the URL, which the client library doesn't know: other clients use it for the
/// only kind of TLS that exists here. The library knows `require`, and checks certificates because our connector
/// does.
pub(super) fn known_words(url: &str) -> String {
    url.replace("sslmode=verify-full", "sslmode=require")
}

impl Transport {
    /// Makes the transport that the settings ask for, if that is acceptable.
    pub(super) fn new(
        connections: tokio_postgres::Config,
        ca_file: Option<&Path>,
    ) -> Result<Self, LedgerError> {
        let mode = connections.get_ssl_mode();
        let is_near = is_loopback(connections.get_hosts(), connections.get_hostaddrs());
        let protection = decide(mode, is_near, ca_file.is_some())
            .map_err(|problem| LedgerError::Refused(problem.to_owned()))?;
        if protection == Protection::None {
            if !is_near {
                tracing::warn!(
                    "the connection to the database is in plain text (sslmode=disable): others on the network can read it"
                );
            }
            let mut connections = connections;
            connections.ssl_mode(SslMode::Disable);
            return Ok(Self { connections, connector: None });
        }
        let client = infera_tls::client(ca_file).map_err(|error| LedgerError::Refused(error.to_string()))?;
        let mut connections = connections;
        connections.ssl_mode(SslMode::Require);
        Ok(Self { connections, connector: Some(MakeRustlsConnect::new(client)) })
    }
}

/// The protection of a connection to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    None,
    Tls,
}

/// Decides the protection. `mode` is the URL's word, `Prefer` if it has none. `prefer` in the sense of libpq is not
/// offered, because an attacker on the network can turn it into plain text. So a remote database without a word in
/// its URL is refused instead of warned about: the password and every prompt would have crossed the network before
/// anybody reads a log.
fn decide(mode: SslMode, is_near: bool, has_authority: bool) -> Result<Protection, &'static str> {
    match mode {
        SslMode::Disable if has_authority => {
            Err("the database's URL says sslmode=disable, but there is a ca_file: remove one of them")
        }
        SslMode::Disable => Ok(Protection::None),
        SslMode::Prefer if has_authority => Ok(Protection::Tls),
        SslMode::Prefer if is_near => Ok(Protection::None),
        SslMode::Prefer => Err(
            "the database is on another machine and its URL says nothing about TLS: add sslmode=verify-full, and a \
                 ca_file if its authority is not one of the system's (or sslmode=disable if nobody else is on that \
                 network)",
        ),
        _ => Ok(Protection::Tls),
    }
}

/// Returns whether the connection stays on this machine. Of names only `localhost` counts.
fn is_loopback(hosts: &[Host], addresses: &[IpAddr]) -> bool {
    if !addresses.is_empty() {
        return addresses.iter().all(IpAddr::is_loopback);
    }
    hosts.iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what a URL means, with or without a CA file.
    fn protection(url: &str, has_authority: bool) -> Option<Protection> {
        let settings: tokio_postgres::Config = known_words(url).parse().expect(url);
        let is_near = is_loopback(settings.get_hosts(), settings.get_hostaddrs());
        decide(settings.get_ssl_mode(), is_near, has_authority).ok()
    }

    #[test]
    fn plain_text_leaves_the_machine_only_by_the_operators_word() {
        use Protection::{None as Plain, Tls};
        for (url, without, with) in [
            ("postgres://u:p@127.0.0.1:5432/d", Some(Plain), Some(Tls)),
            ("postgres://u:p@[::1]/d", Some(Plain), Some(Tls)),
            ("postgres://u:p@localhost/d", Some(Plain), Some(Tls)),
            ("host=/run/postgresql user=u", Some(Plain), Some(Tls)),
            ("postgres://u:p@database/d", None, Some(Tls)),
            ("postgres://u:p@10.0.0.1/d", None, Some(Tls)),
            ("postgres://u:p@database/d?sslmode=prefer", None, Some(Tls)),
            ("postgres://u:p@localhost,database/d", None, Some(Tls)),
            // A name that claims to be local with an address that is not, and the other way round.
            ("postgres://u:p@localhost/d?hostaddr=10.0.0.1", None, Some(Tls)),
            ("postgres://u:p@database/d?hostaddr=127.0.0.1", Some(Plain), Some(Tls)),
            ("postgres://u:p@database/d?sslmode=disable", Some(Plain), None),
            ("postgres://u:p@localhost/d?sslmode=disable", Some(Plain), None),
            ("postgres://u:p@database/d?sslmode=require", Some(Tls), Some(Tls)),
            ("postgres://u:p@localhost/d?sslmode=verify-full", Some(Tls), Some(Tls)),
            ("host=database user=u sslmode=verify-full", Some(Tls), Some(Tls)),
        ] {
            assert_eq!(protection(url, false), without, "{url}, no ca_file");
            assert_eq!(protection(url, true), with, "{url}, with ca_file");
        }
    }
}
