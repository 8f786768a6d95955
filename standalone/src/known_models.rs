//! The models that the command line knows by a short word: where their folders are, which of their ONNX files the nodes run,
//! and what is asked of them first.

use std::path::{Path, PathBuf};

use infera_model::folder::CONFIG;
use infera_model_store::folder::Store;

/// A model that the command line knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownModel {
    /// Its short word.
    pub word: &'static str,
    /// Its folder, from the repository's root.
    pub folder: &'static str,
    /// The ONNX file that the nodes run.
    pub variant: &'static str,
    /// Microseconds that a token takes on the reference machine.
    pub reference_token_us: u64,
    /// A question that it can answer.
    pub question: &'static str,
    /// The command that makes the folder; none for a folder that is part of the repository.
    pub made_by: Option<&'static str>,
}

/// All of them; the first is the default.
pub const KNOWN: [KnownModel; 2] = [
    KnownModel {
        word: "infera-tiny",
        folder: "models/infera-tiny",
        variant: "model",
        // One step at batch 1 on one thread, as `make bench` measured it (0.149 ms, 2026-11-22).
        reference_token_us: 150,
        question: "What is 47 + 38?",
        made_by: None,
    },
    KnownModel {
        word: "smollm2",
        folder: ".runtime/models/smollm2-135m-instruct",
        // All but the original's numbers at a third of the size; the 4-bit file was quantised twice.
        variant: "int8",
        // One step at batch 1 on one thread: 13.9 ms of CPU (2026-11-30).
        reference_token_us: 14_000,
        question: "Write one sentence about the sea.",
        made_by: Some("make model-smollm2"),
    },
];

/// The settings that follow from the choice of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The model's folder.
    pub folder: PathBuf,
    /// What is known of the model, if anything is.
    pub known: Option<KnownModel>,
    /// The ONNX file that the nodes run, if anything says which.
    pub variant: Option<String>,
}

/// Returns what a word of the command line stands for: a known model, the name of one in the folder `models`, or a folder,
/// which is written with a slash.
///
/// # Errors
/// One sentence: the word is unknown, or the folder must be made or fetched first, and by which command.
pub fn choose_in(word: &str, models: &Path) -> Result<Chosen, String> {
    if let Some(known) = KNOWN.iter().find(|known| known.word == word) {
        let folder = PathBuf::from(known.folder);
        return match known.made_by {
            Some(command) if !folder.join("config.json").is_file() => Err(format!(
                "the model {word} isn't made yet, {} isn't there: `{command}` makes it",
                known.folder
            )),
            _ => Ok(Chosen { folder, known: Some(*known), variant: Some(known.variant.to_owned()) }),
        };
    }
    if word.contains(['/', '\\']) {
        return Ok(Chosen { folder: PathBuf::from(word), known: None, variant: None });
    }
    if let Some(chosen) = fetched(word, models)? {
        return Ok(chosen);
    }
    let words: Vec<&str> = KNOWN.iter().map(|known| known.word).collect();
    Err(format!(
        "there is no model {word:?}: it may be {}, one of `infera model list`, or a folder, written with a slash",
        words.join(", ")
    ))
}

/// Returns the model called `word` in the folder `models`, if it is there and whole.
fn fetched(word: &str, models: &Path) -> Result<Option<Chosen>, String> {
    let Ok(folder) = Store::new(models).folder(word) else { return Ok(None) };
    let pins = folder.pins().map_err(|error| error.to_string())?;
    let variant = match &pins {
        None if !folder.path().join(CONFIG).is_file() => return Ok(None),
        None => None,
        Some(pins) => match pins.variants.first() {
            // The plain export comes before quantised ones; otherwise there is mostly one.
            Some(first) => pins.variants.iter().find(|variant| *variant == "model").or(Some(first)).cloned(),
            None => {
                return Err(format!(
                    "the model {word} isn't whole: `infera model fetch {word}` goes on with it"
                ));
            }
        },
    };
    Ok(Some(Chosen { folder: folder.path().to_owned(), known: None, variant }))
}

/// Returns what is known of the model in a folder, by the folder's name.
#[must_use]
pub fn by_folder(folder: &Path) -> Option<KnownModel> {
    let name = |path: &Path| path.file_name().map(std::ffi::OsStr::to_os_string);
    KNOWN.into_iter().find(|known| name(Path::new(known.folder)) == name(folder))
}

/// Returns the microseconds that a token of the model in a folder takes on the reference machine, where that was measured: by the
/// folder's name, for the ONNX file that was measured.
#[must_use]
pub fn measured_token_us(folder: &Path, variant: &str) -> Option<u64> {
    by_folder(folder).filter(|known| known.variant == variant).map(|known| known.reference_token_us)
}

/// Returns a question for the model in a folder.
#[must_use]
pub fn question(folder: &Path) -> &'static str {
    by_folder(folder).map_or("Say hello in one sentence.", |known| known.question)
}

#[cfg(test)]
mod tests {
    use infera_model_store::pins::Pins;

    use super::*;

    #[test]
    fn a_word_is_a_known_model_or_a_folder() {
        // Tests run in the crate's folder, from which no known folder is seen.
        let models = tempfile::tempdir().expect("a folder");
        let choose = |word| choose_in(word, models.path());
        let error = choose("smollm2").expect_err("not made here");
        assert!(error.contains("make model-smollm2") && error.contains(".runtime/models/smollm2"), "{error}");
        assert_eq!(choose("infera-tiny").expect("it is bundled").known, Some(KNOWN[0]));
        let folder = choose("./models/x").expect("a folder");
        assert_eq!((folder.folder, folder.known), (PathBuf::from("./models/x"), None));
        let error = choose("smollm").expect_err("a typo");
        assert!(error.contains("infera-tiny, smollm2") && error.contains("slash"), "{error}");
    }

    #[test]
    fn a_word_is_a_fetched_model_too() {
        let models = tempfile::tempdir().expect("a folder");
        let choose = |word| choose_in(word, models.path());
        let locked = Store::new(models.path()).folder("mine").expect("a name").lock().expect("free");
        let mut pins = Pins::new("mine", "maker/Mine", "main");
        locked.keep_pins(&pins).expect("kept");
        let error = choose("mine").expect_err("begun");
        assert!(error.contains("infera model fetch mine"), "{error}");
        for (variant, chosen) in [("q4", "q4"), ("model", "model"), ("fp16", "model")] {
            pins.completes(variant);
            locked.keep_pins(&pins).expect("kept");
            let found = choose("mine").expect("whole");
            assert_eq!((found.folder, found.variant.as_deref()), (models.path().join("mine"), Some(chosen)));
        }
    }

    #[test]
    fn the_first_is_the_default() {
        let config = crate::config::Config::default();
        assert_eq!(config.engine.folder, Path::new(KNOWN[0].folder));
        assert_eq!(config.engine.variant, KNOWN[0].variant);
        assert_eq!(config.reference_token_us, None);
        assert_eq!(question(Path::new("/x/infera-tiny")), KNOWN[0].question);
        assert_eq!(question(Path::new("/x/y")), "Say hello in one sentence.");
    }
}
