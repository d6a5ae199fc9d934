//! The results of a call as columns: bytes, of which the package's Python makes arrays of NumPy, and lists.

use bytemuck::NoUninit;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyList, PyString};
use sttabt::{Classification, Model, Prune, Task};

/// What is kept of every result.
#[derive(Default)]
pub struct Columns {
    prune: Option<Prune>,
    logits: Vec<f32>,
    probs: Vec<f32>,
    embeddings: Vec<f32>,
    label_indices: Vec<i64>,
    chosen_labels: Vec<Vec<String>>,
    num_tokens: Vec<i64>,
    retention: Vec<f64>,
    flops: Vec<i64>,
    dense_flops: Vec<i64>,
    truncated: Vec<u8>,
    /// Where it was asked for.
    kept: Option<Kept>,
}

/// The inputs' tokens, and which of them every layer kept.
#[derive(Default)]
struct Kept {
    tokens: Vec<Vec<String>>,
    /// One after the other.
    positions: Vec<u32>,
    /// How many of them belong to each layer of each input.
    counts: Vec<i64>,
}

impl Columns {
    pub fn new(with_kept: bool) -> Self {
        Self { kept: with_kept.then(Kept::default), ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.retention.len()
    }

    /// Adds the results of a group. `prune` is what its inputs were run under.
    pub fn extend(&mut self, prune: Prune, results: Vec<Classification>) {
        self.prune = Some(prune);
        for result in results {
            self.logits.extend(result.logits);
            self.probs.extend(result.probs);
            self.embeddings.extend(result.embedding.unwrap_or_default());
            self.label_indices.extend(result.label_index.map(|index| index as i64));
            self.chosen_labels.extend(result.labels);
            self.num_tokens.push(result.num_tokens as i64);
            self.retention.push(result.retention);
            self.flops.push(result.flops.total() as i64);
            self.dense_flops.push(result.flops.dense as i64);
            self.truncated.push(u8::from(result.truncated));
            if let Some(kept) = &mut self.kept {
                kept.tokens.push(result.tokens);
                kept.counts.extend(result.kept.iter().map(|layer| layer.len() as i64));
                kept.positions.extend(result.kept.into_iter().flatten());
            }
        }
    }

    /// The columns by their names. The width of `logits`, `probs` and `embeddings` is `width`.
    pub fn into_dict<'py>(self, py: Python<'py>, model: &Model, sigmoid: bool) -> PyResult<Bound<'py, PyDict>> {
        let (dict, config) = (PyDict::new(py), model.config());
        dict.set_item("prune", self.prune.map(|prune| prune.to_string()))?;
        match model.pooling() {
            Some(pooling) => {
                let width = pooling.truncate_dim.map_or(config.hidden_size, |dim| dim.min(config.hidden_size));
                dict.set_item("width", width)?;
                dict.set_item("embeddings", bytes(py, &self.embeddings))?;
            }
            None => {
                dict.set_item("width", config.labels.len())?;
                dict.set_item("logits", bytes(py, &self.logits))?;
                let has_probs = config.task != Task::Regression || sigmoid;
                dict.set_item("probs", has_probs.then(|| bytes(py, &self.probs)))?;
                let names: Vec<_> = config.labels.iter().map(|label| PyString::new(py, label)).collect();
                let name = |&index: &i64| usize::try_from(index).ok().and_then(|index| names.get(index));
                dict.set_item(
                    "labels",
                    PyList::new(py, self.label_indices.iter().filter_map(name).collect::<Vec<_>>())?,
                )?;
                dict.set_item("label_indices", bytes(py, &self.label_indices))?;
                dict.set_item("chosen_labels", (config.task == Task::MultiLabel).then_some(self.chosen_labels))?;
            }
        }
        dict.set_item("num_tokens", bytes(py, &self.num_tokens))?;
        dict.set_item("retention", bytes(py, &self.retention))?;
        dict.set_item("flops", bytes(py, &self.flops))?;
        dict.set_item("dense_flops", bytes(py, &self.dense_flops))?;
        dict.set_item("truncated", bytes(py, &self.truncated))?;
        if let Some(kept) = self.kept {
            dict.set_item("tokens", kept.tokens)?;
            dict.set_item("kept", (bytes(py, &kept.positions), bytes(py, &kept.counts)))?;
        }
        Ok(dict)
    }
}

/// Numbers as they lie in memory. They can be written to, like all arrays that Python makes.
pub fn bytes<'py>(py: Python<'py>, numbers: &[impl NoUninit]) -> Bound<'py, PyByteArray> {
    PyByteArray::new(py, bytemuck::cast_slice(numbers))
}
