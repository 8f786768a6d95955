//! A loaded graph: runs it on small inputs and caches, which either come and go with each run or lie in fixed buffers. It
//! knows rows, and no sequences.

use std::borrow::Cow;

use ort::session::{IoBinding, Session};
use ort::value::DynValue;

use super::device::Places;
use super::elements::Float;
use super::ports::{ATTENTION_MASK, INPUT_IDS, KEPT, LOGITS, POSITION_IDS, Ports};
use super::rows::Feed;
use infera_types::numbers::{Row, TokenId};

/// A session and what is known of its graph.
pub(super) struct Model {
    pub(super) session: Session,
    pub(super) ports: Ports,
    pub(super) places: Places,
    /// The token that rows are padded with.
    pub(super) pad: TokenId,
}

/// The result of a run: logits `[rows, width, vocabulary]`, and the caches of all rows.
pub(super) struct Ran {
    pub(super) logits: DynValue,
    pub(super) caches: Vec<DynValue>,
}

/// The logits of a run, `[rows, columns, vocabulary]`.
pub(super) struct Answered {
    pub(super) logits: DynValue,
    /// The place of each sequence's last token among `rows * columns`; those of its tokens before are before it.
    pub(super) places: Vec<usize>,
}

impl Answered {
    /// Returns the logits of all rows, one after the other.
    pub(super) fn values(&self, element: Float) -> ort::Result<Cow<'_, [f32]>> {
        element.values(&self.logits)
    }
}

/// Returns one of several rows of logits.
pub(super) fn row_at(values: &[f32], vocabulary: usize, place: usize) -> ort::Result<Row<'_>> {
    let row = values.get(place * vocabulary..(place + 1) * vocabulary);
    row.map(Row::Full).ok_or_else(|| ort::Error::new("a row of logits is missing"))
}

impl Model {
    /// Wants the logits of each row's last `wanted` tokens, and of no fewer than the graph needs for its numbers to be those of any
    /// batch; see [`Feed::keep`].
    pub(super) fn keep(&self, feed: &mut Feed, wanted: usize, places: &[usize]) -> Vec<usize> {
        feed.keep(wanted.max(self.ports.rows_min), self.ports.takes_kept(), places)
    }

    /// Returns the small inputs of a run by their names.
    fn small_inputs(&self, feed: Feed) -> ort::Result<Vec<(&'static str, DynValue)>> {
        let Feed { rows, width, total, kept, ids, mask, positions } = feed;
        let mut inputs = vec![
            (INPUT_IDS, self.ports.ids.tensor(&[rows, width], ids)?),
            (ATTENTION_MASK, self.ports.mask.tensor(&[rows, total], mask)?),
        ];
        if let Some(integer) = self.ports.positions {
            inputs.push((POSITION_IDS, integer.tensor(&[rows, width], positions)?));
        }
        if let Some(integer) = self.ports.kept {
            inputs.push((KEPT, integer.tensor(&[], vec![kept as i64])?));
        }
        Ok(inputs)
    }

    /// Checks that a run gave the logits that were asked of it: rows are found by their place among them.
    fn check_logits(&self, logits: &DynValue, [rows, columns]: [usize; 2]) -> ort::Result<()> {
        let expected = [rows, columns, self.ports.vocabulary].map(|size| size as i64);
        if logits.shape()[..] == expected {
            return Ok(());
        }
        let found = logits.shape();
        Err(ort::Error::new(format!("the graph gave logits of the shape {found:?} in place of {expected:?}")))
    }

    /// Runs on caches that the run consumes and returns. They stay on the device; the logits come to the host.
    pub(super) fn run(&mut self, feed: Feed, caches: Vec<DynValue>) -> ort::Result<Ran> {
        let shape = feed.logits_shape();
        let mut binding = self.session.create_binding()?;
        for (name, value) in self.small_inputs(feed)? {
            binding.bind_input(name, &value)?;
        }
        for (port, value) in self.ports.caches.iter().zip(caches) {
            binding.bind_input(&port.input, &value)?;
            binding.bind_output_to_device(&port.output_name, self.places.caches.memory_info())?;
        }
        binding.bind_output_to_device(LOGITS, self.places.logits.memory_info())?;
        binding.synchronize_inputs()?;
        let mut outputs = self.session.run_binding(&binding)?;
        binding.synchronize_outputs()?;
        let mut output = |name: &str| {
            outputs.remove(name).ok_or_else(|| ort::Error::new(format!("the output {name} is missing")))
        };
        let logits = output(LOGITS)?;
        let caches =
            self.ports.caches.iter().map(|port| output(&port.output_name)).collect::<Result<_, _>>()?;
        drop(outputs);
        self.check_logits(&logits, shape)?;
        Ok(Ran { logits, caches })
    }

    /// Runs on the caches that are bound, in place, and returns the logits.
    pub(super) fn run_bound(&mut self, feed: Feed, binding: &mut IoBinding) -> ort::Result<DynValue> {
        let shape = feed.logits_shape();
        for (name, value) in self.small_inputs(feed)? {
            binding.bind_input(name, &value)?;
        }
        // Bound again for each run, which would else write into the last run's logits, whatever their size.
        binding.bind_output_to_device(LOGITS, self.places.logits.memory_info())?;
        binding.synchronize_inputs()?;
        let mut outputs = self.session.run_binding(binding)?;
        binding.synchronize_outputs()?;
        let logits = outputs.remove(LOGITS).ok_or_else(|| ort::Error::new("the logits are missing"))?;
        drop(outputs);
        self.check_logits(&logits, shape)?;
        Ok(logits)
    }

    /// Makes a binding in which each cache port reads and writes the tensor that `caches` makes for it.
    pub(super) fn bind(
        &self,
        mut cache: impl FnMut(usize) -> ort::Result<DynValue>,
    ) -> ort::Result<IoBinding> {
        let mut binding = self.session.create_binding()?;
        for (place, port) in self.ports.caches.iter().enumerate() {
            let value = cache(place)?;
            binding.bind_input(&port.input, &value)?;
            binding.bind_output(&port.output_name, value)?;
        }
        Ok(binding)
    }
}
