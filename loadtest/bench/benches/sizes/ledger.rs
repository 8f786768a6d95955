//! Lets jobs live in a ledger, and counts the bytes that they take.

use std::time::Duration;

use infera_archive::segment;
use infera_bench::Fault;
use infera_bench::fixtures::{Asker, postings};
use infera_bench::report::{Row, Section};
use infera_ledger::{
    ArchiveIndex as _, JobIntake as _, JobOwner as _, Notice, Pruning as _, Standing as _, Sweeping as _,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{AccountId, SegmentId, VerifierId};
use infera_types::time::Timestamp;

use crate::{jobs, pages};

/// How many jobs are counted: enough that half-filled pages don't matter.
const JOBS: u32 = 2_048;

/// How many live at once.
const AT_ONCE: usize = 64;

/// What is wanted of jobs with answers of a length.
pub(crate) struct Wanted {
    name: &'static str,
    tokens: u32,
    /// Whether the numbers are as a model's are; if not, they are the stub's, all alike.
    is_varied: bool,
    /// The most bytes of a job in the ledger before pruning.
    whole: f64,
    /// The most bytes after it.
    pruned: f64,
    /// The most bytes in the archive.
    archived: Option<f64>,
}

/// What is wanted, by the length of answers.
pub(crate) const WANTED: [Wanted; 3] = [
    Wanted {
        name: "16 tokens of the stub",
        tokens: 16,
        is_varied: false,
        whole: 2_000.0,
        pruned: 700.0,
        archived: Some(240.0),
    },
    Wanted {
        name: "16 tokens of a model",
        tokens: 16,
        is_varied: true,
        whole: 2_000.0,
        pruned: 700.0,
        archived: None,
    },
    Wanted {
        name: "256 tokens of a model",
        tokens: 256,
        is_varied: true,
        whole: 12_000.0,
        pruned: 700.0,
        archived: None,
    },
];

/// Bytes per job.
struct Sizes {
    plain: f64,
    plain_tables: Vec<(String, f64)>,
    whole: f64,
    whole_tables: Vec<(String, f64)>,
    ungrouped: f64,
    pruned: f64,
    pruned_tables: Vec<(String, f64)>,
    plain_pruned: f64,
    archived: f64,
}

impl Sizes {
    fn section(self, wanted: &Wanted) -> Section {
        let Wanted { name, whole, pruned, archived, .. } = *wanted;
        let row = |name: &str, value| Row::new(name, "B", vec![value]);
        let archive = row("in the archive", self.archived);
        let rows = vec![
            row("in the ledger, as the version before stored it", self.plain),
            row("in the ledger", self.whole).at_most(whole),
            row("in the ledger, once groups have left (ten minutes)", self.ungrouped),
            row("in the ledger, pruned, as the version before stored it", self.plain_pruned),
            row("in the ledger, pruned (a day)", self.pruned).at_most(pruned),
            match archived {
                Some(most) => archive.at_most(most),
                None => archive,
            },
        ];
        let tables = |name: &str, tables: &[(String, f64)]| {
            let largest = tables.iter().take(9).map(|(table, bytes)| format!("{table} {bytes:.0}"));
            format!("{name}: {}", largest.collect::<Vec<_>>().join(", "))
        };
        let notes = vec![
            tables("version before", &self.plain_tables),
            tables("now", &self.whole_tables),
            tables("pruned", &self.pruned_tables),
        ];
        Section { title: format!("Bytes per job, three replicas that agree: {name}"), rows, notes }
    }
}

/// Counts the bytes of jobs with answers of a length.
pub(crate) async fn measure(wanted: &Wanted) -> Result<Section, Fault> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::open(&path)?;
    let empty = pages::used(&path)?;
    let per_job = |bytes: u64| (bytes as f64 - empty as f64) / f64::from(JOBS);
    fill(&ledger, wanted).await?;
    let (segments, archived) = archive(&ledger).await?;
    let (whole, whole_tables) = (per_job(pages::used(&path)?), pages::by_table(&path, JOBS)?);
    let before = folder.path().join("before.sqlite");
    let plain = per_job(pages::as_before(&path, &before)?);
    let plain_tables = pages::by_table(&before, JOBS)?;

    for segment in &segments {
        ledger.ungroup(*segment).await?;
    }
    let ungrouped = per_job(pages::used(&path)?);
    for segment in &segments {
        ledger.prune(*segment).await?;
    }
    let (pruned, pruned_tables) = (per_job(pages::used(&path)?), pages::by_table(&path, JOBS)?);
    let pruned_before = folder.path().join("pruned.sqlite");
    let plain_pruned = per_job(pages::as_before(&path, &pruned_before)?);
    let sizes = Sizes {
        plain,
        plain_tables,
        whole,
        whole_tables,
        ungrouped,
        pruned,
        pruned_tables,
        plain_pruned,
        archived: archived / f64::from(JOBS),
    };
    Ok(sizes.section(wanted))
}

/// Lets jobs live from their acceptance to the fold of their postings, some at a time, which share their commits.
async fn fill(ledger: &SqliteLedger, wanted: &Wanted) -> Result<(), Fault> {
    let verifier = VerifierId::fresh();
    let asker = Asker::new(AccountId::fresh(), 1)?;
    let now = Timestamp::now();
    ledger.lease(verifier.as_str(), &verifier, now, Duration::from_secs(3_600)).await?;
    for first in (0..JOBS).step_by(AT_ONCE) {
        let jobs = (first..JOBS.min(first + AT_ONCE as u32))
            .map(|number| life(ledger, wanted, (&asker, &verifier), number));
        futures::future::try_join_all(jobs).await?;
    }
    while ledger.project(10_000, Timestamp::now()).await? > 0 {}
    Ok(())
}

/// Lets one job live until its group is closed.
async fn life(
    ledger: &SqliteLedger,
    wanted: &Wanted,
    (asker, verifier): (&Asker, &VerifierId),
    number: u32,
) -> Result<(), Fault> {
    let job = asker.job();
    let id = job.id;
    ledger.accept(job).await?;
    ledger.take(verifier, &[Notice::together(id, false)], Timestamp::now()).await?;
    let settlement = jobs::of_few_nodes(asker.settlement(id, verifier), number);
    let settlement =
        if wanted.is_varied { jobs::of_length(settlement, wanted.tokens, number) } else { settlement };
    ledger.settle(&settlement).await?;
    ledger.post(id, &postings(&settlement), true).await?;
    Ok(())
}

/// Archives all jobs, and returns the segments and their bytes.
async fn archive(ledger: &SqliteLedger) -> Result<(Vec<SegmentId>, f64), Fault> {
    let (mut segments, mut bytes) = (Vec::new(), 0.0);
    loop {
        let (segment, now) = (SegmentId::new(), Timestamp::now());
        let records = ledger.claim(segment, 1_024, now, now).await?;
        if records.is_empty() {
            return Ok((segments, bytes));
        }
        let built = segment::build(segment, &records)?;
        bytes += built.bytes.len() as f64;
        ledger.record(segment, &built.key, &built.places).await?;
        segments.push(segment);
    }
}
