//! What the tests share: a repository, a store, and a fetch between them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use infera_conformance::hub::{Act, Asked, TestHub};
use infera_model_store::fetching::{Event, FetchError, Fetched, Order, Way, fetch};
use infera_model_store::folder::Store;
use infera_model_store::hub::{Endpoint, HubSource};
use infera_model_store::source::{Source, Waits};
use infera_types::retry::Backoff;
use infera_types::secret::Secret;
use tempfile::TempDir;

/// The repository's name.
pub(crate) const NAME: &str = "maker/Model-1";

/// Waits as short as a loaded machine allows.
pub(crate) const WAITS: Waits = Waits {
    answer: Duration::from_secs(5),
    stall: Duration::from_millis(700),
    again: Backoff::constant(Duration::from_millis(5)),
    tries: 4,
};

/// Makes bytes that look like weights: none is like its neighbours.
pub(crate) fn weights(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Makes an ONNX file that keeps weights in files of these names.
pub(crate) fn graph(data: &[&str]) -> Vec<u8> {
    let message = |number: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).expect("a short one");
        assert!(length < 128, "one byte of length");
        [&[number << 3 | 2, length][..], content].concat()
    };
    let entry = |name: &&str| {
        let entry = [message(1, b"location"), message(2, name.as_bytes())].concat();
        message(5, &message(13, &entry))
    };
    message(7, &data.iter().map(entry).collect::<Vec<_>>().concat())
}

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Makes a repository: settings, a graph with two files of weights, and one with none.
pub(crate) fn repository() -> Files {
    let files = [
        ("README.md", b"a model".to_vec()),
        ("config.json", br#"{"n_positions":16}"#.to_vec()),
        ("tokenizer.json", weights(30_000, 1)),
        ("tokenizer_config.json", b"{}".to_vec()),
        ("onnx/model.onnx", graph(&["model.onnx_data", "model.onnx_data_1"])),
        ("onnx/model.onnx_data", weights(900_000, 2)),
        ("onnx/model.onnx_data_1", weights(300_001, 3)),
        ("onnx/model_q4.onnx", graph(&[])),
    ];
    files.into_iter().map(|(path, content)| (path.to_owned(), content)).collect()
}

/// A Hub, a store, and what was seen of fetches between them.
pub(crate) struct Stage {
    pub(crate) hub: TestHub,
    pub(crate) folder: TempDir,
    pub(crate) seen: Mutex<Vec<String>>,
}

impl Stage {
    pub(crate) async fn new(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        Self::of(repository(), script).await
    }

    pub(crate) async fn of(files: Files, script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let hub = TestHub::start(NAME, files, script).await;
        Self { hub, folder: tempfile::tempdir().expect("a folder"), seen: Mutex::default() }
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(self.folder.path())
    }

    pub(crate) fn source(&self, token: Option<&str>) -> HubSource {
        let endpoint = Endpoint::new(Some(&self.hub.endpoint()), token.map(Secret::new)).expect("sound");
        HubSource::new(&endpoint, NAME, WAITS).expect("sound")
    }

    pub(crate) async fn fetch(&self, order: &Order) -> Result<Fetched, FetchError> {
        self.fetch_from(&self.source(None), order).await
    }

    pub(crate) async fn fetch_from(&self, source: &dyn Source, order: &Order) -> Result<Fetched, FetchError> {
        let report = |event: Event<'_>| {
            let line = match event {
                Event::Came(_) => return,
                event => format!("{event:?}"),
            };
            self.seen.lock().expect("ours").push(line);
        };
        fetch(&self.store(), Way { source, waits: WAITS, report: &report }, order).await
    }

    /// Returns how many lines that were seen hold `text`.
    pub(crate) fn seen(&self, text: &str) -> usize {
        self.seen.lock().expect("ours").iter().filter(|line| line.contains(text)).count()
    }

    /// Returns a file of the model's folder.
    pub(crate) fn file(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.path().join("m").join(path)).ok()
    }

    /// Checks that the files of the variant `model` are there as the Hub has them, and nothing partial.
    pub(crate) fn expect_whole(&self) {
        for (path, content) in repository() {
            let wanted = path != "README.md" && path != "onnx/model_q4.onnx";
            assert!(self.file(&path) == wanted.then_some(content), "{path}");
            assert_eq!(self.file(&format!("{path}.part")), None, "{path}");
            assert_eq!(self.file(&format!("{path}.part.json")), None, "{path}");
        }
    }
}

pub(crate) fn order() -> Order {
    Order {
        name: "m".to_owned(),
        repository: NAME.to_owned(),
        variant: "model".to_owned(),
        revision: None,
        pins: None,
    }
}
