//! Numbers and tokens in columns: what is written is read to the bit, and other bytes are refused without harm.

use infera_types::columns::{
    MalformedColumns, read_numbers, read_tokens, read_whole, write_numbers, write_tokens, write_whole,
};
use infera_types::numbers::{TokenId, TokenNumbers};
use proptest::collection::vec;
use proptest::prelude::*;

fn pairs(most: usize) -> impl Strategy<Value = Vec<(TokenId, f32)>> {
    vec((any::<u32>(), any::<u32>().prop_map(f32::from_bits)), 0..=most)
}

fn row() -> impl Strategy<Value = TokenNumbers> {
    let max = prop_oneof![
        Just(None),
        any::<u32>().prop_map(|bits| Some(Err(bits))),
        (0..4_usize).prop_map(|place| Some(Ok(place))),
    ];
    (pairs(4), any::<u64>(), max, prop_oneof![4 => pairs(0), 1 => pairs(20)]).prop_map(
        |(top, sum, max, likeliest)| {
            let logit_max = max.and_then(|max| match max {
                Ok(place) => top.get(place).map(|(_, logit)| *logit),
                Err(bits) => Some(f32::from_bits(bits)),
            });
            TokenNumbers { top, log_sum_exp: f64::from_bits(sum), logit_max, likeliest }
        },
    )
}

/// A row with its numbers' bits.
type RowBits = (Vec<(u32, u32)>, u64, Option<u32>, Vec<(u32, u32)>);

/// Floating numbers by their bits, so that one that is no number equals itself.
fn bits(numbers: &[TokenNumbers]) -> Vec<RowBits> {
    let pairs =
        |pairs: &[(TokenId, f32)]| pairs.iter().map(|(token, logit)| (*token, logit.to_bits())).collect();
    let row = |row: &TokenNumbers| {
        (pairs(&row.top), row.log_sum_exp.to_bits(), row.logit_max.map(f32::to_bits), pairs(&row.likeliest))
    };
    numbers.iter().map(row).collect()
}

proptest! {
    #[test]
    fn numbers_come_back_to_the_bit(numbers in vec(row(), 0..40), behind in vec(any::<u8>(), 0..9)) {
        let mut bytes = Vec::new();
        write_numbers(&numbers, &mut bytes);
        let length = bytes.len();
        bytes.extend(&behind);
        let mut rest = &bytes[..];
        prop_assert_eq!(bits(&read_numbers(&mut rest).unwrap()), bits(&numbers));
        prop_assert_eq!(rest, &behind[..]);
        for cut in (0..length).step_by(1 + length / 16) {
            prop_assert!(read_numbers(&mut &bytes[..cut]).is_err(), "{} of {}", cut, length);
        }
    }

    #[test]
    fn tokens_come_back(tokens in vec(any::<u32>(), 0..300)) {
        let mut bytes = Vec::new();
        write_tokens(&tokens, &mut bytes);
        prop_assert_eq!(read_tokens(&mut &bytes[..]).unwrap(), tokens);
        for cut in 0..bytes.len() {
            prop_assert!(read_tokens(&mut &bytes[..cut]).is_err());
        }
    }

    #[test]
    fn whole_numbers_come_back(number in any::<u64>()) {
        let mut bytes = Vec::new();
        write_whole(number, &mut bytes);
        prop_assert_eq!(read_whole(&mut &bytes[..]).unwrap(), number);
    }

    /// Bytes of a stranger neither panic nor take more memory than they have; what is read of them can be written.
    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in vec(prop_oneof![4 => 0..9_u8, 1 => any::<u8>()], 0..400)) {
        if let Some(first) = bytes.first_mut() {
            *first = 1;
        }
        if let Ok(numbers) = read_numbers(&mut &bytes[..]) {
            let entries: usize = numbers.iter().map(|row| 8 + 5 * (row.top.len() + row.likeliest.len())).sum();
            prop_assert!(entries <= bytes.len());
            let mut again = Vec::new();
            write_numbers(&numbers, &mut again);
            prop_assert_eq!(bits(&read_numbers(&mut &again[..]).unwrap()), bits(&numbers));
        }
        if let Ok(tokens) = read_tokens(&mut &bytes[..]) {
            prop_assert!(tokens.len() < bytes.len());
        }
    }

    /// Changed in one byte, columns are read as others or refused.
    #[test]
    fn a_changed_byte_does_no_harm(numbers in vec(row(), 1..20), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = Vec::new();
        write_numbers(&numbers, &mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = read_numbers(&mut &bytes[..]);
    }
}

#[test]
fn announced_sizes_are_held_against_what_is_there() {
    let announce = |numbers: &[u64]| {
        let mut bytes = vec![1];
        numbers.iter().for_each(|number| write_whole(*number, &mut bytes));
        bytes
    };
    for (numbers, error) in [
        (&[u64::MAX][..], MalformedColumns::CutOff),
        (&[1 << 40], MalformedColumns::CutOff),
        (&[2], MalformedColumns::CutOff),
    ] {
        assert_eq!(read_numbers(&mut &announce(numbers)[..]).unwrap_err(), error, "{numbers:?}");
        assert_eq!(read_tokens(&mut &announce(numbers)[..]).unwrap_err(), MalformedColumns::CutOff);
    }
    // One row that announces 2^60 tokens.
    let mut bytes = announce(&[1, 1, 1 << 60, 0, 0]);
    bytes.extend([0; 64]);
    assert_eq!(read_numbers(&mut &bytes[..]).unwrap_err(), MalformedColumns::CutOff);
    // One row of which two are said, and one whose highest logit is that of a token it lacks.
    let mut bytes = announce(&[1, 2, 0, 0, 0]);
    bytes.extend([0; 64]);
    assert_eq!(read_numbers(&mut &bytes[..]).unwrap_err(), MalformedColumns::TooLarge);
    let mut bytes = announce(&[1, 1, 0, 2, 0]);
    bytes.extend([0; 64]);
    assert_eq!(read_numbers(&mut &bytes[..]).unwrap_err(), MalformedColumns::NoSuchToken);
    assert_eq!(read_numbers(&mut &[2, 0][..]).unwrap_err(), MalformedColumns::Version(2));
    assert_eq!(read_whole(&mut &[0xff; 11][..]).unwrap_err(), MalformedColumns::TooLarge);
}

/// A real row has four tokens, the first of which is the answer's and the likeliest.
#[test]
fn an_answers_numbers_are_small() {
    let row = |place: u32| TokenNumbers {
        top: (0..4_u16)
            .map(|other| (300 + place * 7 + u32::from(other) * 999, 20.5 - f32::from(other) * 1.37))
            .collect(),
        log_sum_exp: 21.1 + f64::from(place) / 7.0,
        logit_max: Some(20.5),
        likeliest: Vec::new(),
    };
    let numbers: Vec<TokenNumbers> = (0..17).map(row).collect();
    let mut bytes = Vec::new();
    write_numbers(&numbers, &mut bytes);
    let json = serde_json::to_vec(&numbers).unwrap();
    println!("17 rows: {} bytes in columns, {} of JSON", bytes.len(), json.len());
    assert!(bytes.len() < 17 * 33 && bytes.len() * 3 < json.len(), "{} {}", bytes.len(), json.len());
}
