//! How long a token of a model takes on the reference machine: by what was said of it, or by the bytes of its weights. Each job's
//! time is reckoned by it, and so are the points for its answer.

use std::time::Duration;

use crate::config::Config;

/// The bytes of weights that one thread of the reference machine computes with in a microsecond. A step at batch 1 reads each weight
/// once, so its time follows their bytes: infera-tiny's 1.9 MB took 149 µs and SmolLM2's 158 MB 13.9 ms, which are 12 and 11 GB/s
/// (2026-11-22, 2026-11-30). Taken a little lower, because too long a time costs nothing while one that is too short ends jobs.
const WEIGHTS_BYTES_PER_US: u64 = 10_000;

/// The longest time of a token, in microseconds: a minute, which 600 GB of weights would take.
pub const TOKEN_US_MAX: u64 = 60_000_000;

/// The tokens of the answer that a sentence tells the time of: an answer of a paragraph.
const SAID_TOKENS: u32 = 120;

/// Returns the microseconds that a token of a model with this many bytes of weights takes on the reference machine.
#[must_use]
pub fn of_weights(bytes: u64) -> u64 {
    bytes.div_ceil(WEIGHTS_BYTES_PER_US).clamp(1, TOKEN_US_MAX)
}

/// What a reference time was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// An operator said it.
    Said,
    /// It was measured for this model, and is known by the model's name.
    Known,
    /// The bytes of the weights.
    Weights(u64),
}

/// Returns a sentence for the operator: which time of a token was taken, from what, what it comes to in an answer's time, and how to
/// change it.
#[must_use]
pub fn sentence(token_us: u64, basis: Basis, config: &Config) -> String {
    let by = match basis {
        Basis::Said => "as you said".to_owned(),
        Basis::Known => "as it was measured for this model".to_owned(),
        Basis::Weights(bytes) => format!("by the {:.1} MB of its weights", megabytes(bytes)),
    };
    let answer = Duration::from_micros(token_us.saturating_mul(u64::from(SAID_TOKENS)));
    let seconds = config.budget(answer, Duration::MAX).as_secs();
    format!(
        "Time: a token is taken to need {token_us} µs on the reference machine, {by}, so nodes have {seconds} s for an answer of \
         {SAID_TOKENS} tokens; the same command with --reference-token-us N changes it"
    )
}

#[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The models that were measured: the time by their weights is never below, and at most a third above.
    #[test]
    fn the_time_by_the_weights_is_that_of_measured_models() {
        for (bytes, measured_us) in [(1_853_364, 149), (158_206_208 + 127_594, 13_900)] {
            let reckoned = of_weights(bytes);
            assert!((measured_us..=measured_us * 4 / 3).contains(&reckoned), "{bytes}: {reckoned}");
        }
        assert_eq!((of_weights(0), of_weights(u64::MAX)), (1, TOKEN_US_MAX));
    }

    #[test]
    fn what_was_taken_is_told_with_what_it_comes_to_and_how_to_change_it() {
        let said = sentence(15_834, Basis::Weights(158_333_802), &Config::default());
        for words in ["15834 µs", "158.3 MB", "48 s for an answer of 120 tokens", "--reference-token-us"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}
