//! Turns an answer's tokens into text as they come. A character may be spelled by several tokens, and a tokenizer's text
//! of one token may depend on its neighbours: a piece of text is given out when no later token can change it.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;
use tokenizers::Tokenizer;

use infera_types::numbers::TokenId;

/// How a tokenizer spells text, as far as it decides when a token's text is final.
#[derive(Debug)]
pub(super) struct Decoding {
    kind: Kind,
    special: HashSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Every token stands for bytes, each of which is written as a letter.
    ByteLevel,
    /// Tokens stand for text; bytes that have no other spelling have tokens such as `<0xE2>`, if there are any.
    Pieces { bytes: bool },
}

impl Decoding {
    /// Reads how a tokenizer decodes.
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let decoder = serde_json::to_value(tokenizer.get_decoder()).unwrap_or_default();
        let kind = if decoder["type"] == "ByteLevel" {
            Kind::ByteLevel
        } else {
            Kind::Pieces { bytes: mentions_byte_fallback(&decoder) }
        };
        let added = tokenizer.get_added_tokens_decoder();
        let special = added.into_values().filter(|token| token.special).map(|token| token.content);
        Self { kind, special: special.collect() }
    }
}

fn mentions_byte_fallback(decoder: &Value) -> bool {
    decoder["type"] == "ByteFallback"
        || decoder["decoders"].as_array().is_some_and(|inner| inner.iter().any(mentions_byte_fallback))
}

/// The tokenizer failed on tokens that it has. It will fail again.
#[derive(Debug, thiserror::Error)]
#[error("the tokenizer failed: {0}")]
pub struct Undecodable(pub(super) String);

/// The text of an answer that is still being written. Special tokens have no text. It shares the model's tokenizer.
#[derive(Debug)]
pub struct TextStream {
    tokenizer: Arc<Tokenizer>,
    decoding: Arc<Decoding>,
    /// The bytes that don't make a whole character yet.
    bytes: Vec<u8>,
    /// The last token whose text was given out, and all since.
    window: Vec<TokenId>,
    /// The text of the window's first token alone.
    told: String,
}

impl TextStream {
    pub(super) fn new(tokenizer: Arc<Tokenizer>, decoding: Arc<Decoding>) -> Self {
        Self { tokenizer, decoding, bytes: Vec::new(), window: Vec::new(), told: String::new() }
    }

    /// Adds the next token, and returns the text that is final now; often it is empty.
    ///
    /// # Errors
    /// [`Undecodable`].
    pub fn push(&mut self, token: TokenId) -> Result<String, Undecodable> {
        let Some(spelled) = self.tokenizer.id_to_token(token) else { return Ok(String::new()) };
        if self.decoding.special.contains(&spelled) {
            return Ok(String::new());
        }
        match self.decoding.kind {
            Kind::ByteLevel => {
                add_bytes(&spelled, &mut self.bytes);
                let rest = self.bytes.split_off(settled(&self.bytes));
                let whole = std::mem::replace(&mut self.bytes, rest);
                Ok(String::from_utf8_lossy(&whole).into_owned())
            }
            Kind::Pieces { bytes } => {
                self.window.push(token);
                // Whether bytes in a row are a text shows when the row ends.
                if bytes && is_byte(&spelled) {
                    return Ok(String::new());
                }
                let text = self.untold()?;
                self.told = self.decoded(&[token])?;
                self.window = vec![token];
                Ok(text)
            }
        }
    }

    /// Returns the rest of the text; what is left of an unfinished character is written as U+FFFD.
    ///
    /// # Errors
    /// [`Undecodable`].
    pub fn finish(self) -> Result<String, Undecodable> {
        match self.decoding.kind {
            Kind::ByteLevel => Ok(String::from_utf8_lossy(&self.bytes).into_owned()),
            Kind::Pieces { .. } => self.untold(),
        }
    }

    /// Returns the window's text after that of its first token, which was given out before.
    fn untold(&self) -> Result<String, Undecodable> {
        let text = self.decoded(&self.window)?;
        Ok(text.strip_prefix(&self.told).unwrap_or(&text).to_owned())
    }

    fn decoded(&self, tokens: &[TokenId]) -> Result<String, Undecodable> {
        self.tokenizer.decode(tokens, true).map_err(|error| Undecodable(error.to_string()))
    }
}

/// Returns whether a token stands for one byte.
fn is_byte(spelled: &str) -> bool {
    the_byte(spelled).is_some()
}

/// Returns the byte that a token such as `<0xE2>` stands for.
fn the_byte(spelled: &str) -> Option<u8> {
    let digits = spelled.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.filter(|digits| digits.len() == 2).and_then(|digits| u8::from_str_radix(digits, 16).ok())
}

/// Returns the bytes that a token stands for, wherever it is in a text: unlike at the beginning of one, no space is left out.
pub(super) fn bytes_of(tokenizer: &Tokenizer, decoding: &Decoding, token: TokenId) -> Option<Vec<u8>> {
    /// What tokenizers of pieces write for a space.
    const SPACE: char = '\u{2581}';
    let spelled = tokenizer.id_to_token(token)?;
    if decoding.special.contains(&spelled) {
        return Some(spelled.into_bytes());
    }
    Some(match decoding.kind {
        Kind::ByteLevel => {
            let mut bytes = Vec::new();
            add_bytes(&spelled, &mut bytes);
            bytes
        }
        Kind::Pieces { bytes } => match the_byte(&spelled).filter(|_| bytes) {
            Some(byte) => vec![byte],
            None => spelled.replace(SPACE, " ").into_bytes(),
        },
    })
}

/// Adds the bytes of a byte-level token. One with any other letter was added to the tokenizer as it is.
fn add_bytes(spelled: &str, bytes: &mut Vec<u8>) {
    match spelled.chars().map(byte_of).collect::<Option<Vec<u8>>>() {
        Some(spelled) => bytes.extend(spelled),
        None => bytes.extend(spelled.as_bytes()),
    }
}

/// Returns the byte that byte-level tokenizers write as this letter: visible letters of Latin-1 stand for themselves, the
/// letters from U+0100 on for all other bytes in their order.
fn byte_of(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// Returns how many of the bytes later ones can't change: all but the beginning of a character at their end.
fn settled(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Err(error) = std::str::from_utf8(&bytes[at..]) {
        at += error.valid_up_to();
        match error.error_len() {
            Some(wrong) => at += wrong,
            None => return at,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn every_byte_has_its_letter() {
        let alphabet = ByteLevel::alphabet();
        let bytes: HashSet<u8> = alphabet.iter().filter_map(|letter| byte_of(*letter)).collect();
        assert_eq!((alphabet.len(), bytes.len()), (256, 256));
        for (letter, byte) in [('a', b'a'), ('Ġ', b' '), ('Ċ', b'\n'), ('ł', 0xA0), ('Ń', 0xAD), ('ÿ', 0xFF)]
        {
            assert_eq!(byte_of(letter), Some(byte), "{letter}");
        }
        assert_eq!((byte_of('\u{144}'), byte_of(' '), byte_of('東')), (None, None, None));
    }

    #[test]
    fn only_the_beginning_of_a_character_is_kept_back() {
        for (bytes, whole) in [
            (&b""[..], 0),
            (b"ab", 2),
            (b"a\xE2\x82", 1),
            (b"a\xE2\x82\xAC", 4),
            (b"\xFF\xE2", 1),
            (b"\xE2\xE2\x82", 1),
            (b"\x80\x80", 2),
            (b"\xF0\x9F\x98", 0),
        ] {
            assert_eq!(settled(bytes), whole, "{bytes:?}");
        }
    }

    #[test]
    fn bytes_are_told_from_text() {
        for (spelled, byte) in
            [("<0x0A>", true), ("<0xE2>", true), ("<0xE>", false), ("<0xZZ>", false), ("x<0x0A>", false)]
        {
            assert_eq!(is_byte(spelled), byte, "{spelled}");
        }
    }
}
