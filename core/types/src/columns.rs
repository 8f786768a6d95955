//! Numbers and tokens in binary columns: what is alike stands together, so that it is small and compresses well. Exact to
//! the bit. Pure: rows of the ledger and messages are made of it, and neither is known here.
//!
//! Whole numbers are written seven bits a byte, lowest first; all but the last byte have their highest bit set. Floating
//! numbers are written in planes: the first byte (sign and exponent) of each, then the second of each, and so on, because
//! the first bytes of numbers of one kind are alike and the last ones are noise.
//!
//! Reading takes bytes of anyone. What it allocates is at most a small multiple of what it was given.

use crate::numbers::{TokenId, TokenNumbers};

/// The version of these columns, which is their first byte.
const VERSION: u8 = 1;

/// How a highest logit is written that is absent, that has a place of its own, and that is the same as that of the first
/// of the best tokens. The next numbers stand for the tokens behind the first.
const NO_MAX: u64 = 0;
const OWN_MAX: u64 = 1;
const MAX_OF_TOP: u64 = 2;

/// Bytes that are no columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedColumns {
    /// The bytes end before what they announce.
    #[error("the columns are cut off")]
    CutOff,
    /// A number is larger than its kind.
    #[error("a number in the columns is too large")]
    TooLarge,
    /// The columns are of a version that this program doesn't know.
    #[error("the columns are of version {0}, which this program doesn't know")]
    Version(u8),
    /// A number is infinite or none, which JSON can't say either.
    #[error("a number in the columns is not finite")]
    NotFinite,
    /// A row refers to a token that it doesn't have.
    #[error("a row of the columns refers to a token that it lacks")]
    NoSuchToken,
}

/// What a row of numbers consists of, besides their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    top: usize,
    max: u64,
    likeliest: usize,
}

impl Shape {
    fn of(row: &TokenNumbers) -> Self {
        let max = row.logit_max.map_or(NO_MAX, |max| {
            let same = row.top.iter().position(|(_, logit)| logit.to_bits() == max.to_bits());
            same.map_or(OWN_MAX, |place| MAX_OF_TOP + to_u64(place))
        });
        Self { top: row.top.len(), max, likeliest: row.likeliest.len() }
    }
}

/// Appends a whole number.
pub fn write_whole(mut number: u64, bytes: &mut Vec<u8>) {
    while number > 0x7f {
        bytes.push(low_byte(number) | 0x80);
        number >>= 7;
    }
    bytes.push(low_byte(number));
}

/// Reads a whole number from the beginning of `bytes`, which then begin behind it.
///
/// # Errors
/// [`MalformedColumns`].
pub fn read_whole(bytes: &mut &[u8]) -> Result<u64, MalformedColumns> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(MalformedColumns::CutOff)?;
        *bytes = rest;
        let bits = u64::from(first & 0x7f);
        if bits.checked_shl(shift).is_none_or(|shifted| shifted >> shift != bits) {
            return Err(MalformedColumns::TooLarge);
        }
        number |= bits << shift;
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(MalformedColumns::TooLarge)
}

/// Reads this many bytes from the beginning of `bytes`, which then begin behind them.
///
/// # Errors
/// [`MalformedColumns::CutOff`].
pub fn read_bytes<'a>(count: usize, bytes: &mut &'a [u8]) -> Result<&'a [u8], MalformedColumns> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(MalformedColumns::CutOff)?;
    *bytes = rest;
    Ok(taken)
}

/// Appends tokens.
pub fn write_tokens(tokens: &[TokenId], bytes: &mut Vec<u8>) {
    bytes.push(VERSION);
    write_whole(to_u64(tokens.len()), bytes);
    tokens.iter().for_each(|token| write_whole(u64::from(*token), bytes));
}

/// Reads tokens from the beginning of `bytes`, which then begin behind them.
///
/// # Errors
/// [`MalformedColumns`].
pub fn read_tokens(bytes: &mut &[u8]) -> Result<Vec<TokenId>, MalformedColumns> {
    read_version(bytes)?;
    // Each token takes a byte at least.
    let count = read_count(1, bytes)?;
    (0..count).map(|_| read_token(bytes)).collect()
}

/// Appends the numbers of an answer's tokens.
pub fn write_numbers(numbers: &[TokenNumbers], bytes: &mut Vec<u8>) {
    bytes.push(VERSION);
    write_whole(to_u64(numbers.len()), bytes);
    write_shapes(numbers, bytes);
    write_f64s(&numbers.iter().map(|row| row.log_sum_exp).collect::<Vec<_>>(), bytes);
    write_pairs(|row| &row.top, numbers, bytes);
    let is_own = |row: &&TokenNumbers| Shape::of(row).max == OWN_MAX;
    write_f32s(&numbers.iter().filter(is_own).filter_map(|row| row.logit_max).collect::<Vec<_>>(), bytes);
    write_pairs(|row| &row.likeliest, numbers, bytes);
}

/// Reads the numbers of an answer's tokens from the beginning of `bytes`, which then begin behind them.
///
/// # Errors
/// [`MalformedColumns`].
pub fn read_numbers(bytes: &mut &[u8]) -> Result<Vec<TokenNumbers>, MalformedColumns> {
    read_version(bytes)?;
    // Each row has the logarithm of its sum.
    let count = read_count(size_of::<f64>(), bytes)?;
    let shapes = read_shapes(count, bytes)?;
    let sums = read_f64s(count, bytes)?;
    let tops = read_pairs(&shapes.iter().map(|shape| shape.top).collect::<Vec<_>>(), bytes)?;
    let owns = shapes.iter().filter(|shape| shape.max == OWN_MAX).count();
    let mut owns = read_f32s(owns, bytes)?.into_iter();
    let likeliest = read_pairs(&shapes.iter().map(|shape| shape.likeliest).collect::<Vec<_>>(), bytes)?;
    let rows = shapes.iter().zip(sums).zip(tops.into_iter().zip(likeliest));
    rows.map(|((shape, log_sum_exp), (top, likeliest))| {
        let logit_max = match shape.max {
            NO_MAX => None,
            OWN_MAX => owns.next(),
            place => {
                let place = usize::try_from(place - MAX_OF_TOP).unwrap_or(usize::MAX);
                Some(top.get(place).ok_or(MalformedColumns::NoSuchToken)?.1)
            }
        };
        Ok(TokenNumbers { top, log_sum_exp, logit_max, likeliest })
    })
    .collect()
}

/// Returns numbers that a stranger gave, if all of them are finite.
///
/// # Errors
/// [`MalformedColumns::NotFinite`].
pub fn finite(numbers: Vec<TokenNumbers>) -> Result<Vec<TokenNumbers>, MalformedColumns> {
    let is_finite = |row: &TokenNumbers| {
        let logits = row.top.iter().chain(&row.likeliest).map(|(_, logit)| *logit).chain(row.logit_max);
        row.log_sum_exp.is_finite() && { logits }.all(f32::is_finite)
    };
    if numbers.iter().all(is_finite) { Ok(numbers) } else { Err(MalformedColumns::NotFinite) }
}

/// Appends the shapes of rows: each with the number of rows behind each other that have it.
fn write_shapes(numbers: &[TokenNumbers], bytes: &mut Vec<u8>) {
    let shapes: Vec<Shape> = numbers.iter().map(Shape::of).collect();
    for run in shapes.chunk_by(|one, next| one == next) {
        let Shape { top, max, likeliest } = run[0];
        for number in [to_u64(run.len()), to_u64(top), max, to_u64(likeliest)] {
            write_whole(number, bytes);
        }
    }
}

fn read_shapes(count: usize, bytes: &mut &[u8]) -> Result<Vec<Shape>, MalformedColumns> {
    let mut shapes = Vec::with_capacity(count);
    while shapes.len() < count {
        let run = to_usize(read_whole(bytes)?)?;
        let top = to_usize(read_whole(bytes)?)?;
        let max = read_whole(bytes)?;
        let likeliest = to_usize(read_whole(bytes)?)?;
        if run == 0 || run > count - shapes.len() {
            return Err(MalformedColumns::TooLarge);
        }
        shapes.extend(std::iter::repeat_n(Shape { top, max, likeliest }, run));
    }
    Ok(shapes)
}

type Pair = (TokenId, f32);

/// Appends each row's tokens with their logits: the ids of the first of each row, of the second of each, and so on, because
/// the first are the answer's own tokens; then all logits in the same order.
fn write_pairs(of: fn(&TokenNumbers) -> &[Pair], numbers: &[TokenNumbers], bytes: &mut Vec<u8>) {
    let longest = numbers.iter().map(|row| of(row).len()).max().unwrap_or(0);
    let mut logits = Vec::new();
    for place in 0..longest {
        for (token, logit) in numbers.iter().filter_map(|row| of(row).get(place)) {
            write_whole(u64::from(*token), bytes);
            logits.push(*logit);
        }
    }
    write_f32s(&logits, bytes);
}

/// Reads as many pairs for each row as its length says.
fn read_pairs(lengths: &[usize], bytes: &mut &[u8]) -> Result<Vec<Vec<Pair>>, MalformedColumns> {
    let all = lengths.iter().try_fold(0_usize, |sum, length| sum.checked_add(*length));
    // Each takes a byte for its token and four for its logit.
    let all = all.filter(|all| all.checked_mul(5).is_some_and(|least| least <= bytes.len()));
    let all = all.ok_or(MalformedColumns::CutOff)?;
    let mut rows: Vec<Vec<Pair>> = lengths.iter().map(|length| Vec::with_capacity(*length)).collect();
    let mut places = Vec::with_capacity(all);
    let mut live: Vec<usize> = (0..lengths.len()).filter(|row| lengths[*row] > 0).collect();
    for place in 1.. {
        if live.is_empty() {
            break;
        }
        for row in &live {
            places.push((*row, read_token(bytes)?));
        }
        live.retain(|row| lengths[*row] > place);
    }
    for ((row, token), logit) in places.into_iter().zip(read_f32s(all, bytes)?) {
        rows[row].push((token, logit));
    }
    Ok(rows)
}

fn write_f32s(values: &[f32], bytes: &mut Vec<u8>) {
    for plane in 0..size_of::<f32>() {
        bytes.extend(values.iter().map(|value| value.to_bits().to_be_bytes()[plane]));
    }
}

fn read_f32s(count: usize, bytes: &mut &[u8]) -> Result<Vec<f32>, MalformedColumns> {
    let [first, second, third, fourth] = read_planes(count, bytes)?;
    let value =
        |at: usize| f32::from_bits(u32::from_be_bytes([first[at], second[at], third[at], fourth[at]]));
    Ok((0..count).map(value).collect())
}

fn write_f64s(values: &[f64], bytes: &mut Vec<u8>) {
    for plane in 0..size_of::<f64>() {
        bytes.extend(values.iter().map(|value| value.to_bits().to_be_bytes()[plane]));
    }
}

fn read_f64s(count: usize, bytes: &mut &[u8]) -> Result<Vec<f64>, MalformedColumns> {
    let planes: [&[u8]; 8] = read_planes(count, bytes)?;
    let value = |at: usize| f64::from_bits(u64::from_be_bytes(planes.map(|plane| plane[at])));
    Ok((0..count).map(value).collect())
}

/// Reads planes of this many bytes each.
fn read_planes<'a, const PLANES: usize>(
    count: usize,
    bytes: &mut &'a [u8],
) -> Result<[&'a [u8]; PLANES], MalformedColumns> {
    let mut planes = [&[][..]; PLANES];
    for plane in &mut planes {
        *plane = read_bytes(count, bytes)?;
    }
    Ok(planes)
}

fn read_version(bytes: &mut &[u8]) -> Result<(), MalformedColumns> {
    match read_bytes(1, bytes)? {
        [VERSION] => Ok(()),
        other => Err(MalformedColumns::Version(other[0])),
    }
}

/// Reads how many entries follow, each of which takes `least` bytes at least.
fn read_count(least: usize, bytes: &mut &[u8]) -> Result<usize, MalformedColumns> {
    let count = to_usize(read_whole(bytes)?)?;
    let fits = count.checked_mul(least).is_some_and(|needed| needed <= bytes.len());
    if fits { Ok(count) } else { Err(MalformedColumns::CutOff) }
}

fn read_token(bytes: &mut &[u8]) -> Result<TokenId, MalformedColumns> {
    TokenId::try_from(read_whole(bytes)?).map_err(|_| MalformedColumns::TooLarge)
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn to_usize(number: u64) -> Result<usize, MalformedColumns> {
    usize::try_from(number).map_err(|_| MalformedColumns::TooLarge)
}

/// Returns the lowest byte of a number.
const fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}
