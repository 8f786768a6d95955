//! What was computed, kept in files so that a calibration that was interrupted goes on: a line that says what it is, then one
//! line of JSON for each job.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use infera_types::ids::Digest;
use infera_types::numbers::{NumericClass, TokenId, TokenNumbers};
use serde::{Deserialize, Serialize};

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// It can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// It is of other jobs or another class, or damaged.
    #[error("{0} is of other jobs, of another engine, or damaged: remove it, or give --state another folder")]
    Other(PathBuf),
}

/// What the lines of a file depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Origin {
    /// The class of the engine that computed them.
    pub(super) class: NumericClass,
    /// The digest of the jobs.
    pub(super) jobs: Digest,
}

/// What was computed for one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// The job's place.
    pub(super) job: usize,
    /// The tokens that were decoded; none of a score.
    pub(super) tokens: Vec<TokenId>,
    /// What the rows are reduced to.
    pub(super) numbers: Vec<TokenNumbers>,
}

/// A file that lines are appended to.
pub(super) struct Kept {
    path: PathBuf,
    file: File,
    /// What is there already.
    pub(super) lines: Vec<Line>,
}

impl Kept {
    /// Opens a file, or begins it. Of the lines that are there as many count as `whole` says, given how many there are:
    /// those of whole batches.
    pub(super) fn open(
        path: PathBuf,
        origin: &Origin,
        whole: impl Fn(usize) -> usize,
    ) -> Result<Self, KeptError> {
        let io_error = |source| KeptError::Io { path: path.clone(), source };
        let mut lines = match File::open(&path) {
            Ok(file) => read(&path, file, origin)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io_error(error)),
        };
        lines.truncate(whole(lines.len()));
        let mut text = line_of(origin).map_err(io_error)?;
        for line in &lines {
            text.push_str(&line_of(line).map_err(io_error)?);
        }
        let next = path.with_extension("next");
        fs::write(&next, text).and_then(|()| fs::rename(&next, &path)).map_err(io_error)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io_error)?;
        Ok(Self { path, file, lines })
    }

    /// Appends the lines of one batch.
    pub(super) fn append(&mut self, lines: Vec<Line>) -> Result<(), KeptError> {
        let texts = lines.iter().map(line_of).collect::<Result<String, _>>();
        let written = texts.and_then(|text| self.file.write_all(text.as_bytes()));
        written.map_err(|source| KeptError::Io { path: self.path.clone(), source })?;
        self.lines.extend(lines);
        Ok(())
    }
}

fn line_of(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

/// Reads what is whole: the last line may have been cut off.
fn read(path: &Path, file: File, origin: &Origin) -> Result<Vec<Line>, KeptError> {
    let other = || KeptError::Other(path.to_owned());
    let io_error = |source| KeptError::Io { path: path.to_owned(), source };
    let mut texts = BufReader::new(file).lines();
    let Some(first) = texts.next() else { return Ok(Vec::new()) };
    let found: Origin = serde_json::from_str(&first.map_err(io_error)?).map_err(|_| other())?;
    if found != *origin {
        return Err(other());
    }
    let mut lines = Vec::new();
    for text in texts {
        let Ok(line) = serde_json::from_str(&text.map_err(io_error)?) else { break };
        lines.push(line);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(jobs: &str) -> Origin {
        let class = NumericClass {
            model_digest: Digest::of(b"model"),
            provider: "cpu".to_owned(),
            hardware: "a".to_owned(),
            runtime: "1".to_owned(),
            compute: "fp32".to_owned(),
        };
        Origin { class, jobs: Digest::of(jobs.as_bytes()) }
    }

    fn line(job: usize) -> Line {
        let numbers = vec![TokenNumbers {
            top: vec![(7, 0.1), (8, -1.5e-7)],
            log_sum_exp: 1.0 / 3.0,
            logit_max: None,
            likeliest: Vec::new(),
        }];
        Line { job, tokens: vec![7], numbers }
    }

    #[test]
    fn an_interrupted_file_goes_on_after_its_last_whole_batch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.ndjson");
        let pairs = |count: usize| count / 2 * 2;
        let mut kept = Kept::open(path.clone(), &origin("a"), pairs).unwrap();
        kept.append((0..3).map(line).collect()).unwrap();
        drop(kept);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"job\": 3, \"tok").unwrap();
        let mut kept = Kept::open(path.clone(), &origin("a"), pairs).unwrap();
        assert_eq!(kept.lines, [line(0), line(1)]);
        kept.append(vec![line(2), line(3)]).unwrap();
        assert_eq!(Kept::open(path, &origin("a"), pairs).unwrap().lines, [0, 1, 2, 3].map(line));
    }

    /// Answers take hours to compute, and those that were kept before rows told their highest logit are as good.
    #[test]
    fn lines_without_a_highest_logit_are_read_beside_those_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.ndjson");
        drop(Kept::open(path.clone(), &origin("a"), |count| count).unwrap());
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        let before = r#"{"job":0,"tokens":[7],"numbers":[{"top":[[7,0.1],[8,-1.5e-7]],"log_sum_exp":0.3333333333333333}]}"#;
        writeln!(file, "{before}").unwrap();
        let mut with = line(1);
        with.numbers[0].logit_max = Some(0.1);
        let mut kept = Kept::open(path.clone(), &origin("a"), |count| count).unwrap();
        kept.append(vec![with.clone()]).unwrap();
        assert_eq!(Kept::open(path, &origin("a"), |count| count).unwrap().lines, [line(0), with]);
    }

    #[test]
    fn a_file_of_other_jobs_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.ndjson");
        Kept::open(path.clone(), &origin("a"), |count| count).unwrap().append(vec![line(0)]).unwrap();
        assert!(matches!(Kept::open(path.clone(), &origin("b"), |count| count), Err(KeptError::Other(_))));
        assert_eq!(Kept::open(path, &origin("a"), |count| count).unwrap().lines, [line(0)]);
    }
}
