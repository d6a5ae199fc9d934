//! A ranking as Python's objects are made of it.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use sttabt::{RankedPassage, Ranking};

use crate::columns::bytes;

/// A ranking by the names of its fields; `results` is a list of the passages, each by the names of its own.
pub fn into_dict(py: Python<'_>, ranking: Ranking) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("prune", ranking.prune.to_string())?;
    dict.set_item("label", ranking.label)?;
    let indices: Vec<_> = ranking.results.iter().map(|result| result.index as i64).collect();
    dict.set_item("indices", bytes(py, &indices))?;
    let scores: Vec<_> = ranking.results.iter().map(|result| result.score).collect();
    dict.set_item("scores", bytes(py, &scores))?;
    let logits: Vec<_> = ranking.results.iter().map(|result| result.logit).collect();
    dict.set_item("logits", bytes(py, &logits))?;
    let results = PyList::empty(py);
    for result in ranking.results {
        results.append(of_passage(py, result)?)?;
    }
    dict.set_item("results", results)?;
    dict.set_item("num_passages", ranking.num_passages)?;
    dict.set_item("num_pairs", ranking.num_pairs)?;
    dict.set_item("retention", ranking.retention)?;
    dict.set_item("flops", ranking.flops.total())?;
    dict.set_item("dense_flops", ranking.flops.dense)?;
    Ok(dict)
}

fn of_passage(py: Python<'_>, result: RankedPassage) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("index", result.index)?;
    dict.set_item("score", result.score)?;
    dict.set_item("logit", result.logit)?;
    dict.set_item("window", result.window.map(|window| (window.index, window.num_windows)))?;
    dict.set_item("num_tokens", result.num_tokens)?;
    dict.set_item("tokens", result.tokens)?;
    let [start, end] = result.passage;
    dict.set_item("passage", (start, end))?;
    dict.set_item("kept_tokens", bytes(py, &result.kept_tokens))?;
    dict.set_item("retention", result.retention)?;
    dict.set_item("flops", result.flops.total())?;
    dict.set_item("dense_flops", result.flops.dense)?;
    dict.set_item("truncated", result.truncated)?;
    Ok(dict)
}
