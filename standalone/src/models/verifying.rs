//! Compares a model's files with their pins, and says whether it can be served.

use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget};
use infera_model::folder::{model_digest, onnx_file, onnx_files, variant_of};
use infera_model_store::folder::Verified;
use infera_model_store::verifying::{FileReport, FileState, verify as look};
use infera_program::Failure;
use infera_types::time::Timestamp;
use serde::Serialize;

use super::places::unusable;
use super::{fetching, places, serving};
use crate::config::Config;

/// A variant, and the digest by which the network knows it.
#[derive(Serialize)]
struct Variant {
    variant: String,
    digest: Option<String>,
    serves: bool,
    problem: Option<String>,
}

#[derive(Serialize)]
struct Found {
    model: String,
    /// None, if nothing is pinned.
    files: Option<Vec<FileReport>>,
    variants: Vec<Variant>,
}

/// Verifies a model; a file that isn't as pinned, or a variant that can't be served, is an error.
pub(super) fn verify(config: &Config, model: &str, json: bool) -> Result<String, Failure> {
    let folder = places::folder_of_word(config, model)?;
    if !folder.path().is_dir() {
        let path = folder.path().display();
        return Err(Failure::refused(format!(
            "there is no model {model}: {path} isn't there; `infera model list` names those that are, `infera model fetch` brings one"
        )));
    }
    let pins = folder.pins().map_err(unusable)?;
    let files = match &pins {
        None => None,
        Some(pins) => {
            // So that no fetch changes what is read, and what is found can be noted.
            let locked = folder.clone().lock().map_err(unusable)?;
            let bar = ProgressBar::with_draw_target(Some(pins.bytes()), ProgressDrawTarget::stderr())
                .with_style(fetching::style());
            let files = look(&folder, pins, |bytes| bar.inc(bytes));
            bar.finish_and_clear();
            if files.iter().all(|file| file.state == FileState::Good) {
                locked.keep_verified(Verified { at_ms: Timestamp::now() }).map_err(unusable)?;
            } else {
                locked.forget_verified();
            }
            Some(files)
        }
    };
    let variants =
        onnx_files(folder.path()).iter().map(|file| of(folder.path(), &variant_of(file))).collect();
    let found = Found { model: model.to_owned(), files, variants };
    let is_good = found.variants.iter().any(|variant| variant.serves)
        && found.files.iter().flatten().all(|file| file.state == FileState::Good);
    let said = if json { serde_json::to_string_pretty(&found)? } else { text(&found) };
    if is_good {
        return Ok(said);
    }
    infera_program::print(&said)?;
    Err(Failure::refused(format!(
        "{model} isn't as it should be; `infera model fetch {model}` mends files that were fetched"
    )))
}

fn of(folder: &Path, variant: &str) -> Variant {
    let problem = serving::problem(folder, variant);
    let digest = onnx_file(folder, variant).and_then(|file| model_digest(folder, &file));
    let digest = digest.ok().map(|digest| digest.to_string());
    Variant { variant: variant.to_owned(), digest, serves: problem.is_none(), problem }
}

fn text(found: &Found) -> String {
    let mut lines = Vec::new();
    match &found.files {
        None => lines.push(format!("{}: nothing is pinned of it, because it wasn't fetched", found.model)),
        Some(files) => {
            let bad: Vec<&FileReport> = files.iter().filter(|file| file.state != FileState::Good).collect();
            for FileReport { path, bytes, digest, state } in &bad {
                let is = match state {
                    FileState::Good => continue,
                    FileState::Missing { partial_bytes: 0 } => "isn't there".to_owned(),
                    FileState::Missing { partial_bytes } => {
                        format!("isn't whole: {partial_bytes} of {bytes} bytes have come")
                    }
                    FileState::Length { bytes: is } => format!("has {is} bytes, and {bytes} are pinned"),
                    FileState::Content { digest: is } => format!("has {is}, and {digest} is pinned"),
                    FileState::Unreadable { problem } => format!("can't be read: {problem}"),
                };
                lines.push(format!("{path} {is}"));
            }
            lines.push(format!(
                "{}: {} of {} files are as pinned",
                found.model,
                files.len() - bad.len(),
                files.len()
            ));
        }
    }
    for Variant { variant, digest, problem, .. } in &found.variants {
        let serves = problem
            .as_ref()
            .map_or("can be served".to_owned(), |problem| format!("can't be served: {problem}"));
        let digest = digest
            .as_ref()
            .map_or(String::new(), |digest| format!(", the network's name for it is {digest}"));
        lines.push(format!("    {variant}: {serves}{digest}"));
    }
    lines.join("\n")
}
