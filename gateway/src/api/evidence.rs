//! Reckons how long an answer may be of which log-probabilities are told: what nodes and verifiers report of it must fit into one
//! message.

/// The largest message, in bytes: the largest that nodes may send, and that brokers are set up to take.
const MESSAGE_MAX_BYTES: u32 = 1024 * 1024;

/// What a message has beside what it says of each token.
const AROUND_BYTES: u32 = 64 * 1024;

/// The most bytes of one token and its raw logit as JSON: an id of seven digits (no vocabulary has ten million tokens), a number of
/// fifteen characters, and four marks.
const ENTRY_BYTES: u32 = 7 + 15 + 4;

/// The most bytes of one place of an answer as JSON, without the likeliest tokens: four entries, the sum of 24 characters and the
/// highest logit of 15, with their names; the token's id again, and its text, of which most tokens have four to six bytes.
const PLACE_BYTES: u32 = 4 * ENTRY_BYTES + 24 + 15 + 70 + 9 + 16;

/// The bytes of a token's spelling as JSON, with its id, in an answer that a verifier hands on.
const SPELLING_BYTES: u32 = 12 + 24;

/// Returns the longest answer, in tokens, that can tell `likeliest` tokens in each place.
pub(super) const fn tokens_max(likeliest: u8) -> u32 {
    let of_each = ENTRY_BYTES + SPELLING_BYTES;
    (MESSAGE_MAX_BYTES - AROUND_BYTES) / (PLACE_BYTES + SPELLING_BYTES + likeliest as u32 * of_each)
}

#[cfg(test)]
mod tests {
    use infera_types::numbers::TokenNumbers;

    use super::*;

    /// What is reckoned for a place is at least what its numbers take, with the longest that JSON makes of finite numbers.
    #[test]
    fn a_place_takes_no_more_than_is_reckoned() {
        for likeliest in [0_u8, 1, 20] {
            let entry = (9_999_999, -1.175_494_4e-38_f32);
            let numbers = TokenNumbers {
                top: vec![entry; 4],
                log_sum_exp: -2.225_073_858_507_201_4e-308,
                logit_max: Some(entry.1),
                likeliest: vec![entry; likeliest.into()],
            };
            let written = serde_json::to_string(&numbers).unwrap().len();
            let reckoned = PLACE_BYTES + u32::from(likeliest) * ENTRY_BYTES;
            // The token's id and its text come beside the numbers.
            assert!(
                written + 9 + 16 <= usize::try_from(reckoned).unwrap(),
                "{likeliest}: {written} {reckoned}"
            );
        }
    }

    #[test]
    fn more_likeliest_tokens_leave_room_for_fewer() {
        let all: Vec<u32> = (0..=20).map(tokens_max).collect();
        assert!(all.is_sorted_by(|shorter, longer| shorter > longer), "{all:?}");
        assert!(all[20] >= 512 && all[0] <= 4_096, "{all:?}");
    }
}
