//! Quantiles of the Beta distribution, by the regularized incomplete beta function and bisection. They are
//! good for what reputation needs: parameters of at least one, and far more accuracy than a thousandth.

/// Bounds the terms of the continued fraction. It takes about the square root of the larger parameter; this is enough
/// for records of millions.
const TERMS_MAX: u32 = 10_000;

/// The fraction has converged when a term changes it by less than this.
const CONVERGED: f64 = 1e-15;

/// Stands for zero in denominators (the modified Lentz algorithm).
const TINY: f64 = 1e-300;

/// Halvings of [0, 1]: beyond these an f64 near 1 has no more digits.
const HALVINGS: u32 = 60;

/// Returns the value that a Beta(alpha, beta) variable stays below with this probability. `alpha` and `beta` are at least 1;
/// anything else is taken as 1.
#[must_use]
pub fn quantile(probability: f64, alpha: f64, beta: f64) -> f64 {
    let at_least_one = |value: f64| if value.is_finite() { value.max(1.0) } else { 1.0 };
    let (alpha, beta) = (at_least_one(alpha), at_least_one(beta));
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if cumulative(middle, alpha, beta) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// Returns I_x(alpha, beta), the probability that a Beta(alpha, beta) variable is at most `x`. The continued fraction of
/// DLMF 8.17.22 converges fast below the mean; above it the symmetry I_x(a, b) = 1 - I_{1-x}(b, a) (8.17.4) is used.
#[must_use]
pub fn cumulative(x: f64, alpha: f64, beta: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    if x < (alpha + 1.0) / (alpha + beta + 2.0) {
        lower_tail(x, alpha, beta)
    } else {
        1.0 - lower_tail(1.0 - x, beta, alpha)
    }
}

/// x^a (1-x)^b / (a B(a, b)) times the continued fraction.
fn lower_tail(x: f64, alpha: f64, beta: f64) -> f64 {
    let log_beta = libm::lgamma(alpha) + libm::lgamma(beta) - libm::lgamma(alpha + beta);
    let front = (alpha * x.ln() + beta * (-x).ln_1p() - log_beta).exp() / alpha;
    front * continued_fraction(x, alpha, beta)
}

/// 1 / (1 + d1 / (1 + d2 / (1 + ...))), evaluated forwards by the modified Lentz algorithm (Thompson and Barnett,
/// "Coulomb and Bessel functions of complex arguments and order", 1986).
fn continued_fraction(x: f64, alpha: f64, beta: f64) -> f64 {
    let nonzero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut numerator = 1.0;
    let mut denominator = 1.0 / nonzero(1.0 + coefficient(1, x, alpha, beta));
    let mut fraction = denominator;
    for term in 2..TERMS_MAX {
        let d = coefficient(term, x, alpha, beta);
        denominator = 1.0 / nonzero(1.0 + d * denominator);
        numerator = nonzero(1.0 + d / numerator);
        let change = numerator * denominator;
        fraction *= change;
        if (change - 1.0).abs() < CONVERGED {
            break;
        }
    }
    fraction
}

/// d_n of DLMF 8.17.22: d_{2m} = m (b-m) x / ((a+2m-1)(a+2m)), d_{2m+1} = -(a+m)(a+b+m) x / ((a+2m)(a+2m+1)).
fn coefficient(term: u32, x: f64, alpha: f64, beta: f64) -> f64 {
    let m = f64::from(term / 2);
    let even = alpha + 2.0 * m;
    if term.is_multiple_of(2) {
        m * (beta - m) * x / ((even - 1.0) * even)
    } else {
        -(alpha + m) * (alpha + beta + m) * x / (even * (even + 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn closed_forms() {
        for x in [0.0, 0.01, 0.3, 0.5, 0.77, 0.999, 1.0] {
            close(cumulative(x, 1.0, 1.0), x);
            close(cumulative(x, 5.0, 1.0), x.powi(5));
            close(cumulative(x, 1.0, 21.0), 1.0 - (1.0 - x).powi(21));
            close(cumulative(x, 2.0, 2.0), x * x * (3.0 - 2.0 * x));
        }
    }

    /// I_x(a, b) for whole numbers is the chance of at least `a` successes in `a + b - 1` trials.
    #[test]
    fn binomial_sums() {
        for (x, a, b) in [(0.3_f64, 4_u32, 7_u32), (0.9, 30, 4), (0.5, 10, 10), (0.02, 2, 60)] {
            let trials = a + b - 1;
            let mut choose = 1.0_f64;
            let mut sum = 0.0;
            for k in 0..=trials {
                if k >= a {
                    sum += choose * x.powi(k.cast_signed()) * (1.0 - x).powi((trials - k).cast_signed());
                }
                choose *= f64::from(trials - k) / f64::from(k + 1);
            }
            close(cumulative(x, f64::from(a), f64::from(b)), sum);
        }
    }

    #[test]
    fn quantiles_invert() {
        close(quantile(0.05, 1.0, 1.0), 0.05);
        close(quantile(0.95, 1.0, 1.0), 0.95);
        close(quantile(0.05, 101.0, 1.0), 0.05_f64.powf(1.0 / 101.0));
        close(quantile(0.95, 1.0, 21.0), 1.0 - 0.05_f64.powf(1.0 / 21.0));
        for (alpha, beta) in [(3.5, 2.25), (501.0, 21.0), (1e6, 40.0), (1.0, 5e5), (2e5, 2e5)] {
            for probability in [0.05, 0.5, 0.95] {
                close(cumulative(quantile(probability, alpha, beta), alpha, beta), probability);
            }
        }
    }
}
