//! Runs the sections one after the other, and prints their table.

use infera_bench::Fault;
use infera_bench::report::{Report, Section};
use tokio::runtime::Runtime;

use crate::settings::Settings;
use crate::{
    decoding, first_token, footprint, latency, machine, open_streams, submits, unstreamed, verifying,
};

type Measure = fn(&Settings, &Runtime) -> Result<Section, Fault>;

const SECTIONS: [(&str, Measure); 8] = [
    ("submits", submits::measure),
    ("latency", latency::measure),
    ("decoding", decoding::measure),
    ("verifying", verifying::measure),
    ("footprint", footprint::measure),
    ("first-token", first_token::measure),
    ("open-streams", open_streams::measure),
    ("unstreamed", unstreamed::measure),
];

pub(crate) fn all(settings: &Settings) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new(machine::describe(settings), settings.is_quick());
    for (name, measure) in SECTIONS {
        if settings.wants(name) {
            infera_program::print(&format!("measuring: {name}"))?;
            report.add(measure(settings, &runtime)?);
        }
    }
    report.end(machine::load());
    infera_program::print(&report.text())?;
    report.write(settings.json())
}
