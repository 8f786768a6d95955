//! What a model's files must be: the repository and revision that they come from, and of each file its length and digest.
//! The first fetch of a repository pins what its listing says, and each later one must get the same.

use std::collections::BTreeMap;
use std::fmt;

use hex::FromHex as _;
use infera_types::ids::Digest;
use serde::{Deserialize, Serialize};

use crate::names::{NameError, check_model, check_path, check_repository};

/// The form of this document; a later program may read several.
const FORMAT: u32 = 1;

/// The digest by which a source names a file's content.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Published {
    /// The SHA-256 of the content.
    Sha256(Digest),
    /// Git's SHA-1 of the content as a blob, which is all that the Hub's listing says of small files. Once such a file is
    /// there, its SHA-256 takes this one's place.
    GitSha1(GitDigest),
}

/// Git's SHA-1 of a blob.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GitDigest(pub [u8; 20]);

impl GitDigest {
    /// Reads 40 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        <[u8; 20]>::from_hex(text).ok().map(Self)
    }
}

impl fmt::Display for Published {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => write!(formatter, "SHA-256 {digest}"),
            Self::GitSha1(digest) => write!(formatter, "Git's SHA-1 {}", hex::encode(digest.0)),
        }
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Debug for GitDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl Serialize for GitDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for GitDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no SHA-1"))
    }
}

/// The length and digest of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    #[serde(flatten)]
    pub digest: Published,
}

/// The pins of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    format: u32,
    /// The model's name, which is its folder's.
    pub name: String,
    /// The repository that it comes from.
    pub repository: String,
    /// The repository's commit.
    pub revision: String,
    /// The variants whose files are all pinned: `model`, `q4`.
    pub variants: Vec<String>,
    /// The pins by the files' paths within the repository and the folder.
    pub files: BTreeMap<String, Pin>,
}

/// Pins that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// It is no such document.
    #[error("these are no pins of a model: {0}")]
    Form(#[from] serde_json::Error),
    /// A later program wrote it.
    #[error("these pins are of format {0}, and format {FORMAT} is read; use a newer infera")]
    Newer(u32),
    /// A name in it can't be used.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Pins {
    /// Makes pins without files.
    #[must_use]
    pub fn new(name: &str, repository: &str, revision: &str) -> Self {
        Self {
            format: FORMAT,
            name: name.to_owned(),
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            variants: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    /// Reads the document and checks every name in it, because it may be a stranger's.
    ///
    /// # Errors
    /// [`PinsError`].
    pub fn parse(text: &[u8]) -> Result<Self, PinsError> {
        let pins: Self = serde_json::from_slice(text)?;
        if pins.format != FORMAT {
            return Err(PinsError::Newer(pins.format));
        }
        check_model(&pins.name)?;
        check_repository(&pins.repository)?;
        for path in pins.files.keys() {
            check_path(path)?;
        }
        Ok(pins)
    }

    /// Returns the document.
    #[must_use]
    pub fn document(&self) -> Vec<u8> {
        // Text with text for keys can always be written.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Records that all files of a variant are pinned.
    pub fn completes(&mut self, variant: &str) {
        if !self.variants.iter().any(|known| known == variant) {
            self.variants.push(variant.to_owned());
            self.variants.sort();
        }
    }

    /// Returns the bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, pin| sum.saturating_add(pin.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_as_they_were_written_and_evil_ones_are_not() {
        let mut pins = Pins::new("m", "o/M", "main");
        pins.completes("q4");
        pins.completes("q4");
        let sha = Published::Sha256(Digest::of(b"x"));
        pins.files.insert("config.json".to_owned(), Pin { bytes: 1, digest: sha });
        let git = Published::GitSha1(GitDigest([7; 20]));
        pins.files.insert("onnx/model.onnx".to_owned(), Pin { bytes: 2, digest: git });
        assert_eq!(Pins::parse(&pins.document()).expect("ours"), pins);
        let text = String::from_utf8(pins.document()).expect("text");
        assert!(
            text.contains("\"git_sha1\": \"0707") && text.contains("\"variants\": [\n    \"q4\"\n  ]"),
            "{text}"
        );
        for evil in [
            text.replace("onnx/model.onnx", "../model.onnx"),
            text.replace("\"m\"", "\"../m\""),
            text.replace("o/M", "o/../M"),
            text.replace("\"format\": 1", "\"format\": 2"),
            text.replace("0707", "07"),
            "{}".to_owned(),
        ] {
            assert!(Pins::parse(evil.as_bytes()).is_err(), "{evil}");
        }
    }
}
