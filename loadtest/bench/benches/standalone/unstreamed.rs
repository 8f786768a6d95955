//! Section (h): the CPU time of a job that doesn't stream, over that of another commit's program (`--base`), in interleaved runs.

use std::path::Path;
use std::time::Duration;

use infera_bench::Fault;
use infera_bench::client::fill;
use infera_bench::machine::cpu_time;
use infera_bench::measure::{as_f64, median};
use infera_bench::ours::Ours;
use infera_bench::report::{Row, Section};
use tokio::runtime::Runtime;

use crate::settings::Settings;

/// The highest acceptable ratio of the medians.
const RATIO_MAX: f64 = 1.05;
const CONNECTIONS: usize = 16;
/// How long after the last reply CPU time is read: the jobs' groups close and post.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

pub(crate) fn measure(settings: &Settings, runtime: &Runtime) -> Result<Section, Fault> {
    let title =
        "(h) jobs that don't stream: CPU time of `infera up` for each, beside another commit's program"
            .to_owned();
    let Some(base) = settings.base() else {
        let note = "Left out: no other program was given (BASE=path make bench).".to_owned();
        return Ok(Section { title, rows: Vec::new(), notes: vec![note] });
    };
    let [mut ours, mut theirs] = [Vec::new(), Vec::new()];
    for run in 0..settings.pace().binary_runs {
        let mut programs = [(settings.infera(), &mut ours), (base, &mut theirs)];
        // Each is first in every second run.
        if run % 2 == 1 {
            programs.reverse();
        }
        for (program, runs) in programs {
            runs.push(runtime.block_on(cpu_us_a_job(settings, program))?);
        }
    }
    let ratio = median(&ours) / median(&theirs);
    Ok(Section {
        title,
        rows: vec![
            Row::new("this commit", "us", ours),
            Row::new("the other", "us", theirs),
            Row::new("ratio of the medians", "", vec![ratio]).at_most(RATIO_MAX),
        ],
        notes: vec!["Each run is a process of its own with an empty folder; its start and a hundred jobs aren't counted.".to_owned()],
    })
}

async fn cpu_us_a_job(settings: &Settings, program: &Path) -> Result<f64, Fault> {
    let network = Ours::start(settings.place_of(program), &[]).await?;
    let (chat, jobs, roots) = (network.chat(), settings.pace().jobs, [network.pid()]);
    fill(chat.clone(), CONNECTIONS, 100).await?;
    tokio::time::sleep(CLOSED_WITHIN).await;
    let before = cpu_time(&roots);
    fill(chat, CONNECTIONS, jobs).await?;
    tokio::time::sleep(CLOSED_WITHIN).await;
    let used = cpu_time(&roots).saturating_sub(before);
    network.end().await?;
    Ok(used.as_secs_f64() * 1e6 / as_f64(jobs))
}
