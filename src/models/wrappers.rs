//! Names of tensors with what wraps a model: in front of them, or between their parts.

use std::borrow::Cow;

use crate::error::{Error, Result};

/// Before a name alone: Lightning's, and those of checkpoints of a training.
const OUTER: [&str; 3] = ["model", "state_dict", "model_state_dict"];
/// Wherever a part of the model is wrapped: by PyTorch's data parallelism, its compiler, its shards and its checkpoints of activations.
const INNER: [&str; 4] = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// What marks adapters that are added to a weight.
const LORA: &str = "lora_A";

/// That all weights are the model's own: adapters beside them must be merged first, or they would be left out in silence.
///
/// # Errors
/// [`Error::File`] names the first adapter.
pub fn check_merged<'a>(file: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    match names.filter(|name| name.split('.').any(|part| part == LORA)).min() {
        None => Ok(()),
        Some(adapter) => {
            let way_out = "merge them with PEFT's `merge_and_unload`, and save the model again";
            Err(Error::File { file: file.to_owned(), reason: format!("adapters such as `{adapter}`: {way_out}") })
        }
    }
}

/// A name without what wraps it.
pub fn bare(mut name: &str) -> Cow<'_, str> {
    while let Some((first, rest)) = name.split_once('.') {
        if !OUTER.contains(&first) && !INNER.contains(&first) {
            break;
        }
        name = rest;
    }
    if name.split('.').any(|part| INNER.contains(&part)) {
        let parts: Vec<&str> = name.split('.').filter(|part| !INNER.contains(part)).collect();
        Cow::Owned(parts.join("."))
    } else {
        Cow::Borrowed(name)
    }
}

/// That a tensor is missing, and what the names that are there say about it.
pub fn missing<'a>(file: &str, name: &str, names: impl Iterator<Item = &'a String>) -> Error {
    let error = |reason: String| Error::File { file: file.to_owned(), reason };
    let is_longer = |other: &&String| other.strip_suffix(name).is_some_and(|start| start.ends_with('.'));
    match names.filter(is_longer).min() {
        Some(longer) => {
            error(format!("tensor `{name}` is missing, and there is `{longer}`: drop what stands before it"))
        }
        None => Error::MissingTensor { file: file.to_owned(), name: name.to_owned() },
    }
}
