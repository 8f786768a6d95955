//! The list of models: those in folders, and those that the program knows how to make.

use std::path::{Path, PathBuf};

use infera_model_store::folder::Store;
use infera_model_store::inventory::{Held, held};
use infera_program::Failure;
use infera_types::time::Timestamp;
use serde::Serialize;

use super::bytes::shown;
use super::places::unusable;
use super::serving;
use crate::config::Config;
use crate::known_models::KNOWN;

/// One variant of a model.
#[derive(Serialize)]
struct Variant {
    variant: String,
    serves: bool,
    /// The fact that is missing.
    problem: Option<String>,
}

/// A model that is there.
#[derive(Serialize)]
struct Model {
    #[serde(flatten)]
    held: Held,
    served_as: Vec<Variant>,
}

/// A model that the program knows by a short word.
#[derive(Serialize)]
struct Known {
    word: &'static str,
    folder: &'static str,
    variant: &'static str,
    is_there: bool,
    made_by: Option<&'static str>,
}

#[derive(Serialize)]
struct List {
    models: Vec<Model>,
    known: Vec<Known>,
}

/// Lists models, as a table or as JSON.
pub(super) fn list(config: &Config, json: bool) -> Result<String, Failure> {
    let models = held(&Store::new(&config.models)).map_err(unusable)?;
    let models: Vec<Model> = models.into_iter().map(looked_at).collect();
    let known = KNOWN.iter().map(|known| Known {
        word: known.word,
        folder: known.folder,
        variant: known.variant,
        is_there: Path::new(known.folder).join("config.json").is_file(),
        made_by: known.made_by,
    });
    let list = List { models, known: known.collect() };
    if json { Ok(serde_json::to_string_pretty(&list)?) } else { Ok(table(&list, &config.models)) }
}

fn looked_at(held: Held) -> Model {
    let folder = PathBuf::from(&held.folder);
    let of = |variant: &String| {
        let problem = serving::listed_problem(&folder, variant);
        Variant { variant: variant.clone(), serves: problem.is_none(), problem }
    };
    let served_as = held.variants.iter().map(of).collect();
    Model { held, served_as }
}

fn table(list: &List, folder: &Path) -> String {
    let mut lines = Vec::new();
    if list.models.is_empty() {
        lines.push(format!("No model is in {}; `infera model fetch` brings one.", folder.display()));
    }
    for Model { held, served_as } in &list.models {
        let commit = held
            .revision
            .as_ref()
            .map_or(String::new(), |commit| format!(" at {}", &commit[..commit.len().min(12)]));
        let from =
            held.repository.as_ref().map_or("not from a fetch, so nothing is pinned".to_owned(), |name| {
                format!("from {name}{commit}")
            });
        let verified = match held.verified_ms {
            Some(when) => format!("verified {}", ago(when)),
            None if held.repository.is_some() => "not verified".to_owned(),
            None => String::new(),
        };
        let missing = match held.missing_bytes {
            0 => String::new(),
            bytes => format!("{} missing: fetch it again", shown(bytes)),
        };
        let parts = [from, shown(held.bytes), missing, verified, held.problem.clone().unwrap_or_default()];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        lines.push(format!("{}  {}", held.name, parts.join(", ")));
        for Variant { variant, problem, .. } in served_as {
            let serves = problem
                .as_ref()
                .map_or("can be served".to_owned(), |problem| format!("can't be served: {problem}"));
            lines.push(format!("    {variant}: {serves}"));
        }
    }
    lines.push("Known by a word of their own:".to_owned());
    for Known { word, folder, variant, is_there, made_by } in &list.known {
        let there = match (is_there, made_by) {
            (true, _) => "there".to_owned(),
            (false, Some(command)) => format!("not there: `{command}` makes it"),
            (false, None) => "not there".to_owned(),
        };
        lines.push(format!("    {word}: {folder}, variant {variant}, {there}"));
    }
    lines.join("\n")
}

fn ago(when: Timestamp) -> String {
    let seconds = Timestamp::now().since(when).as_secs();
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
