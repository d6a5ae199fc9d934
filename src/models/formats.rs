//! Safetensors files: what their headers say, number formats, and how one is written.

use std::ops::Range;
use std::sync::OnceLock;

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::{Value, json};

use super::download::not_weights;
use crate::error::{Error, Result};
use crate::tensor::DType;

/// How a zip archive and a pickle begin.
const PICKLES: [&[u8]; 2] = [b"PK\x03\x04", b"\x80\x02"];

/// A tensor in a file.
pub struct Entry {
    /// Its place among the files.
    pub file: usize,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Range<usize>,
    /// Known once the tensor is used.
    pub values: OnceLock<Values>,
}

/// What was found out about a tensor's values.
pub struct Values {
    /// The same in f32, if no kernel reads the format that they are stored in.
    pub converted: Option<Vec<u8>>,
    pub first_not_finite: Option<usize>,
    /// The first scale of an int8 tensor that is no positive number.
    pub first_bad_scale: Option<usize>,
}

/// The tensors that a file's header names. `file` is its place among all.
pub fn entries(name: &str, file: usize, bytes: &[u8]) -> Result<Vec<(String, Entry)>> {
    let parsed = SafeTensors::deserialize(bytes).map_err(|error| {
        let reason = if let Some(found) = not_weights(bytes) {
            found
        } else if PICKLES.iter().any(|start| bytes.starts_with(start)) {
            "a pickle of PyTorch's, which is not read here: `sttabt convert DIR` makes model.safetensors of it, and so does \
             `save_pretrained` in Python"
                .to_owned()
        } else {
            // As a download that was cut off leaves it.
            let is_cut = matches!(error, SafeTensorError::MetadataIncompleteBuffer);
            let way_out = if is_cut { ": download it again" } else { "" };
            format!("not a valid safetensors file of {} bytes: {error}{way_out}", bytes.len())
        };
        Error::File { file: name.to_owned(), reason }
    })?;
    let start = bytes.as_ptr() as usize;
    let entry = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        let at = view.data().as_ptr() as usize - start;
        let bytes = at..at + view.data().len();
        let entry = Entry { file, dtype: view.dtype(), shape: view.shape().to_vec(), bytes, values: OnceLock::new() };
        (name.to_owned(), entry)
    };
    Ok(parsed.iter().map(entry).collect())
}

/// Makes the bytes of one format out of those of another.
pub type Convert = fn(&[u8]) -> Vec<u8>;

/// The format in which kernels read tensors that are stored in another, and what makes it of the bytes. Numbers of 8 bits and less are
/// those of quantized weights, which mean nothing without their scales: [`Weights`](super::Weights) reads I8 where it has them.
pub fn readable(stored: Dtype) -> Option<(DType, Option<Convert>)> {
    let convert: Convert = match stored {
        Dtype::F32 => return Some((DType::F32, None)),
        Dtype::F16 => return Some((DType::F16, None)),
        Dtype::BF16 => return Some((DType::Bf16, None)),
        Dtype::F64 => |bytes| converted(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::I64 => |bytes| converted(bytes, |bytes| i64::from_le_bytes(bytes) as f32),
        Dtype::I32 => |bytes| converted(bytes, |bytes| i32::from_le_bytes(bytes) as f32),
        Dtype::I16 => |bytes| converted(bytes, |bytes| f32::from(i16::from_le_bytes(bytes))),
        Dtype::U64 => |bytes| converted(bytes, |bytes| u64::from_le_bytes(bytes) as f32),
        Dtype::U32 => |bytes| converted(bytes, |bytes| u32::from_le_bytes(bytes) as f32),
        Dtype::U16 => |bytes| converted(bytes, |bytes| f32::from(u16::from_le_bytes(bytes))),
        _ => return None,
    };
    Some((DType::F32, Some(convert)))
}

fn converted<const SIZE: usize>(bytes: &[u8], value: impl Fn([u8; SIZE]) -> f32) -> Vec<u8> {
    let (stored, _) = bytes.as_chunks::<SIZE>();
    let mut converted = Vec::with_capacity(4 * stored.len());
    stored.iter().for_each(|&stored| converted.extend_from_slice(&value(stored).to_le_bytes()));
    converted
}

/// How many scales an int8 tensor of this shape has: one for each row of the matrix that it is. A table may have a dimension of 1
/// before its rows, and a row more than one dimension.
pub fn num_scales(shape: &[usize]) -> usize {
    match shape {
        [1, rows, _] | [rows, ..] => *rows,
        [] => 1,
    }
}

/// The order of tensors in a file: larger numbers come first, so that all stand at a multiple of their size.
pub fn place(name: &str, dtype: Dtype) -> (std::cmp::Reverse<usize>, String) {
    (std::cmp::Reverse(dtype.bitsize()), name.to_owned())
}

/// The header of a safetensors file with these tensors, of so many bytes each, in this order.
pub fn header<'a>(tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize], usize)>) -> Vec<u8> {
    // Some readers ask who wrote it.
    let mut header = serde_json::Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut start = 0;
    for (name, dtype, shape, num_bytes) in tensors {
        let tensor = json!({"dtype": dtype.to_string(), "shape": shape, "data_offsets": [start, start + num_bytes]});
        header.insert(name.to_owned(), tensor);
        start += num_bytes;
    }
    let mut json = Value::Object(header).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes()[..], &json].concat()
}
