//! The noise of a job, and the choice among a row's tokens without knobs.

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use infera_types::ids::{AccountId, Digest, JobId};
use infera_types::job::{JobRequest, Seed};
use infera_types::messages::TOP_COUNT;
use infera_types::numbers::{Rest, Row, TokenId, TokenNumbers};

use crate::best::Best;
use crate::blocks::{Blocks, finite};

/// The lower bound of Gumbel noise: -ln(ln(2^32 + 1)) = -3.09922..., rounded down.
pub const GUMBEL_MIN: f64 = -3.1;

/// The upper bound of Gumbel noise: -ln(ln(1 + 2^-32)) = 22.18070..., rounded up.
pub const GUMBEL_MAX: f64 = 22.181;

/// Separates this use of the secret from others; its version changes with the definition above.
const SAMPLE_LABEL: &[u8] = b"infera/sample/v1";

/// ln 2, rounded up: bounds the noise of a word from its leading bits.
const LN_2_ABOVE: f64 = 0.6932;

/// How far below the row's highest a logit is left out of the sum. It would add less than 2^-92 of the sum: a million
/// such logits change at most its last bit, and that rarely.
pub(crate) const COUNTED_BELOW: f64 = 64.0;

/// Derives the key of a job's noise: HKDF-SHA256 of the epoch's `secret`, with the job's id as the salt and the
/// label, the request's digest and the model's digest as the info.
///
/// A seed in the request takes the place of the secret (as `"seed"`, or `"large seed"` above the signed range, and the seed's
/// eight little-endian bytes) and of the salt (empty), so that the same request draws the same noise whenever it is sent. `model` is the first digest
/// that the catalogue lists for the model's name: all digests of one name share their noise.
#[must_use]
pub fn sample_key(secret: &Digest, job: JobId, request: &JobRequest, model: &Digest) -> Digest {
    let seeded = |label: &[u8], seed: [u8; 8]| Hkdf::<Sha256>::new(Some(&[]), &[label, &seed].concat());
    let hkdf = match request.seed {
        Some(Seed::Signed(seed)) => seeded(b"seed", seed.to_le_bytes()),
        Some(Seed::Large(seed)) => seeded(b"large seed", seed.to_le_bytes()),
        None => Hkdf::<Sha256>::new(Some(job.as_bytes()), secret.as_bytes()),
    };
    let request_digest = request.digest();
    let info = [SAMPLE_LABEL, request_digest.as_bytes(), model.as_bytes()];
    let mut key = [0; 32];
    // HKDF refuses only outputs that are longer than 255 hashes; this one is as long as one.
    let _ = hkdf.expand_multi_info(&info, &mut key);
    Digest::from_bytes(key)
}

/// Derives the key with which a job's nodes are drawn: HMAC-SHA256 of `"draw"` and the job's id under the epoch's
/// `secret`. The key is never sent, and nothing that the client chose enters it.
#[must_use]
pub fn draw_key(secret: &Digest, job: JobId) -> Digest {
    keyed(secret, b"draw", job.as_bytes())
}

/// Derives the scope within which nodes may share what they compute for prompts: HMAC-SHA256 of `"cache"` and the account
/// under the epoch's `secret`. Nodes learn which jobs of one epoch are one account's, and not whose.
#[must_use]
pub fn cache_scope(secret: &Digest, account: &AccountId) -> Digest {
    keyed(secret, b"cache", account.as_str().as_bytes())
}

fn keyed(secret: &Digest, label: &[u8], text: &[u8]) -> Digest {
    // HMAC pads its key to a block with zeros; a key of that length is always accepted.
    let mut block = [0; 64];
    block[..32].copy_from_slice(secret.as_bytes());
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(label);
    mac.update(text);
    Digest::from_bytes(mac.finalize().into_bytes().into())
}

/// The noise of one answer to one job.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    key: [u32; 2],
    choice: u32,
    counter_word: u32,
}

impl Noise {
    /// Makes the noise that `key` gives to the answer number `choice` (0 if a job has one answer).
    #[must_use]
    pub fn new(key: &Digest, choice: u32) -> Self {
        let bytes = key.as_bytes();
        let word = |index: usize| u32::from_le_bytes([0, 1, 2, 3].map(|offset| bytes[4 * index + offset]));
        Self { key: [word(0), word(1)], choice, counter_word: word(2) }
    }

    /// Returns the standard Gumbel noise of `token` as the answer's token number `position`, counted from 0.
    #[must_use]
    pub fn gumbel(&self, position: u32, token: TokenId) -> f64 {
        let lane = (token % 4) as usize;
        gumbel_of_word(self.words(position, token / 4)[lane])
    }

    /// Returns the words of the tokens `4 * quad ..= 4 * quad + 3`.
    fn words(&self, position: u32, quad: u32) -> [u32; 4] {
        crate::philox::block([quad, position, self.choice, self.counter_word], self.key)
    }

    /// Returns the words of a piece's tokens: of the quads from `first` on, one after the other in each lane.
    fn words_of_quads(&self, position: u32, first: u32) -> [[u32; crate::philox::COUNT]; 4] {
        crate::philox::blocks(first, [position, self.choice, self.counter_word], self.key)
    }
}

fn gumbel_of_word(word: u32) -> f64 {
    let uniform = (f64::from(word) + 1.0) / 4_294_967_297.0;
    -libm::log(-libm::log(uniform))
}

/// Returns an upper bound of the noise that `word` stands for, without a logarithm: -ln(-ln u) <= -ln(1 - u), and 1 -
/// u is (2^32 - word) / (2^32 + 1), whose binary logarithm is bounded by the place of its highest bit.
fn gumbel_above(word: u32) -> f64 {
    let complement = (1_u64 << 32) - u64::from(word);
    f64::from(32 - complement.ilog2()) * LN_2_ABOVE
}

pub(crate) fn is_greedy(temperature: f64) -> bool {
    !(temperature > 0.0 && temperature.is_finite())
}

fn score(logit: f32, temperature: f64, gumbel: f64) -> f64 {
    f64::from(logit) + temperature * gumbel
}

/// Returns the noised score by which tokens are ranked, in units of logits: `logit + temperature * gumbel`.
#[must_use]
pub fn noised(logit: f32, temperature: f64, noise: &Noise, position: u32, token: TokenId) -> f64 {
    let logit = finite(logit);
    if is_greedy(temperature) {
        return f64::from(logit);
    }
    score(logit, temperature, noise.gumbel(position, token))
}

/// A chosen token, and what is reported about the row that it was chosen from.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The token.
    pub token: TokenId,
    /// The best tokens by noised score, with raw logits, and the row's log-sum-exp.
    pub numbers: TokenNumbers,
}

/// Chooses the token that follows from a row as an engine gives it: see [`choose`] and [`choose_among`].
#[must_use]
pub fn choose_of_row(row: Row<'_>, temperature: f64, noise: &Noise, position: u32) -> Choice {
    match row {
        Row::Full(logits) => choose(logits, temperature, noise, position),
        Row::Top { entries, rest } => choose_among(entries, rest, temperature, noise, position),
    }
}

/// Chooses the token that follows from `row` as the answer's token number `position`, and returns it with its
/// numbers. An empty row, which no engine produces, gives token 0 and no numbers.
///
/// The row is read through once, for the highest logit of each of its blocks; what follows reads only the blocks that
/// count. The result is exact although most of the vocabulary's noise is never computed: a token is skipped if its logit
/// cannot reach the score that four others are sure to have (a property test compares it with the whole computation).
#[must_use]
pub fn choose(row: &[f32], temperature: f64, noise: &Noise, position: u32) -> Choice {
    let row = Blocks::of(row);
    let raw = best_by_logit(&row, TOP_COUNT, |_| false);
    let logit_max = raw.entries.first().map_or(f32::MIN, |entry| entry.2);
    let log_sum_exp = log_sum_exp(&row, logit_max);
    let best = if is_greedy(temperature) {
        raw
    } else {
        best_by_score(&row, (temperature, noise, position), &raw, |_| false)
    };
    choice_of(&best, logit_max, log_sum_exp)
}

/// Chooses among the tokens that are known of a row, as [`choose`] does among all. The tokens that are left out can't be
/// chosen, so the numbers are those of the whole row exactly if no noise can lift one of them into the best: where
/// `rest.logit_max + temperature * GUMBEL_MAX` is below the last entry's score.
#[must_use]
pub fn choose_among(
    entries: &[(TokenId, f32)],
    rest: Rest,
    temperature: f64,
    noise: &Noise,
    position: u32,
) -> Choice {
    let mut known: Vec<(TokenId, f32)> =
        entries.iter().map(|&(token, logit)| (token, finite(logit))).collect();
    known.sort_by_key(|entry| entry.0);
    let mut best = Best::of(TOP_COUNT);
    for &(token, logit) in &known {
        best.offer(noised(logit, temperature, noise, position, token), token, logit);
    }
    let logit_max = known.iter().map(|entry| entry.1).fold(f32::MIN, f32::max);
    let highest = f64::from(logit_max);
    let listed: f64 = known.iter().map(|entry| libm::exp(f64::from(entry.1) - highest)).sum();
    // Far above any real row, and its exponential is finite; NaN counts as this too.
    let left_out = libm::exp((rest.log_sum_exp - highest).min(700.0));
    choice_of(&best, logit_max, (highest + libm::log(listed + left_out)).max(f64::from(f32::MIN)))
}

fn choice_of(best: &Best, logit_max: f32, log_sum_exp: f64) -> Choice {
    let top = best.tokens();
    let token = top.first().map_or(0, |entry| entry.0);
    let numbers = TokenNumbers { top, log_sum_exp, logit_max: Some(logit_max), likeliest: Vec::new() };
    Choice { token, numbers }
}

/// Returns the `count` highest logits of the tokens that aren't left out.
pub(crate) fn best_by_logit(row: &Blocks<'_>, count: usize, is_left_out: impl Fn(TokenId) -> bool) -> Best {
    let mut best = Best::of(count);
    for (first, block, peak) in row.iter() {
        if best.is_full() && f64::from(finite(peak)) <= best.bar() {
            continue;
        }
        for (token, &logit) in (first..).zip(block) {
            let logit = finite(logit);
            if f64::from(logit) > best.bar() && !is_left_out(token) {
                best.offer(f64::from(logit), token, logit);
            }
        }
    }
    best
}

/// Returns the best by noised score of the tokens that aren't left out. `raw` holds the highest logits of these.
pub(crate) fn best_by_score(
    row: &Blocks<'_>,
    (temperature, noise, position): (f64, &Noise, u32),
    raw: &Best,
    is_left_out: impl Fn(TokenId) -> bool,
) -> Best {
    // The four highest logits score at least this, whatever their noise; rounding is monotone, so comparing the
    // rounded sums decides as exactly as the sums themselves.
    let sure = match raw.entries.get(TOP_COUNT - 1) {
        Some(fourth) => score(fourth.2, temperature, GUMBEL_MIN),
        None => f64::NEG_INFINITY,
    };
    let mut best = Best::of(TOP_COUNT);
    for (first, block, peak_of_block) in row.iter() {
        let bar = best.bar().max(sure);
        if score(finite(peak_of_block), temperature, GUMBEL_MAX) < bar {
            continue;
        }
        let words = noise.words_of_quads(position, first / 4);
        // The highest word has the highest noise.
        let above = gumbel_above(words.as_flattened().iter().copied().fold(0, u32::max));
        if score(finite(peak_of_block), temperature, above) < bar {
            continue;
        }
        for (quad, logits) in block.chunks(4).enumerate() {
            for (lane, &logit) in logits.iter().enumerate() {
                let (word, logit) = (words[lane][quad], finite(logit));
                let token = first + (4 * quad + lane) as TokenId;
                if score(logit, temperature, gumbel_above(word)) >= best.bar().max(sure)
                    && !is_left_out(token)
                {
                    best.offer(score(logit, temperature, gumbel_of_word(word)), token, logit);
                }
            }
        }
    }
    best
}

/// Returns the natural logarithm of the sum of the logits' exponentials, in f64, added in the order of the ids.
/// `highest` is the row's highest logit; logits more than [`COUNTED_BELOW`] below it are left out.
fn log_sum_exp(row: &Blocks<'_>, highest: f32) -> f64 {
    if row.logits.is_empty() {
        return f64::from(f32::MIN);
    }
    f64::from(highest)
        + libm::log(crate::exponentials::sum(row.logits, &row.peaks, f64::from(highest), COUNTED_BELOW))
}
