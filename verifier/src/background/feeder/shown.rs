//! The gauge of what waits, by model and lane, as the ledger counts it. Only the verifier that feeds shows it: each of its
//! numbers is the whole network's.

use std::collections::BTreeMap;

use infera_ledger::WaitingJobs;
use infera_telemetry::metrics::VERIFIER_WAITING;
use infera_types::ids::ModelName;
use infera_types::service::Lane;
use metrics::gauge;

/// The kinds whose number was shown. Dropping it shows zeros, so that a verifier which doesn't feed any more says nothing that
/// was true once.
#[derive(Default)]
pub(super) struct Shown(BTreeMap<(ModelName, Lane), u64>);

impl Shown {
    /// Shows what waits of each model of the catalogue, also where nothing does, and of any other that waits.
    pub(super) fn show<'a>(
        &mut self,
        catalogue: impl Iterator<Item = &'a ModelName>,
        waiting: &[WaitingJobs],
    ) {
        for number in self.0.values_mut() {
            *number = 0;
        }
        for model in catalogue {
            for lane in Lane::ALL {
                self.0.entry((model.clone(), *lane)).or_default();
            }
        }
        for WaitingJobs { model, lane, offered, held } in waiting {
            self.0.insert((model.clone(), *lane), offered + held);
        }
        self.tell();
    }

    fn tell(&self) {
        for ((model, lane), number) in &self.0 {
            let number = u32::try_from(*number).unwrap_or(u32::MAX);
            gauge!(VERIFIER_WAITING, "model" => model.to_string(), "lane" => lane.word()).set(number);
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        for number in self.0.values_mut() {
            *number = 0;
        }
        self.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_no_more_is_shown_as_nothing() {
        let mut shown = Shown::default();
        let (listed, gone) = (ModelName::new("listed"), ModelName::new("gone"));
        let kind = |model: &ModelName, offered, held| WaitingJobs {
            model: model.clone(),
            lane: Lane::Later,
            offered,
            held,
        };
        shown.show([&listed].into_iter(), &[kind(&listed, 2, 3), kind(&gone, 1, 0)]);
        let numbers = |shown: &Shown| shown.0.values().copied().collect::<Vec<_>>();
        // By model and lane: gone later, listed first, listed later, listed own.
        assert_eq!(numbers(&shown), [1, 0, 5, 0]);
        shown.show([&listed].into_iter(), &[kind(&listed, 0, 1)]);
        assert_eq!(numbers(&shown), [0, 0, 1, 0]);
    }
}
