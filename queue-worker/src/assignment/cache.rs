//! Caches the latest answers of this node, so that a job whose verifier died is answered without decoding it again.
//! The cache is bounded by entries and by bytes, of all models together, and drops the oldest entry first. Pure and without
//! locks, but for the one under which the models share it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::answer::{Answer, AnswerKey};

/// The cache as all models share it: an answer's key names its model. Clones share the same cache.
#[derive(Clone, Debug)]
pub(crate) struct SharedCache(Arc<Mutex<ResultCache>>);

impl SharedCache {
    /// Makes an empty cache of at most this many answers and bytes.
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self(Arc::new(Mutex::new(ResultCache::new(entries_max, bytes_max))))
    }

    /// Returns the answer under `key`, if it is kept.
    pub(crate) fn get(&self, key: &AnswerKey) -> Option<Arc<Answer>> {
        self.lock().get(key)
    }

    /// Keeps an answer, unless it is larger than the whole cache.
    pub(crate) fn insert(&self, key: AnswerKey, answer: Arc<Answer>) {
        self.lock().insert(key, answer);
    }

    fn lock(&self) -> MutexGuard<'_, ResultCache> {
        // Nothing panics while it holds the lock. If something did, the cache would still be usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The latest answers, by what they answer.
#[derive(Debug)]
struct ResultCache {
    entries_max: usize,
    bytes_max: usize,
    answers: HashMap<AnswerKey, Arc<Answer>>,
    /// The keys of `answers`, the oldest first.
    order: VecDeque<AnswerKey>,
    bytes: usize,
}

impl ResultCache {
    fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self { entries_max, bytes_max, answers: HashMap::new(), order: VecDeque::new(), bytes: 0 }
    }

    fn get(&self, key: &AnswerKey) -> Option<Arc<Answer>> {
        self.answers.get(key).cloned()
    }

    fn insert(&mut self, key: AnswerKey, answer: Arc<Answer>) {
        let weight = answer.weight_bytes();
        if weight > self.bytes_max || self.answers.contains_key(&key) {
            return;
        }
        self.answers.insert(key, answer);
        self.order.push_back(key);
        self.bytes += weight;
        while self.order.len() > self.entries_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(gone) = self.answers.remove(&oldest) {
                self.bytes -= gone.weight_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::assignment::answer::tests::{answer, assignment};

    fn key(job: u8) -> AnswerKey {
        AnswerKey::of(&assignment(job))
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut cache = ResultCache::new(2, 1_000_000);
        for job in 1..=3 {
            cache.insert(key(job), Arc::new(answer("x")));
        }
        assert!(cache.get(&key(1)).is_none());
        assert!(cache.get(&key(2)).is_some() && cache.get(&key(3)).is_some());
    }

    #[test]
    fn an_answer_larger_than_the_cache_pushes_nothing_out() {
        let mut cache = ResultCache::new(10, 4_000);
        cache.insert(key(1), Arc::new(answer("small")));
        cache.insert(key(2), Arc::new(answer(&"x".repeat(5_000))));
        assert!(cache.get(&key(1)).is_some() && cache.get(&key(2)).is_none());
    }

    proptest! {
        #[test]
        fn neither_bound_is_ever_passed(inserts in prop::collection::vec((any::<u8>(), 0_usize..3_000), 0..80)) {
            let mut cache = ResultCache::new(7, 6_000);
            for (job, length) in inserts {
                cache.insert(key(job), Arc::new(answer(&"x".repeat(length))));
                let weighed: usize = cache.answers.values().map(|answer| answer.weight_bytes()).sum();
                prop_assert_eq!(weighed, cache.bytes);
                prop_assert!(cache.bytes <= 6_000 && cache.order.len() <= 7);
                prop_assert_eq!(cache.order.len(), cache.answers.len());
            }
        }
    }
}
