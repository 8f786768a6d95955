//! Which files of a repository serving a variant needs: those that the loader reads. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use infera_model::folder::{self as model_folder, GraphFacts};

use crate::names::check_path;
use crate::pins::Pin;

/// The largest settings file: tokenizers of 250,000 tokens take 20 MB.
pub(crate) const SETTINGS_MAX_BYTES: u64 = 256 << 20;
/// The largest ONNX file: no protocol buffer is larger; more weights lie beside it.
const GRAPH_MAX_BYTES: u64 = 2 << 30;

/// Why a repository can't be served, however it is fetched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NeedsError {
    /// A file is missing that every model needs.
    #[error(
        "{0} is missing in the repository, and a model can't be served without it; choose an ONNX export that has it, such as one of the onnx-community"
    )]
    NoFile(String),
    /// There is no such variant.
    #[error("the repository has no ONNX file for {variant:?}; {present}")]
    NoVariant {
        /// The variant that was asked for.
        variant: String,
        /// A sentence about those that are there.
        present: String,
    },
    /// A file is larger than any that can be used.
    #[error("{path} has {bytes} bytes, and at most {most} can be used")]
    TooLarge {
        /// The file.
        path: String,
        /// Its length.
        bytes: u64,
        /// The most.
        most: u64,
    },
    /// The graph keeps weights in a file that isn't in the repository, or can't be.
    #[error("{onnx} keeps weights in {data:?}, {problem}")]
    NoData {
        /// The ONNX file.
        onnx: String,
        /// The file that it names.
        data: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The files that are known to be needed before the graph is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The settings files, in the order of their names.
    pub settings: Vec<String>,
    /// The ONNX file.
    pub onnx: String,
    /// Files that by their names hold the ONNX file's weights. What the graph says decides.
    pub beside: Vec<String>,
}

type Files = BTreeMap<String, Pin>;

/// Returns what a variant of the listed files needs.
///
/// # Errors
/// [`NeedsError`] names what is missing, and the variants that are there.
pub fn of_variant(files: &Files, variant: &str) -> Result<Needs, NeedsError> {
    let mut settings = Vec::new();
    for name in model_folder::SETTINGS {
        match files.get(name) {
            Some(pin) if pin.bytes > SETTINGS_MAX_BYTES => {
                return Err(too_large(name, pin.bytes, SETTINGS_MAX_BYTES));
            }
            Some(_) => settings.push(name.to_owned()),
            None if model_folder::OPTIONAL.contains(&name) => {}
            None => return Err(NeedsError::NoFile(name.to_owned())),
        }
    }
    let onnx = model_folder::onnx_paths(variant).into_iter().find(|path| files.contains_key(path));
    let onnx = onnx.ok_or_else(|| NeedsError::NoVariant {
        variant: if variant.is_empty() { "model".to_owned() } else { variant.to_owned() },
        present: present(files),
    })?;
    let bytes = files.get(&onnx).map_or(0, |pin| pin.bytes);
    if bytes > GRAPH_MAX_BYTES {
        return Err(too_large(&onnx, bytes, GRAPH_MAX_BYTES));
    }
    let prefixes = [format!("{onnx}_data"), format!("{onnx}.data")];
    let is_beside = |path: &&String| prefixes.iter().any(|prefix| path.starts_with(prefix.as_str()));
    let beside = files.keys().filter(is_beside).cloned().collect();
    Ok(Needs { settings, onnx, beside })
}

fn too_large(path: &str, bytes: u64, most: u64) -> NeedsError {
    NeedsError::TooLarge { path: path.to_owned(), bytes, most }
}

/// Returns a sentence about the variants of the listed files.
fn present(files: &Files) -> String {
    let variants = variants(files);
    if variants.is_empty() {
        return "it has no ONNX file at all: look for the model's ONNX export, such as one of the onnx-community".to_owned();
    }
    format!("there are, for --variant: {}", variants.join(", "))
}

/// Returns the variants of the listed files.
#[must_use]
pub fn variants(files: &Files) -> Vec<String> {
    let is_graph = |path: &&String| {
        let inner = path.strip_prefix("onnx/").unwrap_or(path);
        inner.ends_with(".onnx") && !inner.contains('/')
    };
    let mut variants: Vec<String> =
        files.keys().filter(is_graph).map(|path| model_folder::variant_of(Path::new(path))).collect();
    variants.sort();
    variants.dedup();
    variants
}

/// Returns the paths of the files in which a graph keeps weights. They lie beside the ONNX file.
///
/// # Errors
/// [`NeedsError::NoData`]: one leaves the folder.
pub fn data_paths(onnx: &str, facts: &GraphFacts) -> Result<Vec<String>, NeedsError> {
    let place = onnx.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let path_of = |name: &String| {
        let path = format!("{place}{}", name.strip_prefix("./").unwrap_or(name));
        match check_path(&path) {
            Ok(()) => Ok(path),
            Err(problem) => Err(NeedsError::NoData {
                onnx: onnx.to_owned(),
                data: name.chars().take(120).collect(),
                problem: format!("which is refused: {problem}"),
            }),
        }
    };
    facts.data_files.iter().map(path_of).collect()
}

/// Makes the error for weights that the repository lacks.
#[must_use]
pub fn missing_data(onnx: &str, data: &str) -> NeedsError {
    let problem =
        "which isn't in the repository: it is incomplete; choose another variant or export".to_owned();
    NeedsError::NoData { onnx: onnx.to_owned(), data: data.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use infera_types::ids::Digest;

    use super::*;
    use crate::pins::Published;

    fn files(paths: &[&str]) -> Files {
        let pin = Pin { bytes: 10, digest: Published::Sha256(Digest::of(b"")) };
        paths.iter().map(|path| ((*path).to_owned(), pin)).collect()
    }

    const WHOLE: [&str; 7] = [
        "README.md",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "onnx/model.onnx",
        "onnx/model_q4.onnx",
        "onnx/model_q4.onnx_data",
    ];

    #[test]
    fn a_variant_needs_the_settings_and_its_own_files() {
        let q4 = of_variant(&files(&WHOLE), "q4").expect("all there");
        assert_eq!(q4.settings, ["config.json", "tokenizer.json", "tokenizer_config.json"]);
        assert_eq!(
            (q4.onnx.as_str(), &*q4.beside),
            ("onnx/model_q4.onnx", &["onnx/model_q4.onnx_data".to_owned()][..])
        );
        assert_eq!(of_variant(&files(&WHOLE), "").expect("all there").onnx, "onnx/model.onnx");
        assert_eq!(variants(&files(&WHOLE)), ["model", "q4"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        for missing in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            let rest: Vec<&str> = WHOLE.into_iter().filter(|path| *path != missing).collect();
            assert_eq!(of_variant(&files(&rest), "q4"), Err(NeedsError::NoFile(missing.to_owned())));
        }
        let told = of_variant(&files(&WHOLE), "fp16").expect_err("no such").to_string();
        assert!(told.contains("fp16") && told.contains("model, q4"), "{told}");
        let told = of_variant(&files(&WHOLE[..4]), "q4").expect_err("no graph").to_string();
        assert!(told.contains("no ONNX file at all"), "{told}");
        let mut large = files(&WHOLE);
        large.get_mut("tokenizer.json").expect("there").bytes = 1 << 40;
        assert!(matches!(of_variant(&large, "q4"), Err(NeedsError::TooLarge { .. })));
    }

    #[test]
    fn weights_lie_beside_their_graph_and_nowhere_else() {
        let facts = |name: &str| GraphFacts { data_files: [name.to_owned()].into(), ..GraphFacts::default() };
        assert_eq!(data_paths("onnx/m.onnx", &facts("m.onnx_data")), Ok(vec!["onnx/m.onnx_data".to_owned()]));
        assert_eq!(data_paths("m.onnx", &facts("./w")), Ok(vec!["w".to_owned()]));
        for evil in ["../x", "/etc/passwd", "a/../../x", "..\\x", ""] {
            assert!(data_paths("onnx/m.onnx", &facts(evil)).is_err(), "{evil}");
        }
    }
}
