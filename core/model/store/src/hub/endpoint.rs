//! The address of a Hub, and the token for it.

use infera_types::secret::Secret;
use url::{Host, Url};

use crate::names::{NameError, shown};

/// The endpoint if none is set.
pub const ENDPOINT: &str = "https://huggingface.co";

/// An endpoint that can't be used. The token is never quoted.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// It is no address.
    #[error("HF_ENDPOINT {0:?} is not of the form https://host or https://host/path")]
    Form(String),
    /// The token would be readable on its way.
    #[error(
        "HF_TOKEN isn't sent to {0} without TLS, where others could read it: use https:// in HF_ENDPOINT, or unset HF_TOKEN"
    )]
    TokenInClear(String),
    /// The token holds characters that no token has.
    #[error("HF_TOKEN holds characters that no token has")]
    Token,
    /// No client can be made.
    #[error("no client for {0}")]
    Client(String),
    /// The repository's name.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The address of a Hub, and the token for it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(super) url: Url,
    pub(super) token: Option<Secret>,
}

impl Endpoint {
    /// Reads the endpoint and token as the variables `HF_ENDPOINT` and `HF_TOKEN` give them; empty ones are none.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn new(endpoint: Option<&str>, token: Option<Secret>) -> Result<Self, EndpointError> {
        let text = endpoint.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(ENDPOINT);
        let form = || EndpointError::Form(shown(text));
        let url: Url = text.parse().map_err(|_| form())?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_plain {
            // The address may hold a password.
            let quoted = if is_plain { shown(text) } else { "(hidden)".to_owned() };
            return Err(EndpointError::Form(quoted));
        }
        let token = token.filter(|token| !token.expose().trim().is_empty());
        if token.is_some() && url.scheme() == "http" && !is_loopback(&url) {
            return Err(EndpointError::TokenInClear(url.to_string()));
        }
        Ok(Self { url, token })
    }

    /// Returns its address.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

/// Returns whether only this machine can read what is sent to `url`.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_by_tls_or_within_the_machine_alone() {
        let token = || Some(Secret::new("hf_x"));
        for fine in ["https://hub.example", "http://127.0.0.1:8", "http://localhost:8/hf", "http://[::1]:8"] {
            assert!(Endpoint::new(Some(fine), token()).is_ok(), "{fine}");
        }
        for open in
            ["http://hub.example", "http://127.0.0.1.example", "http://10.0.0.1", "http://localhost.example"]
        {
            assert!(
                matches!(Endpoint::new(Some(open), token()), Err(EndpointError::TokenInClear(_))),
                "{open}"
            );
            assert!(Endpoint::new(Some(open), Some(Secret::new(" "))).is_ok(), "{open} without a token");
        }
        assert_eq!(Endpoint::new(None, None).expect("the Hub").address(), ENDPOINT);
        assert_eq!(Endpoint::new(Some(" "), None).expect("the Hub").address(), ENDPOINT);
        for wrong in
            ["hub.example", "ftp://hub.example", "https://", "https://u:secret@hub.example", "https://h/?q"]
        {
            let told = Endpoint::new(Some(wrong), token()).expect_err("wrong").to_string();
            assert!(told.contains("HF_ENDPOINT") && !told.contains("secret"), "{told}");
        }
    }
}
