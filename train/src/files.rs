//! Reading files.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::error::{Error, Result};

/// The bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(Error::file("read", path))
}

/// A JSON file.
pub fn read_json(path: &Path) -> Result<Value> {
    serde_json::from_slice(&read(path)?).map_err(|error| Error::content(path, format!("not JSON: {error}")))
}

/// The tensors of a file, which are all f32.
pub fn safetensors_values(path: &Path, bytes: &[u8]) -> Result<Vec<(String, Vec<f32>)>> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| Error::content(path, error.to_string()))?;
    let values = |(name, tensor): (&str, safetensors::tensor::TensorView<'_>)| {
        if tensor.dtype() != Dtype::F32 {
            return Err(Error::content(path, format!("tensor `{name}` is {}, expected F32", tensor.dtype())));
        }
        let (chunks, _) = tensor.data().as_chunks::<4>();
        Ok((name.to_owned(), chunks.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()))
    };
    file.iter().map(values).collect()
}
