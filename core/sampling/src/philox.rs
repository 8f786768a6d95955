//! Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
//! 1, 2, 3" (SC 2011): a bijection of a 128-bit counter under a 64-bit key. It is no cipher: the key yields all of
//! the output, and nothing here is kept secret by it.

use multiversion::multiversion;

const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Returns the low and the high half of a product.
#[expect(clippy::cast_possible_truncation, reason = "the function exists to take the halves")]
const fn halves(product: u64) -> (u32, u32) {
    (product as u32, (product >> 32) as u32)
}

/// Returns the four words that `counter` stands for under `key`.
pub(crate) fn block(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let (low_0, high_0) = halves(MULTIPLIERS[0] * u64::from(counter[0]));
        let (low_1, high_1) = halves(MULTIPLIERS[1] * u64::from(counter[2]));
        counter = [high_1 ^ counter[1] ^ key[0], low_1, high_0 ^ counter[3] ^ key[1], low_0];
        key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
    }
    counter
}

/// How many counters [`blocks`] works on at once.
pub(crate) const COUNT: usize = 8;

/// Returns the words of [`COUNT`] counters, word by word: the counters begin with `first`, `first + 1`
/// and so on, and go on with `rest`. The same operations as [`block`]'s, of all counters at once.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn blocks(first: u32, rest: [u32; 3], mut key: [u32; 2]) -> [[u32; COUNT]; 4] {
    let mut words = [[0; COUNT], [rest[0]; COUNT], [rest[1]; COUNT], [rest[2]; COUNT]];
    for (word, counter) in words[0].iter_mut().zip(first..) {
        *word = counter;
    }
    for _ in 0..ROUNDS {
        let [zeroth, first, second, third] = words;
        for place in 0..COUNT {
            let (low_0, high_0) = halves(MULTIPLIERS[0] * u64::from(zeroth[place]));
            let (low_1, high_1) = halves(MULTIPLIERS[1] * u64::from(second[place]));
            words[0][place] = high_1 ^ first[place] ^ key[0];
            words[1][place] = low_1;
            words[2][place] = high_0 ^ third[place] ^ key[1];
            words[3][place] = low_0;
        }
        key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_counters_at_once_give_the_words_of_each() {
        for (first, rest, key) in
            [(0, [0; 3], [0; 2]), (12_280, [7, 1, 0xd16c_fe09], [0x408f_276d, u32::MAX])]
        {
            let words = blocks(first, rest, key);
            for place in 0..8 {
                let expected = block([first + place as u32, rest[0], rest[1], rest[2]], key);
                assert_eq!(words.map(|word| word[place]), expected, "{place} after {first}");
            }
        }
    }

    /// Checks the known answers that the authors publish with their Random123 library (`kat_vectors`, philox4x32 10).
    #[test]
    fn known_answers_of_random123() {
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let table = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (pi, [0xa409_3822, 0x299f_31d0], [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
        ];
        for (counter, key, expected) in table {
            assert_eq!(block(counter, key), expected, "counter {counter:08x?}");
        }
    }
}
