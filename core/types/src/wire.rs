//! Turns messages into bytes and back, in one of three versions.
//!
//! A message is one version byte and JSON behind it. In the third version the length of the JSON stands before it, and behind it
//! what answers are made of, tokens and numbers, in [`columns`](crate::columns). A message's kind travels beside it in the broker's envelope. A reader parks
//! messages of kinds and versions that it doesn't know (`broker::parking`), so that an older program doesn't lose what a
//! newer one sent. A message that can't be parked is counted and logged.
//!
//! Programs of two versions run beside each other during an upgrade. All versions are read. What announces a program (a
//! heartbeat, a summary of capacity, a job's notice) is written in the first, with the newest version that the program
//! reads in its field `speaks`. What is addressed to somebody who announced more is written in that.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::columns::{MalformedColumns, read_bytes, read_whole, write_whole};
use crate::envelope::Message;
use crate::unreadable::unreadable;

/// The size that no message may exceed: the broker refuses larger ones, and so do we before decoding.
pub const MESSAGE_SIZE_MAX_BYTES: usize = 1024 * 1024;

/// A version of all messages. A version that isn't known is newer, so announcements of it count as the newest that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "f64", into = "u8")]
pub enum Version {
    /// Without announcements; of programs before 0.1.0.
    #[default]
    First,
    /// With announcements, and with words of its own: a refusal as unsupported, a failure for invalid messages.
    Second,
    /// With tokens and numbers in columns.
    Third,
}

impl Version {
    /// The newest that this program reads and writes.
    pub const NEWEST: Self = Self::Third;

    /// The version byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::First => 1,
            Self::Second => 2,
            Self::Third => 3,
        }
    }

    /// Returns the version of a byte that stands before a message; none if this program doesn't read it.
    #[must_use]
    pub const fn of_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::First),
            2 => Some(Self::Second),
            3 => Some(Self::Third),
            _ => None,
        }
    }
}

impl From<f64> for Version {
    /// Returns the version that a number announces, however large: JSON's numbers are floating.
    fn from(announced: f64) -> Self {
        match announced {
            3.0.. => Self::Third,
            2.0.. => Self::Second,
            _ => Self::First,
        }
    }
}

impl From<Version> for u8 {
    fn from(version: Version) -> Self {
        version.byte()
    }
}

/// Why a message can't be used, and what to do with it.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The message is of another kind than expected: park it.
    #[error("expected a message of kind {expected}, got {found:?}")]
    Kind {
        /// The expected kind.
        expected: &'static str,
        /// The kind that was found.
        found: String,
    },
    /// The message comes from a newer program: park it.
    #[error("message version {0} is newer than {newest}, the newest that is read", newest = Version::NEWEST.byte())]
    Version(u8),
    /// The message is not what its kind promises, which is the sender's fault: count and drop it.
    #[error("malformed message: {0}")]
    Malformed(String),
}

impl DecodeError {
    /// Returns whether the message must be kept for a newer program instead of being dropped.
    #[must_use]
    pub const fn is_parked(&self) -> bool {
        matches!(self, Self::Kind { .. } | Self::Version(_))
    }
}

/// What of a value the third version has in columns; nothing of most.
pub trait Columned: Sized {
    /// Returns the same without what is in columns, and the columns; none where it has none.
    fn in_columns(&self) -> Option<(Self, Vec<u8>)> {
        None
    }

    /// Takes back from the beginning of `columns` what [`Columned::in_columns`] left out.
    ///
    /// # Errors
    /// [`MalformedColumns`].
    fn take_columns(&mut self, _columns: &mut &[u8]) -> Result<(), MalformedColumns> {
        Ok(())
    }
}

/// A value that crosses the broker.
pub trait Wire: Serialize + DeserializeOwned + Columned {
    /// The kind's word in the envelope.
    const KIND: &'static str;

    /// Returns the same in the first version's words; none where these are the same.
    fn in_first_version(&self) -> Option<Self> {
        None
    }

    /// Returns the message to publish under `id` (the same id at every retry), in the version that every program reads.
    fn to_message(&self, id: impl Into<String>) -> Message {
        self.to_message_in(Version::First, id)
    }

    /// Returns the message for readers that announced `version`.
    fn to_message_in(&self, version: Version, id: impl Into<String>) -> Message {
        let mut body = vec![version.byte()];
        // Writing our own plain values to memory can't fail; if it did, the receiver would report an empty body as
        // malformed.
        match version {
            Version::First => {
                let _ = serde_json::to_writer(&mut body, self.in_first_version().as_ref().unwrap_or(self));
            }
            Version::Second => {
                let _ = serde_json::to_writer(&mut body, self);
            }
            Version::Third => {
                let (rest, columns) = self.in_columns().unzip();
                let json = serde_json::to_vec(rest.as_ref().unwrap_or(self)).unwrap_or_default();
                write_whole(u64::try_from(json.len()).unwrap_or(u64::MAX), &mut body);
                body.extend(json);
                body.extend(columns.unwrap_or_default());
            }
        }
        Message {
            id: id.into(),
            kind: Self::KIND.to_owned(),
            body: Bytes::from(body),
            ttl_ms: None,
            trace: None,
        }
    }

    /// Returns the value in a message of any version.
    ///
    /// # Errors
    /// See [`DecodeError`]: kinds and versions we don't know are to be parked, malformed ones dropped and counted.
    fn from_message(message: &Message) -> Result<Self, DecodeError> {
        let parts = Parts::of(message, Self::KIND)?;
        let value = serde_json::from_slice(parts.json).map_err(malformed)?;
        parts.complete(value)
    }

    /// Returns the value in a message, and the names of fields in it that this program doesn't know, outermost first and
    /// joined by dots; at most [`UNKNOWN_FIELDS_MAX`] of them.
    ///
    /// # Errors
    /// As [`Wire::from_message`].
    fn from_message_with_unknown(message: &Message) -> Result<(Self, Vec<String>), DecodeError> {
        let mut unknown = Vec::new();
        let parts = Parts::of(message, Self::KIND)?;
        let mut json = serde_json::Deserializer::from_slice(parts.json);
        let value = serde_ignored::deserialize(&mut json, |path| {
            if unknown.len() < UNKNOWN_FIELDS_MAX {
                unknown.push(path.to_string());
            }
        });
        let value = value.map_err(malformed)?;
        json.end().map_err(malformed)?;
        Ok((parts.complete(value)?, unknown))
    }
}

/// How many unknown fields of one message are named: more don't fit into a log's line.
pub const UNKNOWN_FIELDS_MAX: usize = 8;

fn malformed(error: serde_json::Error) -> DecodeError {
    DecodeError::Malformed(unreadable(&error))
}

/// What a message consists of.
struct Parts<'message> {
    json: &'message [u8],
    /// The columns; none in versions without.
    columns: Option<&'message [u8]>,
}

impl<'message> Parts<'message> {
    /// Returns the parts of a message of this kind, in any version.
    fn of(message: &'message Message, kind: &'static str) -> Result<Self, DecodeError> {
        if message.kind != kind {
            return Err(DecodeError::Kind { expected: kind, found: message.kind.clone() });
        }
        if message.body.len() > MESSAGE_SIZE_MAX_BYTES {
            return Err(DecodeError::Malformed(format!("{} bytes is over the limit", message.body.len())));
        }
        let (byte, mut rest) =
            message.body.split_first().ok_or_else(|| DecodeError::Malformed("empty".to_owned()))?;
        match Version::of_byte(*byte) {
            Some(Version::First | Version::Second) => Ok(Self { json: rest, columns: None }),
            Some(Version::Third) => {
                let length = read_whole(&mut rest).map_err(malformed_columns)?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let json = read_bytes(length, &mut rest).map_err(malformed_columns)?;
                Ok(Self { json, columns: Some(rest) })
            }
            None => Err(DecodeError::Version(*byte)),
        }
    }

    /// Returns the value that the JSON is, with what is in the columns.
    fn complete<W: Wire>(&self, mut value: W) -> Result<W, DecodeError> {
        if let Some(mut columns) = self.columns {
            value.take_columns(&mut columns).map_err(malformed_columns)?;
            if !columns.is_empty() {
                return Err(DecodeError::Malformed(format!(
                    "{} bytes stand behind its columns",
                    columns.len()
                )));
            }
        }
        Ok(value)
    }
}

fn malformed_columns(error: MalformedColumns) -> DecodeError {
    DecodeError::Malformed(error.to_string())
}
