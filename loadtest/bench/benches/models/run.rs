//! One run: rounds of all engines, and what comes of them.

use std::time::{Duration, Instant};

use infera_bench::report::Report;
use infera_bench::{Fault, machine};
use infera_program::print;

use crate::settings::Settings;
use crate::side::{Side, Sides};
use crate::table::Table;
use crate::{crowd, jobs, long};

/// Measures round after round, as many as the time allows.
pub(crate) async fn compare(settings: &Settings) -> Result<(), Fault> {
    let mut report = Report::new(machine::describe(), settings.is_quick());
    let (began, pace) = (Instant::now(), settings.pace());
    let mut sides = Sides::start(settings).await?;
    let (mut table, mut longest) = (Table::default(), Duration::ZERO);
    for round in 0..pace.rounds_max {
        if round > 0 && began.elapsed() + longest > pace.within {
            break;
        }
        let round_began = Instant::now();
        print(&format!(
            "measuring: round {}, {:.0} s after the start",
            round + 1,
            began.elapsed().as_secs_f64()
        ))?;
        table.round();
        let mut failed = Vec::new();
        for (place, side) in sides.all.iter().enumerate() {
            match measure(settings, side, round, &mut table).await {
                Err(error) if !side.is_ours() => failed.push((place, error.to_string())),
                measured => measured?,
            }
        }
        for (place, error) in failed.into_iter().rev() {
            table.forget(sides.all.remove(place).name());
            sides.missing.push(format!("it failed in round {}: {error}", round + 1));
        }
        longest = longest.max(round_began.elapsed());
    }
    for side in &sides.all {
        table.memory(side.name(), machine::peak_mib(side.pid())?);
    }
    table.sections(&sides, settings.threads()).into_iter().for_each(|section| report.add(section));
    report.end(format!("{:.1}", machine::load()));
    print(&report.text())?;
    report.write(settings.json())
}

/// Measures everything of one engine once.
async fn measure(settings: &Settings, side: &Side, round: usize, table: &mut Table) -> Result<(), Fault> {
    let pace = settings.pace();
    if settings.wants("a") {
        for clients in crowd::CLIENTS {
            if let Some(bare) = &side.bare {
                table.steps(side.name(), clients, bare.steps(clients, pace.span).await?);
            }
            table.rate(side.name(), clients, crowd::steady(side, clients, pace).await?);
        }
        // What went before is dropped.
        side.profile().await?;
        let mixed = crowd::mixed(side, pace).await?;
        table.rate(side.name(), jobs::MIXED, mixed.rate);
        if let Some(profile) = side.profile().await? {
            table.profile(side.name(), &profile, mixed.wall);
        }
    }
    if settings.wants("b") {
        let alone = long::alone(side, round, pace).await?;
        table.long(side.name(), alone, &long::beside(side, round, pace).await?);
    }
    Ok(())
}
