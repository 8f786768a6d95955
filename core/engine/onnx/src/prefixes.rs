//! Keeps what was computed for the beginnings of prompts: whole chunks, found again by the tokens up to their end and by
//! the scope of those who may share them. Pure: it knows blocks of numbers, and no tensor.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use infera_types::ids::Digest;
use infera_types::numbers::TokenId;

/// What was computed for one chunk.
pub(super) type Block = Arc<Vec<f32>>;

/// The bounded cache; what was used last stays longest.
pub(super) struct Prefixes {
    chunk_tokens: usize,
    bytes_max: usize,
    bytes: usize,
    /// Counts uses, to order them.
    uses: u64,
    entries: HashMap<Digest, Entry>,
    by_use: BTreeMap<u64, Digest>,
}

struct Entry {
    block: Block,
    used: u64,
}

/// What an entry takes beside its numbers: its places in both maps.
const ENTRY_BYTES: usize = 256;

fn weight_bytes(block: &Block) -> usize {
    ENTRY_BYTES + block.len() * size_of::<f32>()
}

impl Prefixes {
    /// Makes an empty cache of at most `bytes_max` bytes; of 0 it keeps nothing.
    pub(super) fn new(chunk_tokens: usize, bytes_max: usize) -> Self {
        Self { chunk_tokens, bytes_max, bytes: 0, uses: 0, entries: HashMap::new(), by_use: BTreeMap::new() }
    }

    /// Returns the keys of the whole chunks that `tokens` begin with: each depends on the scope and on all tokens up to the
    /// chunk's end.
    fn keys(&self, scope: &Digest, tokens: &[TokenId]) -> Vec<Digest> {
        let mut key = *scope;
        let chunks = tokens.chunks_exact(self.chunk_tokens.max(1));
        let next = |chunk: &[TokenId]| {
            let mut bytes = key.as_bytes().to_vec();
            bytes.extend(chunk.iter().flat_map(|token| token.to_le_bytes()));
            key = Digest::of(&bytes);
            key
        };
        chunks.map(next).collect()
    }

    /// Returns the blocks of as many whole chunks as are known at the beginning of `tokens`. The last token is never among
    /// them: its row is wanted, so it must be computed.
    pub(super) fn find(&mut self, scope: &Digest, tokens: &[TokenId]) -> Vec<Block> {
        if self.bytes_max == 0 {
            return Vec::new();
        }
        let keys = self.keys(scope, &tokens[..tokens.len().saturating_sub(1)]);
        let known = keys.iter().take_while(|key| self.entries.contains_key(key)).count();
        // The last chunk first, so that the first, without which none is found, counts as used last.
        keys[..known].iter().rev().for_each(|key| self.touch(key));
        keys[..known]
            .iter()
            .filter_map(|key| self.entries.get(key))
            .map(|entry| entry.block.clone())
            .collect()
    }

    /// Keeps what was computed for the last chunk of `tokens`, a whole number of chunks. `block` is asked for the numbers
    /// only if they aren't known yet.
    pub(super) fn keep(
        &mut self,
        scope: &Digest,
        tokens: &[TokenId],
        block: impl FnOnce() -> Option<Vec<f32>>,
    ) {
        let Some(key) = self.keys(scope, tokens).pop() else { return };
        if self.bytes_max == 0 || self.entries.contains_key(&key) {
            return;
        }
        let Some(block) = block().map(Arc::new) else { return };
        let weight = weight_bytes(&block);
        if weight > self.bytes_max {
            return;
        }
        while self.bytes + weight > self.bytes_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.bytes -= weight_bytes(&entry.block);
            }
        }
        self.bytes += weight;
        self.entries.insert(key, Entry { block, used: 0 });
        self.touch(&key);
    }

    fn touch(&mut self, key: &Digest) {
        if let Some(entry) = self.entries.get_mut(key) {
            self.by_use.remove(&entry.used);
            self.uses += 1;
            entry.used = self.uses;
            self.by_use.insert(self.uses, *key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 4;

    fn scope(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// Keeps all whole chunks of `tokens`, with the chunk's end as its number.
    fn keep_all(prefixes: &mut Prefixes, scope: &Digest, tokens: &[TokenId]) {
        for end in (CHUNK..=tokens.len()).step_by(CHUNK) {
            prefixes.keep(scope, &tokens[..end], || Some(vec![end as f32; 8]));
        }
    }

    fn ends(blocks: &[Block]) -> Vec<f32> {
        blocks.iter().map(|block| block[0]).collect()
    }

    #[test]
    fn the_longest_known_beginning_of_whole_chunks_is_found() {
        let mut prefixes = Prefixes::new(CHUNK, 1 << 20);
        let tokens: Vec<TokenId> = (0..13).collect();
        keep_all(&mut prefixes, &scope("one"), &tokens);
        assert_eq!(ends(&prefixes.find(&scope("one"), &tokens)), [4.0, 8.0, 12.0]);
        assert_eq!(
            ends(&prefixes.find(&scope("one"), &tokens[..12])),
            [4.0, 8.0],
            "the last token is computed"
        );
        assert_eq!(ends(&prefixes.find(&scope("one"), &tokens[..4])), [0.0; 0]);
        let other: Vec<TokenId> = (0..8).chain([99, 9, 10, 11, 12]).collect();
        assert_eq!(ends(&prefixes.find(&scope("one"), &other)), [4.0, 8.0]);
        let shifted: Vec<TokenId> = (4..13).collect();
        assert!(prefixes.find(&scope("one"), &shifted).is_empty(), "chunks count from the first token");
        assert!(prefixes.find(&scope("two"), &tokens).is_empty(), "another scope");
    }

    #[test]
    fn the_bound_holds_and_what_was_used_last_stays() {
        let weight = weight_bytes(&Arc::new(vec![0.0; 8]));
        let mut prefixes = Prefixes::new(CHUNK, 3 * weight);
        let (one, two): (Vec<TokenId>, Vec<TokenId>) = ((0..9).collect(), (100..109).collect());
        keep_all(&mut prefixes, &scope("s"), &one);
        assert_eq!(prefixes.find(&scope("s"), &one).len(), 2);
        keep_all(&mut prefixes, &scope("s"), &two);
        assert_eq!(prefixes.find(&scope("s"), &two).len(), 2);
        // Of the older two the second chunk went, which is of no use without the first.
        assert_eq!(ends(&prefixes.find(&scope("s"), &one)), [4.0]);
        assert!(prefixes.bytes <= 3 * weight && prefixes.entries.len() == 3 && prefixes.by_use.len() == 3);
        let mut none = Prefixes::new(CHUNK, 0);
        keep_all(&mut none, &scope("s"), &one);
        assert!(none.find(&scope("s"), &one).is_empty() && none.entries.is_empty());
        let mut small = Prefixes::new(CHUNK, weight - 1);
        keep_all(&mut small, &scope("s"), &one);
        assert!(small.entries.is_empty(), "a block over the bound is not kept");
    }
}
