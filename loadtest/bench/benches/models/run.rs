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
    let (mut table, mut next_round) = (Table::default(), Duration::ZERO);
    for round in 0..pace.rounds_max {
        if round > 0 && began.elapsed() + next_round > settings.within() {
            break;
        }
        print(&format!(
            "measuring: round {}, {:.0} s after the start",
            round + 1,
            began.elapsed().as_secs_f64()
        ))?;
        table.round();
        let mut failed = Vec::new();
        next_round = Duration::ZERO;
        for (place, side) in sides.all.iter().enumerate().filter(|(_, side)| side.takes_part(round)) {
            match measure(settings, side, round, &mut table).await {
                Err(error) if !side.is_ours() => failed.push((place, error.to_string())),
                measured => next_round += measured?,
            }
        }
        for (place, error) in failed.into_iter().rev() {
            table.forget(sides.all.remove(place).name());
            sides.missing.push(format!("it failed in round {}: {error}", round + 1));
        }
    }
    for side in &sides.all {
        table.memory(side.name(), machine::peak_mib(side.pid())?);
    }
    table.sections(&sides, settings.threads()).into_iter().for_each(|section| report.add(section));
    report.end(format!("{:.1}", machine::load()));
    print(&report.text())?;
    report.write(settings.json())
}

/// Measures one engine once, and returns how long what the next round repeats of it took.
async fn measure(
    settings: &Settings,
    side: &Side,
    round: usize,
    table: &mut Table,
) -> Result<Duration, Fault> {
    let (pace, began, mut repeated) = (settings.pace(), Instant::now(), Duration::ZERO);
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
        if side.takes_part(round + 1) {
            repeated = began.elapsed();
        }
    }
    // The goals are about our side; the others' figures stand beside them for scale, and take most of a round.
    if settings.wants("b") && (side.is_ours() || (round == 0 && side.takes_part(1))) {
        let alone = long::alone(side, round, pace).await?;
        table.long(side.name(), alone, &long::beside(side, round, pace).await?);
        if side.is_ours() {
            repeated = began.elapsed();
        }
    }
    Ok(repeated)
}
