//! Runs the sections one after the other, and prints their table.

use std::io::Write as _;

use crate::settings::Settings;
use crate::{accepts, footprint, lives, queued, streams};
use infera_bench::report::Report;
use infera_bench::{Fault, machine};

pub(crate) async fn all(settings: &Settings) -> Result<(), Fault> {
    let mut report = Report::new(machine::describe(), settings.is_quick());
    if settings.wants("a") {
        say("measuring: (a) accepted submits")?;
        report.add(accepts::measure(settings).await?);
    }
    if ["b", "c", "f"].iter().any(|section| settings.wants(section)) {
        say("measuring: (b) jobs ended, (c) the archive, (f) verifiers")?;
        for section in lives::measure(settings).await? {
            report.add(section);
        }
    }
    if settings.wants("d") {
        say("measuring: (d) memory of queued jobs")?;
        report.add(queued::measure(settings).await?);
    }
    if settings.wants("e") {
        say("measuring: (e) a gateway's start")?;
        report.add(footprint::measure(settings).await?);
    }
    if settings.wants("g") {
        say("measuring: (g) open streams")?;
        report.add(streams::measure(settings).await?);
    }
    report.end(format!("{:.1}", machine::load()));
    say(&report.text())?;
    report.write(settings.json())
}

fn say(text: &str) -> Result<(), Fault> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}
