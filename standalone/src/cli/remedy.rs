//! What is said of a start that failed where another command line would do.

use infera_program::Failure;

use crate::network::NetworkError;
use crate::node::ModelError;

/// Maps why the network doesn't start to a failure. Where the models need more memory than is free, and fewer sequences would fit, it
/// has the whole command line that starts.
#[must_use]
pub fn not_started(error: NetworkError) -> Failure {
    remedied(error, std::env::args())
}

/// Does so for a command line.
fn remedied(error: NetworkError, typed: impl Iterator<Item = String>) -> Failure {
    let NetworkError::Model(ModelError::NoRoom(no_room)) = &error else { return error.into() };
    let Some(most) = no_room.fitting_sequences_max() else { return Failure::refused(error) };
    let set = ["--set".to_owned(), format!("engine.sequences_max={most}")];
    let command: Vec<String> = typed.chain(set).map(|word| quoted(&word)).collect();
    Failure::refused(format!("{error}. This starts: {}", command.join(" ")))
}

/// Quotes a word for a shell, if it must be.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./,:=@%+".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use infera_engine_onnx::config::EngineConfig;
    use infera_engine_onnx::fitting::{Bound, admit};

    use super::*;

    #[test]
    fn a_start_without_room_is_told_with_the_command_that_starts() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/infera-tiny");
        let engine = EngineConfig { folder, ..EngineConfig::default() };
        let bytes_of =
            |sequences_max| EngineConfig { sequences_max, ..engine.clone() }.wanted(16).expect("bundled");
        let wanted = bytes_of(16);
        let admitted = |bytes| admit(&wanted, 3, Bound { bytes, is_set: false });
        // A little less than what fits: most of what it needs is there whatever the sequences.
        let mut bytes = 1 << 36;
        while admitted(bytes).is_ok() {
            bytes -= bytes / 200;
        }
        let no_room = admitted(bytes).expect_err("too much");
        let most = no_room.fitting_sequences_max().expect("some fit");
        let typed = ["target/release/infera", "up", "--model", "infera-tiny,smollm2", "--data", "my data"];
        let error = NetworkError::Model(ModelError::NoRoom(no_room));
        let told = remedied(error, typed.map(str::to_owned).into_iter());
        assert_eq!(told.code(), infera_program::REFUSED);
        let command = format!(
            "This starts: target/release/infera up --model infera-tiny,smollm2 --data 'my data' --set engine.sequences_max={most}"
        );
        assert!(told.to_string().ends_with(&command), "{told}");
        assert!(
            admit(&bytes_of(usize::try_from(most).expect("few")), 3, Bound { bytes, is_set: false }).is_ok()
        );
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
