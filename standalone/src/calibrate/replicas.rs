//! Computes honest replicas and scores with the real engines, as many at once as the machine has cores: one thread each, as a
//! node's engine has.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use infera_engine::{Engine, EngineError, Prompt, Scoring, SequenceId, whole};
use infera_engine_onnx::config::EngineConfig;
use infera_model::chat::ChatModel;
use infera_sampling::{Noise, choose, choose_of_row};
use infera_types::job::ReplicaSummary;
use infera_types::numbers::{NumericClass, TokenNumbers};
use infera_types::time::Timestamp;

use super::error::CalibrateError;
use super::jobs::{self, Job};
use super::kept::{Kept, Line, Origin};

/// How many jobs share a batch, in turn: pairs compare answers from batches of different sizes.
const BATCHES: [usize; 4] = [16, 32, 1, 24];
/// How many scores are kept at once.
const SCORES: usize = 32;

/// An export whose numbers are measured.
#[derive(Clone, Debug)]
pub(super) struct Export {
    /// What it is called in files and tables.
    pub(super) name: String,
    pub(super) config: EngineConfig,
    /// It answers the jobs whose place is a multiple of this.
    pub(super) every: usize,
}

/// What one engine is to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Work {
    /// All answers of an export, in batches that follow [`BATCHES`] from `offset` on.
    Decode { export: usize, offset: usize },
    /// The rows of an export's tokens.
    Score { export: usize, by: usize },
}

impl Work {
    /// Returns the export whose engine computes it.
    const fn engine(self) -> usize {
        match self {
            Self::Decode { export, .. } => export,
            Self::Score { by, .. } => by,
        }
    }
}

/// What one engine computed.
#[derive(Clone, Debug)]
pub(super) struct Computed {
    pub(super) class: NumericClass,
    /// By the jobs' places.
    pub(super) lines: BTreeMap<usize, Line>,
}

impl Computed {
    /// Returns the replica of a job under the class `class`, which is its own for an honest node.
    pub(super) fn replica(&self, job: usize, class: &NumericClass) -> Option<ReplicaSummary> {
        let line = self.lines.get(&job)?;
        Some(ReplicaSummary {
            tokens: line.tokens.clone(),
            numbers: line.numbers.clone(),
            numeric_class: class.clone(),
            arrived_ms: Timestamp::from_millis(0),
            prompt_tokens: 0,
            sound: true,
        })
    }

    pub(super) fn numbers(&self, job: usize) -> Option<&[TokenNumbers]> {
        self.lines.get(&job).map(|line| line.numbers.as_slice())
    }
}

/// What all work is done on.
pub(super) struct Bench<'a> {
    pub(super) exports: &'a [Export],
    pub(super) jobs: &'a [Job],
    pub(super) chat: &'a ChatModel,
    /// The folder of the files.
    pub(super) state: &'a Path,
}

/// What was computed, by what it is.
pub(super) type Results = BTreeMap<Work, Computed>;

impl Bench<'_> {
    /// Does all of `works`, given what was computed before.
    pub(super) fn compute(&self, works: Vec<Work>, before: &Results) -> Result<Results, CalibrateError> {
        let queue = Mutex::new(VecDeque::from(works));
        let done: Mutex<Result<Results, CalibrateError>> = Mutex::new(Ok(Results::new()));
        let next = || {
            // After a failure the others end with what they have in hand.
            let failed = done.lock().unwrap_or_else(PoisonError::into_inner).is_err();
            if failed { None } else { queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() }
        };
        let work_on = || {
            while let Some(work) = next() {
                let computed = self.work(work, before);
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(results) = &mut *done {
                    match computed {
                        Ok(computed) => drop(results.insert(work, computed)),
                        Err(error) => *done = Err(error),
                    }
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work_on);
            }
        });
        done.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, work: Work, before: &Results) -> Result<Computed, CalibrateError> {
        let mut engine = self.exports[work.engine()].config.load()?;
        let class = engine.description().numeric_class.clone();
        let origin = Origin { class: class.clone(), jobs: jobs::digest(self.jobs) };
        let name = |export: usize| self.exports[export].name.as_str();
        let file = match work {
            Work::Decode { export, offset } => format!("{}-{offset}.ndjson", name(export)),
            Work::Score { export, by } => format!("{}-scored-by-{}.ndjson", name(export), name(by)),
        };
        let path = self.state.join(file);
        let lines = match work {
            Work::Decode { export, offset } => {
                let every = self.exports[export].every;
                let places: Vec<usize> = (0..self.jobs.len()).step_by(every).collect();
                let mut kept = Kept::open(path, &origin, |lines| whole_batches(lines, offset, places.len()))?;
                self.decode(engine.as_mut(), &places, offset, &mut kept)?;
                kept.lines
            }
            Work::Score { export, by } => {
                let mut kept = Kept::open(path, &origin, |lines| lines)?;
                let answers = before.get(&Work::Decode { export, offset: 0 });
                let lines = answers.into_iter().flat_map(|answers| answers.lines.values());
                // Of an impostor there are fewer answers, and all are scored.
                let is_all = self.exports[export].every > 1;
                let lines: Vec<&Line> =
                    lines.filter(|line| is_all || is_scored(line.job, export, by)).collect();
                self.score(engine.as_mut(), &lines, &mut kept)?;
                kept.lines
            }
        };
        let lines = lines.into_iter().map(|line| (line.job, line)).collect();
        Ok(Computed { class, lines })
    }

    /// Answers all jobs in order, in batches whose sizes follow [`BATCHES`] from `offset` on.
    fn decode(
        &self,
        engine: &mut dyn Engine,
        places: &[usize],
        offset: usize,
        kept: &mut Kept,
    ) -> Result<(), CalibrateError> {
        let mut start = 0;
        for size in BATCHES.iter().cycle().skip(offset) {
            let end = (start + size).min(places.len());
            if start >= kept.lines.len() {
                kept.append(self.decode_batch(engine, &places[start..end])?)?;
            }
            start = end;
            if start == places.len() {
                break;
            }
        }
        Ok(())
    }

    /// Answers one batch: prompts are prefilled together and decoded together, and each leaves when its answer ends.
    fn decode_batch(&self, engine: &mut dyn Engine, places: &[usize]) -> Result<Vec<Line>, EngineError> {
        let name = |index: usize| SequenceId(index as u64);
        let jobs: Vec<&Job> = places.iter().map(|place| &self.jobs[*place]).collect();
        let prompts: Vec<_> =
            jobs.iter().enumerate().map(|(index, job)| Prompt::new(name(index), &job.prompt)).collect();
        let empty = |job: &usize| Line { job: *job, tokens: Vec::new(), numbers: Vec::new() };
        let mut lines: Vec<_> = places.iter().map(empty).collect();
        let mut logits = whole::prefill(engine, &prompts)?;
        let mut running: Vec<usize> = (0..jobs.len()).collect();
        while !running.is_empty() {
            let mut steps = Vec::new();
            for (index, row) in running.iter().copied().zip(logits.rows()) {
                let (job, line) = (jobs[index], &mut lines[index]);
                let position = u32::try_from(line.tokens.len()).unwrap_or(u32::MAX);
                let choice = choose(row, job.temperature, &Noise::new(&job.sample_key, 0), position);
                line.numbers.push(choice.numbers);
                if self.chat.end_tokens().contains(&choice.token) {
                    continue;
                }
                line.tokens.push(choice.token);
                if line.tokens.len() < job.answer_tokens_max {
                    steps.push((name(index), choice.token));
                }
            }
            let going: Vec<usize> = steps.iter().map(|(sequence, _)| sequence.0 as usize).collect();
            let ended: Vec<_> =
                running.iter().filter(|index| !going.contains(index)).map(|index| name(*index)).collect();
            engine.release(&ended);
            running = going;
            if !running.is_empty() {
                logits = whole::decode(engine, &steps)?;
            }
        }
        Ok(lines)
    }

    /// Scores the answers after those that are kept.
    fn score(
        &self,
        engine: &mut dyn Engine,
        answers: &[&Line],
        kept: &mut Kept,
    ) -> Result<(), CalibrateError> {
        while kept.lines.len() < answers.len() {
            let batch = answers.iter().skip(kept.lines.len()).take(SCORES);
            let scored = batch.map(|answer| score_one(engine, &self.jobs[answer.job], answer));
            kept.append(scored.collect::<Result<Vec<_>, _>>()?)?;
        }
        Ok(())
    }
}

/// Scores an answer as a referee does, with the job's noise.
fn score_one(engine: &mut dyn Engine, job: &Job, answer: &Line) -> Result<Line, EngineError> {
    let scoring = Scoring { sequence: SequenceId(0), prompt: &job.prompt, answer: &answer.tokens };
    let noise = Noise::new(&job.sample_key, 0);
    let mut numbers = Vec::with_capacity(answer.numbers.len());
    let mut progress = None;
    while progress.is_none_or(|progress: infera_engine::Progress| !progress.is_complete()) {
        progress = Some(engine.score(&scoring, &mut |place, row| {
            // The row after the last token counts only where that token's choice did.
            if place < answer.numbers.len() {
                let position = u32::try_from(place).unwrap_or(u32::MAX);
                numbers.push(choose_of_row(row, job.temperature, &noise, position).numbers);
            }
        })?);
    }
    Ok(Line { job: answer.job, tokens: Vec::new(), numbers })
}

/// Says whether an export's answer to a job is scored by another. Of two different ones each scores half of the other's,
/// so that a job gives one pair.
fn is_scored(job: usize, export: usize, by: usize) -> bool {
    export == by || job.is_multiple_of(2) == (export < by)
}

/// Returns how many of the first `lines` lines are whole batches.
fn whole_batches(lines: usize, offset: usize, all: usize) -> usize {
    let mut ends = BATCHES.iter().cycle().skip(offset).scan(0, |end, size| {
        *end = (*end + size).min(all);
        Some(*end)
    });
    let mut whole = 0;
    while let Some(end) = ends.next().filter(|end| *end <= lines) {
        whole = end;
        if end == all {
            break;
        }
    }
    whole
}

/// Returns the mean length of an export's answers, in tokens.
pub(super) fn answer_tokens(jobs: &[Job], results: &Results) -> f64 {
    let computed = results.get(&Work::Decode { export: 0, offset: 0 });
    let tokens: usize = computed.map_or(0, |one| one.lines.values().map(|line| line.tokens.len()).sum());
    tokens as f64 / jobs.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_batches_end_where_batches_do() {
        let ends: Vec<usize> =
            [0, 15, 16, 47, 48, 49, 72, 73, 79, 80].map(|lines| whole_batches(lines, 0, 80)).into();
        assert_eq!(ends, [0, 0, 16, 16, 48, 49, 49, 73, 73, 80]);
        assert_eq!(whole_batches(500, 1, 80), 80);
    }

    #[test]
    fn two_exports_share_the_jobs_and_one_scores_all_of_its_own() {
        for job in 0..10 {
            assert!(is_scored(job, 1, 1));
            assert_ne!(is_scored(job, 0, 1), is_scored(job, 1, 0));
        }
    }
}
