//! `libm::exp` of many numbers at once, to the bit: the same operations in the same order, without branches, so that a
//! compiler can do several at a time. A model's vocabulary has tens of thousands of logits, and the sum of their exponentials
//! is most of what choosing a token costs.
//!
//! It holds for numbers from -64 to 0, which are all that the log-sum-exp needs. A test compares it with `libm`.

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

/// How many numbers are worked on at once.
pub(super) const LANES: usize = 8;

/// Returns `libm::exp` of a number from -64 to 0; any number if it is outside.
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

/// Returns `libm::exp` of each number, or 0 for those below `least`, which is at least -64. None may be above 0.
pub(super) fn exponentials(numbers: &[f64; LANES], least: f64) -> [f64; LANES] {
    let mut results = [0.0; LANES];
    for (result, &number) in results.iter_mut().zip(numbers) {
        let value = exp(number);
        *result = if number < least { 0.0 } else { value };
    }
    results
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(x: f64) -> bool {
        exponentials(&[x; LANES], -64.0).iter().all(|value| value.to_bits() == libm::exp(x).to_bits())
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
        assert_eq!(exponentials(&[-64.1; LANES], -64.0), [0.0; LANES]);
        assert_eq!(
            exponentials(&[-1e300, f64::NEG_INFINITY, -65.0, -64.0, -3.0, -2.0, -1.0, -0.0], -2.0)[..5],
            [0.0; 5]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn any_number_gives_what_libm_gives(x in -64.0_f64..=0.0, logits in (-60.0_f32..0.0, -4.0_f32..0.0)) {
            prop_assert!(same(x));
            // Differences of two f32s, as logits are.
            prop_assert!(same((f64::from(logits.0) - f64::from(logits.1)).min(0.0)));
        }
    }
}
