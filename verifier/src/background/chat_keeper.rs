//! Keeps tokenizers and templates in step with the catalogue: finds those of added models, and drops those that no job needs any
//! more. A model whose text side isn't found is named in the log once, and looked for again; its jobs wait, and other models go on.
//! Models that share a text side are each a way to find it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use infera_ledger::CatalogueEntry;
use infera_model::chat_source::ChatSource;
use infera_types::ids::{Digest, ModelName};
use infera_types::time::Timestamp;
use tokio::time::Instant;

use crate::config::Config;
use crate::nodes::LedgerView;
use crate::tenure::{Chats, SEARCH_RETRY, Vitals};

/// How long the text side of a removed model is kept. Its jobs were accepted before and end by their deadlines, which are an
/// hour away by default; what comes after that has no job left.
const KEPT_AFTER_REMOVAL: Duration = Duration::from_secs(48 * 60 * 60);

/// The searches at once: each reads files of some MiB, and one that waits for an archive must not keep the others waiting.
const AT_ONCE: usize = 4;

/// What the task needs.
pub(crate) struct ChatKeeper {
    /// The operator's settings.
    pub(crate) config: Arc<Config>,
    /// The text sides that are there.
    pub(crate) chats: Arc<Chats>,
    /// Where others are found.
    pub(crate) source: Option<Arc<dyn ChatSource>>,
    /// What the ledger says of the network.
    pub(crate) ledger_view: Arc<LedgerView>,
    /// Shows operators how many models have none.
    pub(crate) vitals: Arc<Vitals>,
}

/// A text side that was looked for and not found.
#[derive(Debug)]
struct Search {
    failures: u32,
    due: Instant,
    /// The models on offer for which it was looked for; their lack was logged.
    told: HashSet<ModelName>,
}

impl Search {
    /// Begins without a failure.
    fn new() -> Self {
        Self { failures: 0, due: Instant::now(), told: HashSet::new() }
    }

    /// Returns whether it is time to look again: the wait is over, or a model came that may know a place of its own.
    fn is_due(&self, missing: &Missing, now: Instant) -> bool {
        self.due <= now || missing.on_offer().any(|entry| !self.told.contains(&entry.name))
    }

    /// Counts a failure, and returns the models on offer whose lack wasn't told yet.
    fn failed<'a>(&mut self, missing: &'a Missing, now: Instant) -> Vec<&'a ModelName> {
        self.failures = self.failures.saturating_add(1);
        self.due = now + SEARCH_RETRY.wait(self.failures);
        let lacking: HashSet<ModelName> = missing.on_offer().map(|entry| entry.name.clone()).collect();
        let new =
            missing.on_offer().map(|entry| &entry.name).filter(|name| !self.told.contains(*name)).collect();
        self.told = lacking;
        new
    }
}

/// A text side that isn't there, and the models that need it: those on offer first, since a source may know a place by a model's
/// name and forget the names of removed ones.
#[derive(Clone, Debug)]
struct Missing {
    tokenizer: Digest,
    entries: Vec<Arc<CatalogueEntry>>,
}

impl Missing {
    /// Sorts entries without a text side by what they lack; the text sides that a model on offer needs come first.
    fn of(mut entries: Vec<Arc<CatalogueEntry>>) -> Vec<Self> {
        entries.sort_by(|one, other| (one.is_removed(), &one.name).cmp(&(other.is_removed(), &other.name)));
        let mut places = HashMap::new();
        let mut all: Vec<Self> = Vec::new();
        for entry in entries {
            let tokenizer = entry.tokenizer;
            let place = *places.entry(tokenizer).or_insert(all.len());
            match all.get_mut(place) {
                Some(missing) => missing.entries.push(entry),
                None => all.push(Self { tokenizer, entries: vec![entry] }),
            }
        }
        all
    }

    /// Returns the entries that aren't removed.
    fn on_offer(&self) -> impl Iterator<Item = &Arc<CatalogueEntry>> {
        self.entries.iter().filter(|entry| !entry.is_removed())
    }
}

impl ChatKeeper {
    /// Keeps them until the tenure ends.
    pub(crate) async fn run(self) {
        let mut searches = HashMap::new();
        loop {
            self.look(&mut searches).await;
            tokio::time::sleep(Duration::from_millis(self.config.refresh_ms)).await;
        }
    }

    /// Compares what is there with the catalogue once, and searches for what is missing and due.
    async fn look(&self, searches: &mut HashMap<Digest, Search>) {
        let snapshot = self.ledger_view.snapshot();
        let now = Timestamp::now();
        let is_kept = |entry: &CatalogueEntry| {
            entry.removed_ms.is_none_or(|removed| now.since(removed) < KEPT_AFTER_REMOVAL)
        };
        let kept: Vec<_> = snapshot.catalogue.values().filter(|entry| is_kept(entry)).collect();
        self.chats.keep(&kept.iter().map(|entry| entry.tokenizer).collect());
        let missing = Missing::of(kept.into_iter().filter(|entry| !self.chats.has(entry)).cloned().collect());
        let lacking: HashSet<Digest> = missing.iter().map(|missing| missing.tokenizer).collect();
        searches.retain(|digest, _| lacking.contains(digest));
        let now = Instant::now();
        let is_due = |missing: &&Missing| {
            searches.get(&missing.tokenizer).is_none_or(|search: &Search| search.is_due(missing, now))
        };
        let due: Vec<Missing> = missing.iter().filter(is_due).cloned().collect();
        let mut found = stream::iter(due).map(|missing| self.search(missing)).buffer_unordered(AT_ONCE);
        while let Some((missing, problem)) = found.next().await {
            let Some(problem) = problem else {
                searches.remove(&missing.tokenizer);
                continue;
            };
            let search = searches.entry(missing.tokenizer).or_insert_with(Search::new);
            for model in search.failed(&missing, Instant::now()) {
                tracing::warn!(
                    %model, tokenizer = %missing.tokenizer, problem,
                    "in the catalogue, but this verifier has no tokenizer for it: its jobs wait; it is looked for again"
                );
            }
        }
        let unread =
            missing.iter().flat_map(Missing::on_offer).filter(|entry| !self.chats.has(entry)).count();
        self.vitals.unread.store(unread, Ordering::Relaxed);
    }

    /// Searches for one text side, for each model that needs it until it is found, and takes it up; returns the first reason why
    /// it isn't there, if it isn't.
    async fn search(&self, missing: Missing) -> (Missing, Option<String>) {
        let mut problem = None;
        for entry in &missing.entries {
            let found = match &self.source {
                Some(source) => source.find(&entry.name, entry.tokenizer).await,
                None => Ok(None),
            };
            match found {
                Ok(Some(chat)) => {
                    tracing::info!(model = %entry.name, "its tokenizer is found; its jobs are taken from now on");
                    self.chats.take_up(chat);
                    return (missing, None);
                }
                Ok(None) => {}
                Err(error) => {
                    problem.get_or_insert_with(|| error.to_string());
                }
            }
        }
        let nowhere = || "no folder of models has it, and no archive".to_owned();
        (missing, Some(problem.unwrap_or_else(nowhere)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, tokenizer: &[u8], is_removed: bool) -> Arc<CatalogueEntry> {
        Arc::new(CatalogueEntry {
            name: ModelName::new(name),
            digests: Vec::new(),
            tokenizer: Digest::of(tokenizer),
            context_max: 64,
            said_bytes_per_token: None,
            quantization: None,
            end_tokens: Vec::new(),
            reference_token_us: 1,
            bytes: None,
            created_ms: Timestamp::from_millis(1),
            removed_ms: is_removed.then(|| Timestamp::from_millis(2)),
        })
    }

    #[test]
    fn models_on_offer_are_searched_for_before_removed_ones_of_the_same_tokenizer() {
        let all = [
            entry("a", b"shared", true),
            entry("c", b"shared", false),
            entry("b", b"shared", false),
            entry("d", b"gone", true),
        ];
        let missing = Missing::of(all.to_vec());
        let names = |missing: &Missing| -> Vec<String> {
            missing.entries.iter().map(|entry| entry.name.to_string()).collect()
        };
        assert_eq!(missing.iter().map(names).collect::<Vec<_>>(), [vec!["b", "c", "a"], vec!["d"]]);
    }

    #[test]
    fn each_model_on_offer_is_told_of_once_and_a_new_one_is_looked_for_at_once() {
        let missing = |entries: &[Arc<CatalogueEntry>]| Missing::of(entries.to_vec()).remove(0);
        let (removed, first, second) =
            (entry("a", b"shared", true), entry("b", b"shared", false), entry("c", b"shared", false));
        let (now, mut search) = (Instant::now(), Search::new());
        let alone = missing(&[Arc::clone(&removed)]);
        assert!(search.failed(&alone, now).is_empty(), "a removed model's lack is no news");
        assert!(!search.is_due(&alone, now), "it waits");
        let with_first = missing(&[Arc::clone(&removed), Arc::clone(&first)]);
        assert!(search.is_due(&with_first, now), "it came just now");
        assert_eq!(search.failed(&with_first, now), [&first.name]);
        assert!(search.failed(&with_first, now).is_empty(), "once");
        assert!(!search.is_due(&with_first, now));
        let with_both = missing(&[removed, first, Arc::clone(&second)]);
        assert!(search.is_due(&with_both, now));
        assert_eq!(search.failed(&with_both, now), [&second.name]);
    }
}
