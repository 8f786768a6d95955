//! Decides whether models fit into memory together: a pure function of what each needs and of a bound. It says what would fit
//! where they don't.

use std::fmt;

use infera_types::ids::ModelName;

use crate::footprint::{Load, Shape, needed};

/// One model that is to be served, and how it is used at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The model's name.
    pub name: ModelName,
    /// What its files state.
    pub shape: Shape,
    /// How it is used at most.
    pub load: Load,
}

impl Wanted {
    fn bytes_with(&self, sequences_max: u64) -> u64 {
        let load = Load { sequences: self.load.sequences.min(sequences_max), ..self.load };
        needed(&self.shape, &load).total()
    }
}

/// A bound on the memory of all models together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// In bytes.
    pub bytes: u64,
    /// Whether an operator set it. Otherwise it is what was free when the program started.
    pub is_set: bool,
}

/// The models need more memory than they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom {
    bound: Bound,
    copies: u64,
    /// Each model, its sequences, the tokens of each, and the bytes that one copy needs.
    needs: Vec<(ModelName, u64, u64, u64)>,
    remedy: Remedy,
}

/// What would fit.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Remedy {
    /// All, with at most this many sequences each.
    FewerSequences(u64),
    /// These only, with a sequence each.
    Only(Vec<ModelName>),
}

impl NoRoom {
    /// Returns the `engine.sequences_max` with which all models fit; none if some don't fit at all.
    #[must_use]
    pub const fn fitting_sequences_max(&self) -> Option<u64> {
        match self.remedy {
            Remedy::FewerSequences(most) => Some(most),
            Remedy::Only(_) => None,
        }
    }
}

impl std::error::Error for NoRoom {}

impl fmt::Display for NoRoom {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self.needs.iter().fold(0_u64, |sum, need| sum.saturating_add(need.3));
        let needs: Vec<String> = self
            .needs
            .iter()
            .map(|(name, sequences, context, bytes)| {
                format!("{name} {} ({sequences} sequences of {context} tokens)", shown(*bytes))
            })
            .collect();
        let in_all = shown(sum.saturating_mul(self.copies));
        write!(formatter, "the models need up to {in_all} of memory: {}", needs.join(", "))?;
        if self.copies > 1 {
            write!(formatter, ", in each of {} nodes", self.copies)?;
        }
        let bound = shown(self.bound.bytes);
        if self.bound.is_set {
            write!(formatter, "; engine.memory_bytes_max allows {bound}")?;
        } else {
            write!(formatter, "; {bound} were free at the start, and engine.memory_bytes_max isn't set")?;
        }
        match &self.remedy {
            Remedy::FewerSequences(most) => {
                write!(formatter, "; all fit with engine.sequences_max={most}")
            }
            Remedy::Only(names) if names.is_empty() => {
                write!(formatter, "; none of them fits, not even with engine.sequences_max=1")
            }
            Remedy::Only(names) => {
                let names: Vec<&str> = names.iter().map(ModelName::as_str).collect();
                write!(formatter, "; with engine.sequences_max=1, {} would fit", names.join(", "))
            }
        }
    }
}

/// Checks that the models fit within the bound, in `copies` engines of each.
///
/// # Errors
/// [`NoRoom`], which names what each needs and what would fit.
pub fn admit(wanted: &[Wanted], copies: u64, bound: Bound) -> Result<(), NoRoom> {
    let fits = |models: &[&Wanted], sequences_max: u64| {
        let sum = models.iter().fold(0_u64, |sum, model| sum.saturating_add(model.bytes_with(sequences_max)));
        sum.saturating_mul(copies) <= bound.bytes
    };
    let all: Vec<&Wanted> = wanted.iter().collect();
    let most = wanted.iter().map(|model| model.load.sequences).max().unwrap_or_default();
    if fits(&all, most) {
        return Ok(());
    }
    // More sequences never need less, so halving finds the most that fit.
    let (mut fitting, mut failing) = (0, most);
    while failing - fitting > 1 {
        let middle = fitting + (failing - fitting) / 2;
        if fits(&all, middle) { fitting = middle } else { failing = middle }
    }
    let remedy = if fitting > 0 { Remedy::FewerSequences(fitting) } else { Remedy::Only(only(&all, fits)) };
    let need = |model: &Wanted| {
        let Load { sequences, context, .. } = model.load;
        (model.name.clone(), sequences, context, model.bytes_with(sequences))
    };
    Err(NoRoom { bound, copies, needs: wanted.iter().map(need).collect(), remedy })
}

/// Returns the models that fit together with a sequence each, in the order in which they were named: each that finds room
/// beside those before it.
fn only(all: &[&Wanted], fits: impl Fn(&[&Wanted], u64) -> bool) -> Vec<ModelName> {
    let mut kept: Vec<&Wanted> = Vec::new();
    for model in all {
        kept.push(model);
        if !fits(&kept, 1) {
            kept.pop();
        }
    }
    kept.iter().map(|model| model.name.clone()).collect()
}

/// Writes bytes as a person reads them.
#[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
fn shown(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1024.0 { format!("{mebibytes:.0} MiB") } else { format!("{:.1} GiB", mebibytes / 1024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, weights_mib: u64) -> Wanted {
        let shape = Shape {
            weights_bytes: weights_mib << 20,
            // Sixteen caches weigh as much as a small model's weights ten times.
            cache_bytes_per_token: 64 << 10,
            vocabulary: 1_000,
            tokenizer_bytes: 0,
            context_max: 1_024,
        };
        let load = Load { context: 1_024, sequences: 16, chunk_tokens: 64, prefix_cache_bytes: 0 };
        Wanted { name: ModelName::new(name), shape, load }
    }

    fn told(bound_mib: u64, copies: u64, is_set: bool) -> Result<(), String> {
        let models = [wanted("small", 100), wanted("large", 2_000)];
        admit(&models, copies, Bound { bytes: bound_mib << 20, is_set }).map_err(|error| error.to_string())
    }

    #[test]
    fn what_does_not_fit_is_refused_with_each_need_and_what_would_fit() {
        let both_mib = |sequences: u64| -> u64 {
            let both = [wanted("small", 100), wanted("large", 2_000)];
            both.iter().map(|one| one.bytes_with(sequences)).sum::<u64>().div_ceil(1 << 20)
        };
        let all_mib = both_mib(16);
        assert_eq!((told(all_mib, 1, true), told(2 * all_mib, 2, true)), (Ok(()), Ok(())));
        let bound_mib = u64::midpoint(both_mib(1), all_mib);
        let text = told(bound_mib, 1, true).expect_err("sixteen sequences of each are too many");
        for words in ["small 1.", "large 3.0 GiB (16 sequences of 1024 tokens)", "memory_bytes_max allows 3."]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
        let most: u64 = text.rsplit('=').next().and_then(|most| most.parse().ok()).expect("a number");
        assert!((1..16).contains(&most), "{text}");
        let with = |sequences_max: u64| {
            let fewer = |mut one: Wanted| {
                one.load.sequences = sequences_max;
                one
            };
            let models = [fewer(wanted("small", 100)), fewer(wanted("large", 2_000))];
            admit(&models, 1, Bound { bytes: bound_mib << 20, is_set: true }).is_ok()
        };
        assert!(with(most) && !with(most + 1), "{text}");

        let text = told(1_000, 1, false).expect_err("the large one is too large");
        assert!(text.contains("were free at the start") && text.ends_with("small would fit"), "{text}");
        let text = told(100, 1, true).expect_err("nothing fits");
        assert!(text.contains("none of them fits"), "{text}");
        assert!(told(all_mib, 2, true).expect_err("two of each").contains("in each of 2 nodes"));
    }
}
