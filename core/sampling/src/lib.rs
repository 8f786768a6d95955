//! Job-bound sampling: which token follows from a row of logits, and the numbers that a replica reports about it.
//! Every honest node draws the same noise for a job, so that equal logits mean equal tokens at any temperature.
//!
//! This is no random generator with a state: the noise of one token is a pure function of the key, the choice, the
//! position and the token's id, so nothing depends on earlier draws or on the order of the work. It is not part of
//! the engine either: an engine knows logits and nothing else.
//!
//! The definition, of which `tests/vectors/sampling.json` holds examples:
//!
//! * Words. A key's first three little-endian u32s are `k0 k1 k2`. The word of a token is the lane `token % 4` of
//!   Philox4x32-10 over the counter `[token / 4, position, choice, k2]` under the key `[k0, k1]`.
//! * Noise. `u = (word + 1) / (2^32 + 1)` and `gumbel = -ln(-ln u)`, in f64, each operation rounded once, `ln`
//!   being `libm::log`: pure Rust, so the same to the bit on every machine. It lies within
//!   [[`GUMBEL_MIN`], [`GUMBEL_MAX`]].
//! * Choice. The noised score of a token is `logit + temperature * gumbel`; the highest wins, the lowest id among
//!   equals (Gumbel-max: that is a draw from softmax(logits / temperature)). At temperature 0 the score is the logit.
//! * Log-sum-exp. In f64, `libm::exp` and `libm::log`, added in the order of the ids; logits more than 64 below the
//!   highest are left out.
//! * Rows of which only the likeliest tokens are known: the choice is among these, and the sum has one more term, for the
//!   tokens that are left out.
//! * Odd values. NaN and -inf count as the lowest finite f32, +inf as the highest, so that every reported number
//!   is finite. A temperature that is not a finite number above 0 counts as 0.

mod best;
mod blocks;
mod choosing;
mod exponentials;
mod leaving;
mod philox;
mod rules;

pub use self::choosing::{
    Choice, GUMBEL_MAX, GUMBEL_MIN, Noise, cache_scope, choose, choose_among, choose_of_row, draw_key,
    noised, sample_key,
};
pub use self::rules::{Rules, Said, Terms};
