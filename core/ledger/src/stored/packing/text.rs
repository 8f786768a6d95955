//! Names as bytes. Most of ours are a few letters and 32 hexadecimal digits, which take half the bytes as a number.

use infera_types::columns::{MalformedColumns, read_bytes, read_whole, write_whole};

/// How many hexadecimal digits an id of ours ends with.
const DIGITS: usize = 32;

/// Appends a name: twice the length of what stands before the digits, plus one if there are digits, then both.
pub(super) fn write_name(name: &str, bytes: &mut Vec<u8>) {
    let digits = name.len().checked_sub(DIGITS).and_then(|before| name.split_at_checked(before));
    match digits.and_then(|(before, digits)| Some((before, number_of(digits)?))) {
        Some((before, number)) => {
            write_whole(length(before) * 2 + 1, bytes);
            bytes.extend(before.as_bytes());
            bytes.extend(number);
        }
        None => {
            write_whole(length(name) * 2, bytes);
            bytes.extend(name.as_bytes());
        }
    }
}

/// Reads a name from the beginning of `bytes`; none if it isn't text.
pub(super) fn read_name(bytes: &mut &[u8]) -> Result<Option<String>, MalformedColumns> {
    let length = read_whole(bytes)?;
    let before = usize::try_from(length / 2).map_err(|_| MalformedColumns::TooLarge)?;
    let Ok(mut name) = String::from_utf8(read_bytes(before, bytes)?.to_vec()) else { return Ok(None) };
    if length % 2 == 1 {
        for byte in read_bytes(DIGITS / 2, bytes)? {
            name.push_str(&format!("{byte:02x}"));
        }
    }
    Ok(Some(name))
}

/// Returns the number that lower-case hexadecimal digits are; none if they are others.
fn number_of(digits: &str) -> Option<[u8; DIGITS / 2]> {
    let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    if !digits.bytes().all(is_digit) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

fn length(text: &str) -> u64 {
    // Names are bounded far below.
    u64::try_from(text.len()).unwrap_or(u64::MAX / 4)
}
