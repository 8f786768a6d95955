//! Computes what a node's record is worth: R in [0, 1000], its tier, and whether it is ejected. A pure function of the record
//! that the projector keeps and a `now`. It changes no record and draws no node.
//!
//! `Q` is the 5 % lower bound of Beta(good + 1, bad + 1): what we may rely on, given a uniform prior. What a verdict
//! adds to good and bad, and how both decay, is the ledger's (`infera_ledger::fold`).
//! `R = round(1000 * Q^2 * (0.7 + 0.2 S + 0.1 U))`, with speed `S` and uptime `U` in [0, 1]; being a product, no speed
//! makes up for wrong answers.
//!
//! Weights use the lower bound, ejection the upper (95 %): too little evidence makes a node rarely drawn, never
//! thrown out.

pub mod beta;

use infera_ledger::NodeStanding;
use infera_ledger::fold::decay;
use infera_types::time::Timestamp;

/// A node is ejected when even the upper bound of its R is below this.
pub const EJECTION_FLOOR: f64 = 100.0;

/// With less evidence (good and bad together) than this a node draws as a newcomer, however long it is here: ten
/// jobs of late. So an idle node comes back by the newcomers' door and doesn't starve.
pub const NEWCOMER_EVIDENCE: f64 = 10.0;

/// VALID verdicts ever for the tier [`Tier::Verified`].
const VERIFIED_COUNT: u64 = 50;
/// Q for the tier [`Tier::Verified`].
const VERIFIED_QUALITY: f64 = 0.95;
/// VALID verdicts ever for the tier [`Tier::Trusted`].
const TRUSTED_COUNT: u64 = 500;
/// Q for the tier [`Tier::Trusted`].
const TRUSTED_QUALITY: f64 = 0.99;
/// Time since the first VALID for the tier [`Tier::Trusted`]: fourteen days.
const TRUSTED_AGE_MS: u64 = 14 * 24 * 3600 * 1000;

/// How far a node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Fewer than 50 VALID, or a quality below 0.95.
    New,
    /// At least 50 VALID and a quality of 0.95.
    Verified,
    /// At least 500 VALID, a quality of 0.99, and 14 days.
    Trusted,
}

/// What isn't in a node's record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Circumstances {
    /// Tokens per second that earn no speed yet: the model's median. Four times that earns all of it.
    pub reference_tokens_per_second: f64,
    /// Share of the hours that its owner declared in which it was there, in [0, 1].
    pub uptime: f64,
}

/// What a node's record is worth now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reputation {
    /// R, in [0, 1000].
    pub value: u16,
    /// The highest that R may be, given the evidence, whatever speed and uptime are.
    pub value_upper: u16,
    /// Q: the lower bound of the share of good answers.
    pub quality: f64,
    /// S, in [0, 1].
    pub speed: f64,
    /// U, in [0, 1].
    pub uptime: f64,
    /// Good and bad together, decayed to now.
    pub evidence: f64,
    /// How far it has come.
    pub tier: Tier,
}

impl Reputation {
    /// Returns whether the node is kept out of every draw.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        f64::from(self.value_upper) < EJECTION_FLOOR
    }

    /// Returns whether there is too little evidence to weigh the node.
    #[must_use]
    pub fn is_newcomer(&self) -> bool {
        self.evidence < NEWCOMER_EVIDENCE
    }

    /// Returns R / 1000, which the harmonizer weighs by.
    #[must_use]
    pub fn weight(&self) -> f64 {
        f64::from(self.value) / 1000.0
    }

    /// Returns the worth of having no record at all.
    #[must_use]
    pub fn unknown(circumstances: &Circumstances) -> Self {
        Self::assemble(&Counts::default(), circumstances, Tier::New)
    }

    /// Returns the worth of this record at `now`.
    #[must_use]
    pub fn of(standing: &NodeStanding, circumstances: &Circumstances, now: Timestamp) -> Self {
        let counts = Counts::at(standing, now);
        let mut reputation = Self::assemble(&counts, circumstances, Tier::New);
        reputation.tier = tier(standing, reputation.quality, now);
        reputation
    }

    fn assemble(counts: &Counts, circumstances: &Circumstances, tier: Tier) -> Self {
        let (alpha, beta) = (counts.good + 1.0, counts.bad + 1.0);
        let quality = beta::quantile(0.05, alpha, beta);
        let quality_upper = beta::quantile(0.95, alpha, beta);
        let speed = counts.speed(circumstances.reference_tokens_per_second);
        let uptime = unit(circumstances.uptime);
        let share = 0.7 + 0.2 * speed + 0.1 * uptime;
        Self {
            value: thousandths(quality * quality * share),
            value_upper: thousandths(quality_upper * quality_upper),
            quality,
            speed,
            uptime,
            evidence: counts.good + counts.bad,
            tier,
        }
    }
}

/// A record, decayed to one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    good: f64,
    bad: f64,
    on_time: f64,
    asked: f64,
    tokens: f64,
    seconds: f64,
}

impl Counts {
    fn at(standing: &NodeStanding, now: Timestamp) -> Self {
        let left = decay(now.since(standing.updated_ms));
        let weight = |stored: f64| if stored.is_finite() { stored.max(0.0) * left } else { 0.0 };
        Self {
            good: weight(standing.good),
            bad: weight(standing.bad),
            on_time: weight(standing.on_time),
            asked: weight(standing.asked),
            tokens: weight(standing.tokens),
            seconds: weight(standing.seconds),
        }
    }

    /// Returns `S = 0.5 on_time + 0.5 clip(ln(v / v_ref) / ln 4, 0, 1)`. A node counts as punctual until shown otherwise, and
    /// as no faster than the reference until measured.
    fn speed(&self, reference: f64) -> f64 {
        let on_time = if self.asked > 0.0 { unit(self.on_time / self.asked) } else { 1.0 };
        let ratio =
            if self.seconds > 0.0 && reference > 0.0 { self.tokens / self.seconds / reference } else { 1.0 };
        0.5 * on_time + 0.5 * unit(ratio.ln() / 4.0_f64.ln())
    }
}

/// Clips a value to [0, 1]; NaN becomes 0.
fn unit(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}

fn thousandths(share: f64) -> u16 {
    (1000.0 * unit(share)).round() as u16
}

fn tier(standing: &NodeStanding, quality: f64, now: Timestamp) -> Tier {
    let age_ms = standing.first_valid_ms.map_or(0, |first| now.as_millis().saturating_sub(first.as_millis()));
    let trusted =
        standing.valid_count >= TRUSTED_COUNT && quality >= TRUSTED_QUALITY && age_ms >= TRUSTED_AGE_MS;
    let verified = standing.valid_count >= VERIFIED_COUNT && quality >= VERIFIED_QUALITY;
    match (trusted, verified) {
        (true, _) => Tier::Trusted,
        (false, true) => Tier::Verified,
        (false, false) => Tier::New,
    }
}

/// Returns the measured tokens per second of a record; `None` while nothing was measured. Both sums decay alike, so their
/// ratio doesn't.
#[must_use]
pub fn tokens_per_second(standing: &NodeStanding) -> Option<f64> {
    let measured = standing.seconds > 0.0 && standing.tokens > 0.0;
    measured.then(|| standing.tokens / standing.seconds).filter(|speed| speed.is_finite())
}
