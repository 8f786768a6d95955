//! The names of hosts in the settings.

use serde::{Deserialize, Serialize};

/// A host name or an address, as it stands in a URL, without a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HostName(String);

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[:]".contains(&byte);
        let name = text.to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(is_fit) || Self::bare(&name) != name {
            return Err(format!(
                "{text:?} is no host name; give it without scheme, port and path, such as infera.example"
            ));
        }
        Ok(Self(name))
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl HostName {
    /// Returns whether this is the host `name`, which must be in lower case and without a port.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.0 == name
    }

    /// Returns a host without its port and without the final dot of a full name.
    pub(crate) fn bare(host: &str) -> &str {
        let name = match host.rfind(':') {
            Some(colon) if !host[colon..].contains(']') => &host[..colon],
            _ => host,
        };
        name.strip_suffix('.').unwrap_or(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_hold_names_alone() {
        for text in ["", "https://a.example", "a.example:80", "a.example/x", "a b", "a.example."] {
            assert!(HostName::try_from(text.to_owned()).unwrap_err().contains("without scheme"), "{text:?}");
        }
        assert_eq!(String::from(HostName::try_from("A.Example".to_owned()).unwrap()), "a.example");
    }
}
