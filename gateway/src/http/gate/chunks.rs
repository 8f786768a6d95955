//! Finds the end of a chunked body in a stream of bytes, so that the next head can be examined before hyper reads it.
//! hyper decodes the body. This module only counts its bytes, and accepts only the strict form.

/// How much of a chunked body has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// The digits of a chunk's size are being read; `so_far` is their value.
    Size { so_far: u64, digits: u8 },
    /// The rest of the size's line is being read.
    Extension { size: u64 },
    /// The LF that ends the size's line comes next.
    SizeEnd { size: u64 },
    /// The chunk's bytes are being read.
    Data { left: u64 },
    /// The CR after the chunk's bytes comes next.
    DataReturn,
    /// The LF after that CR comes next.
    DataEnd,
    /// A line after the last chunk is being read; `is_empty` is true until a byte of it has come.
    Trailer { is_empty: bool },
    /// The LF of such a line comes next. If `is_last` is set, it ends the body.
    TrailerEnd { is_last: bool },
    /// The body is over.
    Over,
    /// The body is malformed, so its end can't be found.
    Broken,
}

/// The largest number of hexadecimal digits of a chunk's size. No body has 2^60 bytes.
const DIGITS_MAX: u8 = 15;

impl Chunks {
    /// The state at the beginning of a body.
    pub(crate) const BEGINNING: Self = Self::Size { so_far: 0, digits: 0 };

    /// Reads `bytes` and returns how many of them belong to the body: fewer than all if the body ends or is
    /// malformed.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && !matches!(self, Self::Over | Self::Broken) {
            if let Self::Data { left } = *self {
                let available = (bytes.len() - at) as u64;
                let step = left.min(available);
                // The step is at most the number of bytes, which fits.
                at += usize::try_from(step).unwrap_or(bytes.len() - at);
                *self = if step == left { Self::DataReturn } else { Self::Data { left: left - step } };
            } else {
                *self = self.after(bytes[at]);
                at += 1;
            }
        }
        at
    }

    /// Returns the state after one byte outside a chunk's data.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size { so_far, digits }, _) => match char::from(byte).to_digit(16) {
                Some(digit) if digits < DIGITS_MAX => {
                    Self::Size { so_far: so_far * 16 + u64::from(digit), digits: digits + 1 }
                }
                None if digits > 0 && byte == b'\r' => Self::SizeEnd { size: so_far },
                None if digits > 0 && byte == b';' => Self::Extension { size: so_far },
                _ => Self::Broken,
            },
            (Self::Extension { size }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { .. }, b'\n') | (Self::Trailer { .. }, b'\n') => Self::Broken,
            (Self::Extension { size }, _) => Self::Extension { size },
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Trailer { is_empty: true },
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataReturn, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::BEGINNING,
            (Self::Trailer { is_empty }, b'\r') => Self::TrailerEnd { is_last: is_empty },
            (Self::Trailer { .. }, _) => Self::Trailer { is_empty: false },
            (Self::TrailerEnd { is_last: true }, b'\n') => Self::Over,
            (Self::TrailerEnd { is_last: false }, b'\n') => Self::Trailer { is_empty: true },
            _ => Self::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str, step: usize) -> (usize, Chunks) {
        let (mut chunks, mut total) = (Chunks::BEGINNING, 0);
        for piece in text.as_bytes().chunks(step) {
            let length = chunks.take(piece);
            total += length;
            if length < piece.len() {
                break;
            }
        }
        (total, chunks)
    }

    #[test]
    fn a_body_ends_where_it_ends_however_it_is_cut() {
        for body in [
            "0\r\n\r\n",
            "5\r\nabcde\r\n0\r\n\r\n",
            "1;a=b\r\nx\r\n00\r\nTrailer: v\r\nAnother: w\r\n\r\n",
            "A\r\n0123\r\n6789\r\n0;x\r\n\r\n",
        ] {
            let text = format!("{body}GET / HTTP/1.1\r\n\r\n");
            for step in 1..=text.len() {
                let (length, chunks) = taken(&text, step);
                assert_eq!((length, chunks), (body.len(), Chunks::Over), "{body:?} by {step}");
            }
            for cut in 1..body.len() {
                let (length, chunks) = taken(&body[..cut], 3);
                assert!(
                    length == cut && !matches!(chunks, Chunks::Over | Chunks::Broken),
                    "{body:?} up to {cut}"
                );
            }
        }
    }

    #[test]
    fn what_has_no_proper_form_is_broken() {
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "5 \r\nabcde\r\n",
            "5\nabcde\r\n",
            "5;a\nabcde\r\n",
            "5\r\nabcdef\r\n",
            "5\r\nabcde\n0\r\n\r\n",
            "0\r\nTrailer: v\n\r\n",
            "fffffffffffffffff\r\n",
        ] {
            assert_eq!(taken(body, 4).1, Chunks::Broken, "{body:?}");
        }
    }
}
