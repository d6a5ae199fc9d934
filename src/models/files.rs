//! The files of a model folder, by name.

use std::collections::BTreeMap;

use super::Bytes;
use crate::error::{Error, Result};

/// The files of a model folder, by their names in it: `config.json`, `model.safetensors`, `approx/config.json`, …
///
/// Where the bytes come from does not matter. [`Model::from_bytes`](super::Model::from_bytes) takes those that it knows
/// and leaves the others alone.
#[derive(Default)]
pub struct ModelFiles(BTreeMap<String, Bytes>);

impl ModelFiles {
    /// No files yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, or replaces it.
    pub fn insert(&mut self, name: impl Into<String>, bytes: impl Into<Bytes>) {
        self.0.insert(name.into(), bytes.into());
    }

    /// A file's bytes.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(AsRef::as_ref)
    }

    /// Takes a file out.
    pub fn remove(&mut self, name: &str) -> Option<Bytes> {
        self.0.remove(name)
    }

    /// Takes the files of a folder out; their names lose it.
    pub fn remove_folder(&mut self, folder: &str) -> Self {
        let is_in = |name: &str| name.strip_prefix(folder).and_then(|name| name.strip_prefix('/')).map(str::to_owned);
        let names: Vec<_> = self.0.keys().filter_map(|name| Some((name.clone(), is_in(name)?))).collect();
        Self(names.into_iter().filter_map(|(name, short)| Some((short, self.0.remove(&name)?))).collect())
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A file that must be there. `folder` is for messages alone.
    pub(super) fn required(&mut self, folder: &str, name: &str) -> Result<Bytes> {
        let missing = || Error::File { file: format!("{folder}{name}"), reason: "missing".to_owned() };
        self.remove(name).ok_or_else(missing)
    }
}
