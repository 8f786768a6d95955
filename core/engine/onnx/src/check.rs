//! The self-check: whether two processes on this machine give the same bits, and whether a row's bits depend on the rows beside it.
//! Only then may a GPU's class say that replicas are equal to the bit.
//!
//! The second process is this program with the argument [`ARGUMENT`]. It runs first and ends before this process loads the
//! model, so that the device holds one copy at a time.

use std::io::{Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::OnnxEngine;
use crate::settings::OnnxConfig;
use infera_engine::{Engine, EngineError, Prompt, SequenceId, whole};
use infera_types::ids::Digest;
use infera_types::numbers::{NumericClass, TokenId};

/// The argument by which a program is told to be the second process; it then calls [`answer`] and ends.
pub const ARGUMENT: &str = "engine-check";
/// What the line with the second process's answer holds before it.
const MARK: &str = "infera-engine-check: ";
/// The time for the second process: the loading of a large model from a slow disk, and a few hundred runs.
const WITHIN: Duration = Duration::from_secs(900);
/// The pause between looks whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The most bytes that are read of what it says, and of what it is told: some 700 digests, a few paths.
const SAID_MAX_BYTES: u64 = 256 << 10;

/// The bits of a fixed set of sequences in one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// The class of the engine, before any check.
    pub class: NumericClass,
    /// The digest of each row's bits, in the order of computing.
    pub rows: Vec<Digest>,
    /// Whether a sequence's rows were the same alone and beside others, at every place.
    pub is_same_in_any_batch: bool,
}

/// What comparing two processes has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same bits.
    Same {
        /// Whether, in both, a row didn't depend on the rows beside it.
        in_any_batch: bool,
    },
    /// Other bits; the text says where.
    Differ(String),
}

/// Compares the transcripts of two processes.
#[must_use]
pub fn verdict(here: &Transcript, there: &Transcript) -> Verdict {
    if here.class != there.class {
        return Verdict::Differ(format!("they name other classes: {:?} and {:?}", here.class, there.class));
    }
    if here.rows.len() != there.rows.len() || here.rows.is_empty() {
        return Verdict::Differ(format!("they have {} and {} rows", here.rows.len(), there.rows.len()));
    }
    let differing: Vec<usize> =
        (0..here.rows.len()).filter(|&row| here.rows[row] != there.rows[row]).collect();
    match differing.first() {
        Some(first) => {
            let (count, all) = (differing.len(), here.rows.len());
            Verdict::Differ(format!("{count} of {all} rows have other bits, the first of them row {first}"))
        }
        None => Verdict::Same { in_any_batch: here.is_same_in_any_batch && there.is_same_in_any_batch },
    }
}

/// How many sequences run together.
const SEQUENCES_MAX: usize = 16;
/// The steps of each: as many as sequences, so that one of them can leave after every step.
const STEPS: usize = SEQUENCES_MAX;

/// Returns prompts of every kind of length (one token, a chunk less one, a chunk, one more, several) and their steps.
fn scripts(engine: &dyn Engine) -> Vec<(Vec<TokenId>, Vec<TokenId>)> {
    let description = engine.description();
    let (chunk, most) = (description.chunk_tokens, description.context_max.saturating_sub(STEPS).max(1));
    let lengths = [1, 2, chunk - 1, chunk, chunk + 1, 2 * chunk + 3];
    let vocabulary = TokenId::try_from(description.vocabulary).unwrap_or(TokenId::MAX).max(1);
    let token = |sequence: usize, place: usize| {
        // Any spread will do; the multipliers are primes.
        let spread = (sequence as u64 * 7919 + place as u64 * 104_729 + 12_289) % u64::from(vocabulary);
        TokenId::try_from(spread).unwrap_or_default()
    };
    let script = |sequence: usize| {
        let length = lengths[sequence % lengths.len()].clamp(1, most);
        let tokens: Vec<TokenId> = (0..length + STEPS).map(|place| token(sequence, place)).collect();
        (tokens[..length].to_vec(), tokens[length..].to_vec())
    };
    (0..description.sequences_max.min(SEQUENCES_MAX)).map(script).collect()
}

fn digest(row: &[f32]) -> Digest {
    let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
    Digest::of(&bytes)
}

/// Runs some of the scripts together, in the order given; returns each one's rows, in this order too. With `is_narrowing` the last one
/// takes no part in the next step, and so on, until the first is alone: a step of every number of sequences.
fn together(
    engine: &mut dyn Engine,
    scripts: &[(Vec<TokenId>, Vec<TokenId>)],
    order: &[usize],
    is_narrowing: bool,
) -> Result<Vec<Vec<Digest>>, EngineError> {
    let name = |index: &usize| SequenceId(*index as u64);
    let prompts: Vec<Prompt<'_>> =
        order.iter().map(|index| Prompt::new(name(index), &scripts[*index].0)).collect();
    let mut rows: Vec<Vec<Digest>> =
        whole::prefill(engine, &prompts)?.rows().map(|row| vec![digest(row)]).collect();
    for step in 0..STEPS {
        let count = if is_narrowing { order.len().saturating_sub(step) } else { order.len() };
        let steps: Vec<_> =
            order[..count].iter().map(|index| (name(index), scripts[*index].1[step])).collect();
        let computed = whole::decode(engine, &steps)?;
        for (rows, row) in rows.iter_mut().zip(computed.rows()) {
            rows.push(digest(row));
        }
    }
    engine.release(&order.iter().map(name).collect::<Vec<_>>());
    Ok(rows)
}

/// Runs the check's sequences on an engine that has none: each alone, then all together, then all in the reverse order, in steps of
/// ever fewer, so that each sequence has several places and every bucket is used.
///
/// # Errors
/// The engine's own.
pub fn transcript(engine: &mut dyn Engine) -> Result<Transcript, EngineError> {
    let scripts = scripts(engine);
    let all: Vec<usize> = (0..scripts.len()).collect();
    let mut alone = Vec::with_capacity(scripts.len());
    for index in &all {
        alone.extend(together(engine, &scripts, &[*index], false)?);
    }
    let forwards = together(engine, &scripts, &all, false)?;
    let reversed: Vec<usize> = all.into_iter().rev().collect();
    let mut narrowing = together(engine, &scripts, &reversed, true)?;
    narrowing.reverse();
    let is_same_in_any_batch =
        alone == forwards && alone.iter().zip(&narrowing).all(|(alone, rows)| alone.starts_with(rows));
    let rows = [alone, forwards, narrowing].into_iter().flatten().flatten().collect();
    Ok(Transcript { class: engine.description().numeric_class.clone(), rows, is_same_in_any_batch })
}

/// What the second process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Transcript(Transcript),
    Failed(String),
}

/// Is the second process: reads the engine's settings from standard input, and writes the transcript to standard output.
///
/// # Errors
/// The streams failed. An engine that fails is an answer.
pub fn answer() -> std::io::Result<()> {
    let mut text = String::new();
    std::io::stdin().take(SAID_MAX_BYTES).read_to_string(&mut text)?;
    let transcript = || {
        let config: OnnxConfig = serde_json::from_str(&text)
            .map_err(|error| EngineError::Load(format!("the engine's settings can't be read: {error}")))?;
        transcript(&mut OnnxEngine::load(&config)?)
    };
    let said = transcript().map_or_else(|error| Said::Failed(error.to_string()), Said::Transcript);
    let line = format!("{MARK}{}\n", serde_json::to_string(&said)?);
    std::io::stdout().write_all(line.as_bytes())
}

/// How the second process is started.
#[derive(Debug)]
pub struct Second {
    /// The program and its arguments.
    pub command: Command,
    /// The time that it may take.
    pub within: Duration,
}

impl Second {
    /// Returns this program with [`ARGUMENT`].
    ///
    /// # Errors
    /// The system doesn't say where this program is.
    pub fn this_program() -> Result<Self, EngineError> {
        let program = std::env::current_exe()
            .map_err(|error| failed(&format!("the path of this program isn't known: {error}")))?;
        let mut command = Command::new(program);
        command.arg(ARGUMENT);
        Ok(Self { command, within: WITHIN })
    }

    /// Runs it to its end and returns its transcript.
    fn transcript(mut self, config: &OnnxConfig) -> Result<Transcript, EngineError> {
        let started = |error: std::io::Error| failed(&format!("the second process doesn't start: {error}"));
        let mut child = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(started)?;
        let told = serde_json::to_vec(config).map_err(|error| failed(&error.to_string()))?;
        // It reads all of it before it says anything; if it has ended already, that shows below.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(&told));
        let output = child.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let read = output.map(|output| output.take(SAID_MAX_BYTES).read_to_string(&mut text));
            read.transpose().map(|_| text)
        });
        let status = ended(&mut child, self.within)?;
        let text = reader.join().ok().and_then(Result::ok).unwrap_or_default();
        let line = text.lines().find_map(|line| line.split_once(MARK)).map(|(_, said)| said);
        let said = line.and_then(|said| serde_json::from_str(said).ok());
        match said {
            Some(Said::Transcript(transcript)) => Ok(transcript),
            Some(Said::Failed(reason)) => Err(failed(&format!("the second process failed: {reason}"))),
            None => Err(failed(&format!("the second process ended with {status} and no answer"))),
        }
    }
}

/// Waits for a process, and kills it after the time that it has.
fn ended(child: &mut Child, within: Duration) -> Result<std::process::ExitStatus, EngineError> {
    let until = Instant::now() + within;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
            Ok(None) => {
                // It may have ended by itself in between.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(&format!("the second process took more than {} s", within.as_secs())));
            }
            Err(error) => return Err(failed(&error.to_string())),
        }
    }
}

fn failed(reason: &str) -> EngineError {
    EngineError::Load(format!(
        "the engine's self-check has no result: {reason}. Mend that, or set self_check to \"off\": the numeric class then says that \
         numbers vary"
    ))
}

/// Loads an engine once a second process has run, and names its class by what comparing the two has shown.
///
/// # Errors
/// [`EngineError::Load`]: the model can't be loaded, the second process has no answer, or the two differ.
pub fn load_checked(config: &OnnxConfig, second: Second) -> Result<OnnxEngine, EngineError> {
    // Settings that can't be loaded are told of at once, and by this process.
    OnnxEngine::check(config)?;
    let there = second.transcript(config)?;
    let mut engine = OnnxEngine::load(config)?;
    match verdict(&transcript(&mut engine)?, &there) {
        Verdict::Same { in_any_batch } => {
            engine.was_checked(in_any_batch);
            Ok(engine)
        }
        Verdict::Differ(how) => Err(EngineError::Load(format!(
            "two processes on this device give other bits for the same tokens ({how}), so its answers can't be compared bit by bit \
             with others of its class: look for other programs that change the device's settings, for another driver, or set \
             self_check to \"off\": the numeric class then says that numbers vary"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_engine::stub::{StubConfig, StubEngine};

    fn of_stub() -> Transcript {
        transcript(&mut StubEngine::new(StubConfig::default()).expect("sound")).expect("it runs")
    }

    #[test]
    fn the_same_bits_are_the_same() {
        let one = of_stub();
        assert!(one.rows.len() > 100 && one.is_same_in_any_batch);
        assert_eq!(verdict(&one, &of_stub()), Verdict::Same { in_any_batch: true });
        let varying = Transcript { is_same_in_any_batch: false, ..one.clone() };
        for (here, there) in [(&one, &varying), (&varying, &one), (&varying, &varying)] {
            assert_eq!(verdict(here, there), Verdict::Same { in_any_batch: false });
        }
    }

    #[test]
    fn one_other_bit_is_found_and_told() {
        let one = of_stub();
        let differ = |change: &dyn Fn(&mut Transcript)| {
            let mut other = one.clone();
            change(&mut other);
            match verdict(&one, &other) {
                Verdict::Differ(how) => how,
                same @ Verdict::Same { .. } => panic!("{same:?}"),
            }
        };
        assert_ne!(digest(&[1.0, 0.0]), digest(&[1.0, -0.0]), "bits, and not values");
        let how = differ(&|other| other.rows[17] = digest(&[1.0]));
        assert!(how.contains("1 of ") && how.contains("row 17"), "{how}");
        assert!(differ(&|other| other.rows.truncate(9)).contains("rows"));
        assert!(differ(&|other| other.class.runtime.push('x')).contains("other classes"));
        let none = Transcript { rows: Vec::new(), ..one.clone() };
        assert!(matches!(verdict(&none, &none), Verdict::Differ(_)), "nothing compared is nothing found");
    }

    #[cfg(unix)]
    #[test]
    fn a_second_process_without_an_answer_is_no_verdict() {
        let config = OnnxConfig::new("folder", "library");
        let run = |script: &str, within| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            let second = Second { command, within };
            second.transcript(&config).expect_err(script).to_string()
        };
        let long = Duration::from_secs(60);
        assert!(run("cat > /dev/null; echo hello; exit 3", long).contains("no answer"));
        let told = run("cat > /dev/null; echo 'x infera-engine-check: {\"failed\": \"no room\"}'", long);
        assert!(told.contains("failed: no room") && told.contains("self_check"), "{told}");
        assert!(run("sleep 30", Duration::from_millis(50)).contains("more than"));
        let absent = Second { command: Command::new("/nowhere/program"), within: long };
        assert!(absent.transcript(&config).expect_err("absent").to_string().contains("doesn't start"));
    }
}
