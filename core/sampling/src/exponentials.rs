//! `libm::exp` of many numbers at once, to the bit: the same operations in the same order, without branches, so that a
//! compiler can do several at a time. A model's vocabulary has tens of thousands of logits, and the sum of their exponentials
//! is most of what choosing a token costs.
//!
//! It holds for numbers from -64 to 0, which are all that the log-sum-exp needs. A test compares it with `libm`.

use multiversion::multiversion;

use crate::blocks::{BLOCK, finite};

// The names and values are those of the algorithm, by FreeBSD's msun as `libm` has it.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LOW: f64 = 1.9082149292705877e-10;
const INVERSE_LN2: f64 = std::f64::consts::LOG2_E;
const P1: f64 = 0.16666666666666602;
const P2: f64 = -0.0027777777777015593;
const P3: f64 = 6.613756321437934e-05;
const P4: f64 = -1.6533902205465252e-06;
const P5: f64 = 4.1381367970572385e-08;

/// The least magnitude at which the power of two isn't 0: a little above half of ln 2, as high words are compared.
const HALF_LN2: f64 = f64::from_bits(0x3fd6_2e43_0000_0000);
/// The least magnitude at which the power of two is computed: three halves of ln 2, as high words are compared.
const THREE_HALVES_LN2: f64 = f64::from_bits(0x3ff0_a2b2_0000_0000);
/// The least magnitude at which the result isn't 1 and the number: a little above 2^-28.
const TINY: f64 = f64::from_bits(0x3e30_0001_0000_0000);
/// Adding it to a number below 2^51 rounds that to an integer, which is then in the lowest bits.
const ROUNDING: f64 = 6_755_399_441_055_744.0;

/// Returns `libm::exp` of a number from -64 to 0; any number if it is outside.
#[inline]
fn exp(x: f64) -> f64 {
    let magnitude = -x;
    let scaled = INVERSE_LN2 * x - 0.5;
    let nearest = (scaled + ROUNDING) - ROUNDING;
    // Rounded towards 0, which for these is upwards.
    let truncated = if nearest < scaled { nearest + 1.0 } else { nearest };
    let power = if magnitude < THREE_HALVES_LN2 { -1.0 } else { truncated };
    let power = if magnitude < HALF_LN2 { 0.0 } else { power };
    let (high, low) = (x - power * LN2_HIGH, power * LN2_LOW);
    let reduced = high - low;
    let square = reduced * reduced;
    let c = reduced - square * (P1 + square * (P2 + square * (P3 + square * (P4 + square * P5))));
    let value = 1.0 + (reduced * c / (2.0 - c) - low + high);
    // 2^power: the integer is in the lowest bits, and the exponent's place is the highest.
    let scale = f64::from_bits((power + ROUNDING).to_bits().wrapping_add(1023) << 52);
    if magnitude < TINY { 1.0 + x } else { value * scale }
}

/// Adds the exponentials of a row's logits less `highest`, in the order of the ids. Logits more than `counted_below` (at most
/// 64) below it are left out. `peaks` holds the highest logit of each piece of [`BLOCK`] logits; none is above `highest`.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn sum(logits: &[f32], peaks: &[f32], highest: f64, counted_below: f64) -> f64 {
    let mut sum = 0.0;
    for (block, &peak) in logits.chunks(BLOCK).zip(peaks) {
        if highest - f64::from(finite(peak)) > counted_below {
            continue;
        }
        let mut terms = [0.0; BLOCK];
        for (term, &logit) in terms.iter_mut().zip(block) {
            let below = f64::from(finite(logit)) - highest;
            let value = exp(below);
            // What is left out is 0 in the sum, which changes nothing.
            *term = if below < -counted_below { 0.0 } else { value };
        }
        for term in terms {
            sum += term;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(x: f64) -> bool {
        exp(x).to_bits() == libm::exp(x).to_bits()
    }

    #[test]
    fn the_bounds_of_each_case_are_those_of_libm() {
        for bound in [0.0, HALF_LN2, THREE_HALVES_LN2, TINY, 64.0, 0.5 * std::f64::consts::LN_2, 1.0] {
            for step in 0..2_000_u64 {
                let below = f64::from_bits(bound.to_bits().saturating_sub(step));
                let above = f64::from_bits(bound.to_bits() + step).min(64.0);
                assert!(same(-below) && same(-above), "{bound} {step}");
            }
        }
        for half in 0..=184 {
            // Where the integer beside a number changes.
            let bound = f64::from(half) * 0.5 * std::f64::consts::LN_2;
            for step in -50_i64..50 {
                let near = f64::from_bits(bound.to_bits().saturating_add_signed(step)).min(64.0);
                assert!(same(-near), "{near}");
            }
        }
    }

    #[test]
    fn logits_far_below_the_highest_are_left_out() {
        let logits = [-1e30, f32::NEG_INFINITY, f32::NAN, -65.0, -64.0, -3.0, -2.0, 0.0];
        let counted = |below: f64| sum(&logits, &[0.0], 0.0, below);
        assert_eq!(counted(2.0), libm::exp(-2.0) + 1.0);
        assert_eq!(counted(64.0), libm::exp(-64.0) + libm::exp(-3.0) + libm::exp(-2.0) + 1.0);
        assert_eq!(sum(&logits, &[-65.0], 0.0, 64.0), 0.0, "a piece whose highest is left out is not read");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn any_number_gives_what_libm_gives(x in -64.0_f64..=0.0, logits in (-60.0_f32..0.0, -4.0_f32..0.0)) {
            prop_assert!(same(x));
            // Differences of two f32s, as logits are.
            prop_assert!(same((f64::from(logits.0) - f64::from(logits.1)).min(0.0)));
        }

        #[test]
        fn a_sum_is_that_of_each_term_in_order(logits in proptest::collection::vec(-80.0_f32..0.0, 1..200)) {
            let peaks: Vec<f32> =
                logits.chunks(BLOCK).map(|block| block.iter().copied().fold(f32::MIN, f32::max)).collect();
            let terms = logits.iter().map(|&logit| f64::from(logit)).filter(|below| *below >= -64.0);
            let expected = terms.fold(0.0, |sum, below| sum + libm::exp(below));
            prop_assert_eq!(sum(&logits, &peaks, 0.0, 64.0).to_bits(), expected.to_bits());
        }
    }
}
