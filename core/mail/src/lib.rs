//! The seam to a mail server: handing it one letter. The settings are here too (`config`), because a gateway needs some of
//! them and an implementation the others. What letters say, and when one is sent, is the gateway's.
//!
//! A network without a mail server sends no mail and says so. There is no implementation that only pretends.

mod config;

use std::fmt;

use async_trait::async_trait;

pub use config::{MailConfig, MailMistake, MailMistakes, Security};

/// A letter to one address. It is plain text in ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The id that stands in `Message-ID`, before the `@`. A letter that is sent again has the same one.
    pub id: String,
    /// The one address that it goes to.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The text, in lines of fewer than 900 characters.
    pub text: String,
}

/// Why a letter was not handed over. No text names the address that the letter was for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// The server is away, slow, not trusted, or refuses everybody: the operator's trouble. Another try may succeed. If the
    /// server's last answer was lost, it may have taken the letter.
    #[error("{0}")]
    Away(String),
    /// The server refuses this letter for good, by an answer with this code. Another try is useless.
    #[error("the server refuses the letter for good ({0})")]
    Refused(String),
    /// The letter can't be written: its address is none, or would begin another header. Another try is useless.
    #[error("the letter can't be written: {0}")]
    Unwritable(String),
}

/// Hands letters to a mail server.
#[async_trait]
pub trait Mailer: Send + Sync + fmt::Debug {
    /// Hands a letter over and returns once the server has answered for it, within the time that the settings give. Nothing
    /// of the letter, and no password, is sent before the connection is as secure as the settings demand, and to no other
    /// server than the one that they name. An address that could begin another header or another command is refused.
    /// Several calls at once are independent of each other.
    ///
    /// # Errors
    /// [`MailError`].
    async fn send(&self, letter: &Letter) -> Result<(), MailError>;
}
