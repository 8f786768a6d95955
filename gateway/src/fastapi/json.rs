//! Reads JSON as Python's `json` does, because the seed's clients know FastAPI's messages: errors are the same, at
//! the same character positions, `NaN` and integers of any length are passed on to the checks, and of equal keys the
//! last one wins. This is no general JSON library, and it knows no fields.
//!
//! UTF-16 and UTF-32 are not supported: Python guesses them, and here they are an unreadable body.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The deepest nesting of lists and objects. Python stops near a thousand, for the sake of its stack; a request needs
/// four.
const DEPTH_MAX: u32 = 512;

/// The largest number of digits of an integer. Python refuses to convert longer ones, because the conversion takes
/// quadratic time.
const DIGITS_MAX: usize = 4300;

/// A JSON value. What its echo needs is kept as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that fits into 64 bits.
    Int(i64),
    /// An integer that doesn't fit: its digits, with a sign if it is negative.
    BigInt(String),
    /// A number with a fraction or an exponent; also `NaN` and the infinities.
    Float(f64),
    /// A string.
    Text(String),
    /// A string with half of a surrogate pair, which Rust's strings can't hold; U+FFFD replaces it.
    BrokenText(String),
    /// A list.
    List(Vec<Json>),
    /// An object, in the order in which it was written. Of equal keys, the last value takes the place of the first.
    Object(Vec<(String, Json)>),
}

/// The reason why bytes are not JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// The text is not JSON: Python's message, and the position in characters (not bytes).
    Syntax {
        /// What was expected there.
        message: &'static str,
        /// The position of the character where reading failed.
        position: usize,
    },
    /// The bytes are not UTF-8, are nested too deep, or have an integer that is too long.
    Unreadable,
}

/// Reads one value from a whole body.
///
/// # Errors
/// [`JsonError`].
pub(crate) fn read(bytes: &[u8]) -> Result<Json, JsonError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::Unreadable)?;
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0 };
    reader.whole().map_err(|stop| match stop {
        Stop::Syntax { message, at } => JsonError::Syntax { message, position: text[..at].chars().count() },
        Stop::Unreadable => JsonError::Unreadable,
    })
}

enum Stop {
    /// The text is not JSON. `at` is a position in bytes, always at the beginning of a character.
    Syntax {
        message: &'static str,
        at: usize,
    },
    Unreadable,
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn whole(&mut self) -> Result<Json, Stop> {
        self.skip_space();
        let value = self.value(0)?;
        self.skip_space();
        if self.at < self.bytes.len() { Err(self.stop("Extra data", self.at)) } else { Ok(value) }
    }

    fn stop(&self, message: &'static str, at: usize) -> Stop {
        Stop::Syntax { message, at: at.min(self.bytes.len()) }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: u32) -> Result<Json, Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::Unreadable);
        }
        match self.peek() {
            Some(b'"') => self.string().map(|(text, whole)| match whole {
                true => Json::Text(text),
                false => Json::BrokenText(text),
            }),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            _ => self.literal().map_or_else(|| self.number(), Ok),
        }
    }

    fn literal(&mut self) -> Option<Json> {
        let (word, value) = match self.peek()? {
            b'n' => ("null", Json::Null),
            b't' => ("true", Json::Bool(true)),
            b'f' => ("false", Json::Bool(false)),
            b'N' => ("NaN", Json::Float(f64::NAN)),
            b'I' => ("Infinity", Json::Float(f64::INFINITY)),
            b'-' => ("-Infinity", Json::Float(f64::NEG_INFINITY)),
            _ => return None,
        };
        self.bytes[self.at..].starts_with(word.as_bytes()).then(|| {
            self.at += word.len();
            value
        })
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Json, Stop> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole_digits = if self.peek() == Some(b'0') {
            self.at += 1;
            1
        } else {
            self.digits()
        };
        if whole_digits == 0 {
            return Err(self.stop("Expecting value", start));
        }
        let whole_end = self.at;
        self.fraction();
        self.exponent();
        let text = &self.text[start..self.at];
        if self.at > whole_end {
            // Rust reads every text of this form. A number that is too large becomes an infinity, as in Python.
            return Ok(Json::Float(text.parse().unwrap_or(f64::NAN)));
        }
        if whole_digits > DIGITS_MAX {
            return Err(Stop::Unreadable);
        }
        Ok(text.parse().map_or_else(|_| Json::BigInt(text.to_owned()), Json::Int))
    }

    fn fraction(&mut self) {
        let start = self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                self.at = start;
            }
        }
    }

    fn exponent(&mut self) {
        let start = self.at;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                self.at = start;
            }
        }
    }

    fn list(&mut self, depth: u32) -> Result<Json, Stop> {
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::List(Vec::new()));
        }
        // Room for one item: with more, nested lists of one item each would hold four times what they need.
        let mut items = Vec::with_capacity(1);
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            match self.peek() {
                Some(b']') => break,
                Some(b',') => self.at += 1,
                _ => return Err(self.stop("Expecting ',' delimiter", self.at)),
            }
            self.skip_space();
        }
        self.at += 1;
        Ok(Json::List(items))
    }

    fn object(&mut self, depth: u32) -> Result<Json, Stop> {
        self.at += 1;
        self.skip_space();
        let mut members: Vec<(String, Json)> = Vec::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.stop("Expecting property name enclosed in double quotes", self.at));
            }
            let (key, _) = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.stop("Expecting ':' delimiter", self.at));
            }
            self.at += 1;
            self.skip_space();
            let value = self.value(depth + 1)?;
            members.push((key, value));
            self.skip_space();
            match self.peek() {
                Some(b'}') => break,
                Some(b',') => self.at += 1,
                _ => return Err(self.stop("Expecting ',' delimiter", self.at)),
            }
            self.skip_space();
        }
        self.at += 1;
        Ok(Json::Object(without_repeats(members)))
    }

    /// Reads the string that begins here, and returns whether it is whole, that is, without lone surrogates.
    fn string(&mut self) -> Result<(String, bool), Stop> {
        const UNTERMINATED: &str = "Unterminated string starting at";
        let begin = self.at;
        self.at += 1;
        let (mut out, mut whole) = (String::new(), true);
        loop {
            let start = self.at;
            while self.peek().is_some_and(|byte| byte != b'"' && byte != b'\\' && byte > 0x1f) {
                self.at += 1;
            }
            out.push_str(&self.text[start..self.at]);
            match self.peek() {
                None => return Err(self.stop(UNTERMINATED, begin)),
                Some(b'"') => {
                    self.at += 1;
                    return Ok((out, whole));
                }
                Some(b'\\') if self.at + 1 >= self.bytes.len() => return Err(self.stop(UNTERMINATED, begin)),
                Some(b'\\') => whole &= self.escape(&mut out)?,
                Some(_) => return Err(self.stop("Invalid control character at", self.at)),
            }
        }
    }

    /// Reads one escape at the backslash. Returns false if the escape is half of a surrogate pair.
    fn escape(&mut self, out: &mut String) -> Result<bool, Stop> {
        let plain = match self.bytes[self.at + 1] {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(out),
            _ => return Err(self.stop("Invalid \\escape", self.at)),
        };
        out.push(plain);
        self.at += 2;
        Ok(true)
    }

    fn unicode_escape(&mut self, out: &mut String) -> Result<bool, Stop> {
        let first = self.four_digits(self.at + 2)?;
        self.at += 6;
        if (0xd800..0xdc00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
            let second = self.four_digits(self.at + 2)?;
            if (0xdc00..0xe000).contains(&second) {
                self.at += 6;
                let joined = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                out.push(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER));
                return Ok(true);
            }
        }
        let character = char::from_u32(first);
        out.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
        Ok(character.is_some())
    }

    /// Reads four hexadecimal digits. Python also needs a character after them, else it complains about the escape
    /// instead of the string.
    fn four_digits(&self, start: usize) -> Result<u32, Stop> {
        let wrong = || self.stop("Invalid \\uXXXX escape", start - 1);
        let digits = self.bytes.get(start..start + 4).filter(|_| start + 4 < self.bytes.len());
        digits.ok_or_else(wrong)?.iter().try_fold(0, |sum, &byte| {
            let digit = char::from(byte).to_digit(16).ok_or_else(wrong)?;
            Ok(sum * 16 + digit)
        })
    }
}

/// Keeps the last value of equal keys, in the place of the first. Short objects are compared pairwise; long ones are
/// hashed, so that the time doesn't grow with the square of their keys.
fn without_repeats(members: Vec<(String, Json)>) -> Vec<(String, Json)> {
    const PAIRWISE_MAX: usize = 16;
    let repeats = |members: &[(String, Json)]| {
        members.iter().enumerate().any(|(index, (key, _))| members[..index].iter().any(|(k, _)| k == key))
    };
    if members.len() <= PAIRWISE_MAX && !repeats(&members) {
        return members;
    }
    let mut places: HashMap<String, usize> = HashMap::with_capacity(members.len());
    let mut kept: Vec<(String, Json)> = Vec::with_capacity(members.len());
    for (key, value) in members {
        match places.entry(key) {
            Entry::Occupied(place) => kept[*place.get()].1 = value,
            Entry::Vacant(place) => {
                kept.push((place.key().clone(), value));
                place.insert(kept.len() - 1);
            }
        }
    }
    kept
}

impl Json {
    /// Returns the member `name`, if this is an object that has it.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Returns the object with the texts of its secret members hidden, so that no error repeats them.
    #[must_use]
    pub(crate) fn hiding(mut self, secrets: &[&str]) -> Self {
        if let Self::Object(members) = &mut self {
            for (key, value) in members {
                if secrets.contains(&key.as_str()) && matches!(value, Self::Text(_) | Self::BrokenText(_)) {
                    *value = Self::Text("[hidden]".to_owned());
                }
            }
        }
        self
    }
}
