//! The settings of mail, with the reason of each default, and the checks on them. They are only values.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use infera_types::secret::Secret;
use serde::{Deserialize, Serialize};

/// How the connection to the mail server is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// The connection begins in plain text and must become TLS before anything else is said (RFC 3207).
    #[default]
    StartTls,
    /// The connection is TLS from its first byte (RFC 8314).
    Tls,
    /// The connection stays in plain text. It is for servers on this machine alone.
    None,
}

/// The settings of mail. Without `host` no mail is sent, and routes that would need one say so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailConfig {
    /// The mail server's name or address. Empty by default: no mail is sent.
    pub host: String,
    /// The mail server's port; none: 587 with `starttls`, 465 with `tls`, 25 with `none`, as registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is secured: `starttls`, `tls` or `none`. The default is what submission servers offer most.
    pub security: Security,
    /// The address that mails come from, such as `Infera <no-reply@infera.example>`.
    pub from: String,
    /// The name to log in by; empty: no login.
    pub user: String,
    /// The password to log in by. It is hidden; the variable `INFERA_MAIL__PASSWORD_FILE` names a file that has it.
    pub password: Secret,
    /// A PEM file of CAs that may vouch for the mail server, beside the system's; none: the system's alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The address of this network's gateways as people reach it, such as `https://infera.example`. Links in mails begin
    /// with it. It is a setting, because a request's own `Host` is whatever its sender writes.
    pub public_url: String,
    /// How long handing one letter over may take, in milliseconds, from connecting to the server's last answer. Servers
    /// that look a sender up, or hold strangers up on purpose, take ten seconds and more.
    pub timeout_ms: u64,
    /// The pause before a letter is tried again, in milliseconds. It doubles with each try, up to half an hour. Half a
    /// minute outlasts a server's restart, and a letter that was put off on purpose (greylisting) comes within minutes.
    pub retry_ms: u64,
    /// How long a code that proves an address is valid, in milliseconds. People read their mail within a day.
    pub proof_life_ms: u64,
    /// How long a code for a lost key is valid, in milliseconds. The person waits for it; an hour outlasts slow servers,
    /// and a mailbox that is read by others later opens no account.
    pub recovery_life_ms: u64,
    /// The largest number of mails of one kind that are asked for within an hour, by all clients together; those that had no
    /// one to go to don't count. Beyond it none is sent. A thousand are more than a network has newcomers, and fewer than make
    /// mail servers distrust it. Proofs and recoveries are counted apart, here and in the next two, so that no sign-ups keep an
    /// account from getting a new key.
    pub per_hour_max: u32,
    /// The largest number of mails of one kind to one address within an hour, so that a stranger's mailbox is not filled.
    pub per_address_hour_max: u32,
    /// The largest number of mails of one kind that clients of one network of addresses (IPv4 /24, IPv6 /48) ask for within an hour.
    /// Thirty serve a classroom.
    pub per_network_hour_max: u32,
}

impl Default for MailConfig {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: None,
            security: Security::default(),
            from: String::new(),
            user: String::new(),
            password: Secret::default(),
            ca_file: None,
            public_url: String::new(),
            timeout_ms: 30_000,
            retry_ms: 30_000,
            proof_life_ms: 24 * 60 * 60 * 1_000,
            recovery_life_ms: 60 * 60 * 1_000,
            per_hour_max: 1_000,
            per_address_hour_max: 3,
            per_network_hour_max: 30,
        }
    }
}

/// A mistake in the settings, which the operator has to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailMistake {
    /// Settings of a mail server whose name is missing.
    #[error(
        "mail.host is empty and other settings of mail are not: name the mail server, or leave all of them out"
    )]
    NoHost,
    /// The sender's address is missing.
    #[error(
        "mail.from is no address: name the one that mails come from, such as \"Infera <no-reply@infera.example>\""
    )]
    NoFrom,
    /// The address for links is missing or can't be one.
    #[error(
        "mail.public_url must be the address by which people reach the gateways, such as \"https://infera.example\"; \
         http:// is for this machine alone (127.0.0.1, [::1], localhost)"
    )]
    NoUrl,
    /// Half of a login.
    #[error(
        "mail.user and mail.password are set together, or neither is (INFERA_MAIL__PASSWORD_FILE names a file)"
    )]
    HalfALogin,
    /// Plain text to another machine.
    #[error(
        "mail.security = \"none\" is for a mail server on this machine (127.0.0.1, ::1, localhost): choose \"starttls\" \
         or \"tls\""
    )]
    Clear,
    /// A number is out of range.
    #[error("mail.{setting} must be between {least} and {most}")]
    OutOfRange {
        /// The setting's name.
        setting: &'static str,
        /// The smallest value that is allowed.
        least: u64,
        /// The largest value that is allowed.
        most: u64,
    },
}

/// All mistakes in the settings, one sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailMistakes(pub Vec<MailMistake>);

impl fmt::Display for MailMistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&all.join("; "))
    }
}

impl std::error::Error for MailMistakes {}

/// A year: a code that lives longer would be a password.
const LIFE_MAX_MS: u64 = 365 * 86_400_000;

impl MailConfig {
    /// Returns whether mail is sent.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.host.is_empty()
    }

    /// Checks that each setting can be used and that they fit together. Files are not read.
    ///
    /// # Errors
    /// All [`MailMistakes`] at once.
    pub fn check(&self) -> Result<(), MailMistakes> {
        let mistakes = self.mistakes();
        if mistakes.is_empty() { Ok(()) } else { Err(MailMistakes(mistakes)) }
    }

    fn mistakes(&self) -> Vec<MailMistake> {
        if !self.is_on() {
            let is_untouched = *self == Self::default();
            return if is_untouched { Vec::new() } else { vec![MailMistake::NoHost] };
        }
        let mut mistakes = Vec::new();
        if !is_address(&self.from) {
            mistakes.push(MailMistake::NoFrom);
        }
        if !is_public_url(&self.public_url) {
            mistakes.push(MailMistake::NoUrl);
        }
        if self.user.is_empty() != self.password.expose().is_empty() {
            mistakes.push(MailMistake::HalfALogin);
        }
        if self.security == Security::None && !is_here(&self.host) {
            mistakes.push(MailMistake::Clear);
        }
        let ranges = [
            ("timeout_ms", self.timeout_ms, 100, 120_000),
            ("retry_ms", self.retry_ms, 50, 600_000),
            ("proof_life_ms", self.proof_life_ms, 1_000, LIFE_MAX_MS),
            ("recovery_life_ms", self.recovery_life_ms, 1_000, LIFE_MAX_MS),
            ("per_hour_max", self.per_hour_max.into(), 1, 1_000_000),
            ("per_address_hour_max", self.per_address_hour_max.into(), 1, 1_000),
            ("per_network_hour_max", self.per_network_hour_max.into(), 1, 1_000_000),
        ];
        mistakes.extend(
            ranges
                .into_iter()
                .filter(|(_, value, least, most)| !(least..=most).contains(&value))
                .map(|(setting, _, least, most)| MailMistake::OutOfRange { setting, least, most }),
        );
        mistakes
    }

    /// Returns the port, by default the one that is registered for the way of securing.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.security {
            Security::StartTls => 587,
            Security::Tls => 465,
            Security::None => 25,
        })
    }

    /// Returns how long handing one letter over may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// Returns whether a text may be a sender's address. The mail library reads it for good.
fn is_address(text: &str) -> bool {
    text.contains('@') && text.is_ascii() && !text.contains(|character: char| character.is_ascii_control())
}

/// Returns whether a host is this machine.
fn is_here(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns whether links may begin with this text.
fn is_public_url(url: &str) -> bool {
    let is_plain = |rest: &str| {
        !rest.is_empty()
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\"'<>\\".contains(&byte))
            && !rest.starts_with('/')
    };
    if let Some(rest) = url.strip_prefix("https://") {
        return is_plain(rest);
    }
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { authority }
    });
    is_plain(rest) && is_here(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> MailConfig {
        MailConfig {
            host: "mail.example.org".to_owned(),
            from: "Infera <no-reply@infera.example>".to_owned(),
            public_url: "https://infera.example".to_owned(),
            ..MailConfig::default()
        }
    }

    #[test]
    fn off_by_default_and_sound_when_set() {
        assert!(!MailConfig::default().is_on());
        assert_eq!(MailConfig::default().check(), Ok(()));
        assert_eq!(sound().check(), Ok(()));
        let here = MailConfig { host: "127.0.0.1".to_owned(), security: Security::None, ..sound() };
        assert_eq!((here.check(), here.port()), (Ok(()), 25));
        assert_eq!(sound().port(), 587);
    }

    #[test]
    fn each_mistake_is_told_in_a_sentence() {
        let half = MailConfig { user: "infera".to_owned(), ..sound() };
        let table = [
            (MailConfig { host: String::new(), ..sound() }, "mail.host is empty"),
            (MailConfig { from: "nobody".to_owned(), ..sound() }, "mail.from is no address"),
            (MailConfig { from: "a@b.co\r\nBcc: c@d.co".to_owned(), ..sound() }, "mail.from is no address"),
            (half, "mail.user and mail.password are set together"),
            (MailConfig { security: Security::None, ..sound() }, "mail.security = \"none\" is for"),
            (MailConfig { timeout_ms: 0, ..sound() }, "mail.timeout_ms must be between 100 and 120000"),
            (MailConfig { per_hour_max: 0, ..sound() }, "mail.per_hour_max must be between 1 and"),
        ];
        for (config, expected) in table {
            let told = config.check().unwrap_err().to_string();
            assert!(told.starts_with(expected), "{told}");
        }
        for url in [
            "",
            "infera.example",
            "ftp://infera.example",
            "http://infera.example",
            "http://127.0.0.1.example",
            "https://",
            "https:///x",
            "https://a b",
            "https://infera.example?x",
            "https://you@infera.example",
        ] {
            let config = MailConfig { public_url: url.to_owned(), ..sound() };
            assert_eq!(config.check(), Err(MailMistakes(vec![MailMistake::NoUrl])), "{url}");
        }
        for url in [
            "http://127.0.0.1:8710",
            "http://localhost",
            "http://[::1]:8710/infera",
            "https://a.example:1/b/",
        ] {
            assert_eq!(MailConfig { public_url: url.to_owned(), ..sound() }.check(), Ok(()), "{url}");
        }
        let several = MailConfig { from: String::new(), retry_ms: 1, ..sound() };
        assert_eq!(several.mistakes().len(), 2, "all at once");
    }

    #[test]
    fn the_password_is_never_shown() {
        let config = MailConfig { password: Secret::new("hush"), ..sound() };
        assert!(!format!("{config:?}").contains("hush"));
    }
}
