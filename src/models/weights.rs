//! The tensors of a `model.safetensors`, as views into its bytes.

use std::collections::HashMap;
use std::ops::Range;

use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// The bytes of a file.
pub enum Bytes {
    /// In memory of their own, which is freed bit by bit where nothing needs it any more.
    Owned(Vec<u8>),
    /// A memory map, or whatever else keeps them.
    Shared(Box<dyn AsRef<[u8]> + Send + Sync>),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => (**bytes).as_ref(),
        }
    }
}

struct Entry {
    /// Or the name of a number format that this crate does not read.
    dtype: Result<DType, String>,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// A safetensors file whose header has been checked against its length.
pub struct Weights {
    file: String,
    bytes: Bytes,
    tensors: HashMap<String, Entry>,
}

impl Weights {
    /// Reads the header. `file` is for messages alone.
    ///
    /// # Errors
    /// [`Error::File`] when the bytes are truncated or the header lies about them.
    pub fn new(file: &str, bytes: Bytes) -> Result<Self> {
        let data = bytes.as_ref();
        let parsed = SafeTensors::deserialize(data).map_err(|error| Error::File {
            file: file.to_owned(),
            reason: format!("not a valid safetensors file of {} bytes: {error}", data.len()),
        })?;
        let start = data.as_ptr() as usize;
        let tensors = parsed
            .iter()
            .map(|(name, view)| {
                let at = view.data().as_ptr() as usize - start;
                let dtype = match view.dtype() {
                    Dtype::F32 => Ok(DType::F32),
                    Dtype::F16 => Ok(DType::F16),
                    Dtype::BF16 => Ok(DType::Bf16),
                    other => Err(other.to_string()),
                };
                let entry = Entry { dtype, shape: view.shape().to_vec(), bytes: at..at + view.data().len() };
                (name.to_owned(), entry)
            })
            .collect();
        Ok(Self { file: file.to_owned(), bytes, tensors })
    }

    /// Whether a tensor of this name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The first of `names` that exists, with this shape.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] names the first name, [`Error::TensorShape`] both shapes, [`Error::File`] a number format or a
    /// tensor that was freed.
    pub fn tensor(&self, names: &[&str], expected: &[usize]) -> Result<Tensor<'_>> {
        let Some((name, entry)) = names.iter().find_map(|name| self.tensors.get_key_value(*name)) else {
            let name = names.first().copied().unwrap_or_default().to_owned();
            return Err(Error::MissingTensor { file: self.file.clone(), name });
        };
        if entry.shape != expected {
            return Err(Error::TensorShape {
                file: self.file.clone(),
                name: name.clone(),
                found: entry.shape.clone(),
                expected: expected.to_vec(),
            });
        }
        let dtype = entry.dtype.clone().map_err(|found| Error::File {
            file: self.file.clone(),
            reason: format!("tensor `{name}` is {found}, expected F32, F16 or BF16"),
        })?;
        let bytes = self.bytes.as_ref().get(entry.bytes.clone()).ok_or_else(|| Error::File {
            file: self.file.clone(),
            reason: format!("tensor `{name}` is in an engine by now and was freed here: read the file again"),
        })?;
        Ok(Tensor { dtype, shape: entry.shape.clone(), bytes })
    }

    /// Where a tensor of this file ends in it.
    pub fn end_of(&self, tensor: &Tensor<'_>) -> usize {
        tensor.bytes.as_ptr_range().end as usize - self.bytes.as_ref().as_ptr() as usize
    }

    /// Frees all bytes from this one on, if they are the file's own.
    pub fn truncate(&mut self, num_bytes: usize) {
        if let Bytes::Owned(bytes) = &mut self.bytes {
            bytes.truncate(num_bytes);
            bytes.shrink_to_fit();
        }
    }

    /// [`Error::NotFinite`] for the first NaN or infinity of a floating-point tensor.
    pub fn check_finite(&self) -> Result<()> {
        let mut names: Vec<&String> = self.tensors.keys().collect();
        names.sort();
        for name in names {
            let entry = &self.tensors[name];
            let Ok(dtype) = entry.dtype else { continue };
            let tensor = Tensor { dtype, shape: entry.shape.clone(), bytes: &self.bytes.as_ref()[entry.bytes.clone()] };
            if let Some(index) = tensor.first_not_finite() {
                let value = tensor.values_in(index, 1).next().unwrap_or(f32::NAN);
                return Err(Error::NotFinite { file: self.file.clone(), name: name.clone(), index, value });
            }
        }
        Ok(())
    }

    /// Number of values in all tensors.
    pub fn num_values(&self) -> u64 {
        self.tensors.values().map(|entry| entry.shape.iter().product::<usize>() as u64).sum()
    }
}
