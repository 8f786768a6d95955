//! Replays the corpus of every fuzz target (`infra/fuzz`), and some mutations of it that are the same in each run. The
//! targets panic if a promise is broken.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../infra/fuzz/targets.rs"]
mod targets;

use std::path::Path;

/// How many mutations of its corpus each target gets: a second's worth in a development build.
const MUTATIONS: usize = 3_000;
/// Inputs don't grow beyond this, so that the time is bounded.
const MUTATION_MAX_BYTES: usize = 4_096;

/// A small generator, which gives the same numbers everywhere (xorshift64*).
struct Numbers(u64);

impl Numbers {
    /// Returns a number below `bound`, or 0 if that is 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        usize::try_from(number).expect("32 bits").checked_rem(bound).unwrap_or(0)
    }
}

/// Changes an input at a few places: bytes are replaced, removed, repeated, or taken from another input.
fn mutate(input: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(5) {
            0 => bytes.insert(at, u8::try_from(numbers.below(256)).expect("a byte")),
            1 if at < bytes.len() => bytes[at] = u8::try_from(numbers.below(256)).expect("a byte"),
            2 if at < bytes.len() => bytes.truncate(at),
            3 if at < bytes.len() => {
                let end = at + numbers.below(bytes.len() - at);
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let from = numbers.below(other.len() + 1);
                let end = from + numbers.below(other.len() - from + 1);
                bytes.splice(at..at, other[from..end].iter().copied());
            }
        }
        bytes.truncate(MUTATION_MAX_BYTES);
    }
    bytes
}

#[test]
fn every_target_stands_its_corpus_and_mutations_of_it() {
    for (name, target) in targets::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/fuzz/corpus").join(name);
        let entries = std::fs::read_dir(&folder).expect("a corpus");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        let inputs: Vec<Vec<u8>> =
            files.iter().map(|file| std::fs::read(file).expect("a readable file")).collect();
        assert!(inputs.len() >= 5, "the corpus of {name} has {} inputs", inputs.len());
        inputs.iter().for_each(|input| target(input));
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
        for _ in 0..MUTATIONS {
            let input = &inputs[numbers.below(inputs.len())];
            let other = &inputs[numbers.below(inputs.len())];
            target(&mutate(input, other, &mut numbers));
        }
        println!("{name}: {} inputs and {MUTATIONS} mutations", inputs.len());
    }
}
