//! A model's files on their way in: piece by piece, each hashed as it comes, so that no file is ever there twice.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use sttabt::{Model, ModelFiles};
use wasm_bindgen::prelude::*;

use crate::error::{from_core, js_error};
use crate::json::to_json;

/// The names of files that can be of use, as JSON.
///
/// # Errors
/// None that is known.
#[wasm_bindgen]
pub fn known_files() -> Result<String, JsValue> {
    to_json(&ModelFiles::KNOWN)
}

/// Those of a folder's names that a model is read from. What is in them may name others.
#[wasm_bindgen]
pub fn wanted_files(names: Vec<String>) -> Vec<String> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ModelFiles::wanted(&names).into_iter().map(str::to_owned).collect()
}

/// Whether what is in a file of this name may name others.
#[wasm_bindgen]
pub fn names_others(name: &str) -> bool {
    ModelFiles::names_others(name)
}

/// The files that one names.
#[wasm_bindgen]
pub fn named_files(name: &str, bytes: &[u8]) -> Vec<String> {
    ModelFiles::named_by(name, bytes)
}

/// The files of one model folder.
#[wasm_bindgen]
#[derive(Default)]
pub struct ModelBytes {
    files: BTreeMap<String, Vec<u8>>,
    open: Option<(String, Vec<u8>, Sha256)>,
}

#[wasm_bindgen]
impl ModelBytes {
    /// No files yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a file of `num_bytes`, or of an unknown length with 0. One that was not finished is forgotten.
    ///
    /// # Errors
    /// Kind `memory` when there is no room for it.
    pub fn begin(&mut self, name: String, num_bytes: usize) -> Result<(), JsValue> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(num_bytes).map_err(|_| no_memory(&name, num_bytes))?;
        self.open = Some((name, bytes, Sha256::new()));
        Ok(())
    }

    /// The next bytes of the file.
    ///
    /// # Errors
    /// Kind `memory`; `internal` without `begin`.
    pub fn append(&mut self, piece: &[u8]) -> Result<(), JsValue> {
        let Some((name, bytes, hash)) = &mut self.open else {
            return Err(js_error("internal", "a piece of no file"));
        };
        bytes.try_reserve(piece.len()).map_err(|_| no_memory(name, bytes.len() + piece.len()))?;
        bytes.extend_from_slice(piece);
        hash.update(piece);
        Ok(())
    }

    /// Ends the file; gives its SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// Kind `internal` without `begin`.
    pub fn finish(&mut self) -> Result<String, JsValue> {
        let Some((name, bytes, hash)) = self.open.take() else {
            return Err(js_error("internal", "the end of no file"));
        };
        self.files.insert(name, bytes);
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The files of the same model with int8 weights, as `sttabt quantize` writes them.
    ///
    /// # Errors
    /// Kind `model`.
    pub fn into_int8(self, keep_f16: Option<String>) -> Result<ModelBytes, JsValue> {
        let mut files = self.into_files().into_int8(keep_f16.as_deref()).map_err(|error| from_core(&error))?;
        let names: Vec<String> = files.names().map(str::to_owned).collect();
        let take = |name: String| files.remove(&name).map(|bytes| (name, bytes.as_ref().to_vec()));
        Ok(Self { files: names.into_iter().filter_map(take).collect(), open: None })
    }

    /// The names of the files.
    pub fn names(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    /// Takes a file out.
    pub fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        self.files.remove(name)
    }
}

impl ModelBytes {
    /// The model; the files are moved into it.
    pub fn into_model(self) -> Result<Model, JsValue> {
        Model::from_bytes(self.into_files()).map_err(|error| from_core(&error))
    }

    fn into_files(self) -> ModelFiles {
        let mut files = ModelFiles::new();
        self.files.into_iter().for_each(|(name, bytes)| files.insert(name, bytes));
        files
    }
}

fn no_memory(name: &str, num_bytes: usize) -> JsValue {
    js_error("memory", &format!("{name}: no memory for its {num_bytes} bytes"))
}
